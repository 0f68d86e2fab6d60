"""A Pydantic AI agent, guarded: run it, kill it anywhere, run it again under the same name. Runs without a key."""

from __future__ import annotations

import os

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import surefoot


@surefoot.tool(effect="unsafe", key=["order_id"])
async def charge(order_id: str, amount: int) -> str:
    """Charge an order, once whatever happens: hand the key of the call to the provider."""
    call = surefoot.current_call()
    assert call is not None  # noqa: S101 - called in a run
    print(f"charging {amount} for {order_id} as {call.idempotency_key[:16]}")
    return f"charged {amount}"


def scripted(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """Stand in for a model where there is no key: ask for the charge, then say that it is done."""
    done = [part.content for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    asks = ToolCallPart("charge", {"order_id": "7", "amount": 42}, tool_call_id="call_1")
    return ModelResponse([TextPart(f"Done: {done[-1]}.") if done else asks])


model = "openai:gpt-5" if "OPENAI_API_KEY" in os.environ else FunctionModel(scripted)
cashier = Agent(model, name="cashier", instructions="Charge what is asked for.", tools=[charge])
agent = surefoot.wrap(cashier, store="memory://")

if __name__ == "__main__":
    with surefoot.run("invoice-7"):
        print(agent.run_sync("Charge order 7 with 42.").output)
