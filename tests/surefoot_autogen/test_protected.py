"""Fallbacks and timeouts of agents and teams: what is said instead of a turn, or of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import UserMessage
from autogen_support import FACES, Model, ainvoke, asks, cashier, invoke, payer, script, text_of
from crash import Effects

import surefoot
from surefoot import ErrorClass, Guard, InDoubt, StepRule, Verdict


def down(_answered: list[str], _messages: Any) -> str:
    """Be a provider that nobody reaches."""
    raise ConnectionError("down")


def short(given: Sequence[Any]) -> str:
    """Answer what an agent is told."""
    return f"short answer to {given[-1].content}"


def degraded(guard: Guard) -> list[str]:
    """Return the steps that fell back, in order."""
    events = [event for run in guard.runs.list() for event in guard.runs.events(run.run_id)]
    return [str(event.step) for event in events if event.type == "step.degraded"]


@pytest.mark.parametrize("face", FACES)
def test_a_turn_that_cannot_is_answered_otherwise(guard: Guard, face: str) -> None:
    """The model is down: on every face the fallback's words are the agent's message, committed, and evented once."""
    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[short])})
    agent = surefoot.wrap(cashier(Model(down)), guard=made)
    result = asyncio.run(ainvoke(agent, face=face))
    assert text_of(result) == "short answer to order 7"
    assert degraded(made) == ["cashier#1"]
    assert [run.status for run in made.runs.list()] == ["completed"]


def test_the_agent_remembers_what_was_said_for_it(guard: Guard) -> None:
    """The next turn's model has in its conversation what the user said and what the fallback answered, and no rejected attempt."""
    heard: list[list[str]] = []

    def reply(_answered: list[str], messages: Any) -> str:
        heard.append([str(message.content) for message in messages[1:]])
        return "sorry" if len(heard) == 1 else "done"

    def judge(output: surefoot.StepOutput) -> Verdict:
        return Verdict.failed(ErrorClass.INCOMPLETE, "More.") if output.output == "sorry" else Verdict.passed()

    rule = StepRule(verifier=judge, retry=surefoot.Retry(max_attempts=1), fallback=[lambda _given: "short"])
    agent = surefoot.wrap(cashier(Model(reply)), guard=Guard(guard.store, steps={"cashier": rule}))
    assert [invoke(agent, "one"), invoke(agent, "two")] == ["short", "done"]
    assert heard[-1] == ["one", "short", "two"]


def test_an_agent_in_a_team_is_answered_otherwise(guard: Guard) -> None:
    """A team streams its agents; one that cannot speak is spoken for, and the next one hears that."""
    heard: list[str] = []

    def listens(_answered: list[str], messages: Any) -> str:
        heard.extend(str(message.content) for message in messages if isinstance(message, UserMessage))
        return "bye"

    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[short])})
    team = RoundRobinGroupChat([cashier(Model(down)), cashier(Model(listens), name="clerk")], max_turns=2)
    with surefoot.run("order-7"):
        assert invoke(surefoot.wrap(team, guard=made)) == "bye"
    assert heard == ["order 7", "short answer to order 7"]


@pytest.mark.parametrize("face", ["run", "stream"])
def test_a_team_that_cannot_is_answered_otherwise(guard: Guard, face: str) -> None:
    """What a team comes to where it fails is its task and the fallback's words; the reason says who has spoken."""
    team = RoundRobinGroupChat([cashier(Model(down))], max_turns=1)
    name = getattr(team, "name", None) or type(team).__name__

    def instead(task: str) -> TextMessage:
        return TextMessage(content=f"nobody could do {task}", source="desk")

    made = Guard(guard.store, steps={name: StepRule(fallback=[instead])})
    result = asyncio.run(ainvoke(surefoot.wrap(team, guard=made), face=face))
    assert [(message.source, message.content) for message in result.messages] == [("user", "order 7"), ("desk", "nobody could do order 7")]
    assert result.stop_reason == "fallback instead"


def test_a_turn_that_no_mode_can_do_is_a_persons(guard: Guard) -> None:
    """Where no mode answers the run is held; what a person gives is the agent's message."""

    def fails(_given: Any) -> str:
        raise ConnectionError("down too")

    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[fails])})
    agent = surefoot.wrap(cashier(Model(down)), guard=made)
    with surefoot.run("r"), pytest.raises(InDoubt, match="in any of its 2 modes") as held:
        invoke(agent)
    made.calls.settle(held.value.call_id or "", committed="by hand", by="maria")
    with surefoot.run("r"):
        assert invoke(agent) == "by hand"


def test_an_effect_is_not_repeated_by_what_falls_back(guard: Guard, effects: Effects) -> None:
    """What the turn had paid before it failed stays paid once, and a tool that the fallback calls is a governed call of the run."""

    def reply(answered: list[str], _messages: Any) -> Any:
        if answered:
            raise ConnectionError("down")
        return [asks("pay", amount=5)]

    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[lambda _given: "paid before"])})
    agent = surefoot.wrap(cashier(Model(reply), payer(effects)), guard=made)
    with surefoot.run("order-7"):
        assert invoke(agent) == "paid before"
    assert effects.count("pay") == 1
    assert [(row.tool, str(row.state)) for row in made.calls.list()] == [("pay", "committed")]


async def test_a_turn_that_takes_too_long_is_answered_otherwise(guard: Guard) -> None:
    """A turn is cancelled at its deadline; the fallback, which may be a coroutine, answers."""

    async def wait() -> str:
        """Wait."""
        await asyncio.Event().wait()
        return "never"

    async def instead(_given: Any) -> str:
        return "short"

    made = Guard(guard.store, reads=["wait"], steps={"cashier": StepRule(timeout=0.2, fallback=[instead])})
    agent = surefoot.wrap(cashier(script([asks("wait")], "done"), wait), guard=made)
    assert text_of(await ainvoke(agent)) == "short"
    assert text_of(await ainvoke(agent, face="stream")) == "short"


async def test_an_agent_that_lets_its_team_wait_is_answered_otherwise(guard: Guard) -> None:
    """In a team, which streams its agents, a turn is left at its deadline too, and the team goes on with the fallback's words."""

    async def wait() -> str:
        """Wait."""
        await asyncio.Event().wait()
        return "never"

    made = Guard(guard.store, reads=["wait"], steps={"cashier": StepRule(timeout=0.2, fallback=[lambda _given: "short"])})
    team = RoundRobinGroupChat([cashier(script([asks("wait")], "done"), wait), cashier(script("bye"), name="clerk")], max_turns=2)
    result = await ainvoke(surefoot.wrap(team, guard=made))
    assert [message.content for message in result.messages if message.source != "user"][-2:] == ["short", "bye"]
