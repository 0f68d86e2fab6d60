"""Snapshots of a context: taken while a person is asked, and gone on from elsewhere."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from crash import Effects
from li_support import Script, agent, asks, says
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.memory import ChatMemoryBuffer
from workflows import Context
from workflows.events import HumanResponseEvent, InputRequiredEvent

import surefoot
from surefoot import Guard


def approving(effects: Effects, script: Script) -> FunctionAgent:
    """Return an agent that charges at once, and refunds when a person has said yes."""

    async def charge(amount: int) -> str:
        effects.add("charge", amount)
        return f"charged {amount}"

    async def refund(ctx: Context, amount: int) -> str:
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent())
        effects.add("refund", amount)
        return f"refunded {amount}: {answer.response}"

    refund.__annotations__["ctx"] = Context  # the framework looks for the class, not for its name
    return agent(script, charge, refund)


def script() -> Script:
    """Return what the model says."""
    return Script([asks("charge", amount=5)], [asks("refund", amount=3)], [asks("charge", amount=6)], says("done"))


async def asked(wrapped: Any) -> str:
    """Run until a person is asked, take a snapshot, and give up; return it."""
    memory = ChatMemoryBuffer.from_defaults(chat_history=[], token_limit=10_000)
    with surefoot.run("order-7"):
        handler = wrapped.run(user_msg="pay", memory=memory)
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    await asyncio.sleep(0)
    snapshot = json.dumps(handler.ctx.to_dict())
    await handler.cancel_run()
    return snapshot


async def answered(wrapped: Any, snapshot: str) -> Any:
    """Go on from a snapshot with a person's answer."""
    context: Context = Context.from_dict(wrapped, json.loads(snapshot))
    with surefoot.run("order-7"):
        handler = wrapped.run(ctx=context)
    handler.ctx.send_event(HumanResponseEvent(response="yes"))
    return await handler


def test_as_37_a_snapshot_is_gone_on_from_with_its_memory(tmp_path: Path, effects: Effects) -> None:
    """Gone on from, a snapshot has its memory back, what it has behind it is not done again, and no new request is taken for drift."""
    guard_tools = {"charge": surefoot.ToolRule(effect="unsafe"), "refund": surefoot.ToolRule(effect="unsafe")}
    with Guard(f"sqlite:///{tmp_path}/surefoot.db", tools=guard_tools) as first:
        snapshot = asyncio.run(asked(surefoot.wrap(approving(effects, script()), guard=first)))
    assert effects.count("charge") == 1
    said = script()
    with Guard(f"sqlite:///{tmp_path}/surefoot.db", tools=guard_tools) as second:
        result = asyncio.run(answered(surefoot.wrap(approving(effects, said), guard=second), snapshot))
        assert str(result) == "done"
        assert (effects.count("charge"), effects.count("refund")) == (2, 1)
        assert [(call.tool, str(call.state)) for call in reversed(second.calls.list())].count(("charge", "committed")) == 2
        assert {str(run.status) for run in second.runs.list()} == {"completed"}
    assert said.heard[0][0] == ("user", "pay")
    assert ("tool", "refunded 3: yes") in said.heard[0]
    assert len(said.heard) == 2


def test_as_37_a_snapshot_gone_on_from_twice_has_its_effects_once(guard: Guard, effects: Effects) -> None:
    """The same snapshot, gone on from again after its run was killed past the answer, repeats no effect."""
    snapshot = asyncio.run(asked(surefoot.wrap(approving(effects, script()), guard=guard)))
    broken = Script(*script().replies[:2])  # the model fails after the refund

    async def fails() -> None:
        try:
            await answered(surefoot.wrap(approving(effects, broken), guard=guard), snapshot)
        except IndexError:
            return
        raise AssertionError("the model has nothing to say")

    asyncio.run(fails())
    asyncio.run(answered(surefoot.wrap(approving(effects, script()), guard=guard), snapshot))
    assert (effects.count("charge"), effects.count("refund")) == (2, 1)
