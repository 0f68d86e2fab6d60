"""A Microsoft Agent Framework agent, guarded: run it, kill it anywhere, run it again under the same name. No key: put a real client in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent_framework import Agent, Content, Message

import surefoot
from surefoot_agent_framework.scripted import Scripted


@surefoot.tool(effect="unsafe", key=["order_id"])
async def charge(order_id: str, amount: int) -> str:
    """Charge an order, once whatever happens: hand the key of the call to the provider."""
    call = surefoot.current_call()
    assert call is not None  # noqa: S101 - called in a run
    print(f"charging {amount} for {order_id} as {call.idempotency_key[:16]}")
    return f"charged {amount}"


def script(messages: Sequence[Message]) -> str | list[Content]:
    """Stand for a model: ask for the charge, then say that it is done."""
    last = messages[-1].contents[-1]
    if last.type == "function_result":
        return f"Done: {last.result}."
    return [Content.from_function_call(call_id="call_1", name="charge", arguments={"order_id": "7", "amount": 42})]


cashier = Agent(Scripted(script), name="cashier", instructions="Charge what is asked for.", tools=[charge])
agent = surefoot.wrap(cashier, store="memory://")


async def main() -> None:
    """Run it."""
    with surefoot.run("invoice-7"):
        print((await agent.run("Charge order 7 with 42.")).text)


if __name__ == "__main__":
    asyncio.run(main())
