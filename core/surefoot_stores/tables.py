"""The tables of a SQLite store, as one transaction sees them. All SQL is static text with bound parameters (I25)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from operator import attrgetter, itemgetter
from typing import Any, Final

from surefoot.contracts import CheckpointStore, Counters, EventLog, Leases, Ledger, Records
from surefoot.engine.events import chained
from surefoot.errors import IntegrityError, LeaseLost, StoreUnavailable, UsageError
from surefoot.types import CallRecord, CallState, Checkpoint, Effect, Event, Lease, Record
from surefoot_stores.payloads import REFERENCES, Payloads
from surefoot_stores.queue import Job
from surefoot_stores.rows import CALL as _CALL
from surefoot_stores.rows import CHECKPOINT as _CHECKPOINT
from surefoot_stores.rows import EVENT as _EVENT
from surefoot_stores.rows import MUTABLE as _MUTABLE
from surefoot_stores.rows import PLACE as _PLACE
from surefoot_stores.rows import readable, replacing

__all__ = ["Tables"]

_call_row: Final = itemgetter(*_CALL)
_checkpoint_row: Final = itemgetter(*_CHECKPOINT)
_event_row: Final = itemgetter(*_EVENT)


def _insert(table: str, names: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - constants of this module


def _updating(names: Sequence[str]) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """Return the statement that updates these columns, and what picks their values."""
    return f"UPDATE calls SET {', '.join(f'{n} = ?' for n in names)} WHERE call_id = ? AND version = ?", itemgetter(*names)  # noqa: S608 - constants


_INSERT_CALL: Final = _insert("calls", _CALL)
_UPDATE: Final = _updating(_MUTABLE)
_ENTER: Final = _updating([*_MUTABLE, *_PLACE])  # apart, because naming a column has SQLite write its indexes again
_INSERT_CHECKPOINT: Final = _insert("checkpoints", _CHECKPOINT)
_INSERT_EVENT: Final = _insert("events", _EVENT)
_SELECT_CALLS: Final = f"SELECT {', '.join(_CALL)} FROM calls "  # noqa: S608 - constants
_SELECT_CHECKPOINTS: Final = f"SELECT {', '.join(_CHECKPOINT)} FROM checkpoints "  # noqa: S608 - constants
_LIST_EVENTS: Final = f"SELECT {', '.join(_EVENT)} FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 - constants
_GET_CALL: Final = _SELECT_CALLS + "WHERE call_id = ?"
_HEAD: Final = "SELECT seq, link FROM events WHERE run_id = ? ORDER BY seq DESC LIMIT 1"
_STICKY: Final = _SELECT_CALLS + "WHERE tenant = ? AND conversation = ? AND tool = ? AND args_digest = ? AND sticky = 1 ORDER BY ordinal"
_OF_RUN: Final = """SELECT ordinal FROM calls WHERE scope = ?1 AND run_id = ?1
         UNION ALL SELECT ordinal FROM calls WHERE run_id = ?1 AND run_id <> scope"""
_UNSETTLED: Final = _SELECT_CALLS + f"WHERE ordinal IN ({_OF_RUN}) AND state IN ('intent', 'in_doubt') ORDER BY ordinal"
# Two queries and not one OR: for that SQLite would use the index for the scope only, and read the whole of it.
_BELOW: Final = """SELECT ordinal FROM calls WHERE scope = ?1 AND path = ?2
         UNION ALL SELECT ordinal FROM calls WHERE scope = ?1 AND path >= ?3 AND path < ?4"""
_TOUCHES: Final = f"SELECT EXISTS ({_BELOW})"
_UNDER: Final = (
    _SELECT_CALLS + f"WHERE ordinal IN ({_BELOW}) AND (?5 IS NULL OR tool = ?5) AND (?6 IS NULL OR touched < ?6) ORDER BY ordinal"
)
_KNOWN: Final = 5_000
"""So many entries are kept in memory; with more, all are read again."""
_SMALL: Final = 4_000
"""Characters of a record that is kept in memory."""
_ERRORS: Final = (sqlite3.Error, UnicodeEncodeError, OverflowError)
_PAGE: Final = """WHERE ordinal > CASE WHEN ?1 IS NULL THEN 0 ELSE (SELECT ordinal FROM calls WHERE call_id = ?1) END
         AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR run_id = ?3) ORDER BY ordinal LIMIT ?4"""
_LIST_CALLS: Final = _SELECT_CALLS + _PAGE


class Tables:
    """The six tables on one connection. ``unavailable`` makes the error to raise of the driver's."""

    def __init__(self, db: sqlite3.Connection, unavailable: Callable[[Exception], StoreUnavailable]) -> None:
        self.db = db
        self._unavailable = unavailable
        self._write = False
        self._version = 0
        self.known: dict[tuple[str, ...], Any] = {}
        """What this process has read or written and no other one has changed since."""
        self.payloads = Payloads(self.read, self.write)
        self.calls: Ledger = _Calls(self)
        self.checkpoints: CheckpointStore = _Checkpoints(self)
        self.events: EventLog = _Events(self)
        self.leases: Leases = _Leases(self)
        self.records: Records = _Records(self)
        self.counters: Counters = _Counters(self)

    def begin(self, *, write: bool) -> None:
        """Open a transaction."""
        self._write = write
        self.db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        version = self.db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or len(self.known) > _KNOWN:
            self.forget()
            self._version = version

    def each(self, job: Job) -> None:
        """Run one of several jobs of a transaction; what it raises undoes it alone and is noted on it."""
        self._write = job.write
        self.db.execute("SAVEPOINT job")
        try:
            job.answer = job.work(self)
        except BaseException as exc:
            self.forget()
            job.error = exc
            if not self.db.in_transaction:  # SQLite has undone all of them
                raise
            self.db.execute("ROLLBACK TO job")
        self.db.execute("RELEASE job")

    def forget(self) -> None:
        """Read everything again."""
        self.known.clear()

    def read(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        try:
            return self.db.execute(query, values).fetchall()
        except _ERRORS as exc:
            raise self._told(exc) from exc

    def write(self, statement: str, values: Sequence[Any]) -> int:
        """Return how many rows a statement changed."""
        if not self._write:
            raise UsageError("this transaction only reads: open it with write=True")
        try:
            return self.db.execute(statement, values).rowcount
        except _ERRORS as exc:
            raise self._told(exc) from exc

    def rewrite(self, statement: str, *values: Any) -> int:
        """Change or remove what the contract only adds to: retention's alone. Returns how many rows that were."""
        self.forget()
        return self.write(statement, values)

    def replace(self, record: CallRecord) -> int:
        """Write a call without what ``record`` has no more, its identity too: retention's alone. Returns how many rows that were."""
        return self.rewrite(*replacing(record))

    def _told(self, exc: Exception) -> Exception:
        """Return surefoot's error for one of the driver's."""
        if isinstance(exc, sqlite3.IntegrityError):
            return IntegrityError(f"a row does not fit the store ({exc})")
        if isinstance(exc, UnicodeEncodeError | OverflowError):
            return UsageError(f"a name or number cannot be stored ({exc}); give valid Unicode, and integers of 64 bits")
        return self._unavailable(exc)


class _Table:
    def __init__(self, tables: Tables) -> None:
        self._read = tables.read
        self._write = tables.write
        self._known = tables.known
        self._payloads = tables.payloads


class _Calls(_Table, Ledger):
    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self._columns: dict[str, Callable[[Any], Any]] = {
            "value": self._payloads.put,
            "error": self._payloads.put,
            "interrupts": lambda answers: json.dumps(answers) if answers else "[]",
            "reason": readable,
            "effect": attrgetter("value"),  # the driver takes a plain string faster than one of a subclass
            "state": attrgetter("value"),
        }

    def _values(self, record: CallRecord) -> dict[str, Any]:
        values = record.__dict__.copy()
        for name, column in self._columns.items():
            values[name] = column(values[name])
        return values

    def _call(self, row: Sequence[Any]) -> CallRecord:
        values = dict(zip(_CALL, row, strict=True))
        values["effect"], values["state"] = Effect(values["effect"]), CallState(values["state"])
        values["sticky"], values["entered"] = bool(values["sticky"]), bool(values["entered"])
        values["interrupts"] = tuple(json.loads(values["interrupts"]))
        for name in REFERENCES["calls"]:
            values[name] = self._payloads.get(values[name])
        return CallRecord(**values)

    def get(self, call_id: str) -> CallRecord | None:
        known = self._known.get(("call", call_id))
        if known is not None:
            return known  # type: ignore[no-any-return]
        rows = self._read(_GET_CALL, call_id)
        return self._call(rows[0]) if rows else None

    def insert(self, record: CallRecord) -> None:
        try:
            self._write(_INSERT_CALL, _call_row({**self._values(record), "arguments": self._payloads.put(record.arguments)}))
        except IntegrityError as exc:
            raise IntegrityError(f"call {record.call_id} is in the ledger already", call_id=record.call_id) from exc
        self._known["call", record.call_id] = record

    def update(self, record: CallRecord) -> CallRecord:
        new = record.changed(version=record.version + 1)
        statement, values = _ENTER if new.state is CallState.INTENT else _UPDATE
        if self._write(statement, [*values(self._values(new)), record.call_id, record.version]) != 1:
            raise LeaseLost(f"call {record.call_id} was changed by somebody else", call_id=record.call_id)
        if new.state is CallState.INTENT:
            self._known["call", record.call_id] = new
        else:
            self._known.pop(("call", record.call_id), None)  # it is over; its value may be large
        return new

    def sticky(self, tenant: str, conversation: str, tool: str, args_digest: str) -> Sequence[CallRecord]:
        return [self._call(row) for row in self._read(_STICKY, tenant, conversation, tool, args_digest)]

    def unsettled(self, run_id: str) -> Sequence[CallRecord]:
        return [self._call(row) for row in self._read(_UNSETTLED, run_id)]

    def under(self, scope: str, path: str, *, tool: str | None = None, before: int | None = None) -> Sequence[CallRecord]:
        return [self._call(row) for row in self._read(_UNDER, scope, path, path + "/", path + "0", tool, before)]

    def touches(self, scope: str, path: str) -> bool:
        [(found,)] = self._read(_TOUCHES, scope, path, path + "/", path + "0")
        return bool(found)

    def list(
        self, *, state: CallState | None = None, run_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[CallRecord]:
        return [self._call(row) for row in self._read(_LIST_CALLS, after, state, run_id, limit)]


class _Checkpoints(_Table, CheckpointStore):
    def append(self, checkpoint: Checkpoint) -> Checkpoint:
        [(last,)] = self._read("SELECT COALESCE(MAX(seq), 0) FROM checkpoints WHERE run_id = ?", checkpoint.run_id)
        new = checkpoint.changed(seq=last + 1)
        self._write(_INSERT_CHECKPOINT, _checkpoint_row({**new.__dict__, "output": self._payloads.put(new.output)}))
        return new

    def at(self, run_id: str, path: str) -> Sequence[Checkpoint]:
        rows = self._read(_SELECT_CHECKPOINTS + "WHERE run_id = ? AND path = ? ORDER BY seq", run_id, path)
        return [self._checkpoint(row) for row in rows]

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Checkpoint]:
        rows = self._read(_SELECT_CHECKPOINTS + "WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?", run_id, after, limit)
        return [self._checkpoint(row) for row in rows]

    def _checkpoint(self, row: Sequence[Any]) -> Checkpoint:
        values = dict(zip(_CHECKPOINT, row, strict=True))
        return Checkpoint(**{**values, "output": self._payloads.get(values["output"])})


class _Events(_Table, EventLog):
    def append(self, event: Event) -> Event:
        head = self._known.get(("head", event.run_id)) or next(iter(self._read(_HEAD, event.run_id)), (0, ""))
        new, text = chained(event, head[0] + 1, head[1])
        self._write(_INSERT_EVENT, _event_row({**new.__dict__, "data": text}))
        self._known["head", event.run_id] = (new.seq, new.link)
        return new

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        found = (dict(zip(_EVENT, row, strict=True)) for row in self._read(_LIST_EVENTS, run_id, after, limit))
        return [Event(**{**row, "data": json.loads(row["data"])}) for row in found]


class _Leases(_Table, Leases):
    def get(self, name: str) -> Lease | None:
        known = self._known.get(("lease", name))
        if known is not None:
            return known  # type: ignore[no-any-return]
        rows = self._read("SELECT owner, epoch, held FROM leases WHERE name = ?", name)
        if not rows:
            return None
        lease = self._known["lease", name] = Lease(name, rows[0][0], rows[0][1], bool(rows[0][2]))
        return lease

    def take(self, name: str, owner: str) -> Lease:
        old = self.get(name)
        lease = Lease(name, owner, old.epoch + 1 if old else 1)
        self._write("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, 1)", (name, owner, lease.epoch))
        self._known["lease", name] = lease
        return lease

    def release(self, lease: Lease) -> bool:
        self._known.pop(("lease", lease.name), None)
        statement = "UPDATE leases SET held = 0 WHERE name = ? AND owner = ? AND epoch = ?"
        return self._write(statement, (lease.name, lease.owner, lease.epoch)) == 1


class _Records(_Table, Records):
    def get(self, namespace: str, key: str) -> Record | None:
        row = self._row(namespace, key)
        return Record(key, json.loads(row[0]), row[1]) if row else None

    def _row(self, namespace: str, key: str) -> tuple[str, int] | None:
        known = self._known.get(("record", namespace, key), self)
        if known is self:
            rows = self._read("SELECT value, version FROM records WHERE namespace = ? AND key = ?", namespace, key)
            known = self._remember(namespace, key, (self._payloads.get(rows[0][0]), rows[0][1]) if rows else None)
        return known  # type: ignore[no-any-return]

    def _remember(self, namespace: str, key: str, row: Any) -> Any:
        if row is None or len(row[0]) <= _SMALL:
            self._known["record", namespace, key] = row
        else:
            self._known.pop(("record", namespace, key), None)
        return row

    def put(self, namespace: str, key: str, value: Any, *, version: int | None = None) -> Record:
        row = self._row(namespace, key)
        old = row[1] if row else 0
        if version is not None and version != old:
            raise LeaseLost(f"{namespace}/{key} was changed by somebody else")
        text = json.dumps(value)
        self._write("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", (namespace, key, self._payloads.put(text), old + 1))
        self._remember(namespace, key, (text, old + 1))
        return Record(key, value, old + 1)

    def delete(self, namespace: str, key: str) -> None:
        self._write("DELETE FROM records WHERE namespace = ? AND key = ?", (namespace, key))
        self._remember(namespace, key, None)

    def list(self, namespace: str, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> Sequence[Record]:
        query = """SELECT key, value, version FROM records
                   WHERE namespace = ?1 AND key >= ?2 AND (?3 IS NULL OR key > ?3) ORDER BY key LIMIT ?4"""
        rows = self._read(query, namespace, prefix, after, limit)
        # Keys that start with the prefix are the first ones from it on; SQL's own functions end at a NUL character.
        mine = takewhile(lambda row: row[0].startswith(prefix), rows)
        return [Record(key, json.loads(self._payloads.get(text) or ""), version) for key, text, version in mine]


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
