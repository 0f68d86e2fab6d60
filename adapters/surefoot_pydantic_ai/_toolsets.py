"""Toolsets: the claim is made at a tool's own function, below timeouts, retries and hooks of the framework.

A tool that is made of no function (of an MCP server, of a toolset of somebody's own) is claimed around its toolset's ``call_tool``.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic_ai import RunContext
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset, ToolsetTool, WrapperToolset
from pydantic_ai.toolsets.function import FunctionToolsetTool

from surefoot import AdapterUnavailable, Guard, UsageError
from surefoot_adapters import Asked, Request, declared_rule, defaults, identity, plain, storable
from surefoot_pydantic_ai import _convert
from surefoot_pydantic_ai._invocation import Invocation

__all__ = ["check_body", "guarded", "register"]

_MOVED: Final = "guard not installed: function tools of this pydantic-ai keep their body elsewhere; install a release that surefoot names"


def guarded(toolset: AbstractToolset[Any], current: Invocation) -> AbstractToolset[Any]:
    """Return a run's toolset with each of its leaves guarded, whatever else is wrapped around them."""
    return _Known(toolset.visit_and_replace(lambda leaf: leaf if isinstance(leaf, _Guarded) else _Guarded(leaf, current)), current)


def register(guard: Guard, leaf: AbstractToolset[Any], name: str, tool: Any) -> str:
    """Make a tool of a leaf known to the guard; return its qualified name. ``tool``: the framework's ``Tool``, where it is made so."""
    function = inspect.unwrap(tool.function) if tool is not None else None
    server = None if function is not None else leaf.id
    qualified = f"{server}/{name}" if server else name
    known = f"toolset {server}" if server else identity(type(leaf) if function is None else function)
    definition = None if tool is None else lambda: [tool.name, tool.description, tool.function_schema.json_schema]
    guard.register(qualified, known, declared_rule(tool.function, function) if tool is not None else None, definition)
    return qualified


def check_body(leaf: AbstractToolset[Any], name: str) -> None:
    """Raise :class:`~surefoot.AdapterUnavailable` unless a function tool has its body where the claim is made."""
    tool = leaf.tools.get(name) if isinstance(leaf, FunctionToolset) else None
    if tool is None or getattr(tool.function_schema, "function", None) is not tool.function:
        raise AdapterUnavailable(_MOVED)


@dataclass
class _Known(WrapperToolset[Any]):
    """Around all toolsets: hears what the model is told of each tool."""

    current: Invocation

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return the tools as they are."""
        tools = await super().get_tools(ctx)
        for name, tool in tools.items():
            if name in self.current.defaults:
                continue
            self.current.defaults[name] = defaults(tool.tool_def.parameters_json_schema)
        return tools


@dataclass
class _Guarded(WrapperToolset[Any]):
    """Around one leaf: claims its calls."""

    current: Invocation

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return the tools as they are, each known to the guard."""
        tools = await super().get_tools(ctx)
        current = self.current
        if new := [name for name in tools if (id(self.wrapped), name) not in current.known]:
            before = current.guard.unclassified()
            for name in new:
                self._known(name)
            if current.guard.unclassified() != before:
                current.guard.announce(f"agent {current.agent}")
        return tools

    def _known(self, name: str) -> tuple[str, Any]:
        """Return the qualified name of a tool, and the framework's ``Tool`` where it is made of a function."""
        key = (id(self.wrapped), name)
        if key not in self.current.known:
            made = self.wrapped.tools.get(name) if isinstance(self.wrapped, FunctionToolset) else None
            self.current.known[key] = (register(self.current.guard, self.wrapped, name, made), made)
        return self.current.known[key]

    async def call_tool(self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]) -> Any:
        """Claim the call, and run the tool where the claim lets it."""
        self.current.paused(now=False)
        qualified, made = self._known(name)
        position = self.current.position(ctx.tool_call_id)
        request = Request(
            qualified,
            plain(tool_args),
            made.function if made is not None else (self.wrapped, name),
            ctx.tool_call_id,
            position,
            str if position else None,
        )
        guard = self.current.guard
        asked = _Asked(guard, self.current.frame_here(), request, lambda value: storable(guard.codec, value, _convert.Shown))
        inner = asked.innermost(tool)
        if inner is None:
            return await asked.coro(lambda: self.wrapped.call_tool(name, tool_args, ctx, tool))
        return await self.wrapped.call_tool(name, tool_args, ctx, inner)


@dataclass(eq=False)
class _Asked(Asked):
    """One request on its way to the body that it is for."""

    def innermost(self, tool: ToolsetTool[Any]) -> ToolsetTool[Any] | None:
        """Return a tool whose own function makes the claim; ``None`` where it is made of no function."""
        if not isinstance(tool, FunctionToolsetTool):
            return None
        schema: Any = getattr(tool.call_func, "__self__", None)  # owner: test_private_names
        if schema is None:
            return None
        claiming = replace(schema, function=self._claiming(schema.function, is_async=schema.is_async))
        return replace(tool, call_func=claiming.call)

    def _claiming(self, function: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
        if is_async:

            @functools.wraps(function)
            async def coro(*args: Any, **kwargs: Any) -> Any:
                return await self.coro(lambda: function(*args, **kwargs))

            return coro
        loop, thread = asyncio.get_running_loop(), threading.get_ident()

        @functools.wraps(function)
        def in_thread(*args: Any, **kwargs: Any) -> Any:
            """Make the claim in the thread that runs the body, which may outlive its caller."""
            return self.plain(lambda: _awaited(function(*args, **kwargs), loop, thread))

        return in_thread


def _awaited(value: Any, loop: asyncio.AbstractEventLoop, thread: int) -> Any:
    """Return what a plain function returned; what it returned to be awaited is awaited in the loop of its run."""
    if not inspect.isawaitable(value):
        return value
    if threading.get_ident() == thread:
        raise UsageError("a plain tool that runs in the event loop's thread returned something to await: make it a coroutine function")

    async def awaited() -> Any:
        return await value

    return asyncio.run_coroutine_threadsafe(awaited(), loop).result()
