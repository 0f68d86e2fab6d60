"""What the CrewAI tests share: effects counted in a file, a scripted model, ordinary small crews."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import crash
from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import tool

__all__ = ["Effects", "Script", "agent", "ask", "crew", "text_ask"]


class Effects(crash.Effects):
    """What really happened, and tools that do it."""

    def tool(self, name: str, then: Callable[..., Any] | None = None) -> Any:
        """Return a tool ``name(amount)`` that has an effect and returns ``"<name> <amount>"``, or what ``then`` does."""

        def body(amount: int = 0) -> Any:
            self.add(name, amount)
            return then(amount) if then is not None else f"{name} {amount}"

        body.__doc__ = f"Do {name}."
        body.__qualname__ = body.__name__ = name
        return tool(name)(body)


def ask(name: str, **arguments: Any) -> dict[str, Any]:
    """Return one request as a model's native tool calls have it, with a fresh id."""
    return {"id": f"call_{os.urandom(4).hex()}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def text_ask(name: str, **arguments: Any) -> str:
    """Return one request as a model without native tool calls writes it."""
    return f"Thought: I need it\nAction: {name}\nAction Input: {json.dumps(arguments)}"


class Script(BaseLLM):
    """A model that gives the written replies in order; the last one again and again."""

    def __init__(self, replies: Sequence[Any], *, native: bool = True, effects: Any = None) -> None:
        super().__init__(model="script")
        self.replies = list(replies)
        self.native = native
        self.effects = effects
        self.asked: list[Any] = []

    def _next(self, messages: Any) -> Any:
        self.asked.append(json.loads(json.dumps(messages, default=str)))
        if self.effects is not None:
            self.effects.add("model", len(self.asked))
        reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        return reply(messages) if callable(reply) else reply

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the next reply."""
        return self._next(messages)

    async def acall(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the next reply."""
        return self._next(messages)

    def supports_function_calling(self) -> bool:
        """Say whether it calls tools natively."""
        return self.native

    def supports_stop_words(self) -> bool:
        """Say that it stops where it is told."""
        return True

    def get_context_window_size(self) -> int:
        """Return a size that nothing here reaches."""
        return 100_000


def agent(*replies: Any, tools: Sequence[Any] = (), role: str = "clerk", native: bool = True, effects: Any = None, **options: Any) -> Any:
    """Return an agent whose model gives these replies; texts become final answers where the framework parses them."""
    said = [f"Thought: done\nFinal Answer: {r}" if isinstance(r, str) and not native and "Action:" not in r else r for r in replies]
    llm = Script(said, native=native, effects=effects)
    return Agent(role=role, goal="serve", backstory="b", llm=llm, tools=list(tools), verbose=False, **options)


def crew(*agents: Any, tasks: Sequence[Any] | None = None, **options: Any) -> Any:
    """Return a crew with one task for each agent."""
    made = tasks or [Task(description=f"work {n}", expected_output="done", agent=a) for n, a in enumerate(agents)]
    return Crew(agents=list(agents), tasks=list(made), verbose=False, **options)
