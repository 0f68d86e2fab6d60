"""What the disk allows: two durable writes a call with the bare ``sqlite3`` module, and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import queue
import sqlite3
import threading
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Self, TypeAlias

__all__ = ["GroupCommitFloor", "OneClientFloor", "record"]

_INSERT: Final = "INSERT INTO calls VALUES (?, ?)"
_UPDATE: Final = "UPDATE calls SET record = ? WHERE number = ?"
_BYTES: Final = 700
_Write: TypeAlias = tuple[str, tuple[Any, ...], asyncio.Future[None]]


def record(number: int, state: str) -> str:
    """Return the record of a call: 700 bytes, different for each state.

    The update has to change the row: SQLite does not write a page whose bytes stay as they are, and a commit that
    writes no page syncs nothing.
    """
    return f'{{"call_id": "call_{number:020}", "state": "{state}", "arguments": '.ljust(_BYTES, "x")


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE calls (number INTEGER PRIMARY KEY, record TEXT NOT NULL) STRICT")
    return db


class OneClientFloor:
    """One client: insert the record, commit, update it, commit. A context manager."""

    def __init__(self, path: Path) -> None:
        self._db = _connect(path)
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        """Return the floor."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the file."""
        self._db.close()

    def calls(self, number: int) -> float:
        """Do so many calls, one after the other."""
        begun = perf_counter()
        for n in itertools.islice(self._numbers, number):
            self._db.execute(_INSERT, (n, record(n, "intent")))
            self._db.execute(_UPDATE, (record(n, "committed"), n))
        return (perf_counter() - begun) / number


class GroupCommitFloor:
    """Many clients and one writer thread, which commits whatever is queued in one transaction. A context manager.

    Used from one event loop at a time.
    """

    def __init__(self, path: Path) -> None:
        self._db = _connect(path)
        self._numbers = itertools.count(1)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="group-commit-floor", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        """Return the floor."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """End the writer and close the file."""
        self._queue.put(None)
        self._writer.join()
        self._db.close()

    async def calls(self, clients: int, number: int) -> float:
        """Do about so many calls in all from so many clients."""
        each = max(1, number // clients)
        begun = perf_counter()
        await asyncio.gather(*(self._client(each) for _ in range(clients)))
        return (perf_counter() - begun) / (each * clients)

    async def _client(self, number: int) -> None:
        for n in itertools.islice(self._numbers, number):
            await self._durable(_INSERT, (n, record(n, "intent")))
            await self._durable(_UPDATE, (record(n, "committed"), n))

    def _durable(self, sql: str, values: tuple[Any, ...]) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        self._queue.put((sql, values, done))
        return done

    def _write(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            closing = batch[-1] is None
            if writes := [write for write in batch if write is not None]:
                self._commit(writes)

    def _commit(self, writes: list[_Write]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for sql, values, _ in writes:
            self._db.execute(sql, values)
        self._db.execute("COMMIT")
        waiting = [done for _, _, done in writes]
        waiting[0].get_loop().call_soon_threadsafe(_wake, waiting)


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for done in waiting:
        if not done.done():  # its client was cancelled
            done.set_result(None)
