"""Breakers, fallbacks and timeouts on crews: who is asked no more, and what is done instead of a task."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from crewai import Task
from crews import Effects, agent, ask, crew

import surefoot
from surefoot import Guard, InDoubt, StepRule, ToolRule
from surefoot_recovery import Breaker

NEEDS = {"look": ("read", "github"), "other": ("read", "gitlab"), "write": ("unsafe", "github")}


def looking(guard: Guard, effects: Effects, error: Exception, *names: str) -> tuple[Any, list[str]]:
    """Return a crew whose model asks for these tools, of which ``look`` raises, and what the model is told."""
    told: list[str] = []

    def then(_amount: int) -> None:
        raise error

    def last(messages: Any) -> str:
        told[:] = [str(message["content"]) for message in messages if message["role"] == "tool"]
        return "done"

    tools = [effects.tool(name, then if name == "look" else None) for name in NEEDS]
    rules = {name: ToolRule(effect=effect, depends_on=service) for name, (effect, service) in NEEDS.items()}
    made = Guard(guard.store, tools=rules, breaker=Breaker(failures=3, cooldown=900))
    return surefoot.wrap(crew(agent([ask(name, amount=1) for name in names], last, tools=tools)), guard=made), told


def test_as_69_three_transport_failures_open_it_for_that_dependency_only(guard: Guard, effects: Effects) -> None:
    """AS-69: after three lost connections no tool of the dependency runs, the model is told, and other dependencies are asked."""
    for number in range(3):
        with surefoot.run(f"r-{number}"):
            looking(guard, effects, ConnectionError("lost"), "look")[0].kickoff()
    opened = effects.count("look")
    assert opened >= 3
    made, told = looking(guard, effects, ConnectionError("lost"), "look", "write", "other")
    with surefoot.run("r-4"):
        assert made.kickoff().raw == "done"
    assert ["github failed 3 times" in text for text in told] == [True, True, False]
    assert (effects.count("look"), effects.count("write"), effects.count("other")) == (opened, 0, 1)


def test_as_69_what_a_tool_answers_does_not_open_it(guard: Guard, effects: Effects) -> None:
    """AS-69: errors of the tool's own are answers; it is asked the eleventh time."""
    for number in range(11):
        before = effects.count("look")
        with surefoot.run(f"r-{number}"):
            looking(guard, effects, ValueError("404"), "look")[0].kickoff()
        assert effects.count("look") > before


def tasked(guard: Guard, reply: Any, *fallback: Any, **rule: Any) -> tuple[Any, Guard]:
    """Return a crew of one task, ``write``, that has a fallback, and its guard."""
    made = Guard(guard.store, steps={"write": StepRule(fallback=fallback, **rule)})
    clerk = agent(reply, max_retry_limit=0)
    task = Task(name="write", description="Write.", expected_output="text", agent=clerk)
    return surefoot.wrap(crew(clerk, tasks=[task]), guard=made), made


def down(_given: Any) -> str:
    """Be a model, or a fallback, that fails."""
    raise ConnectionError("down")


def test_a_task_that_cannot_is_done_otherwise(guard: Guard) -> None:
    """The model is down: the fallback's words are the task's output, for the crew as for the framework."""
    made, guard = tasked(guard, down, lambda given: f"short: {given['description']}")
    result = made.kickoff()
    assert (result.raw, result.tasks_output[0].raw) == ("short: Write.", "short: Write.")
    kinds = [event.type for event in guard.runs.events(guard.runs.list()[0].run_id)]
    assert kinds.count("step.degraded") == 1


def test_a_task_that_no_mode_can_do_is_a_persons(guard: Guard) -> None:
    """Where no mode answers the run is held; what a person gives is the task's output."""
    made, guard = tasked(guard, down, down)
    with surefoot.run("r"), pytest.raises(InDoubt, match="in any of its 2 modes") as held:
        made.kickoff()
    guard.calls.settle(held.value.call_id or "", committed="by hand", by="maria")
    with surefoot.run("r"):
        assert made.kickoff().raw == "by hand"


def test_a_task_that_takes_too_long_is_done_otherwise(guard: Guard) -> None:
    """The task is left at its deadline, and the fallback's words are committed."""
    go = threading.Event()

    def late(_messages: Any) -> str:
        go.wait()
        return "late"

    made, _ = tasked(guard, late, lambda _given: "short", timeout=0.5)
    try:
        assert made.kickoff().raw == "short"
    finally:
        go.set()
