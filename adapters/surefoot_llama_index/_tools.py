"""Tools: the claim is made at the body, below what the framework makes of its result."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from llama_index.core.tools import BaseTool, FunctionTool
from llama_index.core.tools.function_tool import async_to_sync

from surefoot import Guard
from surefoot_adapters import (
    ActiveCall,
    Asked,
    Kinds,
    Request,
    Stopped,
    declared_rule,
    frame_at,
    here,
    identity,
    in_thread,
    is_guarded,
    outside_of_runs,
    stops,
)
from surefoot_llama_index._runs import Known, invocation

__all__ = ["guard_of", "guarded"]

_GUARD: Final = "surefoot_guard"


def guard_of(tool: object) -> Guard | None:
    """Return the guard of a guarded tool."""
    return getattr(tool, _GUARD, None)


def guarded(tool: BaseTool, guard: Guard) -> BaseTool:
    """Return a guarded copy of a tool; a guarded one as it is."""
    name = tool.metadata.get_name()
    if is_guarded(guard_of(tool), guard, f"the tool {name!r}"):
        return tool
    mine = copy.copy(tool)
    if isinstance(tool, FunctionTool):
        body = tool.real_fn
        known = Known(
            name, inspect.signature(body), frozenset([*tool.partial_params, *([tool.ctx_param_name] if tool.ctx_param_name else [])])
        )
        _replace_bodies(mine, guard, known)
    else:
        body = type(tool).__call__
        known = Known(name, _signature(tool), frozenset())
        mine.__class__ = _CLASSES.of(type(tool))
    vars(mine).update({_GUARD: guard, "surefoot_known": known})
    where = body if hasattr(body, "__qualname__") and isinstance(tool, FunctionTool) else type(tool)
    told = lambda: [name, tool.metadata.description, tool.metadata.get_parameters_dict()]  # noqa: E731 - a thunk
    guard.register(name, identity(where), declared_rule(tool, body), told)
    return mine


def _signature(tool: BaseTool) -> inspect.Signature:
    """Return the signature of what a tool of another class runs: its ``call``, where it has one."""
    return inspect.signature(getattr(tool, "call", tool.__call__))


def _replace_bodies(mine: Any, guard: Guard, known: Known) -> None:
    """Have a function tool run governed functions; those that the framework derives from another one are derived again."""
    plain, coro, real = mine.fn, mine.async_fn, mine.real_fn
    bodies: dict[str, Any] = {}
    if _is_given(coro):
        bodies["_async_fn"] = _coroutine(mine, coro, guard, known)
    if inspect.iscoroutinefunction(real):
        bodies["_fn"] = async_to_sync(bodies["_async_fn"])
    else:
        bodies["_fn"] = _plain(mine, plain, guard, known)
        bodies.setdefault("_async_fn", _threaded(bodies["_fn"]))
    vars(mine).update(bodies)  # owner: test_private_names


def _is_given(coro: Callable[..., Any]) -> bool:
    """Return whether the user gave a tool its coroutine function; else the framework made it of the plain one."""
    return coro.__module__ != FunctionTool.__module__


def _threaded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a coroutine function that runs a plain one in a thread, where its call is claimed."""

    async def threaded(*args: Any, **kwargs: Any) -> Any:
        return await in_thread(lambda: function(*args, **kwargs))

    return threaded


def _coroutine(tool: Any, original: Callable[..., Any], guard: Guard, known: Known) -> Callable[..., Any]:
    @functools.wraps(original)
    async def governed(*args: Any, **kwargs: Any) -> Any:
        asked = _ask(tool, guard, known, args, kwargs)
        if asked is None:
            return await original(*args, **kwargs)
        try:
            return await asked.coro(lambda: original(*args, **kwargs))
        except Exception as exc:
            if not _stops(exc, asked):
                raise
            raise Stopped(exc) from exc

    return governed


def _plain(tool: Any, original: Callable[..., Any], guard: Guard, known: Known) -> Callable[..., Any]:
    @functools.wraps(original)
    def governed(*args: Any, **kwargs: Any) -> Any:
        asked = _ask(tool, guard, known, args, kwargs)
        if asked is None:
            return original(*args, **kwargs)
        try:
            return asked.plain(lambda: original(*args, **kwargs))
        except Exception as exc:
            if not _stops(exc, asked):
                raise
            raise Stopped(exc) from exc

    return governed


def _stops(exc: Exception, asked: Asked) -> bool:
    """Return whether an error is the guard's and stops an agent, which would show it to its model; what the body raised is its answer."""
    return stops(exc) and invocation.get() is not None and not asked.is_answer(exc)


def _ask(tool: Any, guard: Guard, known: Known, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked | None:
    """Return the request that this invocation is, or ``None`` where it is the tool itself: outside of any run, in its own body."""
    place = here()
    if place is None or (isinstance(place, ActiveCall) and place.tool_object is tool):
        if place is None:
            outside_of_runs(f"the tool {known.name!r}", stacklevel=4)
        return None
    try:
        arguments = known.arguments(args, kwargs)
    except TypeError:
        return None  # the function itself refuses it
    frame = frame_at(place, guard, f"the tool {known.name!r}")
    current = invocation.get()
    alias = current.taken(place, known.name) if current is not None else None
    if current is None or alias is None:
        return Asked(guard, frame, Request(known.name, arguments, tool))
    position = current.position(alias)
    return Asked(guard, frame, Request(known.name, arguments, tool, alias, position, None if position is None else str))


def _class(kind: type) -> dict[str, Any]:
    """Return what a guarded tool that is no function tool does otherwise: its body is its call."""
    made: dict[str, Any] = {}
    for name in ("__call__", "call", "acall"):
        original = getattr(kind, name, None)
        if original is not None and not getattr(original, "__isabstractmethod__", False):
            made[name] = _governed_method(original)
    return made


def _governed_method(original: Callable[..., Any]) -> Callable[..., Any]:
    make: Any = _coroutine if inspect.iscoroutinefunction(original) else _plain

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return make(self, functools.partial(original, self), getattr(self, _GUARD), vars(self)["surefoot_known"])(*args, **kwargs)

    return method


_CLASSES: Final = Kinds(_class)
