"""Fallbacks and timeouts of agents: what is said instead of a run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from crash import Effects
from pai_support import asks, cashier, events, invoke, model, says, script
from pydantic_ai import Agent
from pydantic_ai.messages import ModelRequest, TextPart, UserPromptPart

import surefoot
from surefoot import Guard, InDoubt, StepRule, UsageError


def down(_answered: list[str], _messages: Any) -> list[Any]:
    """Be a provider that nobody reaches."""
    raise ConnectionError("down")


def short(prompt: Any) -> str:
    """Answer a prompt."""
    return f"short answer to {prompt}"


@pytest.mark.parametrize("face", ["sync", "async", "events"])
def test_a_run_that_cannot_is_answered_otherwise(guard: Guard, face: str) -> None:
    """The model is down: the fallback's words are the run's output, committed, and evented once."""
    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[short])})
    assert invoke(surefoot.wrap(cashier(model(down)), guard=made), face=face) == "short answer to order 7"
    assert len(events(made, "step.degraded")) == 1
    assert [run.status for run in made.runs.list()] == ["completed"]


async def test_the_conversation_goes_on_with_what_was_said(guard: Guard) -> None:
    """The result has the conversation with the prompt and the answer, of which the new messages are those two."""
    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[short])})
    agent = surefoot.wrap(cashier(model(down)), guard=made)
    first = await agent.run("one")
    second = await agent.run("two", message_history=first.all_messages())
    said = [part.content for message in second.all_messages() for part in message.parts if isinstance(part, UserPromptPart | TextPart)]
    assert said == ["one", "short answer to one", "two", "short answer to two"]
    assert [type(message) is ModelRequest for message in second.new_messages()] == [True, False]


def test_a_run_that_no_mode_can_do_is_a_persons(guard: Guard) -> None:
    """Where no mode answers the run is held; what a person gives is its output."""

    def fails(_prompt: Any) -> str:
        raise ConnectionError("down too")

    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[fails])})
    agent = surefoot.wrap(cashier(model(down)), guard=made)
    with surefoot.run("r"), pytest.raises(InDoubt, match="in any of its 2 modes") as held:
        invoke(agent)
    made.calls.settle(held.value.call_id or "", committed="by hand", by="maria")
    with surefoot.run("r"):
        assert invoke(agent) == "by hand"


def test_an_effect_is_not_repeated_by_what_falls_back(guard: Guard, effects: Effects) -> None:
    """What the run had paid before it failed stays paid once."""

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    def reply(answered: list[str], _messages: Any) -> list[Any]:
        if answered:
            raise ConnectionError("down")
        return [asks("pay", amount=5)]

    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[lambda _prompt: "paid before"])})
    with surefoot.run("order-7"):
        assert invoke(surefoot.wrap(cashier(model(reply), pay), guard=made)) == "paid before"
    assert effects.count("pay") == 1


def test_an_agent_in_a_tool_is_answered_otherwise(guard: Guard) -> None:
    """An agent that a tool runs is a step of the run around it, with a fallback of its own."""
    made = Guard(guard.store, steps={"inner": StepRule(fallback=[short])})
    inner = surefoot.wrap(Agent(model(down), name="inner"), guard=made)

    async def ask(what: str) -> str:
        return str((await inner.run(what)).output)

    outer = cashier(model(lambda answered, _messages: [says(answered[0])] if answered else [asks("ask", what="a thing")]), ask)
    with surefoot.run("order-7"):
        assert invoke(surefoot.wrap(outer, guard=made)) == "short answer to a thing"


async def test_a_run_that_takes_too_long_is_answered_otherwise(guard: Guard) -> None:
    """The run is cancelled at its deadline, and the fallback, which may be a coroutine, answers."""

    async def wait() -> str:
        await asyncio.Event().wait()
        return "never"

    async def instead(_prompt: Any) -> str:
        return "short"

    made = Guard(guard.store, reads=["wait"], steps={"cashier": StepRule(timeout=0.2, fallback=[instead])})
    agent = surefoot.wrap(cashier(script([asks("wait")], [says("done")]), wait), guard=made)
    assert (await agent.run("go")).output == "short"


@pytest.mark.parametrize("face", ["stream", "iter"])
def test_what_its_caller_drives_has_no_fallback(guard: Guard, face: str) -> None:
    """Where the caller has parts of the run already nothing can take its place: the rule is refused before the model is asked."""
    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[short])})
    with pytest.raises(UsageError, match="nothing can take the place"):
        invoke(surefoot.wrap(cashier(model(down)), guard=made), face=face)
