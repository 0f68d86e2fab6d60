"""Is this CrewAI one that can be guarded? A proof by a call."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

from typing import Any

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["framework"]


def _canary(guard: Guard) -> None:
    from crewai import Agent
    from crewai.tools import tool

    from surefoot_crewai import _intercept

    @tool(CANARY)  # type: ignore[untyped-decorator] # as below
    def seen() -> str:
        """Prove that the guard sees a call."""
        return "seen"

    agent: Any = Agent(role=CANARY, goal="prove", backstory="none", llm=_scripted(), tools=[seen], verbose=False)
    _intercept.guarded(agent, guard)
    agent.kickoff("go")


def _scripted() -> Any:
    """Return a model that asks for the canary and then is done."""
    from crewai import BaseLLM

    call = {"id": "canary", "type": "function", "function": {"name": CANARY, "arguments": "{}"}}
    replies: list[Any] = [[call], "done"]

    class Scripted(BaseLLM):  # type: ignore[misc] # CrewAI is not there for the type checker
        """Asks for the canary and then is done."""

        def call(self, *_args: Any, **_options: Any) -> Any:
            """Return the next reply."""
            return replies.pop(0)

        async def acall(self, *_args: Any, **_options: Any) -> Any:
            """Return the next reply."""
            return replies.pop(0)

        def supports_function_calling(self) -> bool:
            """Say that it calls tools by itself."""
            return True

        def get_context_window_size(self) -> int:
            """Return a size that nothing here reaches."""
            return 1_000_000

    return Scripted(model=CANARY)


framework = Framework("crewai", _canary)
