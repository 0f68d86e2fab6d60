"""What stands around the body of a tool, between it and the guard (AS-82)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from surefoot import ToolRule, _api

__all__ = ["Layer", "Stack", "declared_rule", "watched"]

_RETRIES: Final = frozenset({"backoff", "retry", "retrying", "stamina", "tenacity"})
_watching: ContextVar[list[Stack] | None] = ContextVar("surefoot_adapters_watching", default=None)


@dataclass(frozen=True, slots=True)
class Layer:
    """A decorator between the guard and a tool's body: what it does happens inside of one claim."""

    name: str
    retries: bool
    """It looks like a retry: the body would run more than once for one intent."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A tool as an adapter came upon it, from the guard to the body."""

    tool: str
    layers: tuple[Layer, ...]
    body: str


def declared_rule(*candidates: object) -> ToolRule | None:
    """Return the rule that ``@surefoot.tool`` left on the first of these objects that has one: the tool, then its functions."""
    seen = _watching.get()
    if seen is not None:
        seen += [stack for stack in (_stack(candidates[0], one) for one in candidates) if stack is not None and stack not in seen]
    return _api.declared_rule(*candidates)


@contextmanager
def watched() -> Iterator[list[Stack]]:
    """Collect the stacks of the tools that adapters come upon in the block."""
    found: list[Stack] = []
    token = _watching.set(found)
    try:
        yield found
    finally:
        _watching.reset(token)


def _stack(tool: object, function: Any) -> Stack | None:
    """Return the stack of one of a tool's functions, ``None`` for what is none. Layers of the framework and of surefoot do not count."""
    if not hasattr(function, "__qualname__"):
        return None
    own = {type(tool).__module__.partition(".")[0]} - {"builtins"}
    layers = []
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        package = _module(function).partition(".")[0]
        if package not in own and not package.startswith("surefoot"):
            layers.append(Layer(_named(function), package in _RETRIES or hasattr(function, "retry")))
        function = inner
    if _module(function).partition(".")[0] in own:
        return None  # the framework's own body
    return Stack(str(getattr(tool, "name", None) or getattr(tool, "__qualname__", "?")), tuple(layers), _named(function))


def _module(function: Any) -> str:
    """Return the module whose code runs: a decorator takes over the name of what it wraps."""
    return str(getattr(function, "__globals__", {}).get("__name__") or type(function).__module__)


def _named(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return f"{_module(function)}.{code.co_qualname if code is not None else type(function).__qualname__}"
