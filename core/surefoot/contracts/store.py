"""The store contract: one transaction over calls, checkpoints, events, leases, records and counters."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, TypeVar

from surefoot.contracts.checkpoint import CheckpointStore
from surefoot.contracts.ledger import Ledger
from surefoot.errors import StoreUnavailable
from surefoot.types import Event, Lease, Record

__all__ = ["Counters", "EventLog", "Leases", "Records", "Store", "Transaction", "agreed_key"]

T = TypeVar("T")


def agreed_key(given: bytes | None, tx: Transaction) -> bytes:
    """Return the digest key of a store: the first that was given, or a random one.

    Raises :class:`~surefoot.StoreUnavailable` when ``given`` is another one.
    """
    record = tx.records.get("surefoot", "digest_key")
    if record is None:
        key = given or os.urandom(32)
        kept = {"check": hashlib.sha256(key).hexdigest()[:16], "key": None if given else key.hex()}
        tx.records.put("surefoot", "digest_key", kept)
        return key
    key = given or bytes.fromhex(record.value.get("key") or "")
    if hashlib.sha256(key).hexdigest()[:16] != record.value.get("check"):  # in a sealed record there is none
        raise StoreUnavailable("the store is encrypted (open encrypted+URL) or has another digest key: set SUREFOOT_DIGEST_KEY to that")
    return key


class EventLog(ABC):
    """The events table, seen from inside one transaction. Append-only, one hash chain a run."""

    @abstractmethod
    def append(self, event: Event) -> Event:
        """Add an event at the end of its run's log; return it with ``seq``, ``salt`` and ``link`` filled in.

        The head of the chain is a row of its own, read and advanced in this transaction. How a link is
        computed: :func:`surefoot.engine.events.chained`.
        """

    @abstractmethod
    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Return the run's events with ``seq`` above ``after``, oldest first, at most ``limit``."""


class Leases(ABC):
    """The leases table, seen from inside one transaction. The engine decides, the table remembers."""

    @abstractmethod
    def get(self, name: str) -> Lease | None:
        """Return the lease of that name, held or not."""

    @abstractmethod
    def take(self, name: str, owner: str) -> Lease:
        """Give the lease to ``owner``, whoever had it; return it with the next epoch (1 for a new one)."""

    @abstractmethod
    def release(self, lease: Lease) -> bool:
        """Mark it as not held if owner and epoch are still ``lease``'s; return whether they were."""


class Records(ABC):
    """Small JSON values in namespaces, for features that need durable state but no table of their own."""

    @abstractmethod
    def get(self, namespace: str, key: str) -> Record | None:
        """Return the record."""

    @abstractmethod
    def put(self, namespace: str, key: str, value: Any, *, version: int | None = None) -> Record:
        """Write plain JSON data; return the record with its new version.

        ``version=None`` writes whatever is there, ``0`` only if there is nothing, any other number only if
        that is the stored version; else :class:`~surefoot.LeaseLost`.
        """

    @abstractmethod
    def delete(self, namespace: str, key: str) -> None:
        """Remove the record if there is one."""

    @abstractmethod
    def list(self, namespace: str, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> Sequence[Record]:
        """Return records in key order whose key starts with ``prefix`` and is above ``after``."""


class Counters(ABC):
    """Named amounts that never exceed a limit, whoever reserves (I12)."""

    @abstractmethod
    def value(self, name: str) -> int:
        """Return the amount reserved so far, 0 for an unknown name."""

    @abstractmethod
    def reserve(self, name: str, amount: int, limit: int | None) -> bool:
        """Add ``amount`` if the sum stays within ``limit`` (``None``: none); return whether it was added."""


class Transaction(Protocol):
    """What one transaction gives access to. All of it commits or none of it does."""

    calls: Ledger
    """The ledger."""
    checkpoints: CheckpointStore
    """The committed steps."""
    events: EventLog
    """The event log."""
    leases: Leases
    """The leases."""
    records: Records
    """The features' own values."""
    counters: Counters
    """The features' own amounts."""


class Store(ABC):
    """Durable memory of a guard. Thread-safe; usable again after ``fork`` in the child (AS-92).

    Whatever a store cannot do ends in :class:`~surefoot.StoreUnavailable` with the driver's error as its
    cause, and the transaction has not happened.
    """

    url: str
    """The URL that opened it."""

    @abstractmethod
    def transaction(self, *, write: bool = True) -> AbstractContextManager[Transaction]:
        """Open a transaction: committed and durable when the block ends, rolled back when it raises.

        Write transactions are serialised; a read-only one (``write=False``) sees one consistent state.
        Transactions do not nest in one thread.
        """

    def run(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run ``work`` in one transaction and return what it returns, once that is durable."""
        with self.transaction(write=write) as tx:
            return work(tx)

    async def arun(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Like :meth:`run` for coroutines. ``work`` itself is a plain function and may run in another thread.

        A task that is cancelled meanwhile gets the answer all the same, so that it knows what is durable, and is
        cancelled at its next await (I11).
        """
        return self.run(work, write=write)

    def digest_key(self) -> bytes:
        """Return the key of all digests in this store: the same for all its processes, and for ever.

        ``SUREFOOT_DIGEST_KEY`` is the key where it is set. Else it is random and kept with the store; a store that can keep it
        apart from its rows should. Raises :class:`~surefoot.StoreUnavailable` for another key than the rows were made with:
        no request would be recognised again.
        """
        given = os.environ.get("SUREFOOT_DIGEST_KEY")
        return self.run(partial(agreed_key, given.encode() if given else None))

    @abstractmethod
    def owner(self) -> str:
        """Return this process's owner id, registering it as alive on first use (and anew after ``fork``)."""

    @abstractmethod
    def alive(self, owner: str) -> bool:
        """Return whether that owner may still act. A stopped process is alive; a dead one is not (AS-93)."""

    @abstractmethod
    def close(self) -> None:
        """Release files and connections. Safe to call twice; a later use opens them again."""
