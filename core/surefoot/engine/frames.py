"""Where am I? The live run, the open step and the running call, found through one context variable."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surefoot.engine.key import below
from surefoot.engine.program import Do, current
from surefoot.types import Call, Lease, RunRecord

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard

__all__ = ["ActiveCall", "Frame", "LiveRun", "at", "current_call", "current_step", "here", "innermost", "inside", "join"]


def join(path: str, part: str) -> str:
    """Return the path one element deeper."""
    return f"{path}/{part}" if path else part


@dataclass(eq=False)
class LiveRun:
    """A run while an invocation of it is under way in this process."""

    guard: Guard
    record: RunRecord
    conversation: str
    """The thread, or the run where there is none."""
    lease: Lease | None
    stop: Callable[[BaseException], BaseException]
    """Turns an error into one that the framework's own error handling lets through."""
    resumed: bool = False
    paused: bool = False
    """A stream of it is waiting for its consumer; it gives way to a new invocation."""
    entries: dict[str, int] = field(default_factory=dict)
    """Newest entry of each step path; an older one may claim and commit nothing more."""
    shared: dict[str, Frame] = field(default_factory=dict)
    """Open entries of slot spaces that parallel tasks share."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def scope(self) -> str:
        """The slot space: the run that this one was forked from, or itself."""
        return self.record.origin or self.record.run_id

    def next_entry(self) -> int:
        """Return a token larger than any that this conversation has used before."""
        return ((self.lease.epoch if self.lease else 1) << 32) + next(self._numbers)


@dataclass(eq=False)
class Frame:
    """One entry of a step (or of a composite call's inside): the place that calls are claimed in."""

    run: LiveRun
    parent: Frame | None
    path: str
    entry: int
    name: str = ""
    attempt: int = 1
    hint: str = ""
    floor: int = 0
    """Entries up to this one belong to rejected attempts: what steps committed inside them is not replayed."""
    reentered: bool = False
    """Calls of an earlier entry exist at or below this path."""
    running: set[object] = field(default_factory=set)
    """Claims whose body runs in it now."""
    asked: set[object] = field(default_factory=set)
    """Claims in it that have no answer yet."""
    reminded: set[str] = field(default_factory=set)
    """Tools whose drift this entry has been told about."""
    raised: dict[str, BaseException] = field(default_factory=dict)
    """Call id → the error its body raised in this entry."""
    entered: bool = False
    """Its body has begun."""
    nested: int = 0
    """Graphs that were started inside it, for those that have no other name."""
    deadline: float | None = None
    """POSIX seconds by which what is done in it should have ended."""
    _plain: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def chain(self) -> Iterator[Frame]:
        """Yield this frame and those around it, innermost first."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.parent

    def plain_occurrence(self, tool: str, digest: str) -> int:
        """Return the rank of a request that no model numbered, and mark it running.

        Equal to one that raised or is in doubt: the same request. Equal to a running or committed one: a
        twin, which is a request of its own.
        """
        with self._lock:
            states = self._plain.setdefault((tool, digest), [])
            for rank, state in enumerate(states):
                if state == "open":
                    states[rank] = "busy"
                    return rank
            states.append("busy")
            return len(states) - 1

    def plain_ended(self, tool: str, digest: str, rank: int, *, answered: bool) -> None:
        """Record whether the request of that rank was answered, or may be asked again as the same one."""
        with self._lock:
            self._plain[tool, digest][rank] = "answered" if answered else "open"


@dataclass(eq=False)
class ActiveCall:
    """A call whose body is running."""

    call: Call
    frame: Frame
    tool_object: object
    """What the adapter calls the tool: tells a body's own inner call from a new request."""
    occurrence: str
    reentered: bool
    composite: bool = False
    interrupts: tuple[str | None, ...] = ()
    """What its interrupts were answered before this entry (see :class:`~surefoot.types.CallRecord`)."""
    answered: list[str] = field(default_factory=list)
    """What they were answered in this entry."""
    entered: bool = False
    """Its body has begun."""
    _inner: Frame | None = None

    def answers(self) -> tuple[str | None, ...]:
        """Return every answer so far; a question that waited and was not answered waits no longer."""
        return (*(answer for answer in self.interrupts if answer is not None), *self.answered)

    def inner(self) -> Frame:
        """Return the frame for what is requested inside the body."""
        if self._inner is None:
            run, path = self.frame.run, below(self.frame.path, self.call, self.occurrence)
            self._inner = Frame(run, self.frame, path, run.next_entry(), reentered=self.reentered)
            self._inner.deadline = self.call.deadline or self.frame.deadline
        return self._inner


@contextmanager
def at(place: Frame | ActiveCall | None) -> Iterator[None]:
    """Make ``place`` the current one for the block (and for what it starts)."""
    token = current.set(place)
    try:
        yield
    finally:
        with suppress(ValueError):  # a coroutine that is collected ends in whatever context that happens
            current.reset(token)


def inside(place: Frame | ActiveCall, body: Do) -> Do:
    """Return ``body`` with ``place`` as the current one while it runs."""
    return Do(body.plain, body.coro, place)


def here() -> Frame | ActiveCall | None:
    """Return the running call or open step that this code is in."""
    return current.get()  # type: ignore[no-any-return]


def current_call() -> Call | None:
    """Return the call whose body is running here: ``.idempotency_key``, ``.entry``, ``.deadline``; else ``None``."""
    place = current.get()
    return place.call if isinstance(place, ActiveCall) else None


def current_step() -> Frame | None:
    """Return the open step here: ``.name``, ``.attempt`` and the ``.hint`` of the verifier that rejected the last one."""
    place = current.get()
    frame = place.frame if isinstance(place, ActiveCall) else place
    return frame if frame is None or frame.name else next((f for f in frame.chain() if f.name), None)


def innermost(place: Any) -> Frame | None:
    """Return the frame in which something requested at ``place`` is claimed."""
    return place.inner() if isinstance(place, ActiveCall) else place
