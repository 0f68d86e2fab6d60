"""The reference store: everything in memory, gone with the process. For tests and for measuring the guard itself."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any, Final, TypeVar

from surefoot.contracts.checkpoint import CheckpointStore
from surefoot.contracts.ledger import Ledger
from surefoot.contracts.store import Counters, EventLog, Leases, Records, Store, Transaction
from surefoot.engine.events import chained
from surefoot.errors import IntegrityError, LeaseLost, UsageError
from surefoot.types import CallRecord, CallState, Checkpoint, Event, Lease, Record

__all__ = ["MemoryStore"]

T = TypeVar("T")

_MISSING: Final = object()
_READS: Final = "this transaction only reads: open it with write=True"
_UNSETTLED: Final = frozenset({CallState.INTENT, CallState.IN_DOUBT})

# One lock for all stores of a process, held over a fork: the child never finds a transaction half done.
_lock = threading.RLock()
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class MemoryStore(Store):
    """A :class:`~surefoot.Store` in memory. One lock serialises its transactions; a raising one is undone."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = f"{url}{uuid.uuid4().hex}"  # each is a store of its own: what runs in a process is noted by URL
        self._tables = _Tables(_Journal())
        self._owner = ("", 0)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """Open a transaction (see :meth:`surefoot.Store.transaction`)."""
        with _lock:
            journal = self._tables.journal
            journal.begin(write=write)
            try:
                yield self._tables
            except BaseException:
                journal.undo()
                raise
            finally:
                journal.end()

    def run(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run ``work`` in one transaction (see :meth:`surefoot.Store.run`)."""
        with _lock:
            journal = self._tables.journal
            journal.begin(write=write)
            try:
                return work(self._tables)
            except BaseException:
                journal.undo()
                raise
            finally:
                journal.end()

    def owner(self) -> str:
        """Return this process's owner id."""
        if self._owner[1] != os.getpid():
            self._owner = (f"memory:{os.getpid()}:{uuid.uuid4().hex[:8]}", os.getpid())
        return self._owner[0]

    def alive(self, owner: str) -> bool:
        """Return whether ``owner`` is this process: nobody else can see this store."""
        return owner == self.owner()

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class _Journal:
    """What the running transaction changed: the old value of every entry that it set or removed."""

    def __init__(self) -> None:
        self._open = self._write = False
        self._old: list[tuple[dict[Any, Any], Any, Any]] = []

    def begin(self, *, write: bool) -> None:
        if self._open:
            raise UsageError("transactions do not nest: finish the one that this thread has open, or work in it")
        self._open, self._write = True, write

    def put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if not self._write:
            raise UsageError(_READS)
        self._old.append((table, key, table.get(key, _MISSING)))
        table[key] = value

    def drop(self, table: dict[Any, Any], key: Any) -> None:
        if not self._write:
            raise UsageError(_READS)
        self._old.append((table, key, table.pop(key, _MISSING)))

    def undo(self) -> None:
        for table, key, old in reversed(self._old):
            if old is _MISSING:
                table.pop(key, None)
            else:
                table[key] = old

    def end(self) -> None:
        self._old.clear()
        self._open = False


class _Tables:
    def __init__(self, journal: _Journal) -> None:
        self.journal = journal
        self.calls: Ledger = _Calls(journal)
        self.checkpoints: CheckpointStore = _Checkpoints(journal)
        self.events: EventLog = _Events(journal)
        self.leases: Leases = _Leases(journal)
        self.records: Records = _Records(journal)
        self.counters: Counters = _Counters(journal)


class _Calls(Ledger):
    def __init__(self, journal: _Journal) -> None:
        self._journal = journal
        self._rows: dict[str, CallRecord] = {}
        self._order: dict[str, int] = {}
        self._index: dict[tuple[str, ...], dict[str, None]] = {}

    def get(self, call_id: str) -> CallRecord | None:
        return self._rows.get(call_id)

    def insert(self, record: CallRecord) -> None:
        if record.call_id in self._rows:
            raise IntegrityError(f"call {record.call_id} is in the ledger already", call_id=record.call_id)
        self._journal.put(self._order, record.call_id, len(self._rows))
        self._journal.put(self._rows, record.call_id, record)
        for entry in (*_places(record.scope, record.path), *_standing(record)):
            self._journal.put(self._index.setdefault(entry, {}), record.call_id, None)

    def update(self, record: CallRecord) -> CallRecord:
        old = self._rows.get(record.call_id)
        if old is None or old.version != record.version:
            raise LeaseLost(f"call {record.call_id} was changed by somebody else", call_id=record.call_id)
        new = record.changed(version=record.version + 1)
        self._journal.put(self._rows, record.call_id, new)
        before, after = _standing(old), _standing(new)
        if new.state is CallState.INTENT:
            before, after = before.union(_places(old.scope, old.path)), after.union(_places(new.scope, new.path))
        for entry in before - after:
            self._journal.drop(self._index[entry], record.call_id)
        for entry in after - before:
            self._journal.put(self._index.setdefault(entry, {}), record.call_id, None)
        return new

    def _indexed(self, *entry: str) -> list[CallRecord]:
        if not (found := self._index.get(entry)):
            return []
        return [self._rows[call_id] for call_id in sorted(found, key=self._order.__getitem__)]

    def sticky(self, tenant: str, conversation: str, tool: str, args_digest: str) -> Sequence[CallRecord]:
        return self._indexed("sticky", tenant, conversation, tool, args_digest)

    def unsettled(self, run_id: str) -> Sequence[CallRecord]:
        return self._indexed("unsettled", run_id)

    def under(self, scope: str, path: str, *, tool: str | None = None, before: int | None = None) -> Sequence[CallRecord]:
        rows = self._indexed("under", scope, path)
        return [row for row in rows if tool in (None, row.tool) and (before is None or row.touched < before)]

    def touches(self, scope: str, path: str) -> bool:
        return bool(self._index.get(("under", scope, path)))

    def list(
        self, *, state: CallState | None = None, run_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[CallRecord]:
        first = 0 if after is None else self._order.get(after, len(self._rows)) + 1
        rows = islice(self._rows.values(), first, None)
        return list(islice((row for row in rows if state in (None, row.state) and run_id in (None, row.run_id)), limit))


@lru_cache(maxsize=1000)
def _places(scope: str, path: str) -> tuple[tuple[str, ...], ...]:
    """Return the index entries for the slot space: the path itself and each one above it."""
    parts = path.split("/")
    return tuple(("under", scope, "/".join(parts[:n])) for n in range(1, len(parts) + 1))


def _standing(row: CallRecord) -> set[tuple[str, ...]]:
    """Return the index entries that a call has because of where it stands now."""
    entries: set[tuple[str, ...]] = set()
    if row.sticky:
        entries.add(("sticky", row.tenant, row.conversation, row.tool, row.args_digest))
    if row.state in _UNSETTLED:
        entries.add(("unsettled", row.run_id))
    return entries


class _Checkpoints(CheckpointStore):
    def __init__(self, journal: _Journal) -> None:
        self._journal = journal
        self._runs: dict[str, dict[int, Checkpoint]] = {}
        self._paths: dict[tuple[str, str], dict[int, Checkpoint]] = {}

    def append(self, checkpoint: Checkpoint) -> Checkpoint:
        run = self._runs.setdefault(checkpoint.run_id, {})
        new = checkpoint.changed(seq=len(run) + 1)
        self._journal.put(run, new.seq, new)
        self._journal.put(self._paths.setdefault((new.run_id, new.path), {}), new.seq, new)
        return new

    def at(self, run_id: str, path: str) -> Sequence[Checkpoint]:
        return tuple(self._paths.get((run_id, path), {}).values())

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Checkpoint]:
        run = self._runs.get(run_id, {})
        return [run[seq] for seq in range(after + 1, min(len(run), after + limit) + 1)]


class _Events(EventLog):
    def __init__(self, journal: _Journal) -> None:
        self._journal = journal
        self._runs: dict[str, dict[int, Event]] = {}

    def append(self, event: Event) -> Event:
        log = self._runs.setdefault(event.run_id, {})
        new, _ = chained(event, len(log) + 1, log[len(log)].link if log else "")
        self._journal.put(log, new.seq, new)
        return new

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        log = self._runs.get(run_id, {})
        return [log[seq] for seq in range(after + 1, min(len(log), after + limit) + 1)]


class _Leases(Leases):
    def __init__(self, journal: _Journal) -> None:
        self._journal = journal
        self._rows: dict[str, Lease] = {}

    def get(self, name: str) -> Lease | None:
        return self._rows.get(name)

    def take(self, name: str, owner: str) -> Lease:
        old = self._rows.get(name)
        lease = Lease(name, owner, old.epoch + 1 if old else 1)
        self._journal.put(self._rows, name, lease)
        return lease

    def release(self, lease: Lease) -> bool:
        old = self._rows.get(lease.name)
        if old is None or (old.owner, old.epoch) != (lease.owner, lease.epoch):
            return False
        self._journal.put(self._rows, lease.name, replace(old, held=False))
        return True


class _Records(Records):
    def __init__(self, journal: _Journal) -> None:
        self._journal = journal
        self._spaces: dict[str, dict[str, tuple[str, int]]] = {}

    def get(self, namespace: str, key: str) -> Record | None:
        found = self._spaces.get(namespace, {}).get(key)
        return Record(key, json.loads(found[0]), found[1]) if found else None

    def put(self, namespace: str, key: str, value: Any, *, version: int | None = None) -> Record:
        space = self._spaces.setdefault(namespace, {})
        _, old = space.get(key, ("", 0))
        if version is not None and version != old:
            raise LeaseLost(f"{namespace}/{key} was changed by somebody else")
        self._journal.put(space, key, (json.dumps(value), old + 1))  # text, so that nobody can change it from outside
        return Record(key, value, old + 1)

    def delete(self, namespace: str, key: str) -> None:
        self._journal.drop(self._spaces.get(namespace, {}), key)

    def list(self, namespace: str, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> Sequence[Record]:
        space = self._spaces.get(namespace, {})
        keys = sorted(key for key in space if key.startswith(prefix) and (after is None or key > after))
        return [Record(key, json.loads(space[key][0]), space[key][1]) for key in keys[:limit]]


class _Counters(Counters):
    def __init__(self, journal: _Journal) -> None:
        self._journal = journal
        self._values: dict[str, int] = {}

    def value(self, name: str) -> int:
        return self._values.get(name, 0)

    def reserve(self, name: str, amount: int, limit: int | None) -> bool:
        value = self.value(name) + amount
        if limit is not None and value > limit:
            return False
        self._journal.put(self._values, name, value)
        return True
