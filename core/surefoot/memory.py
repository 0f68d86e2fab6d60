"""The reference store: everything in memory, gone with the process. For tests and for measuring the guard itself."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from surefoot.contracts.checkpoint import CheckpointStore
from surefoot.contracts.ledger import Ledger
from surefoot.contracts.store import Counters, EventLog, Leases, Records, Store, Transaction
from surefoot.engine.events import chained
from surefoot.errors import IntegrityError, LeaseLost
from surefoot.types import CallRecord, CallState, Checkpoint, Event, Lease, Record

__all__ = ["MemoryStore"]

_Undo = list[Callable[[], Any]]
_UNSETTLED = (CallState.INTENT, CallState.IN_DOUBT)


class MemoryStore(Store):
    """A :class:`~surefoot.Store` in memory. One lock serialises its transactions; a raising one is undone."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self._lock = threading.RLock()
        self._undo: _Undo = []
        self._tables = _Tables(self._undo)
        self._owner = ("", 0)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """Open a transaction (see :meth:`surefoot.Store.transaction`)."""
        with self._lock:
            try:
                yield self._tables
            except BaseException:
                for step in reversed(self._undo):
                    step()
                raise
            finally:
                self._undo.clear()

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


class _Tables:
    def __init__(self, undo: _Undo) -> None:
        self.calls = _Calls(undo)
        self.checkpoints = _Checkpoints(undo)
        self.events = _Events(undo)
        self.leases = _Leases(undo)
        self.records = _Records(undo)
        self.counters = _Counters(undo)


class _Calls(Ledger):
    def __init__(self, undo: _Undo) -> None:
        self._undo = undo
        self._rows: dict[str, CallRecord] = {}
        self._by_run: dict[str, dict[str, None]] = {}
        self._sticky: dict[tuple[str, str, str, str], dict[str, None]] = {}
        self._scopes: dict[str, dict[str, dict[str, None]]] = {}

    def get(self, call_id: str) -> CallRecord | None:
        return self._rows.get(call_id)

    def insert(self, record: CallRecord) -> None:
        if record.call_id in self._rows:
            msg = f"call {record.call_id} is in the ledger already"
            raise IntegrityError(msg, call_id=record.call_id)
        self._scopes.setdefault(record.scope, {}).setdefault(record.path, {})[record.call_id] = None
        self._put(record)

        def undo() -> None:
            self._drop(record)
            del self._rows[record.call_id]
            paths = self._scopes[record.scope]
            del paths[record.path][record.call_id]
            if not paths[record.path]:
                del paths[record.path]

        self._undo.append(undo)

    def update(self, record: CallRecord) -> CallRecord:
        old = self._rows.get(record.call_id)
        if old is None or old.version != record.version:
            msg = f"call {record.call_id} was changed by somebody else"
            raise LeaseLost(msg, call_id=record.call_id)
        new = record.changed(version=record.version + 1)
        self._drop(old)
        self._put(new)

        def undo() -> None:
            self._drop(new)
            self._put(old)

        self._undo.append(undo)
        return new

    def _put(self, row: CallRecord) -> None:
        self._rows[row.call_id] = row
        if row.sticky:
            self._sticky.setdefault((row.tenant, row.conversation, row.tool, row.args_digest), {})[row.call_id] = None
        if row.state in _UNSETTLED:
            self._by_run.setdefault(row.run_id, {})[row.call_id] = None

    def _drop(self, row: CallRecord) -> None:
        self._sticky.get((row.tenant, row.conversation, row.tool, row.args_digest), {}).pop(row.call_id, None)
        self._by_run.get(row.run_id, {}).pop(row.call_id, None)

    def _sorted(self, ids: dict[str, None]) -> list[CallRecord]:
        return sorted((self._rows[i] for i in ids), key=lambda row: row.created)

    def sticky(self, tenant: str, conversation: str, tool: str, args_digest: str) -> Sequence[CallRecord]:
        return self._sorted(self._sticky.get((tenant, conversation, tool, args_digest), {}))

    def unsettled(self, run_id: str) -> Sequence[CallRecord]:
        return self._sorted(self._by_run.get(run_id, {}))

    def under(self, scope: str, path: str, *, tool: str | None = None, before: int | None = None) -> Sequence[CallRecord]:
        rows = [
            self._rows[i] for at, ids in self._scopes.get(scope, {}).items() if at == path or at.startswith(path + "/") for i in ids
        ]
        kept = [r for r in rows if tool in (None, r.tool) and (before is None or r.touched < before)]
        return sorted(kept, key=lambda row: row.created)

    def touches(self, scope: str, path: str) -> bool:
        paths = self._scopes.get(scope, {})
        return path in paths or any(at.startswith(path + "/") for at in paths)

    def list(
        self, *, state: CallState | None = None, run_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[CallRecord]:
        rows = list(self._rows.values())
        if after is not None:
            rows = rows[[r.call_id for r in rows].index(after) + 1 :] if after in self._rows else []
        return [r for r in rows if state in (None, r.state) and run_id in (None, r.run_id)][:limit]


class _Checkpoints(CheckpointStore):
    def __init__(self, undo: _Undo) -> None:
        self._undo = undo
        self._runs: dict[str, list[Checkpoint]] = {}
        self._paths: dict[tuple[str, str], list[Checkpoint]] = {}

    def append(self, checkpoint: Checkpoint) -> Checkpoint:
        run = self._runs.setdefault(checkpoint.run_id, [])
        at = self._paths.setdefault((checkpoint.run_id, checkpoint.path), [])
        new = replace(checkpoint, seq=len(run) + 1)
        run.append(new)
        at.append(new)
        self._undo.append(lambda: (run.pop(), at.pop()))
        return new

    def at(self, run_id: str, path: str) -> Sequence[Checkpoint]:
        return tuple(self._paths.get((run_id, path), ()))

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Checkpoint]:
        return tuple(self._runs.get(run_id, ())[after : after + limit])


class _Events(EventLog):
    def __init__(self, undo: _Undo) -> None:
        self._undo = undo
        self._runs: dict[str, list[Event]] = {}

    def append(self, event: Event) -> Event:
        log = self._runs.setdefault(event.run_id, [])
        new = chained(event, len(log) + 1, log[-1].link if log else "")
        log.append(new)
        self._undo.append(log.pop)
        return new

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        return tuple(self._runs.get(run_id, ())[after : after + limit])


class _Leases(Leases):
    def __init__(self, undo: _Undo) -> None:
        self._undo = undo
        self._rows: dict[str, Lease] = {}

    def get(self, name: str) -> Lease | None:
        return self._rows.get(name)

    def _set(self, lease: Lease) -> None:
        old = self._rows.get(lease.name)
        self._rows[lease.name] = lease
        self._undo.append(lambda: self._rows.pop(lease.name) if old is None else self._rows.__setitem__(lease.name, old))

    def take(self, name: str, owner: str) -> Lease:
        old = self._rows.get(name)
        lease = Lease(name, owner, old.epoch + 1 if old else 1)
        self._set(lease)
        return lease

    def release(self, lease: Lease) -> bool:
        old = self._rows.get(lease.name)
        if old is None or (old.owner, old.epoch) != (lease.owner, lease.epoch):
            return False
        self._set(replace(old, held=False))
        return True


class _Records(Records):
    def __init__(self, undo: _Undo) -> None:
        self._undo = undo
        self._spaces: dict[str, dict[str, Record]] = {}

    def get(self, namespace: str, key: str) -> Record | None:
        return self._spaces.get(namespace, {}).get(key)

    def put(self, namespace: str, key: str, value: Any, *, version: int | None = None) -> Record:
        space = self._spaces.setdefault(namespace, {})
        old = space.get(key)
        if version is not None and version != (old.version if old else 0):
            msg = f"{namespace}/{key} was changed by somebody else"
            raise LeaseLost(msg)
        space[key] = new = Record(key, value, (old.version if old else 0) + 1)
        self._undo.append(lambda: space.pop(key) if old is None else space.__setitem__(key, old))
        return new

    def delete(self, namespace: str, key: str) -> None:
        space = self._spaces.get(namespace, {})
        if (old := space.pop(key, None)) is not None:
            self._undo.append(lambda: space.__setitem__(key, old))

    def list(self, namespace: str, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> Sequence[Record]:
        space = self._spaces.get(namespace, {})
        keys = sorted(k for k in space if k.startswith(prefix) and (after is None or k > after))
        return [space[k] for k in keys[:limit]]


class _Counters(Counters):
    def __init__(self, undo: _Undo) -> None:
        self._undo = undo
        self._values: dict[str, int] = {}

    def value(self, name: str) -> int:
        return self._values.get(name, 0)

    def reserve(self, name: str, amount: int, limit: int | None) -> bool:
        old = self._values.get(name, 0)
        if limit is not None and old + amount > limit:
            return False
        self._values[name] = old + amount
        self._undo.append(lambda: self._values.__setitem__(name, old))
        return True
