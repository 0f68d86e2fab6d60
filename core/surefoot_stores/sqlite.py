"""The SQLite store: one file, many processes, WAL with ``synchronous=FULL`` (NORMAL loses intents in a power cut)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from surefoot.contracts import Store, Transaction
from surefoot.errors import StoreUnavailable, UsageError
from surefoot_stores import owners
from surefoot_stores.forks import close_before_fork, lock
from surefoot_stores.migrations import migrate
from surefoot_stores.tables import Tables

__all__ = ["SqliteStore"]

_SCHEME: Final = "sqlite:///"
_BUSY_SECONDS: Final = 60.0
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; find and end that process",
    sqlite3.SQLITE_CANTOPEN: "make its folder exist and be writable",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup",
    sqlite3.SQLITE_FULL: "free some disk space",
    sqlite3.SQLITE_NOTADB: "it is not a database; give another path",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
}


class SqliteStore(Store):
    """A :class:`~surefoot.Store` in one SQLite file. Opens on first use, and again after a fork.

    All threads share one connection; transactions of a process are serialised, those of several wait for each other
    up to a minute.

    :param url: ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``. Raises :class:`~surefoot.UsageError`
        for anything else.
    """

    def __init__(self, url: str) -> None:
        name = url.removeprefix(_SCHEME)
        if name in {"", url} or name.startswith(":memory:"):
            raise UsageError(f"{url!r} names no file: write sqlite:///path.db, sqlite:////absolute/path.db, or memory:// for tests")
        self.url = url
        self.path = Path(name).absolute()
        self._tables: Tables | None = None
        self._inside = 0
        """The process that has a transaction open, 0 when there is none."""
        self._me = (0, "")
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
                if self._inside == os.getpid():
                    self._inside = 0

    def _begin(self, *, write: bool) -> Tables:
        self._refuse_inside()
        try:
            if self._tables is None:
                self._tables = self._open()
            self._tables.begin(write=write)
        except (sqlite3.Error, OSError) as exc:
            raise self._unavailable(exc) from exc
        self._inside = os.getpid()
        return self._tables

    def _refuse_inside(self) -> None:
        if self._inside == os.getpid():
            raise UsageError("this thread has a transaction open: finish it first, or work in it")
        if self._inside:
            raise StoreUnavailable("the process forked inside a transaction: only the parent can go on with this store; fork outside")

    def _finish(self, tables: Tables, how: str) -> None:
        if self._inside != os.getpid():
            self._refuse_inside()
        try:
            tables.db.execute(how)
        except sqlite3.Error as exc:
            raise self._unavailable(exc) from exc

    def _undo(self, tables: Tables) -> None:
        if self._inside != os.getpid() or not tables.db.in_transaction:  # SQLite itself rolls back after some errors
            return
        try:
            self._finish(tables, "ROLLBACK")
        except StoreUnavailable:
            self._tables = None
            tables.db.close()  # which ends the transaction as well
            raise

    def _open(self) -> Tables:
        self._owners()
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            with owners.alone(self._owners()):  # two processes that switch one file to WAL at once are both refused
                db.execute("PRAGMA journal_mode = WAL")
                migrate(db, self.path)
            db.execute("PRAGMA synchronous = FULL")
        except BaseException:
            db.close()
            raise
        return Tables(db, self._unavailable)

    def _unavailable(self, exc: Exception) -> StoreUnavailable:
        code = getattr(exc, "sqlite_errorcode", None)
        advice = _ADVICE.get(code & 0xFF) if isinstance(code, int) else None
        return StoreUnavailable(f"the store {self.path} cannot be used ({exc}): {advice or 'check the disk and the rights on its folder'}")

    def owner(self) -> str:
        """Return this process's owner id."""
        if self._me[0] != os.getpid():
            try:
                self._me = (os.getpid(), owners.register(self._owners()))
            except OSError as exc:
                raise self._unavailable(exc) from exc
        return self._me[1]

    def alive(self, owner: str) -> bool:
        """Return whether that owner's process still exists."""
        try:
            return owners.alive(self._owners(), owner)
        except OSError as exc:
            raise self._unavailable(exc) from exc

    def _owners(self) -> str:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return f"{self.path}.owners"

    def close(self) -> None:
        """Close the connection; the store opens again when it is used again."""
        with lock:
            self._refuse_inside()
            self.close_for_fork()

    def close_for_fork(self) -> None:
        """Close the connection unless this very thread is in a transaction, which only its parent may finish."""
        if self._tables is not None and not self._inside:
            self._tables.db.close()
            self._tables = None
