"""What a policy promises, on OpenAI Agents: the scenarios of :mod:`governed`."""

from __future__ import annotations

from typing import Any

from agents import Agent, ModelResponse, Usage, function_tool
from governed import Governed, Reply
from oai_support import Script, asks, invoke, says

import surefoot
from surefoot import Guard


class Silent(Script):
    """A model that reports nothing."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Return the reply."""
        response = await super().get_response(*args, **kwargs)
        response.usage = Usage()
        return response


class TestGoverned(Governed):
    """An agent whose run has a name, so that the same input again goes on with it."""

    def tool(self, name: str) -> Any:
        """Return a tool."""

        async def body(amount: int) -> Any:
            return self.body(name, amount)

        body.__qualname__ = name
        return function_tool(body, name_override=name, description_override=f"Do {name}.")

    def play(self, guard: Guard, *replies: Reply, fails_after: int | None = None, silent: bool = False) -> list[str] | None:
        """Run the agent, or go on with its run."""
        told: list[str] = []
        ends = {sum(map(len, replies[:number])): reply for number, reply in enumerate(replies)}

        def reply(answered: list[str], _items: list[Any]) -> list[Any]:
            told[:] = answered
            if fails_after is not None and len(answered) == sum(map(len, replies[:fails_after])):
                raise ConnectionError("HTTP 500")
            return [asks(name, amount=amount) for name, amount in ends[len(answered)]] if len(answered) in ends else [says("done")]

        tools = [self.tool(name) for name in sorted({name for reply in replies for name, _ in reply})]
        agent = surefoot.wrap(Agent(name="a", model=(Silent if silent else Script)(reply, name="m1"), tools=tools), guard=guard)
        with surefoot.run("r"):
            result = invoke(agent, max_turns=99)
        return None if result.interruptions else told

    def team(self, guard: Guard, calls: int) -> None:
        """Run three agents that are tools of a fourth one."""
        pay = self.tool("pay")

        def paying(number: int, before: int, times: int) -> Any:
            def reply(answered: list[str], _items: list[Any]) -> list[Any]:
                if len(answered) < before:
                    return [asks(f"agent_{len(answered)}", input="pay")]
                paid = sum(answer.startswith("pay ") for answer in answered)
                return [asks("pay", amount=100 * number + paid)] if paid < times else [says("done")]

            return Script(reply)

        inner = [Agent(name=f"agent {n}", model=paying(n, 0, calls), tools=[pay]).as_tool(f"agent_{n}", "Pays.") for n in range(3)]
        agent = Agent(name="parent", model=paying(3, 3, calls + 1), tools=[*inner, pay])
        with surefoot.run("r"):
            invoke(surefoot.wrap(agent, guard=guard), max_turns=99)
