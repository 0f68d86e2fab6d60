"""What the author of a store writes: how it is opened, and how its storage is read around it."""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surefoot_conformance.capability import capability
from surefoot_conformance.forks import Child, Ended, fork
from surefoot_conformance.table import judged

if TYPE_CHECKING:
    from surefoot import CallRecord, Store
    from surefoot_conformance.table import Cell

__all__ = ["MemoryHarness", "Oracle", "SqliteHarness", "SqliteOracle", "StoreBench", "StoreHarness"]

_FULL: Final = 2


class Oracle(ABC):
    """Reads a storage without the store that wrote it, and by none of its code."""

    @abstractmethod
    def calls(self) -> dict[str, tuple[str, int]]:
        """Return the state and version of each call, by its id."""

    @abstractmethod
    def events(self, run_id: str) -> list[int]:
        """Return the numbers of a run's events, in their order."""

    @abstractmethod
    def value(self, namespace: str, key: str) -> Any:
        """Return a record's value, ``None`` where there is none."""

    @abstractmethod
    def counter(self, name: str) -> int:
        """Return a counter's amount."""

    @abstractmethod
    def sound(self) -> str:
        """Return what is wrong with the storage itself; ``""``: nothing."""


class StoreHarness(ABC):
    """How one store is opened. What it cannot do it says by a capability, which is a property."""

    name: str
    distribution: str | None = None
    """The driver's package on PyPI, where there is one."""
    packages: Sequence[str] = ()
    """Import packages of the store; the certificate carries a digest of their files."""

    @abstractmethod
    def open(self, folder: Path) -> Store:
        """Return a new handle on the storage in ``folder``, which is made when there is none."""

    def oracle(self, folder: Path) -> Oracle:
        """Return what reads that storage around the store."""
        raise NotImplementedError

    def age(self, folder: Path) -> None:
        """Make the storage look as if a newer release of the store had written it."""
        raise NotImplementedError

    def migrate(self, folder: Path, before: Callable[[], None]) -> None:
        """Open the storage and use it, calling ``before`` before each statement that is sent to it, those of a migration included."""
        raise NotImplementedError

    def synced(self, folder: Path) -> bool:
        """Commit something; return whether it was on the disk then, and not only with the operating system, which a power cut ends."""
        raise NotImplementedError

    def version(self) -> str:
        """Return the driver's version."""
        return "-"

    has_durability: bool = capability("what was committed outlives its process, and several processes share it")
    has_oracle: bool = capability("the storage can be read around the store; without, no certificate above L1", implements="oracle")
    has_migrations: bool = capability("the storage has a format with a version", implements="age")
    has_statements: bool = capability("the statements sent to the storage can be watched one by one", implements="migrate")
    has_sync: bool = capability("it can be told whether a commit is on the disk; without, a power cut is not tested", implements="synced")
    has_hosts: bool = capability("several hosts share it, which it tells apart by their temporary files", default=False)


class MemoryHarness(StoreHarness):
    """The reference store."""

    name = "memory"
    packages = ("surefoot_stores.memory",)
    has_durability = False

    def open(self, folder: Path) -> Store:  # noqa: ARG002 - it has no place
        """Return a new one."""
        from surefoot_stores.memory import MemoryStore

        return MemoryStore()


class SqliteHarness(StoreHarness):
    """The SQLite store."""

    name = "sqlite"
    packages = ("surefoot_stores",)

    def open(self, folder: Path) -> Store:
        """Open the file in the folder."""
        from surefoot_stores import SqliteStore

        return SqliteStore(f"sqlite:///{folder}/s.db")

    def oracle(self, folder: Path) -> Oracle:
        """Return plain SQL on the same file."""
        return SqliteOracle(folder / "s.db")

    def age(self, folder: Path) -> None:
        """Raise the schema's number."""
        with sqlite3.connect(folder / "s.db") as db:
            db.execute("PRAGMA user_version = 9999")
        db.close()

    def migrate(self, folder: Path, before: Callable[[], None]) -> None:
        """Watch what its connections execute."""
        with _connections(before):
            self.open(folder).run(lambda tx: tx.records.put("n", "k", 1))

    def synced(self, folder: Path) -> bool:
        """Ask each of its connections for ``synchronous``: from FULL on, a commit in WAL mode is synced."""
        with _connections() as made:
            self.open(folder).run(lambda tx: tx.records.put("n", "k", 1))
            levels = [db.execute("PRAGMA synchronous").fetchone()[0] for db in made]
        return bool(levels) and min(levels) >= _FULL

    def version(self) -> str:
        """Return SQLite's version."""
        return sqlite3.sqlite_version


@contextlib.contextmanager
def _connections(before: Callable[[], None] = lambda: None) -> Iterator[list[sqlite3.Connection]]:
    """Collect the connections that are made meanwhile, and call ``before`` before each of their statements."""
    made: list[sqlite3.Connection] = []
    real = sqlite3.connect

    class Watched(sqlite3.Connection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            before()
            return super().execute(sql, *values)

    sqlite3.connect = functools.partial(real, factory=Watched)  # type: ignore[assignment]
    try:
        yield made
    finally:
        sqlite3.connect = real


class SqliteOracle(Oracle):
    """Plain SQL on a SQLite store's file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Return the rows of a query, on a connection of its own."""
        db = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=20)
        try:
            return db.execute(sql, values).fetchall()
        finally:
            db.close()

    def calls(self) -> dict[str, tuple[str, int]]:
        """Return the state and version of each call, by its id."""
        return {name: (state, version) for name, state, version in self.rows("SELECT call_id, state, version FROM calls")}

    def events(self, run_id: str) -> list[int]:
        """Return the numbers of a run's events, in their order."""
        return [seq for (seq,) in self.rows("SELECT seq FROM events WHERE run_id = ? ORDER BY at, seq", run_id)]

    def value(self, namespace: str, key: str) -> Any:
        """Return a record's value, ``None`` where there is none."""
        rows = self.rows("SELECT value FROM records WHERE namespace = ? AND key = ?", namespace, key)
        return json.loads(rows[0][0]) if rows else None

    def counter(self, name: str) -> int:
        """Return a counter's amount."""
        return sum(value for (value,) in self.rows("SELECT value FROM counters WHERE name = ?", name))

    def sound(self) -> str:
        """Return what SQLite finds wrong with the file."""
        (told,) = self.rows("PRAGMA integrity_check")[0]
        return "" if told == "ok" else told


class StoreBench:
    """One cell's bench: an empty folder and a store in it."""

    def __init__(self, harness: StoreHarness, folder: Path, cell: Cell) -> None:
        self.harness = harness
        self.folder = folder
        self.variant = cell.variant
        self.point = cell.point
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The store, opened on first use."""
        if self._store is None:
            self._store = self.open()
        return self._store

    def open(self) -> Store:
        """Return another handle on the same storage."""
        return self.harness.open(self.folder)

    def oracle(self) -> Oracle:
        """Return what reads the storage around the store."""
        return self.harness.oracle(self.folder)

    def start(self, work: Callable[[], Any]) -> Child:
        """Run ``work`` in another process."""
        return fork(work, self.folder / "log")

    def child(self, work: Callable[[], Any]) -> Ended:
        """Run ``work`` in another process to its end."""
        return self.fair(self.start(work))

    def fair(self, child: Child) -> Ended:
        """Return how a process ended, unless it was the harness's own fault."""
        ended: Ended = judged(self.harness, child.wait())
        return ended

    def counted(self) -> dict[str, int]:
        """Return no effects: a store has none."""
        return {}


def row(number: int, **changes: Any) -> CallRecord:
    """Return a call with everything filled in."""
    from surefoot import CallRecord, CallState, Effect

    record = CallRecord(
        f"call_{number}", f"key{number}", "acme", "thread", "run", "scope", "a#1", "pay", "digest", '{"n":1}',
        Effect.UNSAFE, CallState.INTENT, (7 << 32) + number, (7 << 32) + number, "owner", created=float(number),
    )  # fmt: skip
    return record.changed(**changes)
