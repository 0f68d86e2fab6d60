"""Agents: a guarded copy, of the same type, whose runs are given one capability more."""

from __future__ import annotations

import copy
import functools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic_ai.toolsets import AbstractToolset, FunctionToolset

from surefoot import Guard, UsageError
from surefoot_adapters import Kinds, each_guard, is_guarded
from surefoot_pydantic_ai import _convert, _toolsets
from surefoot_pydantic_ai._capability import Guarding
from surefoot_pydantic_ai._invocation import attempted, control_flow
from surefoot_pydantic_ai._runs import Door

__all__ = ["guarded", "name_of", "unguarded"]

_HARMLESS: Final = frozenset({"tool_search"})
"""Native tools that the framework itself gives to every agent: what they find is a tool of ours."""


def name_of(agent: Any) -> str:
    """Return the name of an agent, as its runs' step has it."""
    return agent.name or "agent"


def guarded(agent: Any, guard: Guard) -> Any:
    """Return the guarded copy of an agent; of a guarded one, itself."""
    if is_guarded(getattr(type(agent), "surefoot_guard", None), guard, f"agent {name_of(agent)!r}"):
        return agent
    for toolset in agent.toolsets:
        toolset.apply(functools.partial(_register, guard=guard))
    mine = copy.copy(agent)
    mine.__class__ = _kinds(guard).of(type(agent))
    return mine


@each_guard
def _kinds(guard: Guard) -> Kinds:
    _convert.register(guard.codec)
    control_flow(guard)
    return Kinds(functools.partial(_namespace, guard=guard))


def _register(leaf: AbstractToolset[Any], guard: Guard) -> None:
    if isinstance(leaf, FunctionToolset):
        for name, tool in leaf.tools.items():
            _toolsets.register(guard, leaf, name, tool)


def unguarded(agent: Any) -> Sequence[str]:
    """Return the kinds of an agent's native tools, which run at the provider."""
    return sorted({getattr(tool, "kind", type(tool).__name__) for tool in agent.root_capability.get_native_tools()} - _HARMLESS)


def _namespace(kind: type, guard: Guard) -> dict[str, Any]:
    """Return what a guarded agent does otherwise than the framework's own."""
    bare: Any = kind

    @functools.wraps(bare.run)
    async def run(self: Any, user_prompt: Any = None, **kwargs: Any) -> Any:
        door = Door(guard, name_of(self), user_prompt, _named(self, kwargs))
        return await door.run(functools.partial(bare.run, self))

    @asynccontextmanager
    @functools.wraps(bare.iter)
    async def iter(self: Any, user_prompt: Any = None, **kwargs: Any) -> AsyncGenerator[Any]:  # noqa: A001 - the framework's name
        current = attempted.get()
        if current is not None and not current.taken:
            current.taken = True
            async with bare.iter(self, user_prompt, **_guarding(kwargs, current)) as agent_run:
                yield agent_run
            return
        door = Door(guard, name_of(self), user_prompt, _named(self, kwargs))
        async with door.iter(lambda prompt, options: bare.iter(self, prompt, **_guarding(options, door.current))) as agent_run:
            yield agent_run

    def realtime(self: Any, *_args: Any, **_kwargs: Any) -> Any:
        raise UsageError(f"agent {name_of(self)!r} is guarded, and realtime sessions cannot be; use the original agent")

    return {"surefoot_guard": guard, "run": run, "iter": iter, "realtime": realtime}


def _named(agent: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run. An agent without a name gets none: the framework would read it off our variables."""
    return kwargs if agent.name is not None else {**kwargs, "infer_name": False}


def _guarding(kwargs: dict[str, Any], current: Any) -> dict[str, Any]:
    return {**kwargs, "capabilities": [*(kwargs.get("capabilities") or ()), Guarding(current)]}
