"""Agents and workflows for processes of their own, killed at a named point: what :mod:`zygote` forks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from agent_framework import AgentExecutor, AgentSession, FileCheckpointStorage, FunctionTool, Message, WorkflowBuilder
from crash import Death, Effects, store_of
from maf_support import ainvoke, asks, cashier, model, script

import surefoot
from surefoot import Guard, ToolRule
from surefoot_agent_framework import _support

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

    def wrapped(self, agent: Any) -> Any:
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

        def reply(answered: list[str], _messages: Any) -> Any:
            self.death.at(f"model {len(answered)}")
            return [plan[len(answered)]] if len(answered) < len(plan) else f"done: {', '.join(answered)}"

        mode: Any = "always_require" if self.told.get("shape") == "approved" else "never_require"
        return cashier(
            model(reply, self.effects, "cashier"),
            look_up,
            FunctionTool(name="charge", description="Charge.", func=charge, approval_mode=mode),
        )

    async def run(self) -> str:
        """Run it once, under a name, and return what it says."""
        shape = self.told.get("shape", "agent")
        with surefoot.run("order-7"):
            return str(await getattr(self, f"_{shape}")())

    async def _agent(self) -> str:
        return (await ainvoke(self.wrapped(self.agent()), face=self.told.get("face", "run"))).messages[-1].text

    async def _delegated(self) -> str:
        """Run an agent whose only tool is the other one; wrapping the outer one is enough."""

        def reply(answered: list[str], _messages: Any) -> Any:
            return f"boss: {answered[0]}" if answered else [asks("cashier", task="order 7")]

        boss = cashier(model(reply, self.effects, "boss"), self.agent().as_tool(), name="boss")
        return (await ainvoke(self.wrapped(boss), face=self.told.get("face", "run"))).messages[-1].text

    async def _approved(self) -> str:
        """Run until somebody has to approve, and keep session and question; told so, approve what is kept and go on."""
        agent, kept = self.wrapped(self.agent()), self.folder / "session"
        if self.told.get("approve"):
            found = json.loads(kept.read_text())
            session = AgentSession.from_dict(found["session"])
            asked = [content for content in Message.from_dict(found["asked"]).contents if content.type == "function_approval_request"]
            given: Any = Message("user", [content.to_function_approval_response(approved=True) for content in asked])
        else:
            session, given = AgentSession(session_id="s"), "order 7"
        response = await agent.run(given, session=session)
        if response.user_input_requests:
            asked_in = next(one for one in response.messages if any(c.type == "function_approval_request" for c in one.contents))
            kept.write_text(json.dumps({"session": session.to_dict(), "asked": asked_in.to_dict()}))
            self.death.at("pending")
        return str(response.messages[-1].text)

    async def _workflow(self) -> str:
        """Run a workflow of two agents, or resume it from its newest checkpoint."""
        storage = FileCheckpointStorage(str(self.folder / "checkpoints"))
        greeter = AgentExecutor(self.wrapped(cashier(script("charge what is due"), name="greeter")), id="greeter")
        clerk = AgentExecutor(self.wrapped(self.agent()), id="cashier")
        builder = WorkflowBuilder(start_executor=greeter, checkpoint_storage=storage, name="desk", output_from=[clerk])
        workflow = builder.add_edge(greeter, clerk).build()
        kept = await storage.list_checkpoints(workflow_name="desk")
        if kept:
            newest = max(kept, key=lambda one: one.iteration_count)
            result = await workflow.run(checkpoint_id=newest.checkpoint_id)
        else:
            result = await workflow.run("order 7")
        return str(result.get_outputs()[-1].text)


def main(told: dict[str, Any]) -> None:
    """Run one process of a scenario; print what it says."""
    print(json.dumps(asyncio.run(Child(told).run()).strip()))
