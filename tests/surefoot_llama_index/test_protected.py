"""Fallbacks and timeouts of agents and of steps of workflows: what is said instead of a run, or of a step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from crash import Effects
from li_support import Script, agent, asks, says
from llama_index.core.agent.workflow import AgentWorkflow
from llama_index.core.memory import ChatMemoryBuffer
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

import surefoot
from surefoot import ErrorClass, Guard, InDoubt, StepRule, UsageError, Verdict


class Down(Script):
    """A model that nobody reaches once it has given its replies."""

    def _answer(self, messages: Any, **options: Any) -> Any:
        if sum(message.role == "assistant" for message in messages) >= len(self.replies):
            raise ConnectionError("down")
        return super()._answer(messages, **options)


def short(event: Any) -> str:
    """Answer what an agent is asked."""
    return f"short answer to {event.user_msg}"


def degraded(guard: Guard) -> list[str]:
    """Return the steps that fell back, in order."""
    events = [event for run in guard.runs.list() for event in guard.runs.events(run.run_id)]
    return [str(event.step) for event in events if event.type == "step.degraded"]


@pytest.mark.parametrize("kind", ["agent", "workflow"])
async def test_an_agent_that_cannot_is_answered_otherwise(guard: Guard, kind: str) -> None:
    """The model is down: the fallback's words are what the handler comes to, and the end of its stream; committed, and evented once."""
    made = agent(Down())
    whole = made if kind == "agent" else AgentWorkflow(agents=[made])
    guarding = Guard(guard.store, steps={"*": StepRule(fallback=[short])})
    handler = surefoot.wrap(whole, guard=guarding).run(user_msg="order 7")
    streamed = [event async for event in handler.stream_events()]
    result = await handler
    assert str(result) == "short answer to order 7"
    assert isinstance(streamed[-1], StopEvent)
    assert streamed[-1].result is result
    assert len(degraded(guarding)) == 1
    assert [run.status for run in guarding.runs.list()] == ["completed"]


async def test_its_memory_holds_what_was_said_and_no_rejected_attempt(guard: Guard) -> None:
    """The memory that the user gave has the user's words and the fallback's, and nothing of the attempt that was rejected."""

    def judge(output: surefoot.StepOutput) -> Verdict:
        return Verdict.failed(ErrorClass.INCOMPLETE, "More.") if output.output == "sorry" else Verdict.passed()

    rule = StepRule(verifier=judge, retry=surefoot.Retry(max_attempts=1), fallback=[lambda _event: "short"])
    wrapped = surefoot.wrap(agent(Script(says("sorry"))), guard=Guard(guard.store, steps={"cashier": rule}))
    memory = ChatMemoryBuffer.from_defaults(chat_history=[])
    assert str(await wrapped.run(user_msg="one", memory=memory)) == "short"
    said = [(message.role.value, message.content) for message in memory.get_all()]
    assert (said[0], said[-1]) == (("user", "one"), ("assistant", "short"))
    assert ("assistant", "sorry") not in said


async def test_an_agent_that_no_mode_can_do_is_a_persons(guard: Guard) -> None:
    """Where no mode answers the run is held; what a person gives is what the handler comes to."""

    def fails(_event: Any) -> str:
        raise ConnectionError("down too")

    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[fails])})
    wrapped = surefoot.wrap(agent(Down()), guard=made)
    with surefoot.run("r"), pytest.raises(InDoubt, match="in any of its 2 modes") as held:
        await wrapped.run(user_msg="order 7")
    made.calls.settle(held.value.call_id or "", committed="by hand", by="maria")
    with surefoot.run("r"):
        assert str(await wrapped.run(user_msg="order 7")) == "by hand"


async def test_an_effect_is_not_repeated_by_what_falls_back(guard: Guard, effects: Effects) -> None:
    """What the agent had paid before it failed stays paid once."""

    async def pay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    made = Guard(guard.store, steps={"cashier": StepRule(fallback=[lambda _event: "paid before"])})
    wrapped = surefoot.wrap(agent(Down([asks("pay", amount=5)]), pay), guard=made)
    with surefoot.run("order-7"):
        assert str(await wrapped.run(user_msg="pay")) == "paid before"
    assert effects.count("pay") == 1


async def test_an_agent_that_takes_too_long_is_answered_otherwise(guard: Guard) -> None:
    """The agent's run is cancelled at its deadline, its tools with it, and the fallback, which may be a coroutine, answers."""
    waiting: list[str] = []

    async def wait() -> str:
        waiting.append("wait")
        try:
            await asyncio.Event().wait()
        finally:
            waiting.remove("wait")
        return "never"

    async def instead(_event: Any) -> str:
        return "short"

    made = Guard(guard.store, reads=["wait"], steps={"cashier": StepRule(timeout=0.5, fallback=[instead])})
    wrapped = surefoot.wrap(agent(Script([asks("wait")], says("done")), wait), guard=made)
    assert str(await wrapped.run(user_msg="go")) == "short"
    assert waiting == []


# --- steps of workflows


class Drafted(Event):
    """A draft."""

    text: str


class Writing(Workflow):
    """Drafts and then prints; nobody reaches who drafts."""

    @step
    async def draft(self, event: StartEvent) -> Drafted:
        """Draft."""
        raise ConnectionError(f"down, so no draft of {event.about}")

    @step
    async def print(self, event: Drafted) -> StopEvent:
        """Print."""
        return StopEvent(result=f"printed: {event.text}")


@pytest.mark.parametrize("data", [True, False], ids=["data", "event"])
async def test_a_step_that_cannot_is_done_otherwise(guard: Guard, *, data: bool) -> None:
    """A step's fallback takes its event and returns the one that it would: an event, or, of a step with one kind, its data."""

    def instead(event: Any) -> Any:
        return {"text": f"short {event.about}"} if data else Drafted(text=f"short {event.about}")

    made = Guard(guard.store, steps={"draft": StepRule(fallback=[instead])})
    assert await surefoot.wrap(Writing(), guard=made).run(about="order 7") == "printed: short order 7"
    assert len(degraded(made)) == 1


async def test_a_step_that_no_mode_can_do_is_a_persons(guard: Guard) -> None:
    """The run is held on the step; what a person gives becomes the event that it returns."""

    def fails(_event: Any) -> Any:
        raise ConnectionError("down too")

    made = Guard(guard.store, steps={"draft": StepRule(fallback=[fails])})
    wrapped = surefoot.wrap(Writing(), guard=made)
    with surefoot.run("r"), pytest.raises(InDoubt, match="in any of its 2 modes") as held:
        await wrapped.run(about="order 7")
    made.calls.settle(held.value.call_id or "", committed={"text": "by hand"}, by="maria")
    with surefoot.run("r"):
        assert await wrapped.run(about="order 7") == "printed: by hand"


async def test_what_makes_no_event_is_refused(guard: Guard) -> None:
    """Data that make no event of the step's kind are an error that names the step and the kind."""
    made = Guard(guard.store, steps={"draft": StepRule(fallback=[lambda _event: {"txt": "no"}])})
    with pytest.raises(UsageError, match="step draft makes no Drafted"):
        await surefoot.wrap(Writing(), guard=made).run(about="order 7")
