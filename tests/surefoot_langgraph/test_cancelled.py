"""Invocations that end before their graph does: cancelled, or failed while they were entered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from support import Effects, ask, config, planner, react

import surefoot
from surefoot import Allow, Call, Event, Gate, Guard, Hold


class Broken(InMemorySaver):
    """A saver whose history cannot be read while it is broken."""

    broken = False

    def list(self, *args: Any, **options: Any) -> Any:
        """Read the history, or raise."""
        if self.broken:
            raise ConnectionError("away")
        return super().list(*args, **options)


def test_i33_an_invocation_that_fails_while_it_is_entered_gives_the_thread_back(store: str) -> None:
    """When the framework's history cannot be read, the error comes out, and the next invocation need not wait for anybody."""

    @tool
    def ask_human() -> str:
        """Ask a person."""
        return f"answered {interrupt('?')}"

    saver = Broken()
    guard = Guard(store, wait=0.0)
    graph = surefoot.wrap(react(planner([ask("ask_human")]), [ask_human]).compile(checkpointer=saver), guard=guard)
    graph.invoke({"messages": [HumanMessage("go")]}, config("t"))
    saver.broken = True
    with pytest.raises(ConnectionError):
        graph.invoke(Command(resume="yes"), config("t"))
    saver.broken = False
    result = graph.invoke(Command(resume="yes"), config("t"))
    assert [m.content for m in result["messages"] if m.type == "tool"] == ["answered yes"]


class HoldsPay(Gate):
    """A gate that lets a person decide about paying."""

    def check(self, call: Call) -> Allow | Hold:
        """Hold, or allow."""
        return Hold("a person decides") if call.tool == "pay" else Allow()


async def test_i11_cancellation_comes_out_of_a_held_run(effects: Effects, store: str) -> None:
    """An invocation whose run is held, cancelled while a sibling still runs, ends with CancelledError; the next one tells of the hold."""
    held, forever, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    def look(event: Event) -> None:
        if event.type == "run.held":
            loop.call_soon_threadsafe(held.set)  # the framework runs an ordinary tool in a thread, and the event is told there

    @tool
    async def slow() -> str:
        """Take long."""
        await forever.wait()
        return "done"

    guard = Guard(store, tools={"slow": surefoot.ToolRule("idempotent")}, gates=[HoldsPay()], on_event=look)
    plan = planner([ask("slow"), ask("pay", amount=1)])
    graph = surefoot.wrap(react(plan, [slow, effects.tool("pay")]).compile(checkpointer=InMemorySaver()), guard=guard)
    task = asyncio.ensure_future(graph.ainvoke({"messages": [HumanMessage("go")]}, config("t")))
    await held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(surefoot.InDoubt):
        await graph.ainvoke(None, config("t"))
    assert effects.all() == []
