"""Runs: what an invocation opens and closes, or the step that it is of the run around it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from surefoot import Guard, SurefootError, VerificationFailed
from surefoot_adapters import (
    Do,
    Frame,
    Opened,
    Program,
    RunSpec,
    StepSpec,
    element,
    here,
    in_run,
    input_digest,
    named_run,
    nested_step,
    step,
    thread_of,
    unnamed,
)
from surefoot_adapters.streams import Passing, asynchronous

__all__ = ["Door", "surfaced"]

_log = logging.getLogger("surefoot.semantic_kernel")


def surfaced(exc: BaseException) -> BaseException:
    """Return surefoot's error where the framework has put its own around one, else the error itself."""
    found: BaseException | None = exc
    while found is not None and not isinstance(found, SurefootError):
        found = found.__cause__
    return found or exc


class Door:
    """Opens and closes the run of one invocation, or makes it a step of the run that it is nested in."""

    def __init__(self, guard: Guard, name: str, given: Any, thread: str | None = None) -> None:
        """Enter by a step's name and its input, plain data; ``thread`` is the framework's id of the conversation."""
        self._guard = guard
        self._name = name
        self._given = given
        self._thread = thread

    async def run(self, once: Callable[[Frame], Awaitable[Any]], output: Callable[[Any], Any] = lambda found: found) -> Any:
        """Run to the end, an attempt after the other, and return what the last one returned; ``output`` is what verifiers see of it."""
        found: list[Any] = []

        async def attempt(frame: Frame) -> Any:
            found[:] = [await once(frame)]
            return output(found[0])

        await self._guard.adrive(self.program(lambda frame: Do(lambda: None, partial(attempt, frame))))
        return found[0]

    def stream(self, live: Callable[[Frame], AsyncIterator[Any]], text: Callable[[Any], str]) -> AsyncGenerator[Any, Any]:
        """Yield the items of one attempt as they come; verifiers see the texts of all. What was given out cannot be tried again."""
        said: list[str] = []

        async def noted(items: AsyncIterator[Any]) -> AsyncGenerator[Any]:
            async for item in items:
                said.append(text(item))
                yield item

        def begun(frame: Frame) -> Passing:
            if said:
                msg = f"the stream of {self._name} did not pass its verifier, and what was given out cannot be tried again"
                raise VerificationFailed(msg)
            return Passing(noted(live(frame)), lambda: "".join(said))

        return asynchronous(lambda: (self._guard, self.program(lambda frame: Do(lambda: begun(frame)))))()

    def program(self, attempt: Callable[[Frame], Do]) -> Program[Any]:
        """Return the program of the run, or of the step."""
        place = here()
        if place is not None:
            return nested_step(self._guard, place, self._name, self._given, self._digest(), attempt, memo=False)

        def only_step(opened: Opened) -> Program[Any]:
            return step(self._guard, StepSpec(opened.run, None, element(self._name, 1), self._name, self._given, None), attempt)

        return in_run(self._guard, self._spec(), only_step, meant=surfaced)

    def _spec(self) -> RunSpec:
        named = named_run()
        thread = thread_of(named, self._thread)
        if thread is None:
            unnamed(self._guard, self._name, _log)
        joins = named.thread is None and self._thread is None
        return RunSpec("semantic-kernel", named.tenant, thread, "input", self._given, self._digest(), joins=joins)

    def _digest(self) -> str:
        return input_digest(self._guard.codec, [self._name, self._given])
