"""A scripted model for the LlamaIndex tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM

__all__ = ["Script", "agent", "asks", "says"]


def asks(tool: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    """Return a request for a call."""
    return tool, arguments


def says(text: str) -> str:
    """Return the last words."""
    return text


class Script:
    """What a model answers, one reply after the other, counted by the answers that the conversation has."""

    def __init__(self, *replies: Any) -> None:
        self.replies = replies
        self.heard: list[list[tuple[str, str]]] = []
        """The conversations it was asked with."""

    def model(self) -> MockFunctionCallingLLM:
        """Return the model."""
        return MockFunctionCallingLLM(response_generator=self._answer)

    def _answer(self, messages: Sequence[ChatMessage], **_options: Any) -> ChatMessage:
        self.heard.append([(message.role.value, message.content or "") for message in messages])
        newest = max(index for index, message in enumerate(messages) if message.role == "user")
        reply = self.replies[sum(message.role == "assistant" for message in messages[newest:])]
        if isinstance(reply, str):
            return ChatMessage(role="assistant", blocks=[TextBlock(text=reply)])
        requests = reply if isinstance(reply, list) else [reply]
        blocks: list[Any] = [ToolCallBlock(tool_call_id=f"call_{uuid4().hex[:8]}", tool_name=n, tool_kwargs=a) for n, a in requests]
        return ChatMessage(role="assistant", blocks=blocks)


def agent(script: Script, *tools: Any, **options: Any) -> FunctionAgent:
    """Return an agent with a scripted model."""
    return FunctionAgent(name="cashier", llm=script.model(), tools=list(tools), **{"streaming": False, **options})
