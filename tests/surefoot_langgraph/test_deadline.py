"""A LangGraph tool with a timeout."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from support import Effects, ask, config, planner, react

import surefoot
from surefoot import Guard, InDoubt, ToolRule

HELLO: Any = {"messages": [HumanMessage("hello")]}


@pytest.mark.parametrize("effect", ["unsafe", "unclassified"])
def test_as_42_the_model_is_told_or_the_run_is_held(effects: Effects, store: str, effect: Any) -> None:
    """Past its deadline an unclassified call is in doubt and the model is told; a declared unsafe one holds the run."""
    go = threading.Event()
    pay = effects.tool("pay", lambda _amount: str(go.wait(20)))
    guard = Guard(store, tools={"pay": ToolRule(effect, timeout=0.1)})
    graph = surefoot.wrap(react(planner([ask("pay", amount=1)]), [pay]).compile(), guard=guard)
    if effect == "unsafe":
        with pytest.raises(InDoubt, match="ran past its deadline"):
            graph.invoke(HELLO)
    else:
        assert "may already have happened (it ran past its deadline" in graph.invoke(HELLO)["messages"][-2].content
    assert [str(call.state) for call in guard.calls.list()] == ["in_doubt"]
    go.set()
    assert effects.count("pay") == 1


async def test_a_tool_with_a_deadline_may_interrupt(effects: Effects, store: str) -> None:
    """In time nothing changes: a tool that asks a person suspends, and is answered."""
    approve = effects.tool("approve", lambda amount: f"{amount}: {interrupt('ok?')}")
    builder = react(planner([ask("approve", amount=1)]), [approve])
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), store=store, tools={"approve": ToolRule(timeout=20)})
    assert "__interrupt__" in await graph.ainvoke(HELLO, config("t"))
    result = await graph.ainvoke(Command(resume="yes"), config("t"))
    assert result["messages"][-2].content == "1: yes"
