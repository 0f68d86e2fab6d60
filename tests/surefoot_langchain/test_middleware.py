"""The middleware: an agent guarded from inside, without a wrapped object. Effects are counted in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crash import Children, Effects, look
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ToolRetryMiddleware
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from lc_support import Scripted, agent, answers, charging, go, thread

import surefoot
from surefoot import AdapterUnavailable, Guard, InDoubt, StepRule, UsageError, Verdict
from surefoot_langchain import SurefootMiddleware
from surefoot_langchain._middleware import _INNERMOST

children = Children(Path(__file__).parent / "lc_child.py")
POINTS = ["before intent", "call.claimed", "effect", "call.committed", "step.committed"]


def made(guard: Guard, effects: Effects, *script: Any, before: Any = (), **options: Any) -> Any:
    """Return an agent with the middleware and a checkpointer."""
    middleware = [*before, SurefootMiddleware(guard)]
    return agent(charging(effects), *script, effects=effects, middleware=middleware, checkpointer=InMemorySaver(), **options)


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_parallel_calls_share_the_run(face: str, guard: Guard, effects: Effects) -> None:
    """Twins among parallel calls each run once, in one run, which ends with the turn; the next turn is the next run."""
    target = made(guard, effects, [5, 5, 6], [5])
    for turn in (1, 2):
        result = target.invoke(go(), thread()) if face == "sync" else await target.ainvoke(go(), thread())
        assert answers(result)[-4:] == ["charged 5", "charged 5", "charged 6", "charged 5"]
        assert effects.count("charge") == 4 * turn
        assert [str(run.status) for run in guard.runs.list()] == ["completed"] * turn
        assert len(guard.calls.list()) == 4 * turn


def test_it_adds_no_nodes(guard: Guard, effects: Effects) -> None:
    """An agent with the middleware has the nodes of one without, and streams the same updates."""
    plain = agent(charging(effects), [5], checkpointer=InMemorySaver())
    target = made(guard, effects, [5])
    assert set(target.nodes) == set(plain.nodes)
    streamed = [[list(item) for item in one.stream(go(), thread(), stream_mode="updates")] for one in (plain, target)]
    assert streamed[0] == streamed[1]


def test_both_are_refused(guard: Guard, effects: Effects) -> None:
    """An agent that has the middleware and is wrapped too raises before the model is asked."""
    with pytest.raises(UsageError, match="wrapped and has a SurefootMiddleware"):
        surefoot.wrap(made(guard, effects, [5]), guard=guard).invoke(go(), thread())
    assert effects.all() == []


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_it_must_be_innermost(face: str, guard: Guard, effects: Effects) -> None:
    """With another middleware further in, the first call is refused: what that one does would not be seen. Further out is fine."""
    retrying = ToolRetryMiddleware(max_retries=1, on_failure="error", initial_delay=0, jitter=False)
    inside = agent(charging(effects), [5], middleware=[SurefootMiddleware(guard), retrying], checkpointer=InMemorySaver())
    with pytest.raises(UsageError, match="put it last"):
        inside.invoke(go(), thread()) if face == "sync" else await inside.ainvoke(go(), thread())
    assert effects.count("charge") == 0
    outside = made(guard, effects, [5], before=[retrying])
    result = outside.invoke(go(), thread("u")) if face == "sync" else await outside.ainvoke(go(), thread("u"))
    assert answers(result) == ["charged 5"]


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_private_names(face: str, effects: Effects) -> None:
    """What the innermost middleware is handed has the names that it is known by in this release; what others are handed has not."""
    told: dict[str, list[str]] = {"outer": [], "inner": []}

    class Outer(AgentMiddleware[Any, Any]):
        """Writes down the names."""

        place = "outer"

        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            """Write down the model's."""
            told[self.place].append(handler.__name__)
            return handler(request)

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            """Write down the model's."""
            told[self.place].append(handler.__name__)
            return await handler(request)

        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            """Write down the tool's."""
            told[self.place].append(handler.__name__)
            return handler(request)

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            """Write down the tool's."""
            told[self.place].append(handler.__name__)
            return await handler(request)

    class Inner(Outer):
        """Stands further in."""

        place = "inner"

    target = agent(charging(effects), [5], middleware=[Outer(), Inner()])
    target.invoke(go()) if face == "sync" else await target.ainvoke(go())
    model = "_execute_model_sync" if face == "sync" else "_execute_model_async"
    assert told["inner"] == [model, "execute", model]
    assert set(told["inner"]) <= _INNERMOST
    assert _INNERMOST.isdisjoint(told["outer"])
    assert len(told["outer"]) == 3


def test_without_a_name_it_is_refused(guard: Guard, effects: Effects) -> None:
    """Without a thread_id and a named run nobody could tell whose call it is; a named run is enough."""
    target = agent(charging(effects), [5], middleware=[SurefootMiddleware(guard)])
    with pytest.raises(UsageError, match="needs a name"):
        target.invoke(go())
    with surefoot.run("invoice-7"):
        assert answers(target.invoke(go())) == ["charged 5"]
    assert effects.count("charge") == 1


def test_a_rejected_reply_is_asked_for_again_with_the_hint(effects: Effects) -> None:
    """A reply is a step: rejected, the model is asked again with the hint, and only the good one is in the state."""

    def judge(output: Any) -> Verdict:
        return Verdict.failed("INCOMPLETE", "Say more.") if output.name == "model" and output.attempt == 1 else Verdict.passed()

    guard = Guard("memory://", steps={"model": surefoot.StepRule(verifier=judge)})
    result = made(guard, effects).invoke(go(), thread())
    assert effects.count("model") == 2
    assert [message.type for message in result["messages"]] == ["human", "ai"]


def test_an_agent_in_a_tool_is_a_part_of_the_call(guard: Guard, effects: Effects) -> None:
    """An agent with the middleware that a guarded function runs is a part of the function's run."""
    inner = agent(charging(effects), [5, 5], middleware=[SurefootMiddleware(guard)])

    def outer() -> list[str]:
        return answers(inner.invoke(go()))

    with surefoot.run("outer"):
        assert surefoot.wrap(outer, guard=guard)() == ["charged 5", "charged 5"]
    assert (len(guard.runs.list()), effects.count("charge")) == (1, 2)


def test_as_90_what_langgraph_counts_is_no_identity(guard: Guard, effects: Effects) -> None:
    """AS-90: a tool asks a person beside a charge; the state is updated with nothing before the answer: the charge is not repeated."""

    @tool
    def person(amount: int) -> str:
        """Ask a person."""
        return str(interrupt(amount))

    class Both(Scripted):
        """Asks for a charge and a person at once."""

        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            found = super()._generate(messages, *args, **kwargs)
            for call in found.generations[0].message.tool_calls[1:]:
                call["name"] = "person"
            return found

    middleware = [SurefootMiddleware(guard)]
    target = create_agent(Both(script=[[5, 6]]), [charging(effects), person], middleware=middleware, checkpointer=InMemorySaver())
    target.invoke(go(), thread())
    target.update_state(thread(), {"messages": []}, as_node="model")
    assert answers(target.invoke(Command(resume="yes"), thread())) == ["charged 5", "yes"]
    assert effects.count("charge") == 1


def test_as_59_a_framework_that_is_too_old_is_refused(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-59: the middleware is as careful as wrapping: below the range it is not made."""
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "0.0.1")
    with pytest.raises(AdapterUnavailable, match=r"0\.0\.1 is too old"):
        SurefootMiddleware(guard)


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize(("point", "nth"), [*((point, 1) for point in POINTS), ("call.claimed", 2), ("effect", 3), ("call.committed", 3)])
def test_as_03_killed_and_resumed(tmp_path: Path, point: str, nth: int, face: str) -> None:
    """AS-03: killed anywhere and resumed, no charge happens twice; what is in doubt is told to the model, which goes on."""
    told = {"what": "agent", "face": face, "durability": face}  # async is the default of LangGraph
    children.killed(tmp_path, kill=point, nth=nth, input=True, **told)
    got = children.result(tmp_path, input=False, **told)
    effects = Effects(tmp_path / "effects")
    assert len(got) == 3
    assert max(effects.count("charge", amount) for amount in (5, 6, 7)) <= 1
    doubtful = sum("Outcome unknown" in text for text in got)
    assert effects.count("charge") >= 3 - doubtful
    assert doubtful <= 2
    assert {str(row.state) for row in look(tmp_path).calls.list()} <= {"committed", "in_doubt"}


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("point", ["effect", "call.committed", "step.committed"])
def test_as_03_killed_and_sent_again(tmp_path: Path, point: str, face: str) -> None:
    """AS-03: killed and given its input again, LangGraph begins a turn behind what it kept, or from the start: no charge happens twice."""
    told = {"what": "agent", "face": face, "durability": face, "input": True}
    children.killed(tmp_path, kill=point, nth=2, **told)
    children.result(tmp_path, **told)
    effects = Effects(tmp_path / "effects")
    assert effects.count("charge") >= 1
    assert max(effects.count("charge", amount) for amount in (5, 6, 7)) <= 1


class Down(Scripted):
    """A model that nobody reaches once its script is at an end."""

    def _generate(self, messages: list[Any], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        found = super()._generate(messages, stop, run_manager, **kwargs)
        if found.generations[0].text == "done":
            raise ConnectionError("down")
        return found


def falling(guard: Guard, effects: Effects, *script: Any, then: Any = lambda: None, **steps: Any) -> tuple[Guard, Any]:
    """Return a guard with these fallbacks of steps, and an agent with its middleware, whose model is :class:`Down` after the script."""
    ruled = Guard(guard.store, steps={name: StepRule(fallback=[function]) for name, function in steps.items()})
    model = Down(script=script, effects=effects)
    return ruled, create_agent(model, [charging(effects, then)], middleware=[SurefootMiddleware(ruled)], checkpointer=InMemorySaver())


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_a_reply_that_nobody_gives_is_given_otherwise(face: str, guard: Guard, effects: Effects) -> None:
    """The model is down after a charge: the fallback, given the model's request, speaks, and ends the turn; the charge stays one."""
    ruled, target = falling(guard, effects, [5], model=lambda request: f"short answer after {request.messages[-1].content}")
    result = target.invoke(go(), thread()) if face == "sync" else await target.ainvoke(go(), thread())
    assert result["messages"][-1].content == "short answer after charged 5"
    assert effects.count("charge") == 1
    assert [str(run.status) for run in ruled.runs.list()] == ["completed"]
    events = [event.type for run in ruled.runs.list() for event in ruled.runs.events(run.run_id)]
    assert events.count("step.degraded") == 1


def test_a_call_that_fails_is_answered_otherwise(guard: Guard, effects: Effects) -> None:
    """A tool raises: the fallback, given the call's request, answers the model in the tool's place."""

    def fails() -> None:
        raise ConnectionError("lost")

    told = {"tools": lambda request: {"later": request.tool_call["args"]["amount"]}, "model": lambda _request: "done"}
    _, target = falling(guard, effects, [5], then=fails, **told)
    assert answers(target.invoke(go(), thread())) == ['{"later": 5}']


def test_a_reply_that_no_mode_gives_is_a_persons(guard: Guard, effects: Effects) -> None:
    """Where nothing speaks for the model the run is held; what a person gives is its reply."""

    def fails(_request: Any) -> str:
        raise ConnectionError("down too")

    ruled, target = falling(guard, effects, model=fails)
    with pytest.raises(InDoubt, match="in any of its 2 modes") as held:
        target.invoke(go(), thread())
    ruled.calls.settle(held.value.call_id or "", committed="by hand", by="maria")
    assert target.invoke(None, thread())["messages"][-1].content == "by hand"
