"""Tools: the claim is made at the body, whatever invokes it, and however often."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any, Final

from crewai.tools.base_tool import BaseTool
from crewai.tools.structured_tool import CrewStructuredTool
from crewai.utilities.string_utils import sanitize_tool_name

from surefoot import Guard, NotStorable, SurefootError, ToolRule, UsageError
from surefoot.errors import InFlight, IntegrityError, LeaseLost, StoreUnavailable
from surefoot_adapters import (
    ActiveCall,
    Do,
    Frame,
    Program,
    Request,
    Stopped,
    call,
    declared_rule,
    frame_at,
    here,
    identity,
    outside_of_runs,
)
from surefoot_crewai import _console, _convert, _turns
from surefoot_crewai._swap import guard_of, swap

__all__ = ["guarded", "structured"]

_COMPOSITE: Final = ToolRule(effect="composite")
_TROUBLE: Final = (IntegrityError, InFlight, LeaseLost, StoreUnavailable, UsageError)
"""What the guard says of itself, not of the call: to go on without it would be to go on unguarded."""


class _Words(str):
    """A text for the model in the place of a result: never cached, for the tool has not run."""

    __slots__ = ()


def guarded(tool: Any, guard: Guard) -> Any:
    """Guard a tool in place; it keeps its identity, type and schema. Return it."""
    if guard_of(tool) is guard:
        return tool
    kind = type(tool)
    function = getattr(tool, "func", None)
    body = function or kind._run  # noqa: SLF001 - the extension point of BaseTool
    rule = declared_rule(tool, function, kind._run, kind._arun)  # noqa: SLF001 - as above
    swap(tool, guard, _function(kind) if "func" in kind.model_fields else _methods(kind))
    rule = rule or (_COMPOSITE if _delegates(kind) else None)
    guard.register(tool.name, identity(body if function else kind), rule, functools.partial(_definition, tool))
    _convert.model(guard.codec, getattr(tool, "result_schema", None))
    return tool


def _definition(tool: Any) -> list[Any]:
    """Return what the model is told of a tool (AS-10)."""
    return [tool.name, tool.description, tool.args_schema.model_json_schema()]


def _delegates(kind: type) -> bool:
    """Return whether a tool's body is another agent."""
    return any(base.__name__ == "BaseAgentTool" and base.__module__.startswith("crewai.") for base in kind.__mro__)


def _methods(kind: Any) -> dict[str, Any]:
    """Return what guards a tool that is a class: its body is a method."""
    made = _common(kind)
    for name in ("_run", "_arun"):
        original = getattr(kind, name)
        if original is not getattr(BaseTool, name):
            made[name] = _alike(original, lambda self, body: functools.partial(body, self))
    return made


def _function(kind: Any) -> dict[str, Any]:
    """Return what guards a tool that has a function: the tool hands out a governed one and keeps its own."""

    def func(self: Any) -> Any:
        original = self.__dict__["func"]
        return _alike(original, lambda _self, body: body, self)

    return {**_common(kind), "func": property(func, lambda self, value: self.__dict__.update(func=value))}


def _common(kind: Any) -> dict[str, Any]:
    def cache_function(self: Any) -> Any:
        original = self.__dict__["cache_function"]
        return lambda *args: not any(isinstance(arg, _Words) for arg in args) and original(*args)

    @functools.wraps(kind.to_structured_tool)
    def to_structured_tool(self: Any) -> Any:
        return structured(kind.to_structured_tool(self))

    setter = lambda self, value: self.__dict__.update(cache_function=value)  # noqa: E731 - a property's other half
    return {"cache_function": property(cache_function, setter), "to_structured_tool": to_structured_tool}


class _Structured(CrewStructuredTool):  # type: ignore[misc] # CrewAI is not there for the type checker
    """What the framework makes of a tool to run it. Its own thread for plain functions does not have the caller's context."""

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        """Run the tool; a plain function in a thread that knows the run."""
        if inspect.iscoroutinefunction(self.func):
            return await super().ainvoke(input, config, **kwargs)
        return await asyncio.to_thread(super().invoke, input, config, **kwargs)


def structured(made: Any) -> Any:
    """Return what the framework made of a guarded tool, with the governed body, also where it was made before the tool was guarded."""
    original = getattr(made, "_original_tool", None)
    if original is not None and not isinstance(made, _Structured):
        made.func = original._run  # noqa: SLF001 - the extension point of BaseTool
        made.__class__ = _Structured
    return made


_Structured.__name__, _Structured.__qualname__ = CrewStructuredTool.__name__, CrewStructuredTool.__qualname__


def _alike(original: Callable[..., Any], bound: Callable[[Any, Any], Callable[..., Any]], tool: Any = None) -> Callable[..., Any]:
    """Return a function of the same kind whose calls are governed. ``tool=None``: a method, whose first argument is the tool."""

    def split(args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        return (args[0], args[1:]) if tool is None else (tool, args)

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            mine, rest = split(args)
            body = functools.partial(bound(mine, original), *rest, **kwargs)
            with _call(mine, rest, kwargs) as asked:
                if asked is None:
                    return await body()
                guard, frame, request = asked
                return await guard.adrive(_asking(guard, frame, request, Do(body, body)))

        return coroutine

    @functools.wraps(original)
    def plain(*args: Any, **kwargs: Any) -> Any:
        mine, rest = split(args)
        body = functools.partial(bound(mine, original), *rest, **kwargs)
        with _call(mine, rest, kwargs) as asked:
            if asked is None:
                return body()
            guard, frame, request = asked
            return guard.drive(_asking(guard, frame, request, Do(body)))

    return plain


def _asking(guard: Guard, frame: Frame, request: Request, body: Do) -> Program[Any]:
    """Return a call, asked for once more where a person at the console has decided about it in the meantime."""
    try:
        return (yield from call(guard, frame, request, body))
    except Stopped as stopped:
        try:
            asked = yield Do(functools.partial(_console.answered, guard, stopped.error, request.tool_object))
        except SurefootError as error:  # whoever is there decides nothing
            raise Stopped(error) from stopped
        if not asked:
            raise
    return (yield from call(guard, frame, request, body))


@contextmanager
def _call(tool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Yield the governed call that this invocation is, or ``None`` where it is the tool itself: outside of any run, in its own body."""
    guard, place = guard_of(tool), here()
    assert guard is not None  # noqa: S101 - it was guarded
    if place is None or (isinstance(place, ActiveCall) and place.tool_object is tool):
        if place is None:
            outside_of_runs(f"the tool {tool.name!r}", stacklevel=4)
        yield None
        return
    try:
        frame = frame_at(place, guard, f"the tool {tool.name!r}")
        arguments = _convert.data({**dict(kwargs), **({"*": list(args)} if args else {})})
        current = _turns.turn.get()
        if current is None or current.frame is not place:
            yield guard, frame, Request(tool.name, arguments, tool)
            return
        digest = _digest(guard, arguments)
        asked = current.requests.request(sanitize_tool_name(tool.name), digest, functools.partial(_asked_digest, guard, tool))
        with asked as (position, alias):

            def notice(text: str) -> Any:
                current.requests.untold(sanitize_tool_name(tool.name), digest, position.rank)
                return _Words(text)

            yield guard, frame, Request(tool.name, arguments, tool, alias, position, notice)
    except _TROUBLE as error:
        raise Stopped(error) from error


def _digest(guard: Guard, arguments: Mapping[str, Any]) -> str:
    try:
        return guard.codec.digest(dict(arguments))
    except NotStorable:
        return guard.opaque_digest(arguments)


def _asked_digest(guard: Guard, tool: Any, arguments: Mapping[str, Any]) -> str | None:
    """Return the digest of a request as it will come to the body, or ``None`` where its arguments are not what the tool takes."""
    schema = tool.args_schema
    try:
        given = schema.model_validate(arguments).model_dump() if schema.model_fields else dict(arguments)
    except Exception:  # noqa: BLE001 - the framework will tell the model
        return None
    return _digest(guard, _convert.data(given))
