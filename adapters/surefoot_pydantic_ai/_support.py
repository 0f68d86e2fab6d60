"""Is this pydantic-ai-slim one that can be guarded? A proof by a call."""

from __future__ import annotations

import asyncio

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["framework"]


def _canary(guard: Guard) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    from surefoot_pydantic_ai import _agents, _toolsets

    def seen() -> str:
        """Prove that the guard sees a call."""
        return "seen"

    async def scripted(messages: list[object], _info: object) -> ModelResponse:
        asks = ToolCallPart(CANARY, {}, tool_call_id="canary")
        return ModelResponse([asks if len(messages) == 1 else TextPart("done")])

    agent = Agent(FunctionModel(scripted), name="canary")  # type: ignore[arg-type] # it looks at how many messages there are, only
    agent.tool_plain(name=CANARY)(seen)
    _toolsets.check_body(agent.toolsets[0], CANARY)
    asyncio.run(_agents.guarded(agent, guard).run("go"))


framework = Framework("pydantic-ai-slim", _canary)
