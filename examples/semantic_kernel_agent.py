"""A Semantic Kernel agent, guarded: run it, kill it anywhere, run it again under the same name. No key: put a real model in its place."""

from __future__ import annotations

import asyncio
from typing import Any

from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
from semantic_kernel.contents import ChatMessageContent, FunctionCallContent, FunctionResultContent
from semantic_kernel.functions import kernel_function

import surefoot


class Bank:
    """A plugin."""

    @kernel_function
    @surefoot.tool(effect="unsafe", key=["order_id"])
    async def charge(self, order_id: str, amount: int) -> str:
        """Charge an order, once whatever happens: hand the key of the call to the provider."""
        call = surefoot.current_call()
        assert call is not None  # noqa: S101 - called in a run
        print(f"charging {amount} for {order_id} as {call.idempotency_key[:16]}")
        return f"charged {amount}"


class Scripted(ChatCompletionClientBase):
    """Stands for a model: asks for the charge, then says that it is done."""

    SUPPORTS_FUNCTION_CALLING = True

    async def _inner_get_chat_message_contents(self, chat_history: Any, settings: Any) -> list[ChatMessageContent]:  # noqa: ARG002 - the framework's signature
        last = chat_history.messages[-1].items[0]
        if isinstance(last, FunctionResultContent):
            return [ChatMessageContent(role="assistant", content=f"Done: {last.result}.")]
        asks = FunctionCallContent(id="call_1", name="Bank-charge", arguments={"order_id": "7", "amount": 42})
        return [ChatMessageContent(role="assistant", items=[asks])]


cashier = ChatCompletionAgent(
    service=Scripted(ai_model_id="script"), name="cashier", instructions="Charge what is asked for.", plugins=[Bank()]
)
agent = surefoot.wrap(cashier, store="memory://")

if __name__ == "__main__":
    with surefoot.run("invoice-7"):
        print(asyncio.run(agent.get_response("Charge order 7 with 42.")).message)
