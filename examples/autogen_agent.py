"""An AutoGen team, guarded: run it, kill it anywhere, run it again under the same name. Runs without a key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import TextMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import FunctionExecutionResultMessage

import surefoot
from surefoot_autogen.scripted import Scripted


@surefoot.tool(effect="unsafe", key=["order_id"])
async def charge(order_id: str, amount: int) -> str:
    """Charge an order, once whatever happens: hand the key of the call to the provider."""
    call = surefoot.current_call()
    assert call is not None  # noqa: S101 - called in a run
    print(f"charging {amount} for {order_id} as {call.idempotency_key[:16]}")
    return f"charged {amount}"


def reply(messages: Sequence[Any]) -> str | list[FunctionCall]:
    """Stand in for a model: ask for the charge, then say that it is done."""
    done = [result.content for one in messages if isinstance(one, FunctionExecutionResultMessage) for result in one.content]
    asks = FunctionCall(id="call_1", name="charge", arguments=json.dumps({"order_id": "7", "amount": 42}))
    return f"Done: {done[-1]}." if done else [asks]


cashier = AssistantAgent("cashier", Scripted(reply), tools=[charge], system_message="Charge what is asked for.", max_tool_iterations=5)
team = surefoot.wrap(RoundRobinGroupChat([cashier], termination_condition=TextMessageTermination("cashier")), store="memory://")

if __name__ == "__main__":
    with surefoot.run("invoice-7"):
        result = asyncio.run(team.run(task="Charge order 7 with 42."))
    print(result.messages[-1].to_text())
