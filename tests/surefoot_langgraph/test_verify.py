"""Verify, then commit: the rejected attempt is tried again with the hint, and nothing unverified is committed."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from support import config
from typing_extensions import TypedDict

import surefoot
from surefoot import Guard, Retry, StepOutput, StepRule, Verdict, VerificationFailed

HELLO: dict[str, Any] = {"messages": [HumanMessage("hello")]}


def answering(heard: list[str]) -> Any:
    """Return a one-node graph that answers with the number of the try and notes the last message it heard."""

    def node(state: MessagesState) -> Any:
        heard.append(str(state["messages"][-1].content))
        return {"messages": [AIMessage(f"try {len(heard)}")]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(checkpointer=InMemorySaver())


def reject_first(output: StepOutput) -> Verdict:
    """Reject the first attempt."""
    return Verdict.failed("INCOMPLETE", "Say more.") if output.attempt == 1 else Verdict.passed()


def test_as_52_the_hint_reaches_the_next_attempt(store: str) -> None:
    """A rejected node runs again with the hint as its last message; state has only the accepted answer, and nothing is held."""
    heard: list[str] = []
    guard = Guard(store, steps={"node": StepRule(goal="answer", verifier=reject_first)})
    result = surefoot.wrap(answering(heard), guard=guard).invoke(HELLO, config("t"))
    assert heard == ["hello", "Say more."]
    assert [m.content for m in result["messages"]] == ["hello", "try 2"]
    (run,) = guard.runs.list()
    assert (run.status, run.hold) == ("completed", ())
    assert [(c.attempt, "PASS" in c.verdict) for c in guard.runs.checkpoints(run.run_id)] == [(2, True)]


def test_the_hint_is_at_hand_where_there_are_no_messages(store: str) -> None:
    """A node without messages finds the hint and the attempt in current_step()."""

    class State(TypedDict):
        n: int

    seen: list[tuple[int, str]] = []

    def node(_state: State) -> Any:
        step = surefoot.current_step()
        assert step is not None
        seen.append((step.attempt, step.hint))
        return {"n": len(seen)}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = surefoot.wrap(builder.compile(), store=store, steps={"n*": StepRule(verifier=reject_first)})
    assert graph.invoke({"n": 0}) == {"n": 2}
    assert seen == [(1, ""), (2, "Say more.")]


def _raises(_output: StepOutput) -> Any:
    raise ConnectionError("judge 503")


@pytest.mark.parametrize(
    "verifier", [_raises, lambda _o: "PASS", lambda _o: None, lambda _o: Verdict.unverified("refused"), lambda _o: 1.0], ids=str
)
def test_i13_as_51_what_could_not_judge_is_never_a_pass(store: str, verifier: Any) -> None:
    """A verifier that raises, returns junk or cannot judge passes nothing, and its words do not reach the model."""
    heard: list[str] = []
    guard = Guard(store, steps={"node": StepRule(verifier=verifier)}, retry=Retry(max_attempts=2))
    graph = surefoot.wrap(answering(heard), guard=guard)
    with pytest.raises(VerificationFailed, match="UNVERIFIED"):
        graph.invoke(HELLO, config("t"))
    assert heard == ["hello", "hello"]
    assert guard.runs.checkpoints(guard.runs.list()[0].run_id) == []
    assert graph.get_state(config("t")).values["messages"] == HELLO["messages"]


def test_exhausted_attempts_commit_nothing_and_are_durable(store: str) -> None:
    """After the last attempt VerificationFailed is raised; attempt and hint survive into another guard on the same file."""
    heard: list[str] = []
    always = lambda output: Verdict.failed("GOAL_DRIFT", f"Not {output.attempt}.")  # noqa: E731 - short
    graph = answering(heard)
    with pytest.raises(VerificationFailed, match="2 attempts"):
        surefoot.wrap(graph, store=store, steps={"*": StepRule(verifier=always, retry=Retry(max_attempts=2))}).invoke(HELLO, config("t"))
    fresh = surefoot.wrap(graph, store=store, steps={"*": StepRule(verifier=lambda o: o.attempt == 3)})
    result = fresh.invoke(None, config("t"))
    assert heard == ["hello", "Not 1.", "Not 2."]
    assert result["messages"][-1].content == "try 3"


async def test_an_async_verifier_and_an_async_graph(store: str) -> None:
    """Verifiers may be coroutines, on both faces."""

    async def judge(output: StepOutput) -> Verdict:
        return reject_first(output)

    heard: list[str] = []
    graph = surefoot.wrap(answering(heard), store=store, steps={"node": StepRule(verifier=judge)})
    assert (await graph.ainvoke(HELLO, config("t")))["messages"][-1].content == "try 2"
    assert graph.invoke(HELLO, config("u"))["messages"][-1].content == "try 4"


def test_a_verifier_sees_receipts_and_earlier_steps(store: str) -> None:
    """A verifier is given goal, input, output, the step's calls and the run's committed steps."""
    seen: list[StepOutput] = []

    def look(output: StepOutput) -> bool:
        seen.append(output)
        return True

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("one", lambda _s: {"messages": [AIMessage("1")]})
    builder.add_node("two", lambda _s: {"messages": [AIMessage("2")]})
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    surefoot.wrap(builder.compile(), store=store, steps={"two": StepRule(goal="second", verifier=look)}).invoke(HELLO)
    (output,) = seen
    assert (output.goal, output.name, output.step, output.attempt) == ("second", "two", "two#1", 1)
    assert [c.path for c in output.earlier] == ["one#1"]
    assert output.output["messages"][0].content == "2"
