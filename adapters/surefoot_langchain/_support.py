"""Is this LangChain one that can be guarded? A proof by a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["framework"]


def _canary(guard: Guard) -> None:
    from langchain.agents import create_agent
    from langchain_core.language_models import FakeMessagesListChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool

    import surefoot

    @tool(CANARY)
    def seen() -> str:
        """Prove that the guard sees a call."""
        return "seen"

    class Model(FakeMessagesListChatModel):
        def bind_tools(self, tools: Sequence[Any], **_kwargs: Any) -> Model:  # noqa: ARG002 - LangChain gives them
            return self

    asks = AIMessage("", tool_calls=[{"name": CANARY, "args": {}, "id": "canary", "type": "tool_call"}])
    agent = create_agent(Model(responses=[asks, AIMessage("done")]), [seen])
    surefoot.wrap(agent, guard=guard).invoke({"messages": []})


framework = Framework("langchain", _canary)
