"""What a wrapped agent, team or tool holds, found by its type and guarded in place."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from autogen_agentchat.base import ChatAgent, Handoff, Response, TaskResult, Team
from autogen_core.code_executor import CodeExecutor
from autogen_core.model_context import ChatCompletionContext
from autogen_core.models import ChatCompletionClient
from autogen_core.tools import BaseTool, StaticWorkbench, Workbench

from surefoot import Guard
from surefoot_adapters import Kinds, become, each_guard, is_guarded, named_run
from surefoot_adapters.streams import seeing
from surefoot_autogen import _convert, _tools
from surefoot_autogen._doors import Door, named, started, within_itself
from surefoot_autogen._invocation import name_of
from surefoot_autogen._models import MODELS

__all__ = ["Reached", "guarded"]


def guarded(target: Any, guard: Guard) -> Reached:
    """Guard an agent, a team or a tool in place, with all that it holds; return what was found in it."""
    reached = Reached(guard)
    reached.add(target)
    return reached


@each_guard
def _kinds(guard: Guard) -> Kinds:
    _convert.register(guard.codec)
    return Kinds(functools.partial(_namespace, guard=guard))


@dataclass(eq=False)
class Reached:
    """One walk through what an object holds."""

    guard: Guard
    runs_code: list[str] = field(default_factory=list)
    """Names of agents that run code of their own."""
    _seen: set[int] = field(default_factory=set)

    def add(self, found: Any, handoffs: Sequence[str] = ()) -> None:
        """Guard an object, if it is one that matters, and what it holds in its turn. A tool named in ``handoffs`` only says where to."""
        if isinstance(found, list | tuple):
            for one in found:
                self.add(one, handoffs)
            return
        if id(found) in self._seen:
            return
        self._seen.add(id(found))
        if isinstance(found, ChatAgent | Team):
            is_guarded(getattr(type(found), "surefoot_guard", None), self.guard, f"{name_of(found)!r}")
            become(found, _kinds(self.guard))
            self._parts(found)
        elif isinstance(found, BaseTool):
            if found.name not in handoffs:
                _tools.register(self.guard, found)
                become(found, _tools.TOOLS)
                self._parts(found)
        elif isinstance(found, StaticWorkbench | ChatCompletionContext):
            self._parts(found)
        elif isinstance(found, Workbench):
            become(found, _tools.WORKBENCHES)
        elif isinstance(found, ChatCompletionClient):
            become(found, MODELS)

    def _parts(self, owner: Any) -> None:
        parts = list(vars(owner).values())
        known = [one for part in parts if isinstance(part, dict) for one in part.values() if isinstance(one, Handoff)]
        if isinstance(owner, ChatAgent) and any(isinstance(part, CodeExecutor) for part in parts):
            self.runs_code.append(owner.name)
        for part in parts:
            self.add(part, [handoff.name for handoff in known])


def _namespace(kind: type, guard: Guard) -> dict[str, Any]:
    """Return what a guarded agent or team does otherwise than the framework's own."""
    bare: Any = kind

    async def save_state(self: Any) -> Any:
        return started[self] if self in started else await bare.save_state(self)

    made = {"surefoot_guard": guard, "save_state": functools.wraps(bare.save_state)(save_state)}
    return {**made, **(_agent(bare, guard) if issubclass(kind, ChatAgent) else _team(bare, guard))}


def _agent(bare: Any, guard: Guard) -> dict[str, Any]:
    @functools.wraps(bare.on_messages)
    async def on_messages(self: Any, messages: Any, cancellation_token: Any) -> Any:
        if within_itself(self):
            return await bare.on_messages(self, messages, cancellation_token)
        return await Door(guard, self, bare, messages).run(lambda given: bare.on_messages(self, given, cancellation_token))

    @functools.wraps(bare.on_messages_stream)
    def on_messages_stream(self: Any, messages: Any, cancellation_token: Any) -> AsyncGenerator[Any, None]:
        if within_itself(self):
            return bare.on_messages_stream(self, messages, cancellation_token)  # type: ignore[no-any-return] # the framework's own
        door = Door(guard, self, bare, messages)
        return door.stream(lambda given: bare.on_messages_stream(self, given, cancellation_token), Response)

    @functools.wraps(bare.run_stream)
    def run_stream(self: Any, **options: Any) -> AsyncGenerator[Any, None]:
        return seeing(named, named_run(), bare.run_stream(self, **options))

    return {"on_messages": on_messages, "on_messages_stream": on_messages_stream, "run_stream": run_stream}


def _team(bare: Any, guard: Guard) -> dict[str, Any]:
    @functools.wraps(bare.run)
    async def run(self: Any, *, task: Any = None, **options: Any) -> Any:
        if within_itself(self):
            return await bare.run(self, task=task, **options)
        return await Door(guard, self, bare, task).run(lambda given: bare.run(self, task=given, **options))

    @functools.wraps(bare.run_stream)
    def run_stream(self: Any, *, task: Any = None, **options: Any) -> AsyncGenerator[Any, None]:
        if within_itself(self):
            return bare.run_stream(self, task=task, **options)  # type: ignore[no-any-return] # the framework's own
        return Door(guard, self, bare, task).stream(lambda given: bare.run_stream(self, task=given, **options), TaskResult)

    return {"run": run, "run_stream": run_stream}
