"""Is this agent-framework-core one that can be guarded? A proof by a call."""

from __future__ import annotations

import asyncio

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["framework"]


def _canary(guard: Guard) -> None:
    from agent_framework import Agent, Content, FunctionTool

    from surefoot_agent_framework import _agents
    from surefoot_agent_framework.scripted import Scripted

    def seen() -> str:
        """Prove that the guard sees a call."""
        return "seen"

    asks = Content.from_function_call(call_id="canary", name=CANARY, arguments={})
    client = Scripted(lambda messages: [asks] if len(messages) == 1 else "done")
    agent = Agent(client, name="canary", tools=[FunctionTool(name=CANARY, func=seen)])

    async def whole() -> None:
        await _agents.guarded(agent, guard).run("go")

    asyncio.run(whole())


framework = Framework("agent-framework-core", _canary)
