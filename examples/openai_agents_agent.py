"""An OpenAI agent, guarded: run it, kill it anywhere, run it again under the same name. Runs without a key."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

import surefoot


@function_tool
@surefoot.tool(effect="unsafe", key=["order_id"])
async def charge(order_id: str, amount: int) -> str:
    """Charge an order, once whatever happens: hand the key of the call to the provider."""
    call = surefoot.current_call()
    assert call is not None  # noqa: S101 - called in a run
    print(f"charging {amount} for {order_id} as {call.idempotency_key[:16]}")
    return f"charged {amount}"


class Scripted(Model):
    """Stands in for a model where there is no key."""

    async def get_response(self, system_instructions: Any, input: Any, *_args: Any, **_kwargs: Any) -> ModelResponse:  # noqa: A002, ARG002 - their names
        """Ask for the charge, then say that it is done."""
        done = [item for item in input if item.get("type") == "function_call_output"]
        text = ResponseOutputText(type="output_text", text=f"Done: {done[-1]['output'] if done else ''}.", annotations=[])
        says = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
        arguments = json.dumps({"order_id": "7", "amount": 42})
        asks = ResponseFunctionToolCall(type="function_call", name="charge", arguments=arguments, call_id="call_1")
        return ModelResponse(output=[says if done else asks], usage=Usage(), response_id=None)

    def stream_response(self, *_args: Any, **_kwargs: Any) -> AsyncIterator[Any]:
        """Say that this one does not stream."""
        raise NotImplementedError


has_key = "OPENAI_API_KEY" in os.environ
set_tracing_disabled(disabled=not has_key)
cashier: Agent[Any] = Agent(name="cashier", instructions="Charge what is asked for.", tools=[charge], model=None if has_key else Scripted())
agent = surefoot.wrap(cashier, store="memory://")

if __name__ == "__main__":
    with surefoot.run("invoice-7"):
        print(asyncio.run(Runner.run(agent, "Charge order 7 with 42.")).final_output)
