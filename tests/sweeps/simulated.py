"""Simulated processes: each has a guard of its own over one store, and is stepped by hand. One that crashed is stepped no more."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from sweeps.support import Nowhere, ToolError

from surefoot import Guard, Store
from surefoot.engine.frames import Frame, LiveRun
from surefoot.engine.program import Do, Pause, Program, Tx, enter

__all__ = ["Body", "Cancelled", "Key", "Mortal", "Process", "able", "advance", "between", "bury", "calling", "failing", "idle", "inside"]

Key = tuple[int, int, str]
"""Run, step, tool: the slot of a call."""


class _Gone(BaseException):
    """Ends the programs of a process that is no more."""


class Cancelled(BaseException):
    """Cancels a body."""


class Mortal(Store):
    """A view of a store for one simulated process, which lives while its name is among the living."""

    def __init__(self, inner: Store, name: str, living: set[str]) -> None:
        self.url = f"{inner.url}?{uuid.uuid4()}"  # what a process knows is kept under it
        self._inner, self._name, self._living = inner, name, living

    def transaction(self, *, write: bool = True) -> Any:
        """Open a transaction of the store behind it."""
        return self._inner.transaction(write=write)

    def owner(self) -> str:
        """Return the process's name."""
        return self._name

    def alive(self, owner: str) -> bool:
        """Return whether that process lives."""
        return owner in self._living

    def close(self) -> None:
        """Do nothing."""


@dataclass
class Body:
    """A call whose body is running."""

    program: Program[Any]
    key: Key
    attempt: int
    """How many times the slot had been claimed when this body was entered."""


@dataclass(eq=False)
class Process:
    """A simulated process."""

    name: str
    guard: Guard
    run: LiveRun | None = None
    number: int = 0
    """The run it is in."""
    epoch: int = 0
    step: Program[Any] | None = None
    place: int = 0
    frame: Frame | None = None
    body: Body | None = None
    error: BaseException | None = None
    """What the last body raised in this step."""
    asked: set[str] = field(default_factory=set)


def advance(process: Process, program: Program[Any], answer: Any = None, error: BaseException | None = None) -> Any:
    """Step a program to its next body, its wait or its end; return the :class:`Do`, the :class:`Pause` or ``(result,)``."""
    while True:
        try:
            op = program.send(answer) if error is None else program.throw(error)
        except StopIteration as stop:
            return (stop.value,)
        if isinstance(op, Do) and op not in (Nowhere.head, Nowhere.behind):
            enter(op)  # what it returns is for the model to say
            return op
        if isinstance(op, Pause):
            return op
        answer, error = None, None
        try:
            answer = process.guard.transact(op) if isinstance(op, Tx) else op.plain()
        except Exception as exc:  # noqa: BLE001 - goes back into the program
            error = exc


def bury(program: Program[Any]) -> None:
    """End a program without letting it do anything more."""
    try:
        while True:
            program.throw(_Gone())
    except BaseException:  # noqa: BLE001, S110 - it is gone
        pass


def idle(process: Process) -> bool:
    """Return whether it is in no run, and not taken for dead."""
    return process.run is None and process.guard.store.alive(process.name)


def between(process: Process) -> bool:
    """Return whether it is in a run and in no step."""
    return process.run is not None and process.step is None


def inside(process: Process) -> bool:
    """Return whether it is in a step and in no call."""
    return process.step is not None and process.body is None


def failing(process: Process) -> bool:
    """Return whether a tool has raised in the step that it is in."""
    return inside(process) and isinstance(process.error, ToolError)


def calling(process: Process) -> bool:
    """Return whether it is in a call."""
    return process.body is not None


def able(process: Process) -> bool:
    """Return whether it could ask for something."""
    return idle(process) or between(process) or inside(process)
