"""What a policy promises, on Microsoft Agent Framework: the scenarios of :mod:`governed`."""

from __future__ import annotations

from typing import Any

from agent_framework import FunctionTool
from governed import Governed, Reply
from maf_support import asks, cashier, invoke, model

import surefoot
from surefoot import ApprovalPending, Guard
from surefoot_agent_framework.scripted import Scripted


def reporting(said: Scripted, *, silent: bool = False) -> Scripted:
    """Return a client that says which model it is, and what a reply cost, or nothing."""
    said.model = "m1"  # type: ignore[attr-defined] # as clients of providers have it
    said.usage = None if silent else {"input_token_count": 7, "output_token_count": 3}
    return said


class TestGoverned(Governed):
    """An agent whose run has a name, so that the same input again goes on with it."""

    def tool(self, name: str) -> FunctionTool:
        """Return a tool."""

        async def body(amount: int) -> Any:
            return self.body(name, amount)

        body.__qualname__ = name
        return FunctionTool(name=name, description=f"Do {name}.", func=body)

    def play(self, guard: Guard, *replies: Reply, fails_after: int | None = None, silent: bool = False) -> list[str] | None:
        """Run the agent, or go on with its run."""
        told: list[str] = []
        ends = {sum(map(len, replies[:number])): reply for number, reply in enumerate(replies)}

        def reply(answered: list[str], _messages: Any) -> Any:
            told[:] = answered
            if fails_after is not None and len(answered) == sum(map(len, replies[:fails_after])):
                raise ConnectionError("HTTP 500")
            return [asks(name, amount=amount) for name, amount in ends[len(answered)]] if len(answered) in ends else "done"

        tools = [self.tool(name) for name in sorted({name for reply in replies for name, _ in reply})]
        agent = surefoot.wrap(cashier(reporting(model(reply), silent=silent), *tools, name="a"), guard=guard)
        with surefoot.run("r"):
            try:
                invoke(agent)
            except ApprovalPending:
                return None
        return told

    def team(self, guard: Guard, calls: int) -> None:
        """Run three agents that are tools of a fourth one."""
        pay = self.tool("pay")

        def paying(number: int, before: int, times: int) -> Scripted:
            def reply(answered: list[str], _messages: Any) -> Any:
                if len(answered) < before:
                    return [asks(f"agent_{len(answered)}", task="pay")]
                paid = sum(answer.startswith("pay ") for answer in answered)
                return [asks("pay", amount=100 * number + paid)] if paid < times else "done"

            return model(reply)

        inner = [cashier(paying(n, 0, calls), pay, name=f"agent_{n}").as_tool() for n in range(3)]
        agent = cashier(paying(3, 3, calls + 1), *inner, pay, name="parent")
        with surefoot.run("r"):
            invoke(surefoot.wrap(agent, guard=guard))
