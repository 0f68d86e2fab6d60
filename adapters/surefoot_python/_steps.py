"""Wrapped functions: outside of any run a call is a run, inside of one it is a step of it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from surefoot import Guard, UsageError
from surefoot_adapters import (
    Do,
    Instead,
    Opened,
    Program,
    RunSpec,
    StepSpec,
    done,
    element,
    here,
    in_run,
    named_run,
    nested_step,
    opaque,
    step,
    thread_of,
    unnamed,
)
from surefoot_adapters.streams import spoken
from surefoot_python import _convert, _intercept

__all__ = ["guarded"]

_log = logging.getLogger("surefoot.python")


def guarded(target: Any, guard: Guard) -> Any:
    """Return the function as a run or step of this guard."""
    return _intercept.guarded(_Step, target, guard)


class _Step(_intercept.Subject):
    """A function whose calls are runs or steps."""

    guard: Guard

    def introduce(self, guard: Guard) -> None:
        """Say nothing: a step's rule is found by its name."""

    def asked(self, body: Do, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _intercept.Asked:
        """Return the run or the step."""
        given = self.arguments(args, kwargs)
        if given is None:
            return None
        self.meet(self.guard)
        place = here()
        if place is None:
            return self.guard, self._run(given, body, self._instead(args, kwargs))
        digest = self._digest(given, must=False)
        return self.guard, nested_step(
            self.guard, place, self.name, given, digest, lambda _frame: body, instead=self._instead(args, kwargs)
        )

    # --- a run

    def _instead(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Instead:
        """Return what calls a fallback with what the function was called with; of a generator it gives the items of another attempt."""
        is_async = inspect.isasyncgenfunction(self.function)
        if is_async or inspect.isgeneratorfunction(self.function):
            return lambda function, _frame: spoken(partial(function, *args, **kwargs), is_async=is_async)
        return lambda function, _frame: done(function, *args, **kwargs)

    def _run(self, given: dict[str, Any], body: Do, instead: Instead) -> Program[Any]:
        """Open the run that this call belongs to, be its outermost step, and close it."""
        named = named_run()
        thread = thread_of(named)
        digest = self._digest(given, must=thread is not None)
        if thread is None:
            unnamed(self.guard, self.name, _log, "call {} in 'with surefoot.run(name):'")
        known = digest or opaque()
        spec = RunSpec("python", named.tenant, thread, "input", given, known, joins=named.thread is None)

        def outermost(opened: Opened) -> Program[Any]:
            spec = StepSpec(opened.run, None, element(self.name, 1), self.name, given, digest)
            return step(self.guard, spec, lambda _frame: body, instead=instead)

        return in_run(self.guard, spec, outermost)

    def _digest(self, given: Mapping[str, Any], *, must: bool) -> str | None:
        """Return the digest of the input, or ``None`` where it has none and none is needed."""
        try:
            return self.guard.codec.digest([self.identity, _convert.data(self.guard.codec, self.name, given)])
        except UsageError:
            if must:
                raise
            return None
