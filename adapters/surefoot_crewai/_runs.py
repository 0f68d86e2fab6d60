"""Runs: what a kickoff opens and closes, or the step that it is inside of another one."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakValueDictionary

from crewai.events import event_context

from surefoot import Guard, RunStatus, UsageError
from surefoot_adapters import Do, Frame, Opened, Program, RunName, RunSpec, here, in_run, inside, named_run, thread_of
from surefoot_crewai import _convert, _turns

__all__ = ["Kickoff", "Stopped", "name_of", "run"]

_log = logging.getLogger("surefoot.crewai")
_warned: WeakValueDictionary[int, Any] = WeakValueDictionary()  # by identity: CrewAI's models have no hash


class Stopped(BaseException):
    """A stop of the run on its way to the wrapped entry point.

    Not an ``Exception``: CrewAI makes a text for the model of whatever else a tool or a hook raises, and goes on.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Kickoff:
    """One kickoff of a wrapped object, as its class describes it."""

    name: str
    """Step name where it is nested."""
    given: Any
    """The raw input."""
    body: Callable[[str], Do]
    """What the framework does with it; gets a verifier's hint."""
    named: RunName
    thread: str | None = None
    """The framework's own durable id, where it has one."""
    kind: Literal["input", "resume", "continue"] = "input"
    """It is given something; it answers what a suspended run waits for; it goes on from what a checkpoint restored."""
    as_step: bool = False
    """It is one step of its run, not a sequence of steps."""
    suspended: Callable[[Any], bool] = lambda _result: False
    """Says of a result that the run waits for a person."""


def run(guard: Guard, kickoff: Kickoff) -> Program[Any]:
    """Open the run that a kickoff belongs to, or be a step of the one around it."""
    place = here()
    if place is not None:
        return (yield from _turns.nested(guard, place, kickoff.name, kickoff.given, kickoff.body))

    def body(opened: Opened) -> Program[Any]:
        root = Frame(opened.run, None, "", opened.run.next_entry())
        around = _open_events()
        try:
            if kickoff.as_step:
                return (yield from _turns.nested(guard, root, kickoff.name, kickoff.given, kickoff.body))
            return (yield inside(root, kickoff.body("")))
        finally:  # a stop ends no event that CrewAI has begun, and it works with no more than a hundred that are open
            event_context.restore_event_scope(around)

    def ended(result: Any) -> RunStatus:
        return RunStatus.SUSPENDED if kickoff.suspended(result) else RunStatus.COMPLETED

    return (yield from in_run(guard, _spec(guard, kickoff), body, ended=ended, meant=_meant))


def _open_events() -> tuple[tuple[str, str], ...]:
    """Return the events of CrewAI that are open here, outermost first."""
    found: list[tuple[str, str]] = []
    while (event := event_context.pop_event_scope()) is not None:
        found.insert(0, event)
    event_context.restore_event_scope(tuple(found))
    return tuple(found)


def _meant(error: BaseException) -> BaseException:
    return error.error if isinstance(error, Stopped) else error


def _spec(guard: Guard, kickoff: Kickoff) -> RunSpec:
    named = kickoff.named
    thread = thread_of(named, kickoff.thread)
    digest = _convert.digest(guard.codec, [kickoff.name, kickoff.given])
    if thread is not None and digest is None:
        raise UsageError(f"the inputs of {kickoff.name} cannot be recognised again when it is resumed: pass plain data or models")
    return RunSpec(
        "crewai",
        named.tenant,
        thread,
        kickoff.kind,
        kickoff.given,
        digest or f"opaque-{uuid.uuid4().hex}",
        stop=Stopped,
        joins=named.thread is None and kickoff.thread is None,
    )


def name_of(guard: Guard, target: object, name: str, known: RunName | None, durable: str | None) -> RunName:
    """Return the name of the run; say so, once for each object, where it has none."""
    named = known or named_run()
    if named.name is None and named.thread is None and durable is None and here() is None:
        if guard.strict:
            raise UsageError(f"strict=True needs a name for the run: kick off {name} in 'with surefoot.run(name):'")
        if id(target) not in _warned:
            _warned[id(target)] = target
            _log.warning("%s runs without a name: killed, it cannot be resumed; kick it off in 'with surefoot.run(name):'", name)
    return named
