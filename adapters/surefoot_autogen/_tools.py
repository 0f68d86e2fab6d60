"""Tools, guarded in place: the claim is made at the body, below what a workbench makes of its result or of what it raises."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core.tools import BaseStreamTool, FunctionTool, TextResultContent, ToolResult

from surefoot import Effect, Guard, SurefootError, ToolRule
from surefoot_adapters import (
    Asked,
    Do,
    Kinds,
    Program,
    Request,
    declared_rule,
    defaults,
    here,
    identity,
    in_thread,
    innermost,
    outside_of_runs,
)
from surefoot_adapters.streams import Items, Passing, asynchronous, seeing
from surefoot_autogen import _convert
from surefoot_autogen._invocation import Invocation, invocation, known_of

__all__ = ["TOOLS", "WORKBENCHES", "register"]

_FUNCTION: Final = "_func"
_asked: ContextVar[list[str | None]] = ContextVar("surefoot_autogen_asked")
"""The model's id of the call that is on its way to a tool's body, until it is there."""


def register(guard: Guard, tool: Any) -> None:
    """Make a tool known to the guard. One that runs an agent or a team is a composite unless its author says otherwise."""
    function: Any = getattr(tool, _FUNCTION, None)  # owner: test_private_names
    functions = [] if function is None else [inspect.unwrap(function), function]
    where: Any = next((one for one in functions if hasattr(one, "__qualname__")), type(tool))
    known, rule = identity(where), declared_rule(tool, *functions)
    if isinstance(tool, AgentTool | TeamTool):
        known, rule = f"agent {tool.name}", rule or ToolRule(Effect.COMPOSITE)
    guard.register(tool.name, known, rule, functools.cache(lambda: tool.schema))
    known_of(guard)[tool.name] = functools.partial(_convert.final_arguments, tool)


@dataclass(eq=False)
class _Asked(Asked):
    """One request in a turn, where there is one."""

    current: Invocation | None = None

    def plain(self, body: Callable[[], Any]) -> Any:
        """Run a plain body, in the thread that is this call's own and may outlive its caller."""
        with self.noting():
            return super().plain(body)

    async def coro(self, body: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine's body."""
        with self.noting():
            return await super().coro(body)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what must end the turn: the framework makes words for the model of whatever comes out of a tool."""
        try:
            yield
        except SurefootError as exc:
            current = self.current
            if current is not None and (not self.is_answer(exc) or any(exc is one for one in current.inner)):
                if here() is current.frame:
                    current.stop(exc)
                else:
                    current.inner.append(exc)
            raise

    @contextmanager
    def flying(self) -> Iterator[None]:
        """Let the turn know of the call while it is under way."""
        task, flying = asyncio.current_task(), self.current.flying if self.current is not None else set()
        assert task is not None  # noqa: S101 - this is called by coroutines
        flying.add(task)
        try:
            yield
        finally:
            flying.discard(task)


def _ask(tool: Any, name: str, call_id: str | None, given: dict[str, Any], notice: Any) -> _Asked | None:
    """Return the request that an invocation of a tool is; outside of any run ``None``: it is the tool itself."""
    place, current = here(), invocation.get()
    frame = innermost(place)
    if frame is None:
        outside_of_runs(f"the tool {name!r}", stacklevel=4)
        return None
    position = current.position(call_id) if current is not None and place is current.frame else None
    request, guard = Request(name, given, tool, call_id, position, notice if position else None), frame.run.guard
    return _Asked(guard, frame, request, functools.partial(_convert.storable, guard.codec, tool), current=current)


# --- tools


class _Told(Exception):
    """Words for the model in the place of a result: a workbench shows it what its tool raises."""


def _told(words: str) -> Any:
    raise _Told(words)


def _on_its_way(tool: Any, args: Any, notice: Callable[[str], Any]) -> _Asked | None:
    """Return the request that a call of a tool's ``run`` is."""
    waiting = _asked.get(None)
    call_id = waiting.pop() if waiting else None
    return _ask(tool, tool.name, call_id, _convert.arguments(args), notice)


def _tool(kind: type) -> dict[str, Any]:
    """Return what a guarded tool does otherwise than the framework's own."""
    bare: Any = kind
    is_function = issubclass(kind, FunctionTool)

    @functools.wraps(bare.run_json)
    async def run_json(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _asked.set([_call_id(args, kwargs)])
        try:
            return await bare.run_json(self, *args, **kwargs)
        finally:
            _asked.reset(token)

    @functools.wraps(bare.run)
    async def run(self: Any, args: Any, cancellation_token: Any) -> Any:
        asked = _on_its_way(self, args, _convert.Shown)
        if asked is None:
            return await bare.run(self, args, cancellation_token)
        with asked.flying():
            if not is_function:
                return await asked.coro(lambda: bare.run(self, args, cancellation_token))
            return await bare.run(_claiming(self, asked, cancellation_token), args, cancellation_token)

    def return_value_as_string(self: Any, value: Any) -> str:
        return str(value) if isinstance(value, _convert.Shown) else str(bare.return_value_as_string(self, value))

    made = {"run_json": run_json, "run": run, "return_value_as_string": return_value_as_string}
    return {**made, **_streaming(bare)} if issubclass(kind, BaseStreamTool) else made


def _call_id(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    return kwargs["call_id"] if "call_id" in kwargs else next(iter(args[2:]), None)


def _claiming(tool: Any, asked: _Asked, cancellation_token: Any) -> Any:
    """Return a copy of a function tool, for one call, whose function makes the claim where it runs: of a plain one in a thread."""
    mine, function = copy.copy(tool), getattr(tool, _FUNCTION)  # owner: test_private_names

    @functools.wraps(function)
    async def claiming(*args: Any, **kwargs: Any) -> Any:
        def body() -> Any:
            return function(*args, **kwargs)

        if asyncio.iscoroutinefunction(function):
            return await asked.coro(body)
        linked = () if "cancellation_token" in kwargs else (cancellation_token.link_future,)  # else it is the function's to look at
        return await in_thread(lambda: asked.plain(body), *linked)

    setattr(mine, _FUNCTION, claiming)
    return mine


def _streaming(bare: Any) -> dict[str, Any]:
    """Return what a guarded tool that streams does otherwise: its last item is its result."""

    @functools.wraps(bare.run_json_stream)
    def run_json_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        return seeing(_asked, [_call_id(args, kwargs)], bare.run_json_stream(self, *args, **kwargs))

    @functools.wraps(bare.run_stream)
    async def run_stream(self: Any, args: Any, cancellation_token: Any) -> AsyncGenerator[Any, None]:
        asked = _on_its_way(self, args, _told)
        if asked is None:
            async for item in bare.run_stream(self, args, cancellation_token):
                yield item
            return
        result: list[Any] = []

        def program() -> Program[Items]:
            body = Do(lambda: Passing(_before_last(asked, bare.run_stream(self, args, cancellation_token), result), lambda: result[-1]))
            result[:] = [(yield from asked.program(body))]
            return Items()

        with asked.noting(), asked.flying():
            async for item in asynchronous(lambda: (asked.guard, program()))():
                yield item
        yield result[-1]

    return {"run_json_stream": run_json_stream, "run_stream": run_stream}


async def _before_last(asked: _Asked, items: AsyncGenerator[Any, None], last: list[Any]) -> AsyncGenerator[Any, None]:
    """Yield a tool's items but for the last one, which is its result and becomes ``last``."""
    kind = asked.request.tool_object.return_type()  # type: ignore[attr-defined] # it is a tool
    try:
        async for item in items:
            if last:
                yield last.pop()
            if isinstance(item, kind):
                last.append(item)
            else:
                yield item
    except BaseException as exc:
        asked.raised.append(exc)
        raise
    last[:] = [asked.storable(item) for item in last] or [None]


TOOLS: Final = Kinds(_tool)


# --- workbenches whose tools are no objects of this process


def _workbench(kind: type) -> dict[str, Any]:
    """Return what a guarded workbench does otherwise: the tools of a static one are guarded themselves."""
    bare: Any = kind
    signature = inspect.signature(bare.call_tool)

    @functools.wraps(bare.list_tools)
    async def list_tools(self: Any) -> Any:
        schemas = await bare.list_tools(self)
        frame = innermost(here())
        if frame is not None:
            _listed(self, frame.run.guard, schemas)
        return schemas

    @functools.wraps(bare.call_tool)
    async def call_tool(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(self, *args, **kwargs).arguments
        name, current = given["name"], invocation.get()
        final = {**vars(self).get("surefoot_defaults", {}).get(name, {}), **(given.get("arguments") or {})}
        asked = _ask(self, name, given.get("call_id"), final, functools.partial(_error, name))
        if asked is None:
            return await bare.call_tool(self, *args, **kwargs)
        try:
            with asked.flying():
                return await asked.coro(lambda: bare.call_tool(self, *args, **kwargs))
        except Exception as exc:
            if current is None or here() is not current.frame:
                raise
            return _error(name, str(exc))  # the framework would wait for ever

    return {"list_tools": list_tools, "call_tool": call_tool}


def _error(name: str, text: str) -> ToolResult:
    return ToolResult(name=name, result=[TextResultContent(content=text)], is_error=True)


def _listed(workbench: Any, guard: Guard, schemas: Any) -> None:
    """Make what a workbench lists known to the guard, and keep the defaults of its tools' parameters."""
    kind, server = type(workbench), getattr(workbench, "server_params", None)
    known = vars(workbench).setdefault("surefoot_defaults", {})
    before = guard.unclassified()
    for schema in schemas:
        name = schema["name"]
        known[name] = defaults(schema.get("parameters", {}))
        guard.register(name, identity(kind) if server is None else f"MCP server {server}", None, functools.partial(dict, schema))
        known_of(guard)[name] = functools.partial(_convert.filled, known[name])
    if guard.unclassified() != before:
        guard.announce(f"workbench {kind.__name__}")


WORKBENCHES: Final = Kinds(_workbench)
