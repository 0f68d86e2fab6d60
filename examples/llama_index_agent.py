"""A LlamaIndex agent, guarded: run it, kill it anywhere, run it again under the same name. No key: a script stands for a model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM

import surefoot


@surefoot.tool(effect="unsafe", key=["order_id"])
async def charge(order_id: str, amount: int) -> str:
    """Charge an order, once whatever happens: hand the key of the call to the provider."""
    call = surefoot.current_call()
    assert call is not None  # noqa: S101 - called in a run
    print(f"charging {amount} for {order_id} as {call.idempotency_key[:16]}")
    return f"charged {amount} for {order_id}"


def script(messages: Sequence[ChatMessage], **_options: Any) -> ChatMessage:
    """Stand for a model: ask for a charge, and say what came of it."""
    if messages[-1].role == "tool":
        return ChatMessage(role="assistant", blocks=[TextBlock(text=f"Done: {messages[-1].content}.")])
    request = ToolCallBlock(tool_call_id="call_1", tool_name="charge", tool_kwargs={"order_id": "7", "amount": 42})
    return ChatMessage(role="assistant", blocks=[request])


async def main() -> None:
    """Run the agent under a name, by which it can be resumed."""
    agent = FunctionAgent(name="cashier", llm=MockFunctionCallingLLM(response_generator=script), tools=[charge])
    agent = surefoot.wrap(agent, store="memory://")
    with surefoot.run("invoice-7"):
        print(await agent.run(user_msg="Charge order 7."))


if __name__ == "__main__":
    asyncio.run(main())
