"""What a policy promises, on CrewAI: the scenarios of :mod:`governed`."""

from __future__ import annotations

from typing import Any

from crewai import Task
from crewai.tools import tool
from crews import Script, agent, ask, crew
from governed import Governed, Reply

import surefoot
from surefoot import ApprovalPending, Guard


class Counting(Script):
    """A model that keeps the counters that CrewAI's own do."""

    def __init__(self, replies: Any) -> None:
        super().__init__(replies)
        self.model = "m1"

    def _next(self, messages: Any) -> Any:
        answer = super()._next(messages)
        self._track_token_usage_internal({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})
        return answer


class TestGoverned(Governed):
    """A crew whose run has a name, so that the same kickoff again goes on with it."""

    def tool(self, name: str) -> Any:
        """Return a tool."""

        def body(amount: int) -> Any:
            return self.body(name, amount)

        body.__doc__ = f"Do {name}."
        body.__qualname__ = body.__name__ = name
        return tool(name)(body)

    def play(self, guard: Guard, *replies: Reply, fails_after: int | None = None, silent: bool = False) -> list[str] | None:
        """Kick the crew off, or go on with its run."""
        told: list[str] = []

        def reply(messages: Any) -> Any:
            told[:] = [str(message["content"]) for message in messages if message["role"] == "tool"]
            given = sum(bool(message.get("tool_calls")) for message in messages)
            if given == fails_after:
                raise ConnectionError("HTTP 500")
            return [ask(name, amount=amount) for name, amount in replies[given]] if given < len(replies) else "done"

        tools = [self.tool(name) for name in sorted({name for reply in replies for name, _ in reply})]
        worker = agent(reply, tools=tools, max_retry_limit=0)
        worker.llm = worker.llm if silent else Counting(worker.llm.replies)
        made = surefoot.wrap(crew(worker), guard=guard)
        try:
            with surefoot.run("r"):
                made.kickoff()
        except ApprovalPending:
            return None
        return told

    def team(self, guard: Guard, calls: int) -> None:
        """Kick off a crew of four agents with a task each."""
        pay = self.tool("pay")

        def payer(number: int, times: int) -> Any:
            def reply(messages: Any) -> Any:
                given = sum(bool(message.get("tool_calls")) for message in messages)
                return [ask("pay", amount=100 * number + given)] if given < times else "done"

            return agent(reply, tools=[pay], role=f"clerk {number}", max_retry_limit=0)

        clerks = [payer(number, calls + (number == 3)) for number in range(4)]
        tasks = [Task(description=f"pay {n}", expected_output="done", agent=clerk) for n, clerk in enumerate(clerks)]
        with surefoot.run("r"):
            surefoot.wrap(crew(*clerks, tasks=tasks), guard=guard).kickoff()
