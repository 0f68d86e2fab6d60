"""Group commit: whoever comes while a commit is under way shares the next one (one ``fsync`` for all).

One writer thread a store and process, started when calls queue and gone when they have not for a while. An idle
store commits where it is called: handing over to a thread would cost more than the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from surefoot.contracts import Transaction

__all__ = ["Job", "Locked", "Queue", "deliver", "finished"]

Work: TypeAlias = Callable[[Transaction], Any]
_LINGER: Final = 0.5
"""Seconds that an idle writer thread stays."""
_MOST: Final = 256
"""Works in one commit: the last one waits for all of them."""


class Locked(Exception):
    """Another process has the write lock; raised only to who would rather not wait."""


class _Kept(asyncio.Future[None]):
    """A future that its awaiting task cannot cancel: what was handed in is finished first (I11)."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - the signature of asyncio
        """Refuse; the task is cancelled when the future is done."""
        return False


@dataclass(eq=False, slots=True)
class Job:
    """One work in the queue, and who waits for it."""

    work: Work
    write: bool
    future: Future[None] | asyncio.Future[None]
    loop: asyncio.AbstractEventLoop | None = None
    answer: Any = None
    error: BaseException | None = None

    @classmethod
    def of_thread(cls, work: Work, *, write: bool) -> Job:
        """Return a job that a thread waits for."""
        return cls(work, write, Future())

    @classmethod
    def of_task(cls, work: Work, *, write: bool) -> Job:
        """Return a job that a task of the running loop waits for."""
        loop = asyncio.get_running_loop()
        return cls(work, write, _Kept(loop=loop), loop)

    def deliver(self) -> None:
        """Tell who waits that :meth:`outcome` is there; for a task this runs in its loop."""
        self.future.set_result(None)

    def outcome(self) -> Any:
        """Return the answer, or raise the error. It does not go through the future, which refuses some errors (StopIteration)."""
        if self.error is not None:
            raise self.error
        return self.answer


async def finished(job: Job) -> Any:
    """Return the job's answer, or raise its error. A task that is cancelled meanwhile is cancelled after that."""
    assert isinstance(job.future, asyncio.Future)  # noqa: S101 - made by of_task
    cancelled: asyncio.CancelledError | None = None
    while not job.future.done():
        try:
            await job.future
        except asyncio.CancelledError as exc:
            cancelled = exc
    task = asyncio.current_task()
    if cancelled is not None and task is not None:
        task.uncancel()
        task.cancel(*cancelled.args)  # at its next await
    return job.outcome()


class Queue:
    """What waits for the next commit, and the thread that calls ``commit`` until nothing does."""

    def __init__(self, commit: Callable[[], None]) -> None:
        self._commit = commit
        self.forget()

    def forget(self) -> None:
        """Start anew: for a child process, whose parent has the thread and the waiting."""
        self._jobs: list[Job] = []
        self._wake = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Queue a job without waking anybody."""
        with self._wake:
            self._jobs.append(job)

    def take(self) -> list[Job]:
        """Return the jobs of the next commit, without those of a closed loop: nobody would go on from what they claim."""
        with self._wake:
            jobs, self._jobs = self._jobs[:_MOST], self._jobs[_MOST:]
        return [job for job in jobs if job.loop is None or not job.loop.is_closed()]

    def put_back(self, jobs: list[Job]) -> None:
        """Let taken jobs wait again, before all others."""
        with self._wake:
            self._jobs[:0] = jobs

    def hand_over(self) -> None:
        """Have the writer thread commit what waits."""
        with self._wake:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="surefoot-writer", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """End the writer thread after what waits, and wait for its end."""
        with self._wake:
            thread, self._thread = self._thread, None
            self._wake.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _serve(self) -> None:
        me = threading.current_thread()
        while True:
            with self._wake:
                if not self._jobs and self._thread is me:
                    self._wake.wait(_LINGER)
                if not self._jobs:
                    if self._thread is me:
                        self._thread = None
                    return
            self._commit()


def deliver(jobs: list[Job]) -> None:
    """Tell those who wait for these jobs what became of them."""
    tasks: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.loop is None:
            job.deliver()
        else:
            tasks.setdefault(job.loop, []).append(job)
    for loop, waiting in tasks.items():
        try:
            loop.call_soon_threadsafe(_deliver_all, waiting)
        except RuntimeError:  # the loop was closed: nobody waits any more
            continue


def _deliver_all(jobs: list[Job]) -> None:
    for job in jobs:
        job.deliver()
