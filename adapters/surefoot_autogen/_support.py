"""Is this autogen-agentchat one that can be guarded? A proof by a call."""

from __future__ import annotations

import asyncio
from typing import Any

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["framework"]


def _canary(guard: Guard) -> None:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_core import FunctionCall
    from autogen_core.tools import FunctionTool

    from surefoot_autogen import _reach
    from surefoot_autogen.scripted import Scripted

    def seen() -> str:
        return "seen"

    tool = FunctionTool(seen, name=CANARY, description="Prove that the guard sees a call.")
    replies: list[Any] = [[FunctionCall(id="canary", name=CANARY, arguments="{}")], "done"]
    agent = AssistantAgent("canary", Scripted(lambda _messages: replies.pop(0)), tools=[tool], max_tool_iterations=2)
    _reach.guarded(agent, guard)
    asyncio.run(agent.run(task="go"))


framework = Framework("autogen-agentchat", _canary)
