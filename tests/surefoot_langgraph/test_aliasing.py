"""What one attempt does to the state that it was given stays with that attempt."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from support import config
from typing_extensions import TypedDict

import surefoot
from surefoot import Guard, StepOutput, StepRule, Verdict
from surefoot_langgraph import _steps


class State(TypedDict, total=False):
    """What the nodes share."""

    facts: dict[str, Any]
    lock: Any
    draft: str
    seen: Any


def reject_first(output: StepOutput) -> Verdict:
    """Reject the first attempt."""
    return Verdict.failed("INCOMPLETE", "Say more.") if output.attempt == 1 else Verdict.passed()


def run(store: str) -> tuple[dict[str, Any], Any, Guard]:
    """Run a graph whose second node spoils what it was given, each time it is tried; return its result, the graph and the guard."""

    def research(_state: State) -> Any:
        return {"facts": {"list": ["a"], "deep": {"x": 1}}}

    def draft(state: State) -> Any:
        state["facts"]["list"].append("spoilt")
        state["facts"]["deep"]["x"] = 999
        state["facts"]["more"] = True
        return {"draft": f"draft of {len(state['facts']['list'])}"}

    def review(state: State) -> Any:
        return {"seen": state["facts"]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_sequence([research, draft, review])
    builder.add_edge(START, "research")
    guard = Guard(store, steps={"draft": StepRule(verifier=reject_first)})
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), guard=guard)
    return graph.invoke({}, config("t")), graph, guard


def committed(graph: Any) -> list[Any]:
    """Return the facts of every checkpoint of the framework, the newest first."""
    return [found.values["facts"] for found in graph.get_state_history(config("t")) if "facts" in found.values]


GOOD = {"list": ["a"], "deep": {"x": 1}}


def test_a_rejected_attempt_changes_no_committed_checkpoint(store: str) -> None:
    """What a node does in place to its state is in no checkpoint of the framework, in no memo, and in no later node's state."""
    result, graph, guard = run(store)
    assert (result["draft"], result["seen"]) == ("draft of 2", GOOD)
    assert committed(graph) == [GOOD] * len(committed(graph))
    (found,) = guard.runs.list()
    assert "spoilt" not in "".join(point.output or "" for point in guard.runs.checkpoints(found.run_id))


def test_without_a_copy_it_would_have_changed_them(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: where attempts are given the state itself, the committed checkpoints change."""
    monkeypatch.setattr(_steps, "_own", lambda given: given)
    result, graph, _ = run(store)
    assert result["seen"] != GOOD
    assert GOOD not in committed(graph)


def test_what_cannot_be_copied_is_given_as_it_is(guard: Guard) -> None:
    """A lock in the state is the lock itself for a node that is verified; the rest of the state is a copy."""
    lock = threading.Lock()
    assert _steps._own({"lock": lock, "n": [1]}) == {"lock": lock, "n": [1]}
