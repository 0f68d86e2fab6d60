"""The SQLite store: one file, many processes, WAL with ``synchronous=FULL`` (NORMAL loses intents in a power cut)."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from surefoot.contracts import Store, Transaction
from surefoot.contracts.store import agreed_key
from surefoot.errors import StoreUnavailable, UsageError
from surefoot_stores import owners
from surefoot_stores.forks import close_before_fork, lock
from surefoot_stores.migrations import migrate, refuse_foreign
from surefoot_stores.queue import Job, Locked, Queue, deliver, finished
from surefoot_stores.tables import Tables

__all__ = ["SqliteStore"]

T = TypeVar("T")

_SCHEME: Final = "sqlite:///"
_PATIENCE: Final = 60.0
"""Seconds to wait for other processes."""
_FAST: Final = 0.005
"""Seconds that a commit may keep an event loop; handing it to a thread costs about as much under load."""
_CHECKPOINT: Final = 4000
"""Pages in the WAL (16 MB) before they go to the database. Many runs at once fill the default of 1,000 in a few commits."""
_PAUSE: Final = 0.0002
_LONGEST_PAUSE: Final = 0.001
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; find and end that process",
    sqlite3.SQLITE_CANTOPEN: "make its folder exist and be writable",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup",
    sqlite3.SQLITE_FULL: "free some disk space",
    sqlite3.SQLITE_NOTADB: "it is not a database; give another path",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
}


def _nobody() -> None:
    """Stand for the weak reference to a task while there is none."""


class SqliteStore(Store):
    """A :class:`~surefoot.Store` in one SQLite file. Opens on first use, and again after a fork.

    All threads share one connection. Transactions of a process are serialised, those of several processes wait for
    each other up to a minute. One that comes while none is under way commits at once, where it was called; those that
    come meanwhile share the next commit, in a writer thread. The tasks of an event loop that come in one round of it
    share a commit too, in the loop itself while the disk is fast.

    :param url: ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``. Raises :class:`~surefoot.UsageError`
        for anything else.
    """

    def __init__(self, url: str) -> None:
        name = url.removeprefix(_SCHEME)
        if name in {"", url} or name.startswith(":memory:"):
            raise UsageError(f"{url!r} names no file: write sqlite:///path.db, sqlite:////absolute/path.db, or memory:// for tests")
        self.path = Path(name).resolve()  # one file has one lock file and one name, whichever link or folder it is reached from
        self.url = f"{_SCHEME}{self.path}"
        self._owners = f"{self.path}.owners"
        self._tables: Tables | None = None
        self._inside = 0
        """The process that has a transaction open, 0 when there is none."""
        self._commits_fast = True
        """The last commit took so little time that an event loop can do the next one itself."""
        self._turn = False
        """It is this process's turn to write."""
        self._me = (0, "")
        self._queue = Queue(self._commit_queue)
        self._latest: Callable[[], asyncio.Task[Any] | None] = _nobody
        """The task that came last, kept by a weak reference: one that comes again with nobody in between is alone."""
        self._round: asyncio.AbstractEventLoop | None = None
        """The loop that commits what waits when all its tasks have had their turn."""
        close_before_fork(self)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """Open a transaction (see :meth:`surefoot.Store.transaction`)."""
        with lock:
            tables = self._begin(write=write)
            try:
                yield tables
                self._finish(tables, "COMMIT")
            except BaseException:
                self._undo(tables)
                raise
            finally:
                self._end()

    def run(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run ``work`` in one transaction (see :meth:`surefoot.Store.run`)."""
        if lock.acquire(blocking=False):
            try:
                return self._alone(work, write=write)
            finally:
                lock.release()
        job = Job.of_thread(work, write=write)
        self._queue.add(job)
        self._queue.hand_over()
        job.future.result()
        return job.outcome()  # type: ignore[no-any-return]

    async def arun(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run ``work`` in one transaction (see :meth:`surefoot.Store.arun`), with those of the other tasks of this round."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # driven by something else than asyncio
            return self.run(work, write=write)
        alone = task is self._latest()
        if not alone:
            self._latest = _nobody if task is None else weakref.ref(task)
        if alone and self._commits_fast and not self._queue and lock.acquire(blocking=False):
            try:
                return self._alone(work, write=write, patient=False)
            except Locked:
                pass  # by another process: the writer thread waits for it, not the loop
            finally:
                lock.release()
        job = Job.of_task(work, write=write)
        self._queue.add(job)
        loop = asyncio.get_running_loop()
        if self._round is not loop:
            self._round = loop
            loop.call_soon(self._end_round)
        return await finished(job)  # type: ignore[no-any-return]

    def _end_round(self) -> None:
        self._round = None
        if self._queue and self._commits_fast and lock.acquire(blocking=False):
            try:
                self._commit_queue(patient=False)
            finally:
                lock.release()
        if self._queue:
            self._queue.hand_over()

    def _commit_queue(self, *, patient: bool = True) -> None:
        """Run what waits in one transaction, each job undone by itself when it raises, and tell those who wait for it."""
        with lock:
            jobs = self._queue.take()

            def work(tables: Tables) -> None:
                for job in jobs:
                    tables.each(job)

            try:
                self._alone(work, write=any(job.write for job in jobs), patient=patient)
            except Locked:
                self._queue.put_back(jobs)
                return
            except BaseException as exc:  # noqa: BLE001 - every one of them is told
                for job in jobs:
                    job.error = job.error or exc
        deliver(jobs)

    def _alone(self, work: Callable[[Tables], T], *, write: bool, patient: bool = True) -> T:
        tables = self._begin(write=write, patient=patient)
        try:
            answer = work(tables)
            self._finish(tables, "COMMIT")
        except BaseException:
            self._undo(tables)
            raise
        finally:
            self._end()
        return answer

    def _begin(self, *, write: bool, patient: bool = True) -> Tables:
        self._refuse_inside()
        give_up, pause = time.monotonic() + _PATIENCE, _PAUSE
        try:
            if self._tables is None:
                self._tables = self._open()
            while not self._began(self._tables, write=write):
                if not patient:
                    raise Locked
                if time.monotonic() > give_up:
                    raise StoreUnavailable(f"the store {self.path} cannot be used: {_ADVICE[sqlite3.SQLITE_BUSY]}")
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        except (sqlite3.Error, OSError) as exc:
            raise self._unavailable(exc) from exc
        self._inside = os.getpid()
        return self._tables

    def _began(self, tables: Tables, *, write: bool) -> bool:
        """Begin, unless another process or program is at it."""
        if write and not owners.take_turn(self._owners):
            return False
        self._turn = write
        try:
            tables.begin(write=write)
        except BaseException as exc:
            self._end_turn()
            if tables.db.in_transaction:  # it began, and could not read
                tables.db.rollback()
            if isinstance(exc, sqlite3.OperationalError) and exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise
        return True

    def _end_turn(self) -> None:
        if self._turn:
            self._turn = False
            owners.end_turn(self._owners)

    def _end(self) -> None:
        if self._inside == os.getpid():
            self._inside = 0
            self._end_turn()

    def _refuse_inside(self) -> None:
        if self._inside == os.getpid():
            raise UsageError("this thread has a transaction open: finish it first, or work in it")
        if self._inside:
            raise StoreUnavailable("the process forked inside a transaction: only the parent can go on with this store; fork outside")

    def _finish(self, tables: Tables, how: str) -> None:
        if self._inside != os.getpid():
            self._refuse_inside()
        begun = time.perf_counter()
        try:
            tables.db.execute(how)
        except sqlite3.Error as exc:
            raise self._unavailable(exc) from exc
        self._commits_fast = time.perf_counter() - begun < _FAST

    def _undo(self, tables: Tables) -> None:
        tables.forget()
        if self._inside != os.getpid() or not tables.db.in_transaction:  # SQLite itself rolls back after some errors
            return
        try:
            self._finish(tables, "ROLLBACK")
        except StoreUnavailable:
            self._tables = None
            tables.db.close()  # which ends the transaction as well
            raise

    def _open(self) -> Tables:
        db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            with owners.alone(self._owners):  # two processes that switch one file to WAL at once are both refused
                refuse_foreign(db, self.path)
                db.execute("PRAGMA journal_mode = WAL")
                migrate(db)
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
            db.execute("PRAGMA busy_timeout = 0")  # from here on, who waits does so in _begin
        except BaseException:
            db.close()
            raise
        return Tables(db, self._unavailable)

    def _unavailable(self, exc: Exception) -> StoreUnavailable:
        code = getattr(exc, "sqlite_errorcode", None)
        advice = _ADVICE.get(code & 0xFF) if isinstance(code, int) else None
        return StoreUnavailable(f"the store {self.path} cannot be used ({exc}): {advice or 'check the disk and the rights on its folder'}")

    def digest_key(self) -> bytes:
        """Return the key of the digests (see :meth:`surefoot.Store.digest_key`), kept in a file beside the database."""
        if os.environ.get("SUREFOOT_DIGEST_KEY"):
            return super().digest_key()
        file = self.path.with_name(f"{self.path.name}.key")
        try:
            with owners.alone(self._owners):
                if not file.exists() and self.run(lambda tx: tx.records.get("surefoot", "digest_key"), write=False) is None:
                    owners.write_once(file, secrets.token_hex(32))
                key = file.read_text(encoding="ascii").encode() if file.exists() else b""
            if not key:
                msg = f"{file} is missing or empty, and no request would be recognised without it; restore it, or set SUREFOOT_DIGEST_KEY"
                msg += f" (a store that is encrypted has none: open encrypted+{self.url})"
                raise StoreUnavailable(msg)
        except (OSError, UnicodeDecodeError) as exc:
            raise self._unavailable(exc) from exc
        return self.run(partial(agreed_key, key))

    def collect(self) -> int:
        """Delete large values that nothing refers to any more; return how many."""
        with self.transaction() as tx:
            assert isinstance(tx, Tables)  # noqa: S101 - ours
            return tx.payloads.collect()

    def owner(self) -> str:
        """Return this process's owner id."""
        if self._me[0] != os.getpid():
            try:
                self._me = (os.getpid(), owners.register(self._owners))
            except OSError as exc:
                raise self._unavailable(exc) from exc
        return self._me[1]

    def alive(self, owner: str) -> bool:
        """Return whether that owner's process still exists."""
        try:
            return owners.alive(self._owners, owner)
        except OSError as exc:
            raise self._unavailable(exc) from exc

    def close(self) -> None:
        """Commit what waits and close the connection; the store opens again when it is used again."""
        self._queue.close()
        with lock:
            self._refuse_inside()
            self.close_for_fork()

    def close_for_fork(self) -> None:
        """Close the connection unless this very thread is in a transaction, which only its parent may finish."""
        if self._tables is not None and not self._inside:
            self._tables.db.close()
            self._tables = None

    def forget_after_fork(self) -> None:
        """Leave what waits, and who commits it, to the parent."""
        self._queue.forget()
        self._latest, self._round = _nobody, None
        self._turn = False
