"""The verifiers that come with surefoot on real graphs: what is claimed, required, read back and judged (P06, P15)."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from support import Effects, ask, config, react

import surefoot
from surefoot import Guard, Retry, StepRule, VerificationFailed
from surefoot_verifiers import barrier, claims, llm, probe, receipts

ASK: dict[str, Any] = {"messages": [HumanMessage("E-mail Bob.")]}


def answering(*texts: str, calls: Any = ()) -> Any:
    """Return an agent node: it makes these calls once, then gives the texts, one for each time that it is asked."""
    left = list(texts)

    def node(state: Any) -> Any:
        if calls and not any(isinstance(message, ToolMessage) for message in state["messages"]):
            return {"messages": [AIMessage("", tool_calls=list(calls))]}
        return {"messages": [AIMessage(left.pop(0) if len(left) > 1 else left[0])]}

    return node


def wrapped(guard: Guard, plan: Any, *tools: Any, **options: Any) -> Any:
    """Return the guarded agent."""
    return surefoot.wrap(react(plan, tools, **options).compile(checkpointer=InMemorySaver()), guard=guard)


def test_as_23_a_claim_without_a_call_does_not_succeed(effects: Effects, store: str) -> None:
    """AS-23: "e-mailed bob" with no committed send fails, the run is not completed, and nothing of it is committed."""
    guard = Guard(store, steps={"agent": StepRule(verifier=claims(), retry=Retry(max_attempts=2))})
    graph = wrapped(guard, answering("Done: e-mailed bob."), effects.tool("send"))
    with pytest.raises(VerificationFailed, match="CLAIM_WITHOUT_RECEIPT"):
        graph.invoke(ASK, config("t"))
    (run,) = guard.runs.list()
    assert run.status != "completed"
    assert guard.runs.checkpoints(run.run_id) == []


def test_as_23_the_receipt_of_another_node_backs_the_claim(effects: Effects, store: str) -> None:
    """AS-23: the call ran in the tools node, the claim is made in the agent node: it passes, at the first attempt."""
    guard = Guard(store, steps={"agent": StepRule(verifier="claims")})
    graph = wrapped(guard, answering("Done: e-mailed bob.", calls=[ask("send", amount=1)]), effects.tool("send"))
    assert graph.invoke(ASK, config("t"))["messages"][-1].content == "Done: e-mailed bob."
    assert effects.count("send") == 1
    assert [event.type for event in guard.runs.events(guard.runs.list()[0].run_id)].count("step.rejected") == 0


def test_as_25_an_instruction_is_no_claim(effects: Effects, store: str) -> None:
    """AS-25: "here is how to send an e-mail" passes without a call; so does an offer after the claim was rejected with its hint."""
    guard = Guard(store, steps={"agent": StepRule(verifier=claims())})
    graph = wrapped(guard, answering("Here is how to send an e-mail: press Compose."), effects.tool("send"))
    assert graph.invoke(ASK, config("t"))["messages"][-1].content.startswith("Here is how")
    graph = wrapped(guard, answering("I e-mailed Bob.", "I can e-mail Bob."), effects.tool("send"))
    assert graph.invoke(ASK, config("u"))["messages"][-1].content == "I can e-mail Bob."
    assert effects.count("send") == 0


def test_as_24_what_cannot_be_read_back_is_drift(effects: Effects, store: str) -> None:
    """AS-24: the tool says ok and the mailbox does not have it: FAIL with DRIFT; where it has it, the run completes."""
    outbox: list[int] = []
    look = probe({"send": lambda call: surefoot.happened() if call.arguments["amount"] in outbox else surefoot.not_seen()})
    guard = Guard(store, steps={"agent": StepRule(verifier=look, retry=Retry(max_attempts=2))})
    graph = wrapped(guard, answering("Sent.", calls=[ask("send", amount=1)]), effects.tool("send"))
    with pytest.raises(VerificationFailed, match="DRIFT"):
        graph.invoke(ASK, config("t"))
    outbox.append(1)
    graph = wrapped(guard, answering("Sent.", calls=[ask("send", amount=1)]), effects.tool("send"))
    assert graph.invoke(ASK, config("u"))["messages"][-1].content == "Sent."


def test_as_30_a_required_call_that_failed_beside_a_success_is_no_success(effects: Effects, store: str) -> None:
    """AS-30: two parallel calls, the required one raises and the model says that all is well: the run does not complete."""

    def refuse(_amount: int) -> Any:
        raise ValueError("declined")

    def done(output: Any) -> Any:
        last = output.output["messages"][-1]
        return True if last.tool_calls else receipts("charge", "log").verify(output)

    guard = Guard(store, steps={"agent": StepRule(verifier=done, retry=Retry(max_attempts=2))})
    plan = answering("All is well.", calls=[ask("charge", amount=5), ask("log", amount=5)])
    graph = wrapped(guard, plan, effects.tool("charge", refuse), effects.tool("log"), handle_tool_errors=True)
    with pytest.raises(VerificationFailed, match="INCOMPLETE"):
        graph.invoke(ASK, config("t"))
    assert guard.runs.list()[0].status != "completed"
    assert (effects.count("charge"), effects.count("log")) == (1, 1)


@pytest.mark.parametrize("reply", ["I cannot judge that.", '{"verdict": "PASS"}', '{"confidence": 1.0}', "not supported"])
def test_as_51_a_model_that_does_not_judge_passes_nothing(effects: Effects, store: str, reply: str) -> None:
    """AS-51: a refusal, a missing field, words: the step ran once, nothing is committed, and none of it is in the prompt."""
    heard: list[str] = []

    def node(state: Any) -> Any:
        heard.append(str(state["messages"][-1].content))
        return {"messages": [AIMessage("The answer is 4.")]}

    judge = llm(ask=lambda _system, _question: reply)
    guard = Guard(store, steps={"agent": StepRule(verifier=judge, retry=Retry(max_attempts=2))})
    with pytest.raises(VerificationFailed, match="UNVERIFIED"):
        wrapped(guard, node, effects.tool("send")).invoke(ASK, config("t"))
    assert heard == ["E-mail Bob."]
    assert guard.runs.checkpoints(guard.runs.list()[0].run_id) == []


@pytest.mark.parametrize("by", ["the step that asks for it", "the call"])
def test_as_53_nothing_irreversible_before_pass(effects: Effects, store: str, by: str) -> None:
    """AS-53: what a rejected plan asked for is never dispatched; nor is a call that its own verifier did not pass."""
    amounts = iter([99, 5])

    def plan(state: Any) -> Any:
        if any(isinstance(message, ToolMessage) for message in state["messages"]):
            return {"messages": [AIMessage("done")]}
        return {"messages": [AIMessage("", tool_calls=[ask("charge", amount=next(amounts))])]}

    def small(output: Any) -> bool:
        calls = output.output["messages"][-1].tool_calls
        return not calls or calls[0]["args"]["amount"] < 10

    if by == "the step that asks for it":
        guard = Guard(store, steps={"agent": StepRule(verifier=small)})
        assert wrapped(guard, plan, effects.tool("charge")).invoke(ASK, config("t"))["messages"][-1].content == "done"
        assert effects.all() == [["charge", 5]]
        return
    guard = Guard(store, gates=[barrier(lambda output: output.output["arguments"]["amount"] < 10, tools=["charge"])])
    result = wrapped(guard, plan, effects.tool("charge"), handle_tool_errors=True).invoke(ASK, config("t"))
    assert "rejected before it ran" in str(result["messages"][-2].content)
    assert effects.all() == []
