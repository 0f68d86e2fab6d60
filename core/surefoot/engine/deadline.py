"""Bodies and hooks with a deadline: when it passes the caller goes on, and what a body still does lands late (AS-42).

There is no timer thread. A plain body runs in a thread of its own, because nobody can leave one that runs in theirs; it
ends with the body. A coroutine is cancelled, and may take its time to end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from surefoot.engine.program import Do, aenter, begun, enter, settled

__all__ = ["Overdue", "Timed", "limited"]


class Overdue(BaseException):
    """The deadline passed and the body runs on. Never leaves the engine."""


class Timed(Do):
    """A body that is waited for only so long."""

    def __init__(self, body: Do, seconds: float) -> None:
        super().__init__(self._plain, self._coro if body.coro else None)
        self._body = body
        self._seconds = seconds
        self._left: Any = None
        """The future of a body that its caller has not waited for to the end."""

    def when_ended(self, then: Callable[[Any], None]) -> None:
        """Call ``then`` when the body has ended: now, with ``None``, or with the future of one that its caller left running."""
        if self._left is None:
            then(None)
        else:
            self._left.add_done_callback(then)

    def _plain(self) -> Any:
        from concurrent import futures

        self._left = ended = begun(partial(enter, self._body))
        if self._body.inside is not None:
            self._body.inside.entered = True  # nobody can stop it from beginning any more, however late it does
        futures.wait([ended], self._seconds)
        return self._outcome(ended)

    async def _coro(self) -> Any:
        import asyncio

        self._left = task = asyncio.ensure_future(aenter(self._body))
        try:
            await asyncio.wait({task}, timeout=self._seconds)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
        return self._outcome(task)

    def _outcome(self, ended: Any) -> Any:
        """Return what the body returned, or raise what it raised; leave it where it has not ended."""
        if ended.done():
            self._left = None
            return ended.result()
        ended.cancel()  # ends a coroutine; a plain body cannot be stopped
        raise Overdue(f"it ran past its deadline of {self._seconds:g} s")


def limited(work: Callable[[], Any], seconds: float | None) -> Do:
    """Return a hook's work as user code that is :class:`Overdue` after ``seconds``; ``None``: it is waited for without end.

    It runs in a thread of its own, but what it returns to be awaited is awaited where the caller is.
    """

    async def coro() -> Any:
        import asyncio

        asked = begun(lambda: next(work() for _ in (1,)))  # a generator raises no StopIteration, which no coroutine can be given
        try:
            answer = await asyncio.wrap_future(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(_forgotten)
            raise
        return await answer if inspect.isawaitable(answer) else answer

    return Timed(Do(lambda: settled(work()), coro), seconds) if seconds is not None else Do(work)


def _forgotten(asked: Any) -> None:
    """Close the coroutine that a hook returned to a caller who has left."""
    if asked.exception() is None and inspect.iscoroutine(asked.result()):
        asked.result().close()
