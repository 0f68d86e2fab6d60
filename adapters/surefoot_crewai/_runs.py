"""Runs: what a kickoff opens and closes, or the step that it is inside of another one."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from crewai.events import event_context

from surefoot import Guard, RunStatus, UsageError
from surefoot_adapters import (
    Do,
    Frame,
    Opened,
    Program,
    RunName,
    RunSpec,
    Stopped,
    here,
    in_run,
    inside,
    meant,
    named_run,
    opaque,
    thread_of,
    unnamed,
)
from surefoot_crewai import _convert, _turns

__all__ = ["Kickoff", "name_of", "run"]

_log = logging.getLogger("surefoot.crewai")


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

    return (yield from in_run(guard, _spec(guard, kickoff), body, ended=ended, meant=meant))


def _open_events() -> tuple[tuple[str, str], ...]:
    """Return the events of CrewAI that are open here, outermost first."""
    found: list[tuple[str, str]] = []
    while (event := event_context.pop_event_scope()) is not None:
        found.insert(0, event)
    event_context.restore_event_scope(tuple(found))
    return tuple(found)


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
        digest or opaque(),
        stop=Stopped,
        joins=named.thread is None and kickoff.thread is None,
    )


def name_of(guard: Guard, name: str, known: RunName | None, durable: str | None) -> RunName:
    """Return the name of the run; say so, once for each name of a crew or a flow, where it has none."""
    named = known or named_run()
    if named.name is None and named.thread is None and durable is None and here() is None:
        unnamed(guard, name, _log, "kick {} off in 'with surefoot.run(name):'")
    return named
