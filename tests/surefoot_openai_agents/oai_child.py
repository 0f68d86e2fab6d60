"""Agents for processes of their own, killed at a named point: what :mod:`zygote` forks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from agents import Agent, Runner, RunState, SQLiteSession, function_tool, set_tracing_disabled
from crash import Death, Effects, store_of
from oai_support import Script, asks, says

import surefoot
from surefoot import Guard, ToolRule

set_tracing_disabled(disabled=True)


class Child:
    """One process of a scenario: what it was told, its effects, and a guard that dies where it was told to."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.folder = folder = Path(told["folder"])
        self.told = told
        self.death = Death(told)
        self.effects = Effects(folder / "effects")
        self.guard = Guard(
            store_of(folder),
            tools={"charge": ToolRule(effect=told.get("effect", "unclassified"))},
            gates=[self.death],
            on_event=self.death.event,
        )
        self.session = SQLiteSession("customer-7", folder / "session.db") if told.get("session") else None

    def tools(self) -> list[Any]:
        """Return the tools: one that charges, and one that only looks."""

        @function_tool(needs_approval=self.told.get("shape") == "approved")
        async def charge(amount: int) -> str:
            self.effects.add("charge", amount)
            self.death.at("effect")
            return f"charged {amount}"

        @function_tool
        def look_up(order: str) -> str:
            self.effects.add("look_up", order)
            return f"{order} costs 5"

        return [charge, look_up]

    def agent(self) -> Any:
        """Return the agent of the shape that was told, wrapped unless told otherwise."""
        made = globals()[self.told.get("shape", "loop")](self)
        return made if self.told.get("bare") else surefoot.wrap(made, guard=self.guard)

    def model(self, name: str, *plan: Any, done: str) -> Script:
        """Return a model that asks for these calls, a reply after the other, then says that it is done."""
        total = len(plan)

        def reply(answered: list[str], _items: list[Any]) -> list[Any]:
            self.death.at(f"model {len(answered)}")
            return (
                [asks(plan[len(answered)][0], **plan[len(answered)][1])]
                if len(answered) < total
                else [says(f"{done}: {', '.join(answered)}")]
            )

        return Script(reply, self.effects, name)

    def run(self) -> str:
        """Run the agent once, under a name, and return what it says."""
        agent, face = self.agent(), self.told.get("face", "async")
        if self.told.get("shape") == "approved":
            return asyncio.run(self._approved(agent))
        options: dict[str, Any] = {"session": self.session} if self.session else {}
        with surefoot.run(None if self.session else "order-7"):
            if face == "sync":
                return str(Runner.run_sync(agent, "order 7", **options).final_output)
            return asyncio.run(self._arun(agent, face, options))

    async def _approved(self, agent: Any) -> str:
        """Run until somebody has to approve, and keep the state; told so, approve what is kept and go on."""
        kept: Any = "order 7"
        if self.told.get("approve"):
            kept = await RunState.from_string(agent, (self.folder / "state").read_text())
            for item in kept.get_interruptions():
                kept.approve(item)
        with surefoot.run("order-7"):
            result = await Runner.run(agent, kept)
        if result.interruptions:
            (self.folder / "state").write_text(result.to_state().to_string())
            self.death.at("pending")
        return str(result.final_output)

    async def _arun(self, agent: Any, face: str, options: dict[str, Any]) -> str:
        if face == "async":
            return str((await Runner.run(agent, "order 7", **options)).final_output)
        streamed = Runner.run_streamed(agent, "order 7", **options)
        async for _event in streamed.stream_events():
            pass
        return str(streamed.final_output)


def loop(child: Child) -> Agent[Any]:
    """Return an agent that looks up, charges, and says so."""
    model = child.model("cashier", ("look_up", {"order": "7"}), ("charge", {"amount": 5}), done="done")
    return Agent(name="cashier", model=model, tools=child.tools())


approved = loop
"""The same, where the charge has to be approved."""


def delegated(child: Child) -> Agent[Any]:
    """Return an agent that has another one do it, as a tool."""
    inner = loop(child)
    model = child.model("boss", ("cashier", {"input": "order 7"}), done="boss")
    return Agent(name="boss", model=model, tools=[inner.as_tool("cashier", "Charges orders.")])


def handed_off(child: Child) -> Agent[Any]:
    """Return an agent that hands over to another one."""

    def reply(_answered: list[str], _items: list[Any]) -> list[Any]:
        return [asks("transfer_to_cashier")]

    def cashier(answered: list[str], _items: list[Any]) -> list[Any]:
        mine = answered[1:]  # the first is the hand-off's
        child.death.at(f"model {len(mine)}")
        return [asks("charge", amount=5)] if not mine else [says(f"done: {', '.join(mine)}")]

    second = Agent(name="cashier", model=Script(cashier, child.effects, "cashier"), tools=child.tools())
    return Agent(name="triage", model=Script(reply, child.effects, "triage"), handoffs=[second])


def main(told: dict[str, Any]) -> None:
    """Run one process of a scenario; print what the agent says."""
    print(json.dumps(Child(told).run()))
