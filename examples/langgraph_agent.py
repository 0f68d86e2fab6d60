"""A LangGraph agent, guarded: run it, kill it anywhere, run it again with the same thread."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

import surefoot


@tool
@surefoot.tool(effect="unsafe", key=["order_id"])
def charge(order_id: str, amount: int) -> str:
    """Charge an order."""
    return f"charged {amount} for order {order_id}"


def model(state: MessagesState) -> dict[str, Any]:
    """Stand in for a model: ask for the charge, then say done. Put a real chat model here."""
    if len(state["messages"]) > 1:
        return {"messages": [AIMessage("done")]}
    call = {"name": "charge", "args": {"order_id": "7", "amount": 42}, "id": "c1", "type": "tool_call"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_node("tools", ToolNode([charge]))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END])
builder.add_edge("tools", "model")

graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), store="memory://")

if __name__ == "__main__":
    result = graph.invoke({"messages": [HumanMessage("Charge order 7.")]}, {"configurable": {"thread_id": "customer-7"}})
    for message in result["messages"]:
        print(f"{message.type}: {message.content}")
