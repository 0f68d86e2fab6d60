"""Is this LlamaIndex one that can be guarded? A proof by a call."""

from __future__ import annotations

import asyncio
from typing import Any

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["framework"]


def _canary(guard: Guard) -> None:
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.tools import FunctionTool

    from surefoot_llama_index._agents import bound

    async def seen() -> str:
        return "seen"

    tool = FunctionTool.from_defaults(async_fn=seen, name=CANARY, description="Prove that the guard sees a call.")
    agent = FunctionAgent(name="canary", llm=_scripted(), tools=[tool], streaming=False)

    async def whole() -> None:
        await bound(guard).workflow(agent).run(user_msg="go")

    asyncio.run(whole())


def _scripted() -> Any:
    """Return a model that asks for the canary and then is done."""
    from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
    from llama_index.core.llms.mock import MockFunctionCallingLLM

    call = ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_call_id="canary", tool_name=CANARY, tool_kwargs={})])
    replies = [call, ChatMessage(role="assistant", blocks=[TextBlock(text="done")])]
    return MockFunctionCallingLLM(response_generator=lambda _messages, **_options: replies.pop(0))


framework = Framework("llama-index-core", _canary)
