"""Agents and kernels for processes of their own, killed at a named point: what :mod:`zygote` forks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import sk_processes
from crash import Death, Effects, store_of
from semantic_kernel.functions import kernel_function
from sk_support import asks, cashier, chat, invoke, kernel, model

import surefoot
from surefoot import Guard, ToolRule
from surefoot_semantic_kernel import _support

_support.framework.ready()  # once, before the children are forked


class Child:
    """One process of a scenario: what it was told, its effects, and a guard that dies where it was told to."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.death = Death(told)
        self.effects = Effects(Path(told["folder"]) / "effects")
        rules = {"*charge": ToolRule(effect=told.get("effect", "unclassified")), "*ship": ToolRule(effect="unsafe")}
        self.guard = Guard(store_of(told["folder"]), tools=rules, gates=[self.death], on_event=self.event)

    def event(self, event: Any) -> None:
        """Die after what became durable of a charge, or of anything that is no call."""
        if str(event.data.get("tool", "charge")).endswith("charge"):
            self.death.at(event.type)

    def wrapped(self, target: Any) -> Any:
        """Return the target wrapped, unless told otherwise."""
        return target if self.told.get("bare") else surefoot.wrap(target, guard=self.guard)

    def _parts(self) -> tuple[Any, ...]:
        """Return a service that has an order looked up and charged, and says so, and the functions."""

        @kernel_function
        async def charge(amount: int) -> str:
            self.death.at("before body")
            self.effects.add("charge", amount)
            self.death.at("effect")
            return f"charged {amount}"

        @kernel_function
        def look_up(order: str) -> str:
            self.effects.add("look_up", order)
            return f"{order} costs 5"

        plan = [asks("look_up", order="7"), asks("charge", amount=5)]

        def reply(answered: list[str], _messages: Any) -> Any:
            self.death.at(f"model {len(answered)}")
            return [plan[len(answered)]] if len(answered) < len(plan) else f"done: {', '.join(answered)}"

        return model(reply, self.effects, "cashier"), look_up, charge

    def run(self) -> str:
        """Do what the scenario says, under a name."""
        with surefoot.run("order-7"):
            return str(getattr(self, self.told.get("shape", "agent"))())

    def agent(self) -> str:
        """Run the agent."""
        return invoke(self.wrapped(cashier(*self._parts())), face=self.told.get("face", "response"))

    def chat(self) -> str:
        """Ask the kernel's service, without an agent."""
        return chat(self.wrapped(kernel(*self._parts())), streamed=self.told.get("face") == "stream")

    def direct(self) -> str:
        """Call a function of the kernel."""
        made = self.wrapped(kernel(*self._parts()))
        return str(asyncio.run(made.invoke(plugin_name="bank", function_name="charge", amount=5)))

    def delegated(self) -> str:
        """Run an agent that another one has as a plugin."""
        inner = self.wrapped(cashier(*self._parts()))

        @kernel_function
        async def serve(order: str) -> str:
            return invoke_here(await inner.get_response(order))

        boss = cashier(
            model(lambda said, _messages: f"boss: {said[0]}" if said else [asks("serve", order="order 7")], self.effects, "boss"), serve
        )
        return invoke(self.wrapped(boss), face=self.told.get("face", "response"))

    def process(self) -> str:
        """Run a process of two steps, each of which charges."""
        made = self.wrapped(kernel(model(lambda _said, _messages: "never")))
        main = self.wrapped(sk_processes.whole(made, self.effects, self.death))
        return str(asyncio.run(main("7")))


def invoke_here(item: Any) -> str:
    """Return what an agent said."""
    return str(item.message)


def main(told: dict[str, Any]) -> None:
    """Run one process of a scenario; print what comes of it."""
    print(json.dumps(Child(told).run().strip()))
