"""Verify, then commit: the rejected attempt is tried again with the hint, and nothing unverified is committed."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
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
    "verifier",
    [_raises, lambda _o: "PASS", lambda _o: None, lambda _o: Verdict.unverified("refused"), lambda _o: 1.0],
    ids=["raises", "text", "nothing", "unverified", "number"],
)
def test_i13_as_51_what_could_not_judge_is_never_a_pass(store: str, verifier: Any) -> None:
    """A verifier that raises, returns junk or cannot judge passes nothing, its words do not reach the model, and no attempt is used up."""
    heard: list[str] = []
    guard = Guard(store, steps={"node": StepRule(verifier=verifier)}, retry=Retry(max_attempts=2))
    graph = surefoot.wrap(answering(heard), guard=guard)
    with pytest.raises(VerificationFailed, match="UNVERIFIED"):
        graph.invoke(HELLO, config("t"))
    assert heard == ["hello"]
    assert guard.runs.checkpoints(guard.runs.list()[0].run_id) == []
    assert graph.get_state(config("t")).values["messages"] == HELLO["messages"]
    attempts: list[int] = []
    healed = StepRule(verifier=lambda output: attempts.append(output.attempt) is None)
    surefoot.wrap(answering(heard), store=store, steps={"node": healed}).invoke(HELLO, config("t"))
    assert (heard, attempts) == (["hello", "hello"], [1])


def test_as_51_a_judge_that_comes_back_is_asked_again_about_the_same_output(store: str) -> None:
    """A judge that is away for a moment is asked again; the step is not run again, and the run goes on."""
    heard: list[str] = []
    asked: list[int] = []

    def flaky(output: StepOutput) -> Verdict:
        asked.append(output.attempt)
        if len(asked) == 1:
            raise ConnectionError("judge 503")
        return Verdict.passed()

    guard = Guard(store, steps={"node": StepRule(verifier=flaky, retry=Retry(max_attempts=2))})
    result = surefoot.wrap(answering(heard), guard=guard).invoke(HELLO, config("t"))
    assert [m.content for m in result["messages"]] == ["hello", "try 1"]
    assert (heard, asked) == (["hello"], [1, 1])


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


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("cut", ["an error", "an interrupt"])
async def test_a_second_attempt_of_a_sub_graph_goes_on_from_its_own_state(store: str, cut: str, mode: str) -> None:
    """Cut short and resumed, it continues where it was, not from what the rejected attempt left in the checkpointer."""
    cuts = [cut]

    def attempt() -> int:
        step = surefoot.current_step()
        assert step is not None
        return next(frame.attempt for frame in step.chain() if frame.name == "worker")

    def finish(_state: Any) -> Any:
        if attempt() == 2 and cut == "an interrupt":
            interrupt("go on?")
        elif attempt() == 2 and cuts:
            raise ConnectionError(cuts.pop())
        return {"messages": [AIMessage(f"final {attempt()}")]}

    inner: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    inner.add_node("draft", lambda _s: {"messages": [AIMessage(f"draft {attempt()}")]})
    inner.add_node("finish", finish)
    inner.add_edge(START, "draft")
    inner.add_edge("draft", "finish")
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("worker", inner.compile())
    builder.add_edge(START, "worker")
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), store=store, steps={"worker": StepRule(verifier=reject_first)})

    async def invoke(given: Any) -> Any:
        return graph.invoke(given, config("t")) if mode == "sync" else await graph.ainvoke(given, config("t"))

    if cut == "an error":
        with pytest.raises(ConnectionError):
            await invoke(HELLO)
    else:
        assert "__interrupt__" in await invoke(HELLO)
    result = await invoke(None if cut == "an error" else Command(resume="yes"))
    assert [m.content for m in result["messages"]] == ["hello", "Say more.", "draft 2", "final 2"]


def test_a_verifier_sees_receipts_and_earlier_steps(store: str) -> None:
    """A verifier is given goal, input, output, the step's calls and the run's committed steps."""
    seen: list[tuple[StepOutput, list[str]]] = []

    def look(output: StepOutput) -> bool:
        seen.append((output, [checkpoint.path for checkpoint in output.earlier]))
        return True

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("one", lambda _s: {"messages": [AIMessage("1")]})
    builder.add_node("two", lambda _s: {"messages": [AIMessage("2")]})
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    surefoot.wrap(builder.compile(), store=store, steps={"two": StepRule(goal="second", verifier=look)}).invoke(HELLO)
    ((output, earlier),) = seen
    assert (output.goal, output.name, output.step, output.attempt) == ("second", "two", "two#1", 1)
    assert earlier == ["one#1"]
    assert output.output["messages"][0].content == "2"


def test_i14_what_a_verifier_changed_is_not_what_it_passed(store: str) -> None:
    """A verifier that changes the output and says PASS passes nothing; the next attempt's output is committed as it was made."""

    def meddle_once(output: StepOutput) -> Verdict:
        if output.attempt == 1:
            output.output["messages"][0].content = "meddled"
        return Verdict.passed()

    guard = Guard(store, steps={"node": StepRule(verifier=meddle_once)})
    result = surefoot.wrap(answering([]), guard=guard).invoke(HELLO, config("t"))
    assert [m.content for m in result["messages"]] == ["hello", "try 2"]
