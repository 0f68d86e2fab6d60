"""Agents that LangChain's ``create_agent`` makes: guarded like any other graph. Effects are counted in a file.

That a wrapped one cannot be told from a bare one is compared beside the other graphs, in every mode (``graphs.GRAPHS``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import Children
from langchain.agents.middleware import HumanInTheLoopMiddleware, ToolRetryMiddleware
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from support import Agent, Effects, ask, config, planner

import surefoot
from surefoot import Guard, ToolRule

HELLO: Any = {"messages": [HumanMessage("go")]}


def agent(effects: Effects, *replies: Any, guard: Guard, **options: Any) -> Any:
    """Return a wrapped agent with one tool, ``charge``, and a checkpointer."""
    made = Agent([effects.tool("charge")], planner(*replies), **options)
    return surefoot.wrap(made.compile(checkpointer=InMemorySaver()), guard=guard)


def answers(result: Any) -> list[str]:
    """Return the texts of the tool messages, in order."""
    return [str(m.content) for m in result["messages"] if isinstance(m, ToolMessage)]


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_parallel_calls_are_a_models_requests(effects: Effects, store: str, mode: str) -> None:
    """Two calls of one reply, twins among them, each run once, and the ledger has them as requests of the model."""
    guard = Guard(store)
    graph = agent(effects, [ask("charge", amount=5), ask("charge", amount=5), ask("charge", amount=6)], guard=guard)
    result = graph.invoke(HELLO, config("t")) if mode == "sync" else await graph.ainvoke(HELLO, config("t"))
    assert answers(result) == ["charge 5", "charge 5", "charge 6"]
    assert sorted(effects.all()) == [["charge", 5], ["charge", 5], ["charge", 6]]
    asked = {call["id"] for call in result["messages"][1].tool_calls}
    assert {call.alias for call in guard.calls.list()} == asked


def test_as_08_a_person_approves_edits_and_rejects(effects: Effects, store: str) -> None:
    """Asked about three calls, a person approves one, edits one and rejects one: the first two run as decided, given again or not."""
    guard = Guard(store)
    middleware = [HumanInTheLoopMiddleware(interrupt_on={"charge": True})]
    graph = agent(effects, [ask("charge", amount=n) for n in (5, 6, 7)], guard=guard, middleware=middleware)
    assert len(graph.invoke(HELLO, config("t"))["__interrupt__"][0].value["action_requests"]) == 3
    asked = graph.get_state(config("t")).config
    edited = {"type": "edit", "edited_action": {"name": "charge", "args": {"amount": 60}}}
    decided = Command(resume={"decisions": [{"type": "approve"}, edited, {"type": "reject", "message": "too much"}]})
    for place in (config("t"), config("t"), asked):
        rejected, approved, changed = answers(graph.invoke(decided, place))
        assert ("too much" in rejected, approved, changed.splitlines()[-1]) == (True, "charge 5", "charge 60")
        assert sorted(effects.all()) == [["charge", 5], ["charge", 60]]


def test_as_02_a_retrying_middleware_repeats_no_effect(effects: Effects, store: str) -> None:
    """Middleware that runs a tool again when it raised has not asked for it again: an unsafe call takes effect once."""

    def fails(amount: int) -> str:
        raise ConnectionError(f"lost after {amount}")

    guard = Guard(store, tools={"charge": ToolRule(effect="unsafe")})
    again = ToolRetryMiddleware(max_retries=3, initial_delay=0, jitter=False)
    made = Agent([effects.tool("charge", fails)], planner([ask("charge", amount=5)]), middleware=[again])
    surefoot.wrap(made.compile(checkpointer=InMemorySaver()), guard=guard).invoke(HELLO, config("t"))
    assert effects.all() == [["charge", 5]]


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    """The processes of these tests."""
    made = Children(Path(__file__).parent / "child.py")
    yield made
    made.close()


def texts(children: Children, folder: Path, scenario: str, **told: Any) -> list[str]:
    """Run a process that must end well; return the texts of its tool messages."""
    messages = children.result(folder, scenario=scenario, create_agent=True, **told)
    return [message[1] for message in messages if message[0] == "tool"]


def killed(children: Children, folder: Path, scenario: str, **told: Any) -> None:
    """Run a process that must die of SIGKILL."""
    children.killed(folder, scenario=scenario, create_agent=True, input="go", **told)


@pytest.mark.parametrize("mode", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("nth", [1, 2])
def test_as_03_killed_after_the_effect_and_resumed(children: Children, tmp_path: Path, nth: int, mode: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
    """Killed in the first or the second of two equal charges: no charge happens twice, and the model is told of the one in doubt."""
    told = {"async": mode}
    killed(children, tmp_path, "loop", kill="effect", nth=nth, **told)
    got = texts(children, tmp_path, "loop", input=None, **told)
    doubtful = [text for text in got if "Outcome unknown" in text]
    effects = Effects(tmp_path / "effects").count("charge")
    assert (len(got), effects) == (2, 2 if nth == 2 else 1)
    assert len(doubtful) == (1 if nth == 2 else 2)  # what is in doubt answers every equal request of the thread


@pytest.mark.parametrize("mode", [False, True], ids=["sync", "async"])
def test_as_03_killed_after_the_outcome_and_resumed(children: Children, tmp_path: Path, mode: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
    """Killed when the charge is recorded: its result is given, not a second charge; the equal one after it is its own."""
    killed(children, tmp_path, "loop", kill="call.committed", **{"async": mode})
    assert texts(children, tmp_path, "loop", input=None, **{"async": mode}) == ["charged 5", "charged 5"]
    assert Effects(tmp_path / "effects").count("charge") == 2


def test_as_01_killed_beside_a_finished_call(children: Children, tmp_path: Path) -> None:
    """Killed in one of two parallel calls, the one that had ended is not run again."""
    told = {"tools": {"dies": "idempotent"}}
    killed(children, tmp_path, "sibling", kill="sibling", **told)
    assert texts(children, tmp_path, "sibling", input=None, **told) == ["charged 5", "lived 1"]
    assert Effects(tmp_path / "effects").count("charge") == 1


def test_as_01_interrupted_beside_a_finished_call(children: Children, tmp_path: Path) -> None:
    """A tool asks a person beside a charge; answered in a new process, the charge ran once."""
    texts(children, tmp_path, "asking", input="go")
    assert texts(children, tmp_path, "asking", resume="yes") == ["charged 5", "1: yes"]
    assert Effects(tmp_path / "effects").count("charge") == 1
