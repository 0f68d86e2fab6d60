"""Breakers, fallbacks and timeouts on agents: who is asked no more, and what is done instead of a run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, Runner, function_tool
from crash import Effects
from oai_support import Failing, Script, asks, events, invoke, says

import surefoot
from surefoot import Guard, InDoubt, StepRule, ToolRule, UsageError
from surefoot_recovery import Breaker

NEEDS = {"look": ("read", "github"), "other": ("read", "gitlab"), "write": ("unsafe", "github")}


def looking(guard: Guard, effects: Effects, error: Exception, *names: str) -> tuple[Any, list[str]]:
    """Return an agent that asks for these tools, of which ``look`` raises, and what its model is told."""
    told: list[str] = []

    def tool(name: str) -> Any:
        async def body(number: int) -> str:
            effects.add(name, number)
            if name == "look":
                raise error
            return name

        return function_tool(body, name_override=name, description_override=f"Do {name}.", failure_error_function=None)

    def reply(answered: list[str], _items: list[Any]) -> Any:
        told[:] = answered
        return [says("done")] if answered else [asks(name, number=1) for name in names]

    rules = {name: ToolRule(effect=effect, depends_on=service) for name, (effect, service) in NEEDS.items()}
    made = Guard(guard.store, tools=rules, breaker=Breaker(failures=3, cooldown=900))
    return surefoot.wrap(Agent(name="a", model=Script(reply), tools=[tool(name) for name in NEEDS]), guard=made), told


def test_as_69_three_transport_failures_open_it_for_that_dependency_only(guard: Guard, effects: Effects) -> None:
    """AS-69: after three lost connections no tool of the dependency runs, the model is told, and other dependencies are asked."""
    agent, told = looking(guard, effects, ConnectionError("lost"), "look")
    for number in range(3):
        with surefoot.run(f"r-{number}"), pytest.raises(Exception, match="lost"):
            invoke(agent)
    agent, told = looking(guard, effects, ConnectionError("lost"), "look", "write", "other")
    with surefoot.run("r-4"):
        assert invoke(agent).final_output == "done"
    assert ["github failed 3 times" in text for text in told] == [True, True, False]
    assert (effects.count("look"), effects.count("write"), effects.count("other")) == (3, 0, 1)


def test_as_69_what_a_tool_answers_does_not_open_it(guard: Guard, effects: Effects) -> None:
    """AS-69: ten errors of the tool's own are answers; it is asked the eleventh time."""
    agent, _ = looking(guard, effects, ValueError("404"), "look")
    for number in range(11):
        with surefoot.run(f"r-{number}"), pytest.raises(Exception, match="404"):
            invoke(agent)
    assert effects.count("look") == 11


def test_a_run_that_cannot_is_answered_otherwise(guard: Guard) -> None:
    """The model is down: the fallback's words are the run's ``final_output``, committed as the step's output."""
    made = Guard(guard.store, steps={"a": StepRule(fallback=[lambda given: f"short answer to {given}"])})
    agent = surefoot.wrap(Agent(name="a", model=Failing(Script(lambda _answered, _items: [says("never")]), 99)), guard=made)
    result = invoke(agent)
    assert (result.final_output, result.last_agent.name) == ("short answer to order 7", "a")
    assert len(events(made, "step.degraded")) == 1


def test_a_run_that_no_mode_can_do_is_a_persons(guard: Guard) -> None:
    """Where no mode answers the run is held; what a person gives is its ``final_output``."""

    def down(_given: Any) -> str:
        raise ConnectionError("down")

    made = Guard(guard.store, steps={"a": StepRule(fallback=[down])})
    agent = surefoot.wrap(Agent(name="a", model=Failing(Script(lambda _answered, _items: [says("never")]), 99)), guard=made)
    with surefoot.run("r"), pytest.raises(InDoubt, match="in any of its 2 modes") as held:
        invoke(agent)
    made.calls.settle(held.value.call_id or "", committed="by hand", by="maria")
    with surefoot.run("r"):
        assert invoke(agent).final_output == "by hand"


async def test_a_run_that_takes_too_long_is_answered_otherwise(guard: Guard) -> None:
    """The run is cancelled at its deadline; a stream, which nothing can take the place of, is refused its fallback."""

    @function_tool
    async def wait() -> str:
        """Wait."""
        await asyncio.Event().wait()
        return "never"

    async def short(_given: Any) -> str:
        return "short"

    model = Script(lambda answered, _items: [says("done")] if answered else [asks("wait")])
    made = Guard(guard.store, reads=["wait"], steps={"a": StepRule(timeout=0.2, fallback=[short])})
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[wait]), guard=made)
    assert (await Runner.run(agent, "go")).final_output == "short"
    stream = Runner.run_streamed(agent, "go")
    with pytest.raises(UsageError, match="nothing can take the place"):
        async for _event in stream.stream_events():
            pass
