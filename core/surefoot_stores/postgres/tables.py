"""The tables of a PostgreSQL store, as one transaction sees them. All SQL is static text with bound parameters (I25).

What is written waits in the process and is sent before the commit, one statement a table: a round trip costs more than a
row. Reads by a key look there first; all others send it before they ask.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, Final

from surefoot.contracts import CheckpointStore, Counters, EventLog, Leases, Ledger, Records
from surefoot.engine.events import chained
from surefoot.errors import IntegrityError, LeaseLost, UsageError
from surefoot.types import CallRecord, CallState, Checkpoint, Effect, Event, Lease, Record
from surefoot_stores.postgres.pending import Pending
from surefoot_stores.postgres.session import Session
from surefoot_stores.queue import Job
from surefoot_stores.rows import CALL, CHECKPOINT, EVENT, MUTABLE, PLACE, readable, replacing

__all__ = ["Tables"]

_MISSING: Final = object()
_MOST: Final = 20_000
"""So many entries are kept in memory; with more, all are read again."""
_SMALL: Final = 4_000
"""Characters of a record that is kept in memory."""
_LONG: Final = 1_000
"""Bytes of a name that any index takes, however badly it compresses."""
_INTEGER: Final = 2**63
_encode: Final = json.JSONEncoder().encode
_TRICKY: Final = re.compile(r"\\u(?:0000|0001|d[89a-f])")
"""What :func:`_plain` is for, in JSON text; nearly no text has it."""
_CHANGED: Final = ("call_id", *MUTABLE)
_ENTERED: Final = (*_CHANGED, *PLACE)
_CALLS: Final = f"SELECT {', '.join(CALL)} FROM calls "  # noqa: S608 - constants
_CHECKPOINTS: Final = f"SELECT {', '.join(CHECKPOINT)} FROM checkpoints WHERE run_id = %s "  # noqa: S608 - constants
_EVENTS: Final = f"SELECT {', '.join(EVENT)} FROM events WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s"  # noqa: S608 - constants
_BELOW: Final = """SELECT ordinal FROM calls WHERE scope = %s AND path = %s
         UNION ALL SELECT ordinal FROM calls WHERE scope = %s AND path >= %s AND path < %s"""
_UNDER: Final = (
    _CALLS
    + f"""WHERE ordinal IN ({_BELOW}) AND (%s::text IS NULL OR tool = %s)
         AND (%s::bigint IS NULL OR touched < %s) ORDER BY ordinal"""
)
_PAGE: Final = f"""{_CALLS} WHERE ordinal > COALESCE((SELECT ordinal FROM calls WHERE call_id = %s), 0)
         AND (%s::text IS NULL OR state = %s) AND (%s::text IS NULL OR run_id = %s) ORDER BY ordinal LIMIT %s"""  # noqa: S608 - constants


def _plain(value: Any) -> Any:
    r"""Return a name or text as PostgreSQL can keep it: NUL, which it cannot, becomes ``\1\1``, and ``\1`` becomes ``\1\2``.

    The order of names and what they start with stay the same. Raises :class:`~surefoot.UsageError` for what no column takes.
    """
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as exc:
                raise UsageError(f"a name cannot be stored ({exc}); give valid Unicode") from exc
        if "\0" in value or "\1" in value:
            return value.replace("\1", "\1\2").replace("\0", "\1\1")
    elif isinstance(value, int) and not -_INTEGER <= value < _INTEGER:
        raise UsageError(f"{value} cannot be stored; give integers of 64 bits")
    return value


def _row(values: Mapping[str, Any], *names: str) -> str:
    """Return a row as the JSON text that is sent; ``names`` are its columns that are in an index.

    Raises :class:`~surefoot.UsageError` for what no column or index takes.
    """
    for column in names:
        name = values[column]
        if len(name) > _LONG and len(zlib.compress(name.encode("utf-8", "replace"))) > _LONG:
            raise UsageError(f"a name of {len(name)} characters cannot be stored ({name[:40]!r}…); give one under {_LONG}")
    text = _encode(values)
    if "\\u" in text and _TRICKY.search(text):
        text = _encode({column: _plain(value) for column, value in values.items()})
    return text


def _back(stored: Any) -> Any:
    """Return the text that :func:`_plain` made ``stored`` of."""
    if isinstance(stored, str) and "\1" in stored:
        return stored.replace("\1\1", "\0").replace("\1\2", "\1")
    return stored


class Tables:
    """The six tables on one connection at a time."""

    def __init__(self) -> None:
        self.session: Session
        self._writes = False
        self._several = False
        self._marked = False
        self.known: dict[tuple[str, ...], Any] = {}
        """What this process has read or written and no other one has changed since."""
        self._settled, self.mine = Pending(), Pending()
        """What waits to be sent: of the jobs before, and of the one that runs."""
        self.calls: Ledger = _Calls(self)
        self.checkpoints: CheckpointStore = _Checkpoints(self)
        self.events: EventLog = _Events(self)
        self.leases: Leases = _Leases(self)
        self.records: Records = _Records(self)
        self.counters: Counters = _Counters(self)

    def begin(self, session: Session, *, write: bool) -> None:
        """Open a transaction on a session."""
        self.session, self._writes, self._several = session, write, False
        self._settled, self.mine = Pending(), Pending()
        if not session.begin(write=write) or len(self.known) > _MOST:
            self.known.clear()

    def each(self, job: Job) -> None:
        """Run one of several jobs of a transaction; what it raises undoes it alone and is noted on it."""
        self._writes, self._several, self._marked = job.write, True, False
        try:
            job.answer = job.work(self)
        except BaseException as exc:
            job.error = exc
            self.known.clear()
            self.mine = Pending()
            if self._marked:
                self._send("ROLLBACK TO job")
            elif self.session.closed or self.session.failed:
                raise
        else:
            self._settled.take(self.mine)
            self.mine = Pending()
        if self._marked:
            self._send("RELEASE job")

    def flush(self) -> None:
        """Send all that waits."""
        for pending in (self._settled, self.mine):
            for statement, text, count in pending.statements():
                if self._send(statement, text) != count:
                    raise IntegrityError("rows were changed beside the turn to write; who else writes to these tables?")
        self._settled, self.mine = Pending(), Pending()

    def _send_before_reading(self) -> None:
        if self.mine and self._several and not self._marked:
            mine, self.mine = self.mine, Pending()
            self.flush()
            self.mine = mine
            self._send("SAVEPOINT job")
            self._marked = True
        if self.mine or self._settled:
            self.flush()

    def forget(self) -> None:
        """Read everything again, and send nothing of what waits."""
        self.known.clear()
        self._settled, self.mine = Pending(), Pending()

    def read(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query that sees everything written before."""
        self._send_before_reading()
        return self.look(query, *values)

    def ask(self, query: str, *values: Any, waits: Callable[[Pending], Any]) -> list[Any]:
        """Return the rows of a query; only if what it asks for waits to be sent, that is sent first."""
        return self.read(query, *values) if waits(self.mine) or waits(self._settled) else self.look(query, *values)

    def look(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query about what does not wait to be sent."""
        with self.session.told():
            return self.session.rows(query, *map(_plain, values))

    def rewrite(self, statement: str, *values: Any) -> int:
        """Change or remove what the contract only adds to: retention's alone. Returns how many rows that were."""
        self.writes()
        self._send_before_reading()
        self.known.clear()
        return self._send(statement.replace("?", "%s"), *map(_plain, values))

    def replace(self, record: CallRecord) -> int:
        """Write a call without what ``record`` has no more, its identity too: retention's alone. Returns how many rows that were."""
        return self.rewrite(*replacing(record))

    def _send(self, statement: str, *values: Any) -> int:
        with self.session.told():
            return self.session.execute(statement, *values)

    def writes(self) -> Pending:
        """Return where to put what is written."""
        if not self._writes:
            raise UsageError("this transaction only reads: open it with write=True")
        return self.mine

    def waiting(self, call_id: str) -> CallRecord | None:
        """Return a call that waits to be sent."""
        return self.mine.calls.get(call_id) or self._settled.calls.get(call_id)


class _Table:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._known = tables.known


def _call(row: Sequence[Any]) -> CallRecord:
    values = {column: _back(value) for column, value in zip(CALL, row, strict=True)}
    values["effect"], values["state"] = Effect(values["effect"]), CallState(values["state"])
    values["interrupts"] = tuple(json.loads(values["interrupts"]))
    record = object.__new__(CallRecord)
    record.__dict__.update(values)
    return record


_NAMES: Final = ("call_id", "tenant", "conversation", "run_id", "scope", "path")


def _changes(record: CallRecord, columns: Sequence[str]) -> dict[str, Any]:
    """Return the columns that a change of a call writes."""
    values = record.__dict__
    return {**{column: values[column] for column in columns}, "interrupts": _interrupts(record)}


def _interrupts(record: CallRecord) -> str:
    return json.dumps(record.interrupts) if record.interrupts else "[]"


class _Calls(_Table, Ledger):
    def get(self, call_id: str) -> CallRecord | None:
        known = self._known.get(("call", call_id), _MISSING)
        if known is _MISSING:
            known = self._tables.waiting(call_id)
            if known is None:
                rows = self._tables.look(_CALLS + "WHERE call_id = %s", call_id)
                known = _call(rows[0]) if rows else None
            self._remember(call_id, known)
        return known  # type: ignore[no-any-return]

    def _remember(self, call_id: str, record: CallRecord | None) -> None:
        if record is None or record.state is CallState.INTENT:
            self._known["call", call_id] = record
        else:
            self._known.pop(("call", call_id), None)  # it is over; its value may be large

    def insert(self, record: CallRecord) -> None:
        if self.get(record.call_id) is not None:
            raise IntegrityError(f"call {record.call_id} is in the ledger already", call_id=record.call_id)
        record = _kept(record)
        self._tables.writes().add_call(record, _row({**record.__dict__, "interrupts": _interrupts(record)}, *_NAMES))
        self._stored(record)

    def update(self, record: CallRecord) -> CallRecord:
        old = self.get(record.call_id)
        if old is None or old.version != record.version:
            raise LeaseLost(f"call {record.call_id} was changed by somebody else", call_id=record.call_id)
        new = _kept(record.changed(version=record.version + 1))
        pending = self._tables.writes()
        whole = new.state is CallState.INTENT or self._tables.waiting(new.call_id) is not None
        pending.change_call(new, _row(_changes(new, _ENTERED if whole else _CHANGED)), old.version)
        pending.sticky = pending.sticky or old.sticky
        self._stored(new)
        if old.sticky:
            self._known.pop(("sticky", old.tenant, old.conversation), None)
        return new

    def _stored(self, record: CallRecord) -> None:
        self._remember(record.call_id, record)
        if record.sticky:
            self._known.pop(("sticky", record.tenant, record.conversation), None)

    def sticky(self, tenant: str, conversation: str, tool: str, args_digest: str) -> Sequence[CallRecord]:
        # All of a conversation at once: there are few, mostly none, and the next request need not ask again.
        known = self._known.get(("sticky", tenant, conversation))
        if known is None:
            query = _CALLS + "WHERE tenant = %s AND conversation = %s AND sticky ORDER BY ordinal"
            known = [_call(row) for row in self._tables.ask(query, tenant, conversation, waits=lambda pending: pending.sticky)]
            self._known["sticky", tenant, conversation] = known
        return [row for row in known if (row.tool, row.args_digest) == (tool, args_digest)]

    def unsettled(self, run_id: str) -> Sequence[CallRecord]:
        query = _CALLS + "WHERE run_id = %s AND state IN ('intent', 'in_doubt') ORDER BY ordinal"
        return [_call(row) for row in self._tables.read(query, run_id)]

    def under(self, scope: str, path: str, *, tool: str | None = None, before: int | None = None) -> Sequence[CallRecord]:
        rows = self._tables.read(_UNDER, scope, path, scope, path + "/", path + "0", tool, tool, before, before)
        return [_call(row) for row in rows]

    def touches(self, scope: str, path: str) -> bool:
        [(found,)] = self._tables.read(f"SELECT EXISTS ({_BELOW})", scope, path, scope, path + "/", path + "0")
        return bool(found)

    def list(
        self, *, state: CallState | None = None, run_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[CallRecord]:
        wanted = state.value if state else None
        return [_call(row) for row in self._tables.read(_PAGE, after, wanted, wanted, run_id, run_id, limit)]


def _kept(record: CallRecord) -> CallRecord:
    """Return a call as it will be read back."""
    return record if record.reason.isascii() else record.changed(reason=readable(record.reason))


class _Checkpoints(_Table, CheckpointStore):
    def append(self, checkpoint: Checkpoint) -> Checkpoint:
        last = self._known.get(("seq", checkpoint.run_id))
        if last is None:
            query = "SELECT COALESCE(MAX(seq), 0) FROM checkpoints WHERE run_id = %s"
            last = self._tables.ask(query, checkpoint.run_id, waits=lambda pending: pending.checkpoints)[0][0]
        new = replace(checkpoint, seq=last + 1)
        self._tables.writes().checkpoints.append(_row({column: getattr(new, column) for column in CHECKPOINT}, "run_id"))
        self._known["seq", new.run_id] = new.seq
        return new

    def at(self, run_id: str, path: str) -> Sequence[Checkpoint]:
        return [_checkpoint(row) for row in self._tables.read(_CHECKPOINTS + "AND path = %s ORDER BY seq", run_id, path)]

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Checkpoint]:
        rows = self._tables.read(_CHECKPOINTS + "AND seq > %s ORDER BY seq LIMIT %s", run_id, after, limit)
        return [_checkpoint(row) for row in rows]


def _checkpoint(row: Sequence[Any]) -> Checkpoint:
    return Checkpoint(*map(_back, row))


class _Events(_Table, EventLog):
    def append(self, event: Event) -> Event:
        head = self._known.get(("head", event.run_id))
        if head is None:
            query = "SELECT seq, link FROM events WHERE run_id = %s ORDER BY seq DESC LIMIT 1"
            rows = self._tables.ask(query, event.run_id, waits=lambda pending: event.run_id in pending.logs)
            head = rows[0] if rows else (0, "")
        new, text = chained(event, head[0] + 1, head[1])
        self._tables.writes().add_event(new.run_id, _row({**new.__dict__, "data": text}, "run_id"))
        self._known["head", event.run_id] = (new.seq, new.link)
        return new

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        found = (dict(zip(EVENT, map(_back, row), strict=True)) for row in self._tables.read(_EVENTS, run_id, after, limit))
        return [Event(**{**row, "data": json.loads(row["data"])}) for row in found]


class _Leases(_Table, Leases):
    def get(self, name: str) -> Lease | None:
        known = self._known.get(("lease", name), _MISSING)
        if known is _MISSING:
            query = "SELECT owner, epoch, held FROM leases WHERE name = %s"
            rows = self._tables.ask(query, name, waits=lambda pending: pending.leases)
            known = self._known["lease", name] = Lease(name, *map(_back, rows[0])) if rows else None
        return known  # type: ignore[no-any-return]

    def take(self, name: str, owner: str) -> Lease:
        old = self.get(name)
        return self._put(Lease(name, owner, old.epoch + 1 if old else 1))

    def _put(self, lease: Lease) -> Lease:
        row = {"name": lease.name, "owner": lease.owner, "epoch": lease.epoch, "held": lease.held}
        self._tables.writes().leases[lease.name] = _row(row, "name")
        self._known["lease", lease.name] = lease
        return lease

    def release(self, lease: Lease) -> bool:
        old = self.get(lease.name)
        if old is None or (old.owner, old.epoch) != (lease.owner, lease.epoch):
            return False
        self._put(replace(old, held=False))
        return True


class _Records(_Table, Records):
    def get(self, namespace: str, key: str) -> Record | None:
        row = self._row(namespace, key)
        return Record(key, json.loads(row[0]), row[1]) if row else None

    def _row(self, namespace: str, key: str) -> tuple[str, int] | None:
        known = self._known.get(("record", namespace, key), _MISSING)
        if known is _MISSING:
            query = "SELECT value, version FROM records WHERE namespace = %s AND key = %s"
            rows = self._tables.ask(query, namespace, key, waits=lambda pending: pending.has_record((namespace, key)))
            known = rows[0] if rows else None
            self._remember(namespace, key, known)
        return known  # type: ignore[no-any-return]

    def _remember(self, namespace: str, key: str, row: tuple[str, int] | None) -> None:
        if row is None or len(row[0]) <= _SMALL:
            self._known["record", namespace, key] = row
        else:
            self._known.pop(("record", namespace, key), None)

    def put(self, namespace: str, key: str, value: Any, *, version: int | None = None) -> Record:
        row = self._row(namespace, key)
        old = row[1] if row else 0
        if version is not None and version != old:
            raise LeaseLost(f"{namespace}/{key} was changed by somebody else")
        text = json.dumps(value)
        record = {"namespace": namespace, "key": key, "value": text, "version": old + 1}
        self._tables.writes().put_record((namespace, key), _row(record, "namespace", "key"))
        self._remember(namespace, key, (text, old + 1))
        return Record(key, value, old + 1)

    def delete(self, namespace: str, key: str) -> None:
        if self._row(namespace, key) is not None:
            self._tables.writes().drop_record((namespace, key), _row({"namespace": namespace, "key": key}))
        self._remember(namespace, key, None)

    def list(self, namespace: str, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> Sequence[Record]:
        query = """SELECT key, value, version FROM records
                   WHERE namespace = %s AND key >= %s AND (%s::text IS NULL OR key > %s) ORDER BY key LIMIT %s"""
        rows = self._tables.read(query, namespace, prefix, after, after, limit)
        mine = takewhile(lambda row: row[0].startswith(prefix), ((_back(key), text, version) for key, text, version in rows))
        return [Record(key, json.loads(text), version) for key, text, version in mine]


class _Counters(_Table, Counters):
    def value(self, name: str) -> int:
        known = self._known.get(("counter", name))
        if known is None:
            query = "SELECT value FROM counters WHERE name = %s"
            rows = self._tables.ask(query, name, waits=lambda pending: pending.counters)
            known = self._known["counter", name] = rows[0][0] if rows else 0
        return int(known)

    def reserve(self, name: str, amount: int, limit: int | None) -> bool:
        value = self.value(name) + amount
        if limit is not None and value > limit:
            return False
        self._tables.writes().counters[name] = _row({"name": name, "value": _plain(value)}, "name")
        self._known["counter", name] = value
        return True
