"""The SQLite store: one file, many processes, WAL with ``synchronous=FULL`` (NORMAL loses intents in a power cut)."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from surefoot.contracts import Store, Transaction
from surefoot.errors import StoreUnavailable
from surefoot_stores import owners
from surefoot_stores.migrations import MIGRATIONS
from surefoot_stores.tables import Tables

__all__ = ["SqliteStore"]

_BUSY_SECONDS: Final = 60.0
_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []


class SqliteStore(Store):
    """A :class:`~surefoot.Store` in one SQLite file. Opens on first use, and again in a forked child.

    :param url: ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = Path(url.removeprefix("sqlite:///")).absolute()
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._tables: Tables | None = None
        _stores.add(self)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """Open a transaction (see :meth:`surefoot.Store.transaction`)."""
        with self._lock:
            try:
                db, tables = self._open()
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield tables
                    db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as exc:
                msg = f"the store {self.path} cannot be used ({exc}); nothing was executed; check the disk, or give another store="
                raise StoreUnavailable(msg) from exc

    def _open(self) -> tuple[sqlite3.Connection, Tables]:
        if self._db is None or self._tables is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            self._migrate(db)
            self._db, self._tables = db, Tables(db)
        return self._db, self._tables

    def _migrate(self, db: sqlite3.Connection) -> None:
        while True:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                msg = f"the store {self.path} was written by a newer surefoot (schema {version}); upgrade surefoot to open it"
                raise StoreUnavailable(msg)
            if version == len(MIGRATIONS):
                return
            db.execute("BEGIN IMMEDIATE")
            (locked,) = db.execute("PRAGMA user_version").fetchone()
            if locked == version:
                for statement in MIGRATIONS[version]:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {version + 1}")
            db.execute("COMMIT")

    @property
    def _owners(self) -> str:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return f"{self.path}.owners"

    def owner(self) -> str:
        """Return this process's owner id."""
        return owners.register(self._owners)

    def alive(self, owner: str) -> bool:
        """Return whether that owner's process still exists."""
        return owners.alive(self._owners, owner)

    def close(self) -> None:
        """Close the connection; the store opens again when it is used again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = self._tables = None


def _after_fork() -> None:
    """Start anew in a forked child: a SQLite connection must not cross a fork, not even to be closed (AS-92)."""
    for store in list(_stores):
        if store._db is not None:  # noqa: SLF001 - this module's own class
            _inherited.append(store._db)  # noqa: SLF001
        store._db = store._tables = None  # noqa: SLF001
        store._lock = threading.RLock()  # noqa: SLF001 - another thread may have held it at the fork


os.register_at_fork(after_in_child=_after_fork)
