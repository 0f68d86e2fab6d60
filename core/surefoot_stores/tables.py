"""The tables of a SQLite store, as one transaction sees them. All SQL is static text with bound parameters (I25)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final

from surefoot.contracts import CheckpointStore, Counters, EventLog, Leases, Ledger, Records
from surefoot.engine.events import chained
from surefoot.errors import IntegrityError, LeaseLost
from surefoot.types import CallRecord, CallState, Checkpoint, Effect, Event, Lease, Record

__all__ = ["Tables"]

_CALL: Final = [f.name for f in fields(CallRecord)]
_CHECKPOINT: Final = [f.name for f in fields(Checkpoint)]
_EVENT: Final = [f.name for f in fields(Event)]


def _insert(table: str, names: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - constants of this module


_COLUMNS: Final = ", ".join(_CALL)
_INSERT_CALL: Final = _insert("calls", _CALL)
_IDENTITY: Final = frozenset(
    "call_id key tenant conversation run_id scope path tool args_digest arguments alias occurrence created".split()  # noqa: SIM905
)
_MUTABLE: Final = [n for n in _CALL if n not in _IDENTITY]
_UPDATE_CALL: Final = f"UPDATE calls SET {', '.join(f'{n} = ?' for n in _MUTABLE)} WHERE call_id = ? AND version = ?"  # noqa: S608 - constants
_INSERT_CHECKPOINT: Final = _insert("checkpoints", _CHECKPOINT)
_INSERT_EVENT: Final = _insert("events", _EVENT)
_BELOW: Final = "scope = ? AND (path = ? OR (path >= ? AND path < ?))"


class Tables:
    """The six tables on one connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.calls = _Calls(db)
        self.checkpoints = _Checkpoints(db)
        self.events = _Events(db)
        self.leases = _Leases(db)
        self.records = _Records(db)
        self.counters = _Counters(db)


def _row(record: CallRecord, names: Sequence[str]) -> list[Any]:
    values = record.__dict__
    return [json.dumps(values[name]) if name == "interrupts" else values[name] for name in names]


def _call(row: Sequence[Any]) -> CallRecord:
    values = dict(zip(_CALL, row, strict=True))
    values["effect"], values["state"] = Effect(values["effect"]), CallState(values["state"])
    values["sticky"], values["entered"] = bool(values["sticky"]), bool(values["entered"])
    values["interrupts"] = tuple(json.loads(values["interrupts"]))
    return CallRecord(**values)


class _Calls(Ledger):
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def _all(self, where: str, *values: Any) -> list[CallRecord]:
        return [_call(row) for row in self._db.execute(f"SELECT {_COLUMNS} FROM calls WHERE {where}", values)]  # noqa: S608 - constants

    def get(self, call_id: str) -> CallRecord | None:
        return next(iter(self._all("call_id = ?", call_id)), None)

    def insert(self, record: CallRecord) -> None:
        try:
            self._db.execute(_INSERT_CALL, _row(record, _CALL))
        except sqlite3.IntegrityError as exc:
            msg = f"call {record.call_id} is in the ledger already"
            raise IntegrityError(msg, call_id=record.call_id) from exc

    def update(self, record: CallRecord) -> CallRecord:
        new = record.changed(version=record.version + 1)
        done = self._db.execute(_UPDATE_CALL, [*_row(new, _MUTABLE), record.call_id, record.version])
        if done.rowcount != 1:
            msg = f"call {record.call_id} was changed by somebody else"
            raise LeaseLost(msg, call_id=record.call_id)
        return new

    def sticky(self, tenant: str, conversation: str, tool: str, args_digest: str) -> Sequence[CallRecord]:
        where = "tenant = ? AND conversation = ? AND tool = ? AND args_digest = ? AND sticky = 1 ORDER BY rowid"
        return self._all(where, tenant, conversation, tool, args_digest)

    def unsettled(self, run_id: str) -> Sequence[CallRecord]:
        return self._all("run_id = ? AND state IN ('intent', 'in_doubt') ORDER BY rowid", run_id)

    def under(self, scope: str, path: str, *, tool: str | None = None, before: int | None = None) -> Sequence[CallRecord]:
        where = f"{_BELOW} AND (? IS NULL OR tool = ?) AND (? IS NULL OR touched < ?) ORDER BY rowid"
        return self._all(where, scope, path, path + "/", path + "0", tool, tool, before, before)

    def touches(self, scope: str, path: str) -> bool:
        found = self._db.execute(f"SELECT 1 FROM calls WHERE {_BELOW} LIMIT 1", (scope, path, path + "/", path + "0"))  # noqa: S608 - constants
        return found.fetchone() is not None

    def list(
        self, *, state: CallState | None = None, run_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[CallRecord]:
        where = (
            "(? IS NULL OR state = ?) AND (? IS NULL OR run_id = ?) AND "
            "(? IS NULL OR rowid > (SELECT rowid FROM calls WHERE call_id = ?)) ORDER BY rowid LIMIT ?"
        )
        return self._all(where, state, state, run_id, run_id, after, after, limit)


class _Checkpoints(CheckpointStore):
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def append(self, checkpoint: Checkpoint) -> Checkpoint:
        query = "SELECT COALESCE(MAX(seq), 0) + 1 FROM checkpoints WHERE run_id = ?"
        new = replace(checkpoint, seq=self._db.execute(query, (checkpoint.run_id,)).fetchone()[0])
        self._db.execute(_INSERT_CHECKPOINT, [getattr(new, name) for name in _CHECKPOINT])
        return new

    def _all(self, where: str, *values: Any) -> list[Checkpoint]:
        query = f"SELECT {', '.join(_CHECKPOINT)} FROM checkpoints WHERE {where}"  # noqa: S608 - constants of this module
        return [Checkpoint(*row) for row in self._db.execute(query, values)]

    def at(self, run_id: str, path: str) -> Sequence[Checkpoint]:
        return self._all("run_id = ? AND path = ? ORDER BY seq", run_id, path)

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Checkpoint]:
        return self._all("run_id = ? AND seq > ? ORDER BY seq LIMIT ?", run_id, after, limit)


class _Events(EventLog):
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def append(self, event: Event) -> Event:
        seq, previous = self._db.execute("SELECT seq, link FROM heads WHERE run_id = ?", (event.run_id,)).fetchone() or (0, "")
        new = chained(event, seq + 1, previous)
        row: list[Any] = [getattr(new, name) for name in _EVENT]
        row[_EVENT.index("data")] = json.dumps(new.data)
        self._db.execute(_INSERT_EVENT, row)
        self._db.execute("INSERT OR REPLACE INTO heads VALUES (?, ?, ?)", (new.run_id, new.seq, new.link))
        return new

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        query = f"SELECT {', '.join(_EVENT)} FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 - constants
        found = (dict(zip(_EVENT, row, strict=True)) for row in self._db.execute(query, (run_id, after, limit)))
        return [Event(**{**row, "data": json.loads(row["data"])}) for row in found]


class _Leases(Leases):
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, name: str) -> Lease | None:
        row = self._db.execute("SELECT name, owner, epoch, held FROM leases WHERE name = ?", (name,)).fetchone()
        return Lease(row[0], row[1], row[2], bool(row[3])) if row else None

    def take(self, name: str, owner: str) -> Lease:
        old = self.get(name)
        lease = Lease(name, owner, old.epoch + 1 if old else 1)
        self._db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, 1)", (name, owner, lease.epoch))
        return lease

    def release(self, lease: Lease) -> bool:
        query = "UPDATE leases SET held = 0 WHERE name = ? AND owner = ? AND epoch = ?"
        return self._db.execute(query, (lease.name, lease.owner, lease.epoch)).rowcount == 1


class _Records(Records):
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, namespace: str, key: str) -> Record | None:
        query = "SELECT key, value, version FROM records WHERE namespace = ? AND key = ?"
        row = self._db.execute(query, (namespace, key)).fetchone()
        return Record(row[0], json.loads(row[1]), row[2]) if row else None

    def put(self, namespace: str, key: str, value: Any, *, version: int | None = None) -> Record:
        query = "SELECT version FROM records WHERE namespace = ? AND key = ?"
        (old,) = self._db.execute(query, (namespace, key)).fetchone() or (0,)
        if version is not None and version != old:
            msg = f"{namespace}/{key} was changed by somebody else"
            raise LeaseLost(msg)
        self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", (namespace, key, json.dumps(value), old + 1))
        return Record(key, value, old + 1)

    def delete(self, namespace: str, key: str) -> None:
        self._db.execute("DELETE FROM records WHERE namespace = ? AND key = ?", (namespace, key))

    def list(self, namespace: str, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> Sequence[Record]:
        query = """SELECT key, value, version FROM records WHERE namespace = ? AND key >= ? AND substr(key, 1, ?) = ?
                   AND (? IS NULL OR key > ?) ORDER BY key LIMIT ?"""
        rows = self._db.execute(query, (namespace, prefix, len(prefix), prefix, after, after, limit))
        return [Record(row[0], json.loads(row[1]), row[2]) for row in rows]


class _Counters(Counters):
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def value(self, name: str) -> int:
        row = self._db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return row[0] if row else 0

    def reserve(self, name: str, amount: int, limit: int | None) -> bool:
        value = self.value(name) + amount
        if limit is not None and value > limit:
            return False
        self._db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, value))
        return True
