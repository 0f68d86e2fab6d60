"""Agents for processes of their own, killed at a named point: what :mod:`zygote` forks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from crash import Death, Effects, store_of
from pai_support import asks, cashier, invoke, model, says
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults
from pydantic_ai.messages import ModelMessagesTypeAdapter

import surefoot
from surefoot import Guard, ToolRule
from surefoot_pydantic_ai import _support

_support.framework.ready()  # once, before the children are forked


class Child:
    """One process of a scenario: what it was told, its effects, and a guard that dies where it was told to."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.folder = folder = Path(told["folder"])
        self.told = told
        self.death = Death(told)
        self.effects = Effects(folder / "effects")
        rules = {"charge": ToolRule(effect=told.get("effect", "unclassified"))}
        self.guard = Guard(store_of(folder), tools=rules, gates=[self.death], on_event=self.death.event)

    def wrapped(self, agent: Agent[Any, Any]) -> Any:
        """Return the agent wrapped, unless told otherwise."""
        return agent if self.told.get("bare") else surefoot.wrap(agent, guard=self.guard)

    def agent(self) -> Any:
        """Return an agent that looks up, charges, and says so."""

        async def charge(amount: int) -> str:
            self.effects.add("charge", amount)
            self.death.at("effect")
            return f"charged {amount}"

        def look_up(order: str) -> str:
            self.effects.add("look_up", order)
            return f"{order} costs 5"

        plan = [asks("look_up", order="7"), asks("charge", amount=5)]

        def reply(answered: list[str], _messages: Any) -> list[Any]:
            self.death.at(f"model {len(answered)}")
            return [plan[len(answered)]] if len(answered) < len(plan) else [says(f"done: {', '.join(answered)}")]

        made = cashier(model(reply, self.effects, "cashier"), look_up, output_type=[str, DeferredToolRequests])
        made.tool_plain(requires_approval=self.told.get("shape") == "approved")(charge)
        return self.wrapped(made)

    def run(self) -> str:
        """Run the agent once, under a name, and return what it says."""
        if self.told.get("shape") == "approved":
            return asyncio.run(self._approved(self.agent()))
        with surefoot.run("order-7"):
            return str(invoke(self.agent() if self.told.get("shape") != "delegated" else self._boss(), face=self.told.get("face", "async")))

    def _boss(self) -> Any:
        inner = self.agent()

        async def serve(order: str) -> str:
            return str((await inner.run(order)).output)

        def reply(answered: list[str], _messages: Any) -> list[Any]:
            return [says(f"boss: {answered[0]}")] if answered else [asks("serve", order="order 7")]

        return self.wrapped(Agent(model(reply, self.effects, "boss"), name="boss", tools=[serve]))

    async def _approved(self, agent: Any) -> str:
        """Run until somebody has to approve, and keep the conversation; told so, approve what is kept and go on."""
        kept = self.folder / "messages"
        options: dict[str, Any] = {}
        if self.told.get("approve"):
            history = ModelMessagesTypeAdapter.validate_json(kept.read_bytes())
            asked = [part.tool_call_id for part in history[-1].parts if getattr(part, "tool_name", "") == "charge"]
            options = {"message_history": history, "deferred_tool_results": DeferredToolResults(approvals=dict.fromkeys(asked, True))}
        with surefoot.run("order-7"):
            result = await agent.run(None if options else "order 7", **options)
        if isinstance(result.output, DeferredToolRequests):
            kept.write_bytes(result.all_messages_json())
            self.death.at("pending")
        return str(result.output)


def main(told: dict[str, Any]) -> None:
    """Run one process of a scenario; print what the agent says."""
    print(json.dumps(Child(told).run().strip()))
