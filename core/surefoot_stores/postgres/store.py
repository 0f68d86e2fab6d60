"""The PostgreSQL store: any number of hosts, one database; what several tasks or threads write together is one commit."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from surefoot.contracts import Store, Transaction
from surefoot.errors import StoreUnavailable, UsageError
from surefoot_stores.forks import close_before_fork
from surefoot_stores.postgres.presence import Presence
from surefoot_stores.postgres.schema import migrate, version
from surefoot_stores.postgres.session import Place, Session, driver, error, lost
from surefoot_stores.postgres.tables import Tables
from surefoot_stores.queue import Job, Queue, deliver, finished

__all__ = ["PostgresStore"]

T = TypeVar("T")

_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5


class PostgresStore(Store):
    """A :class:`~surefoot.Store` in a PostgreSQL database (13 or newer). Opens on first use, and again after a fork.

    A process has one connection to write and read on, and one to show that it is alive. Write transactions of all processes
    take turns; those that come while one is under way share the next commit, in a writer thread.

    :param url: ``postgresql://user:password@host:5432/database``, with libpq's options and ``surefoot_schema`` (default
        ``surefoot``), ``surefoot_ttl`` (seconds without a sign of life after which an owner on another host counts as dead,
        15) and ``surefoot_wait`` (seconds to wait for a server that went away to come back, 10). Raises
        :class:`~surefoot.UsageError` for a URL that cannot work, and where psycopg is not installed.
    """

    def __init__(self, url: str) -> None:
        self._place = Place.of(url)
        driver()
        self.url = f"postgresql://{self._place.name}"
        """Which store it is, however its URL was written; without user and password, because it is shown."""
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._tables = Tables()
        self._inside = 0
        """The process that has a transaction open, 0 when there is none."""
        self._thread = 0
        """The thread that has it open."""
        self._was_there = False
        """The server was reached before: what fails now is worth waiting for."""
        self._presence = Presence(self._connect, self._place.ttl)
        self._queue = Queue(self._commit_queue)
        self._round: asyncio.AbstractEventLoop | None = None
        """The loop that hands over what waits when all its tasks have had their turn."""
        close_before_fork(self)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """Open a transaction (see :meth:`surefoot.Store.transaction`)."""
        with self._lock:
            self._begin(write=write)
            try:
                yield self._tables
                self._commit()
            except BaseException:
                self._undo()
                raise
            finally:
                self._end()

    def run(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run ``work`` in one transaction (see :meth:`surefoot.Store.run`)."""
        if self._lock.acquire(blocking=False):
            try:
                with self.transaction(write=write) as tx:
                    return work(tx)
            finally:
                self._lock.release()
        job = Job.of_thread(work, write=write)
        self._queue.add(job)
        self._queue.hand_over()
        job.future.result()
        return job.outcome()  # type: ignore[no-any-return]

    async def arun(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run ``work`` in one transaction (see :meth:`surefoot.Store.arun`), in the writer thread, with those of other tasks."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # driven by something else than asyncio
            return self.run(work, write=write)
        self._refuse_inside(mine=True)
        job = Job.of_task(work, write=write)
        self._queue.add(job)
        if self._round is not loop:
            self._round = loop
            loop.call_soon(self._end_round)
        return await finished(job)  # type: ignore[no-any-return]

    def _end_round(self) -> None:
        self._round = None
        self._queue.hand_over()

    def _commit_queue(self) -> None:
        """Run what waits in one transaction, each job undone by itself when it raises, and tell those who wait for it."""
        with self._lock:
            jobs = self._queue.take()
            try:
                with self.transaction(write=any(job.write for job in jobs)):
                    for job in jobs:
                        self._tables.each(job)
            except BaseException as exc:  # noqa: BLE001 - every one of them is told
                for job in jobs:
                    job.error = job.error or exc
        deliver(jobs)

    # --- one transaction

    def _begin(self, *, write: bool) -> None:
        self._refuse_inside()
        give_up, pause = time.monotonic() + (self._place.wait if self._was_there else 0), _PAUSE
        while True:
            try:
                if self._session is None:
                    self._session = self._open()
                self._tables.begin(self._session, write=write)
                break
            except driver().Error as exc:
                self._drop_session()
                if not lost(exc) or time.monotonic() > give_up:
                    raise error(self._place.name, exc) from exc
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._inside, self._thread = os.getpid(), threading.get_ident()

    def _commit(self) -> None:
        if self._inside != os.getpid():
            self._refuse_inside()
        assert self._session is not None  # noqa: S101 - _begin made it
        session = self._session
        self._tables.flush()
        try:
            session.commit()
        except driver().Error as exc:
            if not session.closed or not session.xid:
                raise error(self._place.name, exc) from exc
            self._drop_session()
            self._tables.forget()
            self._ask_what_became(session, exc)

    def _ask_what_became(self, old: Session, exc: Exception) -> None:
        """Return if the transaction whose commit was not answered has happened; raise if it has not, or nobody can know.

        Only the server knows, so it is asked, on another connection.
        """
        give_up, told = time.monotonic() + self._place.wait, None
        while told is None and time.monotonic() <= give_up:
            time.sleep(_PAUSE)
            with suppress(driver().Error, StoreUnavailable):
                if self._session is None:
                    self._session = self._open()
                told = self._session.fate(old.xid, old.life)
                if told is None and old.life != self._session.life:
                    break
        if told:
            return
        why = "the connection was lost, and it was undone" if told is False else "it is unknown whether it was committed"
        msg = f"the store {self._place.name} did not answer a commit ({str(exc).partition(chr(10))[0]}): {why}; try again when it is back"
        raise StoreUnavailable(msg) from exc

    def _undo(self) -> None:
        self._tables.forget()
        if self._inside == os.getpid() and self._session is not None:
            self._session.rollback()
            if self._session.closed:
                self._drop_session()

    def _end(self) -> None:
        if self._inside == os.getpid():
            self._inside = self._thread = 0

    def _refuse_inside(self, *, mine: bool = False) -> None:
        if self._inside and self._inside != os.getpid():
            raise StoreUnavailable("the process forked inside a transaction: only the parent can go on with this store; fork outside")
        if self._inside and (not mine or self._thread == threading.get_ident()):
            raise UsageError("this thread has a transaction open: finish it first, or work in it")

    # --- connections

    def _connect(self) -> Session:
        return Session(self._place)

    def _open(self) -> Session:
        session = self._connect()
        try:
            migrate(session)
            session.recognise()
        except BaseException:
            session.close()
            raise
        self._was_there = True
        self._tables.forget()
        return session

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    @property
    def schema_name(self) -> str:
        """The schema that holds the tables."""
        return self._place.schema

    def schema(self) -> int:
        """Return how many migrations the tables have had; 0 where there are none. Changes nothing."""
        try:
            session = self._connect()
        except driver().Error as exc:
            raise error(self._place.name, exc) from exc
        try:
            return version(session)
        finally:
            session.close()

    # --- owners

    def owner(self) -> str:
        """Return this process's owner id."""
        return self._present(self._presence.owner)

    def alive(self, owner: str) -> bool:
        """Return whether that owner may still act: by its lock on this host, by its signs of life on others."""
        here = self._present(lambda: self._presence.seen_here(owner))
        if here is not None:
            return here
        if self._inside == os.getpid() and self._thread == threading.get_ident():
            return self._counts(self._tables, owner)
        return self.run(lambda _tx: self._counts(self._tables, owner), write=False)

    def _counts(self, tables: Tables, owner: str) -> bool:
        return bool(tables.look("SELECT EXISTS (SELECT FROM owners WHERE id = %s)", owner)[0][0])

    def _present(self, ask: Callable[[], T]) -> T:
        try:
            if not self._was_there:
                self.run(lambda _tx: None, write=False)  # which makes the tables
            return ask()
        except (driver().Error, OSError) as exc:
            raise error(self._place.name, exc) from exc

    # --- closing and forking

    def close(self) -> None:
        """Commit what waits and close the connections; the store opens again when it is used again."""
        self._queue.close()
        with self._lock:
            self._refuse_inside()
            self._presence.close()
            self._drop_session()

    def close_for_fork(self) -> None:
        """Do nothing: a child leaves the connections to its parent."""

    def forget_after_fork(self) -> None:
        """Leave the connections, what waits, and who commits it, to the parent."""
        self._queue.forget()
        self._round = None
        self._lock = threading.RLock()
        if self._session is not None:
            self._session.abandon()
            self._session = None
        self._tables.forget()
        self._presence.abandon()
