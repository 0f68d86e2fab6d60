"""Functions declared with ``@surefoot.tool`` in a LangGraph graph: one call each, wherever they are called."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from support import Effects, ask, planner, react

import surefoot
from surefoot import Guard

HELLO: Any = {"messages": [HumanMessage("hello")]}


@pytest.mark.parametrize("name", ["charge", "renamed"])
async def test_below_the_frameworks_decorator_it_is_that_tools_body(effects: Effects, store: str, name: str) -> None:
    """A declared function that LangChain makes a tool of, plain or asynchronous, renamed or not, is one call and not two."""

    @surefoot.tool(effect="unsafe", key=["amount"])
    def charge(amount: int) -> str:
        """Charge."""
        effects.add("charge", amount)
        return f"charged {amount}"

    @surefoot.tool(effect="unsafe")
    async def acharge(amount: int) -> str:
        """Charge."""
        effects.add("charge", amount)
        return f"charged {amount}"

    tools = [tool(name)(charge), tool(f"a{name}")(acharge)]
    guard = Guard(store)
    graph = surefoot.wrap(react(planner([ask(name, amount=1), ask(f"a{name}", amount=2)]), tools).compile(), guard=guard)
    result = await graph.ainvoke(HELLO)
    assert [m.content for m in result["messages"] if m.type == "tool"] == ["charged 1", "charged 2"]
    assert sorted((call.tool, str(call.effect)) for call in guard.calls.list()) == [(f"a{name}", "unsafe"), (name, "unsafe")]
    assert effects.count("charge") == 2


def test_called_in_node_code_it_is_governed(effects: Effects, store: str) -> None:
    """A node that calls a declared function makes a governed call, of the guard of its graph."""

    @surefoot.tool(effect="unsafe")
    def charge(amount: int) -> str:
        effects.add("charge", amount)
        return f"charged {amount}"

    def node(_state: MessagesState) -> Any:
        return {"messages": [AIMessage(charge(5))]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    guard = Guard(store)
    assert surefoot.wrap(builder.compile(), guard=guard).invoke(HELLO)["messages"][-1].content == "charged 5"
    assert [(call.tool, call.path, str(call.state)) for call in guard.calls.list()] == [("charge", "node#1", "committed")]
