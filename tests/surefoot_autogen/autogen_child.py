"""Agents and teams for processes of their own, killed at a named point: what :mod:`zygote` forks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from autogen_agentchat.conditions import MaxMessageTermination, TextMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import SingleThreadedAgentRuntime
from autogen_support import Model, ainvoke, asks, cashier, text_of
from crash import Death, Effects, store_of

import surefoot
from surefoot import Guard, ToolRule
from surefoot_autogen import _support

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

    def agent(self, name: str = "cashier", **options: Any) -> Any:
        """Return an agent that looks up, charges, and says so."""

        async def charge(amount: int) -> str:
            """Charge."""
            self.effects.add("charge", amount)
            self.death.at("effect")
            return f"charged {amount}"

        def look_up(order: str) -> str:
            """Look up."""
            self.effects.add("look_up", order)
            return f"{order} costs 5"

        plan = [asks("look_up", order="7"), asks("charge", amount=5)]

        def reply(answered: list[str], _messages: Any) -> Any:
            self.death.at(f"model {len(answered)}")
            return [plan[len(answered)]] if len(answered) < len(plan) else f"done: {', '.join(answered)}"

        return cashier(Model(reply, self.effects, name), look_up, charge, name=name, **options)

    def _says(self, name: str, text: str, **options: Any) -> Any:
        """Return an agent that says one thing, another one in each process."""

        def reply(_answered: list[str], _messages: Any) -> str:
            return f"{text} {self.effects.count('model')}"

        return cashier(Model(reply, self.effects, name), name=name, **options)

    def target(self) -> Any:
        """Return what the scenario runs."""
        shape = self.told.get("shape", "agent")
        return getattr(self, f"_{shape}")()

    def _agent(self) -> Any:
        return self.agent(model_client_stream=self.told.get("face") == "stream")

    def _agent_tool(self) -> Any:
        return self._boss(AgentTool(self.agent(), return_value_as_last_message=True))

    def _team_tool(self) -> Any:
        team = self._round_robin()
        return self._boss(TeamTool(team, name="cashier", description="Serves.", return_value_as_last_message=True))

    def _boss(self, tool: Any) -> Any:
        def reply(answered: list[str], _messages: Any) -> Any:
            return f"boss: {answered[0]}" if answered else [asks("cashier", task="order 7")]

        return cashier(Model(reply, self.effects, "boss"), tool, name="boss")

    def _round_robin(self, **options: Any) -> Any:
        clerk = self._says("clerk", "serve them")
        return RoundRobinGroupChat([clerk, self.agent()], termination_condition=MaxMessageTermination(3), **options)

    def _selector(self) -> Any:
        def reply(_answered: list[str], messages: Any) -> str:
            return "clerk" if "serve them" not in str(messages) else "cashier"

        clerk = self._says("clerk", "serve them")
        ends = MaxMessageTermination(3)
        return SelectorGroupChat([clerk, self.agent()], Model(reply, self.effects, "selector"), termination_condition=ends)

    def _swarm(self) -> Any:
        def reply(_answered: list[str], _messages: Any) -> Any:
            return [asks("transfer_to_cashier")]

        clerk = cashier(Model(reply, self.effects, "clerk"), name="clerk", handoffs=["cashier"])
        return Swarm([clerk, self.agent()], termination_condition=TextMessageTermination("cashier"))

    def _team_of_teams(self) -> Any:
        return RoundRobinGroupChat([self._round_robin()], max_turns=1)

    async def arun(self) -> str:
        """Run the target once, under a name, and return what it says."""
        runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False) if self.told.get("shape") == "with_runtime" else None
        target = self._round_robin(runtime=runtime) if runtime is not None else self.target()
        if not self.told.get("bare"):
            surefoot.wrap(target, guard=self.guard)
        if runtime is not None:
            runtime.start()
        with surefoot.run("order-7"):
            result = await ainvoke(target, face=self.told.get("face", "run"))
        if runtime is not None:
            await runtime.stop_when_idle()
        return text_of(result)


def main(told: dict[str, Any]) -> None:
    """Run one process of a scenario; print what the agent says."""
    print(json.dumps(asyncio.run(Child(told).arun())))
