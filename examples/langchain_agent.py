"""A LangChain agent, guarded: run it, kill it anywhere, run it again with the same thread. Runs without a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

import surefoot


@tool
@surefoot.tool(effect="unsafe", key=["order_id"])
def charge(order_id: str, amount: int) -> str:
    """Charge an order."""
    return f"charged {amount} for order {order_id}"


class Scripted(FakeMessagesListChatModel):
    """Stands in for a model. Put a real chat model here."""

    def bind_tools(self, tools: Sequence[Any], **_kwargs: Any) -> BaseChatModel:  # noqa: ARG002 - LangChain's signature
        """Return itself: the script knows its tools."""
        return self


call: Any = {"name": "charge", "args": {"order_id": "7", "amount": 42}, "id": "c1", "type": "tool_call"}
model = Scripted(responses=[AIMessage("", tool_calls=[call]), AIMessage("done")])
agent = surefoot.wrap(create_agent(model, [charge], checkpointer=InMemorySaver()), store="memory://")

if __name__ == "__main__":
    result = agent.invoke({"messages": [HumanMessage("Charge order 7.")]}, {"configurable": {"thread_id": "customer-7"}})
    for message in result["messages"]:
        print(f"{message.type}: {message.content}")
