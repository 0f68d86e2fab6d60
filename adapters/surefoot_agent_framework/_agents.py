"""Agents: a guarded copy, of the same type, whose runs are runs of the guard and whose client is guarded."""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Iterator
from typing import Any

from surefoot import Guard
from surefoot_adapters import Kinds, is_guarded
from surefoot_agent_framework import _clients, _convert, _tools
from surefoot_agent_framework._invocation import control_flow
from surefoot_agent_framework._runs import Door

__all__ = ["guarded", "name_of", "unguarded"]

_kinds: weakref.WeakKeyDictionary[Guard, Kinds] = weakref.WeakKeyDictionary()


def name_of(agent: Any) -> str:
    """Return the name of an agent, as its step has it."""
    return agent.name or "agent"


def guarded(agent: Any, guard: Guard) -> Any:
    """Return the guarded copy of an agent; of a guarded one, itself."""
    if is_guarded(getattr(type(agent), "surefoot_guard", None), guard, f"agent {name_of(agent)!r}"):
        return agent
    if guard not in _kinds:
        _convert.register(guard.codec)
        control_flow(guard)
        _kinds[guard] = Kinds(functools.partial(_namespace, guard=guard))
    for tool in _tools.functions(agent.default_options.get("tools")):
        _tools.register(guard, tool)
    mine = copy.copy(agent)
    mine.__class__ = _kinds[guard].of(type(agent))
    mine.client = _clients.guarded(agent.client)
    return mine


def unguarded(agent: Any) -> Iterator[str]:
    """Yield a sentence for what a guard cannot see of an agent."""
    hosted = sorted({_kind(tool) for tool in agent.default_options.get("tools") or () if not _tools.is_function(tool)})
    if hosted:
        yield f"these tools run at the provider and cannot be guarded ({', '.join(hosted)})"
    if not _clients.keeps(agent.client):
        yield f"the replies of its client are not kept: {type(agent.client).__qualname__} has no ChatMiddlewareLayer"


def _servers(agent: Any, tools: Any) -> list[Any]:
    """Return the MCP servers of an agent, and of a run."""
    given = tools if isinstance(tools, list | tuple) else [tools]
    return [*agent.mcp_tools, *(one for one in given if hasattr(one, "functions"))]


def _kind(tool: Any) -> str:
    return str(tool.get("type", "tool")) if isinstance(tool, dict) else type(tool).__qualname__


def _namespace(kind: type, guard: Guard) -> dict[str, Any]:
    """Return what a guarded agent does otherwise than the framework's own."""
    bare: Any = kind

    @functools.wraps(bare.run)
    def run(self: Any, messages: Any = None, *, stream: bool = False, **options: Any) -> Any:
        door = Door(guard, name_of(self), messages, options.get("session"), _servers(self, options.get("tools")))
        live = functools.partial(bare.run, self, stream=stream, **options)
        return door.stream(live) if stream else door.run(live)

    return {"surefoot_guard": guard, "run": run}
