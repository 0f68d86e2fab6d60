"""Tools: a call of the function, made inside a run, is a governed call."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from surefoot import Guard, UsageError
from surefoot_adapters import ActiveCall, Do, Request, call, declared_rule, frame_at, here, outside_of_runs
from surefoot_python import _convert, _intercept

__all__ = ["guarded"]


def guarded(target: Any, guard: Guard | None) -> Any:
    """Return the function as a tool: of this guard, or of the guard of whichever run it is called in."""
    return _intercept.guarded(_Tool, target, guard)


class _Tool(_intercept.Subject):
    """A function whose calls are governed."""

    def __init__(self, function: FunctionType, guard: Guard | None) -> None:
        super().__init__(function, guard)
        self.rule = declared_rule(function)

    def introduce(self, guard: Guard) -> None:
        """Register the tool; a strict guard refuses one that nobody classified."""
        guard.register(self.name, self.identity, self.rule, self._definition)
        streams = inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function)
        if streams and guard.rule(self.name).timeout is not None:
            raise UsageError(f"{self.name} is a generator, whose consumer decides how long it takes: it cannot have a timeout=")
        guard.announce(f"tool {self.name}")

    def _definition(self) -> list[Any]:
        """Return what is told of the function; a default that has no value of its own counts as its type."""
        return [re.sub(" at 0x[0-9a-f]+", "", str(self.signature)), inspect.getdoc(self.function)]

    def asked(self, body: Do, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _intercept.Asked:
        """Return the governed call, or ``None`` outside of any run and where a framework's own call is at its body."""
        place = here()
        if place is None:
            self._outside()
            return None
        guard = (place.frame if isinstance(place, ActiveCall) else place).run.guard
        if isinstance(place, ActiveCall) and self._is_body_of(place, guard):
            return None
        arguments = self.arguments(args, kwargs)
        if arguments is None:
            return None
        frame = frame_at(place, self.guard or guard, f"the tool {self.name}")
        self.meet(guard)
        data = _convert.data(guard.codec, self.name, arguments, guard.rule(self.name).key)
        return guard, call(guard, frame, Request(self.name, data, self), body)

    def _outside(self) -> None:
        """Let a declared function be itself; say so where it looks like a mistake."""
        if self.guard is not None:
            msg = f"the guarded tool {self.name} was called outside of any run; call it from a wrapped function, or use the original"
            raise UsageError(msg)
        outside_of_runs(self.name, stacklevel=4)

    def _is_body_of(self, place: ActiveCall, guard: Guard) -> bool:
        """Return whether a framework's tool, made of this very function, is at its body now."""
        mine = self.guard in {None, guard} and not isinstance(place.tool_object, _Tool)
        return mine and self.rule is not None and guard.declared.get(place.call.tool) is self.rule
