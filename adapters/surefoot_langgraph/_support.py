"""Is this LangGraph one that can be guarded? A proof by a call."""

from __future__ import annotations

from typing import Any

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["framework"]


def _canary(guard: Guard) -> None:
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    from surefoot_langgraph import _graph

    @tool(CANARY)
    def seen() -> str:
        """Prove that the guard sees a call."""
        return "seen"

    def model(state: MessagesState) -> dict[str, Any]:  # noqa: ARG001 - LangGraph gives it
        return {"messages": [AIMessage("", tool_calls=[{"name": CANARY, "args": {}, "id": "canary", "type": "tool_call"}])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_node("tools", ToolNode([seen]))
    builder.add_edge(START, "model")
    builder.add_edge("model", "tools")
    builder.add_edge("tools", END)
    _graph.guarded(builder.compile(), guard).invoke({"messages": []})


framework = Framework("langgraph", _canary)
