"""Attempts that have a deadline: when it passes the step goes on without them, and they may do nothing more."""

from __future__ import annotations

from typing import Any

from surefoot import Guard
from surefoot.engine.deadline import Overdue, Timed, limited
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do

__all__ = ["overdue", "within"]


def overdue(frame: Frame, had: str = "it had") -> TimeoutError:
    """Return the error of a step that is left at its deadline; what goes on in it claims and commits nothing more."""
    run = frame.run
    run.entries[frame.path] = run.next_entry()
    run.shared.pop(frame.path, None)
    return TimeoutError(f"step {frame.path} took longer than {had}")


def within(guard: Guard, frame: Frame, body: Do) -> Do:
    """Return an attempt that is left with a :class:`TimeoutError` when its frame's deadline has passed.

    A coroutine is cancelled. Plain code runs in a thread of its own, with the caller's context, and cannot be stopped: it runs on, but
    its entry is superseded, so it claims and commits nothing more.
    """
    assert frame.deadline is not None  # noqa: S101 - asked only then
    seconds = max(0.0, frame.deadline - guard.clock())
    had = f"the {seconds:.3g} s that it had"
    timed = Timed(body, seconds) if body.coro is not None else limited(body.plain, seconds)

    def plain() -> Any:
        try:
            return timed.plain()
        except Overdue:
            raise overdue(frame, had) from None

    async def coro() -> Any:
        assert timed.coro is not None  # noqa: S101 - both have one
        try:
            return await timed.coro()
        except Overdue:
            raise overdue(frame, had) from None

    return Do(plain, coro)
