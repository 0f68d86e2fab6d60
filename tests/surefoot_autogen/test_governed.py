"""What a policy promises, on AutoGen: the scenarios of :mod:`governed`."""

from __future__ import annotations

from typing import Any

from autogen_agentchat.tools import AgentTool
from autogen_core.models import CreateResult, ModelInfo, RequestUsage
from autogen_core.tools import FunctionTool
from autogen_support import Model, asks, cashier, invoke
from governed import Governed, Reply

import surefoot
from surefoot import ApprovalPending, Guard


class Reporting(Model):
    """A model that says what a reply cost, or nothing."""

    silent = False

    async def create(self, messages: Any, **options: Any) -> CreateResult:
        """Answer."""
        whole = await super().create(messages, **options)
        spent = RequestUsage(prompt_tokens=0, completion_tokens=0) if self.silent else RequestUsage(prompt_tokens=7, completion_tokens=3)
        return whole.model_copy(update={"usage": spent})

    @property
    def model_info(self) -> ModelInfo:
        """Say which model it is."""
        return {**super().model_info, "family": "m1"}


class TestGoverned(Governed):
    """An agent whose run has a name, so that the same input again goes on with it."""

    def tool(self, name: str) -> Any:
        """Return a tool."""

        async def body(amount: int) -> Any:
            return self.body(name, amount)

        body.__qualname__ = name
        return FunctionTool(body, name=name, description=f"Do {name}.")

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
        model = Reporting(reply)
        model.silent = silent
        agent = surefoot.wrap(cashier(model, *tools, name="a", max_tool_iterations=99), guard=guard)
        with surefoot.run("r"):
            try:
                invoke(agent)
            except ApprovalPending:
                return None
        return told

    def team(self, guard: Guard, calls: int) -> None:
        """Run three agents that are tools of a fourth one."""
        pay = self.tool("pay")

        def paying(number: int, before: int, times: int) -> Model:
            def reply(answered: list[str], _messages: Any) -> Any:
                if len(answered) < before:
                    return [asks(f"agent_{len(answered)}", task="pay")]
                paid = sum(answer.startswith("pay ") for answer in answered)
                return [asks("pay", amount=100 * number + paid)] if paid < times else "done"

            return Model(reply)

        inner = [AgentTool(cashier(paying(n, 0, calls), pay, name=f"agent_{n}")) for n in range(3)]
        agent = cashier(paying(3, 3, calls + 1), *inner, pay, name="parent", max_tool_iterations=99)
        with surefoot.run("r"):
            invoke(surefoot.wrap(agent, guard=guard))
