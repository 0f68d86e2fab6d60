"""Breakers, fallbacks and timeouts on real graphs: who is asked no more, and what is done instead."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from support import Effects, answers, ask, config, hello, planner, react

import surefoot
from surefoot import Guard, InDoubt, StepRule, ToolRule
from surefoot_recovery import Breaker


def raising(error: Exception) -> Any:
    """Return what a tool does that raises."""

    def then(_amount: int) -> None:
        raise error

    return then


def looking(store: str, effects: Effects, error: Exception, *tools: str) -> Any:
    """Return an agent that asks for these tools, of which ``look`` raises, with a breaker for each dependency."""
    made = [effects.tool("look", raising(error)), effects.tool("other"), effects.tool("write")]
    needs = {"look": ("read", "github"), "other": ("read", "gitlab"), "write": ("unsafe", "github")}
    rules = {name: ToolRule(effect=effect, depends_on=service) for name, (effect, service) in needs.items()}
    graph = react(planner([ask(name, amount=1) for name in tools]), made).compile(checkpointer=InMemorySaver())
    return surefoot.wrap(graph, store=store, tools=rules, breaker=Breaker(failures=3, cooldown=900))


def test_as_69_three_transport_failures_open_it_for_that_dependency_only(store: str, effects: Effects) -> None:
    """AS-69: after three lost connections no tool of the dependency runs, the model is told, and other dependencies are asked."""
    for number in range(3):
        with pytest.raises(ConnectionError):
            looking(store, effects, ConnectionError("lost"), "look").invoke(hello(), config(f"t-{number}"))
    result = looking(store, effects, ConnectionError("lost"), "look", "write", "other").invoke(hello(), config("t-4"))
    assert ["github failed 3 times" in text for text in answers(result)] == [True, True, False]
    assert (effects.count("look"), effects.count("write"), effects.count("other")) == (3, 0, 1)


def test_as_69_what_a_tool_answers_does_not_open_it(store: str, effects: Effects) -> None:
    """AS-69: ten errors of the tool's own are answers; it is asked the eleventh time."""
    for number in range(11):
        with pytest.raises(ValueError, match="404"):
            looking(store, effects, ValueError("404"), "look").invoke(hello(), config(f"t-{number}"))
    assert effects.count("look") == 11


def test_a_node_that_cannot_is_done_otherwise(store: str) -> None:
    """A planner whose model is down falls back to a function of the same state, whose update the graph goes on with."""

    def plan(_state: Any) -> Any:
        raise ConnectionError("the model is down")

    def short(state: Any) -> Any:
        return {"messages": [AIMessage(f"short answer to {state['messages'][-1].content}")]}

    guard = Guard(store, steps={"agent": StepRule(fallback=[short])})
    graph = surefoot.wrap(react(plan, []).compile(checkpointer=InMemorySaver()), guard=guard)
    assert graph.invoke(hello(), config("t"))["messages"][-1].content == "short answer to go"
    assert graph.get_state(config("t")).values["messages"][-1].content == "short answer to go"
    kinds = [event.type for event in guard.runs.events(guard.runs.list()[0].run_id)]
    assert kinds.count("step.degraded") == 1


def test_a_node_that_no_mode_can_do_is_a_persons(store: str) -> None:
    """Where no mode answers the run is held; the update that a person gives is the node's, and the graph goes on with it."""

    def plan(_state: Any) -> Any:
        raise ConnectionError("the model is down")

    guard = Guard(store, steps={"agent": StepRule(fallback=[plan])})
    graph = surefoot.wrap(react(plan, []).compile(checkpointer=InMemorySaver()), guard=guard)
    with pytest.raises(InDoubt, match="in any of its 2 modes") as held:
        graph.invoke(hello(), config("t"))
    guard.calls.settle(held.value.call_id or "", committed={"messages": [AIMessage("by hand")]}, by="maria")
    assert graph.invoke(None, config("t"))["messages"][-1].content == "by hand"


@pytest.mark.parametrize("face", ["sync", "async"])
async def test_a_node_that_takes_too_long_is_done_otherwise(store: str, face: str) -> None:
    """On both faces the node is left at its deadline, and the fallback's update is committed."""
    go = threading.Event()

    def plan(_state: Any) -> Any:
        go.wait()
        return {"messages": [AIMessage("late")]}

    def short(_state: Any) -> Any:
        return {"messages": [AIMessage("short")]}

    graph = surefoot.wrap(react(plan, []).compile(), store=store, steps={"agent": StepRule(timeout=0.05, fallback=[short])})
    try:
        result = await graph.ainvoke(hello()) if face == "async" else graph.invoke(hello())
    finally:
        go.set()
    assert result["messages"][-1].content == "short"
