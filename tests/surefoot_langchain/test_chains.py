"""Chains: a run of steps and calls, that cannot be told from a bare one while nothing fails. Effects are counted in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import Children, Effects, look
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableBranch, RunnableLambda, RunnableParallel, RunnablePassthrough
from lc_support import agent, chain, charging, go

import surefoot
from surefoot import Guard, InDoubt, SurefootError, UsageError, Verdict
from surefoot_conformance.harness import renamed

children = Children(Path(__file__).parent / "lc_child.py")
POINTS = ["before intent", "call.claimed", "effect", "call.committed", "step.committed"]


def doubled(number: int) -> int:
    """Double."""
    return number * 2


async def later(number: int) -> int:
    """Double, asynchronously."""
    return number * 2


def counted(number: int) -> Iterator[int]:
    """Count."""
    yield from range(number)


def broken(number: int) -> int:
    """Fail."""
    raise ValueError(number)


def with_config(number: int, config: Any) -> list[str]:
    """Look at the config."""
    return sorted(config["metadata"])


CHAINS: dict[str, tuple[Runnable[Any, Any], Any]] = {
    "functions": (RunnableLambda(doubled) | RunnableLambda(doubled), 3),
    "both faces": (RunnableLambda(doubled, later) | doubled, 3),
    "a generator": (RunnableLambda(doubled) | counted, 3),
    "a config": (RunnableLambda(with_config).with_config(metadata={"a": 1}), 3),
    "parallel": (RunnableParallel(only=RunnableLambda(doubled)), 3),
    "assigned": (RunnablePassthrough.assign(b=lambda given: given["a"] + 1), {"a": 1}),
    "a branch": (RunnableBranch((lambda number: number > 2, RunnableLambda(doubled)), RunnableLambda(str)), 3),
    "retries": (RunnableLambda(doubled).with_retry(), 3),
    "a fallback": (RunnableLambda(broken).with_fallbacks([RunnableLambda(doubled)]), 3),
    "an error": (RunnableLambda(doubled) | broken, 3),
    "each": (RunnableLambda(doubled).map(), [1, 2]),
    "a model": (ChatPromptTemplate.from_template("hi {x}") | FakeListChatModel(responses=["one two"]) | StrOutputParser(), {"x": 1}),
}


def outcome(work: Any) -> Any:
    """Return what something returned or raised."""
    try:
        return work()
    except Exception as exc:  # noqa: BLE001 - compared
        return [type(exc), str(exc)]


async def aoutcome(work: Any) -> Any:
    """Return what something asynchronous returned or raised."""
    try:
        return await work
    except Exception as exc:  # noqa: BLE001 - compared
        return [type(exc), str(exc)]


async def everything(target: Runnable[Any, Any], given: Any) -> list[Any]:
    """Return all that can be seen of a chain."""

    async def streamed() -> list[Any]:
        return [item async for item in target.astream(given)]

    async def told() -> list[Any]:
        return [[event["event"], event["name"], repr(event["data"].get("output"))] async for event in target.astream_events(given)]

    return [
        outcome(lambda: target.invoke(given)),
        await aoutcome(target.ainvoke(given)),
        outcome(lambda: list(target.stream(given))),
        await aoutcome(streamed()),
        outcome(lambda: target.batch([given, given])),
        await aoutcome(target.abatch([given])),
        await aoutcome(told()),
        type(target).__name__,
        target.get_name(),
        target.get_graph().to_json(),
        target.get_input_jsonschema(),
        target.get_output_jsonschema(),
    ]


@pytest.mark.parametrize("name", CHAINS)
async def test_a_wrapped_chain_cannot_be_told_from_a_bare_one(name: str, guard: Guard) -> None:
    """Results, streams, events, errors, schemas and drawing of a wrapped chain are those of the bare one."""
    bare, given = CHAINS[name]
    wrapped = await everything(surefoot.wrap(bare, guard=guard), given)
    assert renamed(repr(wrapped)) == renamed(repr(await everything(bare, given)))


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_a_chain_is_one_run_and_its_tool_one_call(face: str, guard: Guard, effects: Effects) -> None:
    """An invocation is a run that is completed, and the tool in it has one effect and one row; the original is left alone."""
    bare = chain(charging(effects), effects)
    wrapped = surefoot.wrap(bare, guard=guard)
    assert (wrapped.invoke(5) if face == "sync" else await wrapped.ainvoke(5)) == "charged 5"
    assert effects.count("charge") == 1
    assert [(row.tool, str(row.state)) for row in guard.calls.list()] == [("charge", "committed")]
    assert [(run.adapter, str(run.status)) for run in guard.runs.list()] == [("langchain", "completed")]
    bare.invoke(5)
    assert len(guard.calls.list()) == 1


def test_equal_calls_in_branches_are_two(guard: Guard, effects: Effects) -> None:
    """Two parallel branches that charge the same have two effects: they are two requests."""
    charge = charging(effects)
    wrapped = surefoot.wrap(RunnableParallel(a=charge, b=charge), guard=guard)
    assert wrapped.invoke({"amount": 5}) == {"a": "charged 5", "b": "charged 5"}
    assert effects.count("charge", 5) == 2


def test_as_02_a_retrying_runnable_repeats_no_effect(guard: Guard, effects: Effects) -> None:
    """A runnable that runs a tool again when it raised has not asked for it again: the effect happens once."""

    def lost() -> None:
        raise ConnectionError("lost")

    wrapped = surefoot.wrap(charging(effects, lost).with_retry(stop_after_attempt=3, wait_exponential_jitter=False), guard=guard)
    with pytest.raises((ConnectionError, SurefootError)):
        wrapped.invoke({"amount": 5})
    assert effects.count("charge") == 1


def test_a_rejected_function_runs_again_with_the_hint(effects: Effects) -> None:
    """A function in a chain is a step: its output is verified before the next one sees it, and the hint reaches it as a message."""

    def judge(output: Any) -> Verdict:
        if output.name == "draft" and output.attempt == 1:
            return Verdict.failed("INCOMPLETE", "Say more.")
        return Verdict.passed()

    def draft(messages: list[Any]) -> str:
        effects.add("draft", len(messages))
        return f"{len(messages)}"

    guard = Guard("memory://", steps={"draft": surefoot.StepRule(verifier=judge)})
    assert surefoot.wrap(RunnableLambda(draft) | str, guard=guard).invoke(go()["messages"]) == "2"
    assert effects.all() == [["draft", 1], ["draft", 2]]


def test_an_agent_in_a_chain_is_a_part_of_its_run(guard: Guard, effects: Effects) -> None:
    """An agent that a chain ends with is guarded with it: one run, and its calls are rows of it."""
    wrapped = surefoot.wrap(RunnableLambda(lambda _given: go()) | agent(charging(effects), [5, 5]), guard=guard)
    wrapped.invoke("x")
    assert effects.count("charge") == 2
    (run,) = guard.runs.list()
    assert {row.run_id for row in guard.calls.list()} == {run.run_id}


def test_another_guard_is_refused(guard: Guard) -> None:
    """Wrapped twice with one guard it is one; with another one that is an error."""
    wrapped = surefoot.wrap(RunnableLambda(doubled) | doubled, guard=guard)
    assert surefoot.wrap(wrapped, guard=guard) is wrapped
    with pytest.raises(UsageError, match="another guard"):
        surefoot.wrap(wrapped, guard=Guard("memory://"))


def test_as_60_a_strict_guard_wants_a_name(effects: Effects) -> None:
    """With ``strict=True`` a chain without a name for its run is refused; a thread_id is one."""
    wrapped = surefoot.wrap(RunnableLambda(doubled) | doubled, guard=Guard("memory://", strict=True))
    with pytest.raises(UsageError, match="needs a name"):
        wrapped.invoke(1)
    assert wrapped.invoke(1, {"configurable": {"thread_id": "t"}}) == 4


def test_a_chain_is_rolled_back(effects: Effects) -> None:
    """What a chain's run did is undone; that the chain itself keeps no state is no obstacle. It cannot be branched off."""

    def undo(call: Any, _value: Any) -> None:
        effects.add("undone", call.arguments["amount"])

    guard = Guard("memory://", tools={"charge": surefoot.ToolRule("unsafe", compensate=undo)})
    wrapped = surefoot.wrap(chain(charging(effects), effects), guard=guard)
    with surefoot.run("invoice-7"):
        wrapped.invoke(5)
    (run,) = guard.runs.list()
    with pytest.raises(UsageError, match="cannot be branched off"):
        guard.runs.fork(run.run_id, at="plan", by="test", app=wrapped)
    guard.runs.rollback(run.run_id, by="test", app=wrapped)
    assert effects.count("undone", 5) == 1


@pytest.mark.parametrize("face", ["sync", "async", "stream"])
@pytest.mark.parametrize("point", POINTS)
def test_as_03_a_killed_chain_goes_on(tmp_path: Path, point: str, face: str) -> None:
    """AS-03: killed anywhere and run again under its name, a chain charges at most once, and repeats no step that was committed."""
    told = {"what": "chain", "face": face, "effect": "unsafe"}
    children.killed(tmp_path, kill=point, **told)
    effects = Effects(tmp_path / "effects")
    if point in {"call.claimed", "effect"}:  # nobody can know
        ended = children.process(tmp_path, **told)
        assert InDoubt.__name__ in ended.stderr
        (doubtful,) = look(tmp_path).calls.list(state="in_doubt")
        look(tmp_path).calls.settle(doubtful.call_id, committed="charged 5", by="test")
    assert children.result(tmp_path, **told) == "charged 5"
    assert effects.count("charge") == (0 if point == "call.claimed" else 1)
    assert (effects.count("plan"), effects.count("model")) == (1, 1)
