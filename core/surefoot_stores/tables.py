"""The tables of a SQLite store, as one transaction sees them. All SQL is static text with bound parameters (I25)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import takewhile
from typing import Any, Final

from surefoot.contracts import CheckpointStore, Counters, EventLog, Leases, Ledger, Records
from surefoot.engine.events import chained
from surefoot.errors import IntegrityError, LeaseLost, StoreUnavailable, UsageError
from surefoot.types import CallRecord, CallState, Checkpoint, Effect, Event, Lease, Record

__all__ = ["Tables"]

_CALL: Final = [f.name for f in fields(CallRecord)]
_CHECKPOINT: Final = [f.name for f in fields(Checkpoint)]
_EVENT: Final = [f.name for f in fields(Event)]


def _insert(table: str, names: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - constants of this module


_INSERT_CALL: Final = _insert("calls", _CALL)
_IDENTITY: Final = frozenset(
    "call_id key tenant conversation run_id scope path tool args_digest arguments alias occurrence created".split()  # noqa: SIM905 - shorter to read
)
_MUTABLE: Final = [n for n in _CALL if n not in _IDENTITY]
_UPDATE_CALL: Final = f"UPDATE calls SET {', '.join(f'{n} = ?' for n in _MUTABLE)} WHERE call_id = ? AND version = ?"  # noqa: S608 - constants
_INSERT_CHECKPOINT: Final = _insert("checkpoints", _CHECKPOINT)
_INSERT_EVENT: Final = _insert("events", _EVENT)
_SELECT_CALLS: Final = f"SELECT {', '.join(_CALL)} FROM calls "  # noqa: S608 - constants
_SELECT_CHECKPOINTS: Final = f"SELECT {', '.join(_CHECKPOINT)} FROM checkpoints "  # noqa: S608 - constants
_LIST_EVENTS: Final = f"SELECT {', '.join(_EVENT)} FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 - constants
_STICKY: Final = _SELECT_CALLS + "WHERE tenant = ? AND conversation = ? AND tool = ? AND args_digest = ? AND sticky = 1 ORDER BY ordinal"
_UNSETTLED: Final = _SELECT_CALLS + "WHERE run_id = ? AND state IN ('intent', 'in_doubt') ORDER BY ordinal"
# Two queries and not one OR: for that SQLite would use the index for the scope only, and read the whole of it.
_BELOW: Final = """SELECT ordinal FROM calls WHERE scope = ?1 AND path = ?2
         UNION ALL SELECT ordinal FROM calls WHERE scope = ?1 AND path >= ?3 AND path < ?4"""
_TOUCHES: Final = f"SELECT EXISTS ({_BELOW})"
_UNDER: Final = (
    _SELECT_CALLS + f"WHERE ordinal IN ({_BELOW}) AND (?5 IS NULL OR tool = ?5) AND (?6 IS NULL OR touched < ?6) ORDER BY ordinal"
)
_PAGE: Final = """WHERE ordinal > CASE WHEN ?1 IS NULL THEN 0 ELSE (SELECT ordinal FROM calls WHERE call_id = ?1) END
         AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR run_id = ?3) ORDER BY ordinal LIMIT ?4"""
_LIST_CALLS: Final = _SELECT_CALLS + _PAGE


class Tables:
    """The six tables on one connection. ``unavailable`` makes the error to raise of the driver's."""

    def __init__(self, db: sqlite3.Connection, unavailable: Callable[[Exception], StoreUnavailable]) -> None:
        self.db = db
        self._unavailable = unavailable
        self._write = False
        self.calls: Ledger = _Calls(self)
        self.checkpoints: CheckpointStore = _Checkpoints(self)
        self.events: EventLog = _Events(self)
        self.leases: Leases = _Leases(self)
        self.records: Records = _Records(self)
        self.counters: Counters = _Counters(self)

    def begin(self, *, write: bool) -> None:
        """Open a transaction; a writing one waits for its turn among the processes."""
        self._write = write
        self.db.execute("BEGIN IMMEDIATE" if write else "BEGIN")

    def read(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        return self._execute(query, values).fetchall()

    def write(self, statement: str, values: Sequence[Any]) -> int:
        """Return how many rows a statement changed."""
        if not self._write:
            raise UsageError("this transaction only reads: open it with write=True")
        return self._execute(statement, values).rowcount

    def _execute(self, statement: str, values: Sequence[Any]) -> sqlite3.Cursor:
        try:
            return self.db.execute(statement, values)
        except sqlite3.IntegrityError as exc:
            raise IntegrityError(f"a row does not fit the store ({exc})") from exc
        except (UnicodeEncodeError, OverflowError) as exc:
            raise UsageError(f"a name or number cannot be stored ({exc}); give valid Unicode, and integers of 64 bits") from exc
        except sqlite3.Error as exc:
            raise self._unavailable(exc) from exc


class _Table:
    def __init__(self, tables: Tables) -> None:
        self._read = tables.read
        self._write = tables.write


def _row(record: CallRecord, names: Sequence[str]) -> list[Any]:
    values = record.__dict__
    return [_COLUMN[name](values[name]) if name in _COLUMN else values[name] for name in names]


def _readable(reason: str) -> str:
    """Return a reason as text that SQLite takes: a tool's error may quote a file name that is not Unicode."""
    return reason if reason.isascii() else reason.encode("utf-8", "backslashreplace").decode()


_COLUMN: Final[dict[str, Callable[[Any], Any]]] = {"interrupts": json.dumps, "reason": _readable}


def _call(row: Sequence[Any]) -> CallRecord:
    values = dict(zip(_CALL, row, strict=True))
    values["effect"], values["state"] = Effect(values["effect"]), CallState(values["state"])
    values["sticky"], values["entered"] = bool(values["sticky"]), bool(values["entered"])
    values["interrupts"] = tuple(json.loads(values["interrupts"]))
    return CallRecord(**values)


class _Calls(_Table, Ledger):
    def get(self, call_id: str) -> CallRecord | None:
        rows = self._read(_SELECT_CALLS + "WHERE call_id = ?", call_id)
        return _call(rows[0]) if rows else None

    def insert(self, record: CallRecord) -> None:
        try:
            self._write(_INSERT_CALL, _row(record, _CALL))
        except IntegrityError as exc:
            raise IntegrityError(f"call {record.call_id} is in the ledger already", call_id=record.call_id) from exc

    def update(self, record: CallRecord) -> CallRecord:
        new = record.changed(version=record.version + 1)
        if self._write(_UPDATE_CALL, [*_row(new, _MUTABLE), record.call_id, record.version]) != 1:
            raise LeaseLost(f"call {record.call_id} was changed by somebody else", call_id=record.call_id)
        return new

    def sticky(self, tenant: str, conversation: str, tool: str, args_digest: str) -> Sequence[CallRecord]:
        return [_call(row) for row in self._read(_STICKY, tenant, conversation, tool, args_digest)]

    def unsettled(self, run_id: str) -> Sequence[CallRecord]:
        return [_call(row) for row in self._read(_UNSETTLED, run_id)]

    def under(self, scope: str, path: str, *, tool: str | None = None, before: int | None = None) -> Sequence[CallRecord]:
        return [_call(row) for row in self._read(_UNDER, scope, path, path + "/", path + "0", tool, before)]

    def touches(self, scope: str, path: str) -> bool:
        [(found,)] = self._read(_TOUCHES, scope, path, path + "/", path + "0")
        return bool(found)

    def list(
        self, *, state: CallState | None = None, run_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[CallRecord]:
        return [_call(row) for row in self._read(_LIST_CALLS, after, state, run_id, limit)]


class _Checkpoints(_Table, CheckpointStore):
    def append(self, checkpoint: Checkpoint) -> Checkpoint:
        [(last,)] = self._read("SELECT COALESCE(MAX(seq), 0) FROM checkpoints WHERE run_id = ?", checkpoint.run_id)
        new = replace(checkpoint, seq=last + 1)
        self._write(_INSERT_CHECKPOINT, [getattr(new, name) for name in _CHECKPOINT])
        return new

    def at(self, run_id: str, path: str) -> Sequence[Checkpoint]:
        rows = self._read(_SELECT_CHECKPOINTS + "WHERE run_id = ? AND path = ? ORDER BY seq", run_id, path)
        return [Checkpoint(*row) for row in rows]

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Checkpoint]:
        rows = self._read(_SELECT_CHECKPOINTS + "WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?", run_id, after, limit)
        return [Checkpoint(*row) for row in rows]


class _Events(_Table, EventLog):
    def append(self, event: Event) -> Event:
        head = self._read("SELECT seq, link FROM heads WHERE run_id = ?", event.run_id)
        seq, previous = head[0] if head else (0, "")
        new = chained(event, seq + 1, previous)
        self._write(_INSERT_EVENT, [json.dumps(new.data) if name == "data" else getattr(new, name) for name in _EVENT])
        self._write("INSERT OR REPLACE INTO heads VALUES (?, ?, ?)", (new.run_id, new.seq, new.link))
        return new

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        found = (dict(zip(_EVENT, row, strict=True)) for row in self._read(_LIST_EVENTS, run_id, after, limit))
        return [Event(**{**row, "data": json.loads(row["data"])}) for row in found]


class _Leases(_Table, Leases):
    def get(self, name: str) -> Lease | None:
        rows = self._read("SELECT owner, epoch, held FROM leases WHERE name = ?", name)
        return Lease(name, rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None

    def take(self, name: str, owner: str) -> Lease:
        old = self.get(name)
        lease = Lease(name, owner, old.epoch + 1 if old else 1)
        self._write("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, 1)", (name, owner, lease.epoch))
        return lease

    def release(self, lease: Lease) -> bool:
        statement = "UPDATE leases SET held = 0 WHERE name = ? AND owner = ? AND epoch = ?"
        return self._write(statement, (lease.name, lease.owner, lease.epoch)) == 1


class _Records(_Table, Records):
    def get(self, namespace: str, key: str) -> Record | None:
        rows = self._read("SELECT value, version FROM records WHERE namespace = ? AND key = ?", namespace, key)
        return Record(key, json.loads(rows[0][0]), rows[0][1]) if rows else None

    def put(self, namespace: str, key: str, value: Any, *, version: int | None = None) -> Record:
        rows = self._read("SELECT version FROM records WHERE namespace = ? AND key = ?", namespace, key)
        old = rows[0][0] if rows else 0
        if version is not None and version != old:
            raise LeaseLost(f"{namespace}/{key} was changed by somebody else")
        self._write("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", (namespace, key, json.dumps(value), old + 1))
        return Record(key, value, old + 1)

    def delete(self, namespace: str, key: str) -> None:
        self._write("DELETE FROM records WHERE namespace = ? AND key = ?", (namespace, key))

    def list(self, namespace: str, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> Sequence[Record]:
        query = """SELECT key, value, version FROM records
                   WHERE namespace = ?1 AND key >= ?2 AND (?3 IS NULL OR key > ?3) ORDER BY key LIMIT ?4"""
        rows = self._read(query, namespace, prefix, after, limit)
        # Keys that start with the prefix are the first ones from it on; SQL's own functions end at a NUL character.
        return [Record(row[0], json.loads(row[1]), row[2]) for row in takewhile(lambda row: row[0].startswith(prefix), rows)]


class _Counters(_Table, Counters):
    def value(self, name: str) -> int:
        rows = self._read("SELECT value FROM counters WHERE name = ?", name)
        return int(rows[0][0]) if rows else 0

    def reserve(self, name: str, amount: int, limit: int | None) -> bool:
        value = self.value(name) + amount
        if limit is not None and value > limit:
            return False
        self._write("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, value))
        return True
