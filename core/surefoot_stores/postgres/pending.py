"""What a transaction has written and not sent yet: one statement a table sends all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from surefoot.types import CallRecord
from surefoot_stores.rows import CALL, CHECKPOINT, EVENT, MUTABLE, PLACE

__all__ = ["Pending"]

_TYPES: Final = {
    **dict.fromkeys(("entry", "touched", "version", "attempt", "mark", "seq", "schema", "epoch", "base"), "bigint"),
    **dict.fromkeys(("sticky", "entered", "held"), "boolean"),
    **dict.fromkeys(("created", "updated", "at", "monotonic"), "double precision"),
}


def _rows(names: Sequence[str], **types: str) -> str:
    columns = ", ".join(f"{name} {types.get(name) or _TYPES.get(name, 'text')}" for name in names)
    return f"json_to_recordset(%s::json) AS new ({columns})"


def _insert(table: str, names: Sequence[str], then: str = "", **types: str) -> str:
    columns = ", ".join(names)
    return f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {_rows(names, **types)}{then}"  # noqa: S608 - constants


_ADD: Final = _insert("calls", CALL)
_MOVE: Final = ", ".join(f"{name} = CASE WHEN new.run_id IS NULL THEN calls.{name} ELSE new.{name} END" for name in PLACE)
_CHANGE: Final = f"""UPDATE calls SET {", ".join(f"{name} = new.{name}" for name in MUTABLE)}, {_MOVE}
    FROM {_rows(["call_id", "base", *MUTABLE, *PLACE])} WHERE calls.call_id = new.call_id AND calls.version = new.base"""  # noqa: S608 - constants
_CHECKPOINTS: Final = _insert("checkpoints", CHECKPOINT)
_EVENTS: Final = _insert("events", EVENT)
_LEASES: Final = _insert(
    "leases",
    ("name", "owner", "epoch", "held"),
    " ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch, held = excluded.held",
)
_PUT: Final = _insert(
    "records",
    ("namespace", "key", "value", "version"),
    " ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, version = excluded.version",
)
_DROP: Final = f"DELETE FROM records USING {_rows(('namespace', 'key'))} WHERE records.namespace = new.namespace AND records.key = new.key"  # noqa: S608 - constants
_COUNTERS: Final = _insert("counters", ("name", "value"), " ON CONFLICT (name) DO UPDATE SET value = excluded.value", value="bigint")


class Pending:
    """Rows that wait to be sent, each as JSON text."""

    __slots__ = ("_added", "_changed", "_dropped", "_put", "calls", "checkpoints", "counters", "events", "leases", "logs", "sticky")

    def __init__(self) -> None:
        self.calls: dict[str, CallRecord] = {}
        """Calls as they will be."""
        self._added: dict[str, str] = {}
        self._changed: dict[str, tuple[str, int]] = {}
        self.sticky = False
        """Some of the calls are sticky, or were."""
        self.checkpoints: list[str] = []
        self.events: list[str] = []
        self.logs: set[str] = set()
        """Runs whose events wait."""
        self.leases: dict[str, str] = {}
        self.counters: dict[str, str] = {}
        self._put: dict[tuple[str, str], str] = {}
        self._dropped: dict[tuple[str, str], str] = {}

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self.events or self.calls or self.checkpoints or self.leases or self.counters or self._put or self._dropped)

    def add_call(self, record: CallRecord, row: str) -> None:
        """Have a new call sent."""
        self.calls[record.call_id] = record
        self._added[record.call_id] = row
        self.sticky = self.sticky or record.sticky

    def change_call(self, record: CallRecord, changes: str, base: int) -> None:
        """Have a call sent that is changed from version ``base``; one that is new is sent as it was before that."""
        self.calls[record.call_id] = record
        self._changed[record.call_id] = (changes, self._changed.get(record.call_id, ("", base))[1])
        self.sticky = self.sticky or record.sticky

    def add_event(self, run_id: str, row: str) -> None:
        """Have an event sent."""
        self.events.append(row)
        self.logs.add(run_id)

    def put_record(self, place: tuple[str, str], row: str) -> None:
        """Have a record written."""
        self._dropped.pop(place, None)
        self._put[place] = row

    def drop_record(self, place: tuple[str, str], row: str) -> None:
        """Have a stored record removed."""
        self._put.pop(place, None)
        self._dropped[place] = row

    def has_record(self, place: tuple[str, str]) -> bool:
        """Return whether that namespace and key are to be written or removed."""
        return place in self._put or place in self._dropped

    def take(self, later: Pending) -> None:
        """Take over what a later job has written."""
        self.calls |= later.calls
        self._added |= later._added
        for call_id, (row, base) in later._changed.items():
            self._changed[call_id] = (row, self._changed.get(call_id, ("", base))[1])
        self.sticky = self.sticky or later.sticky
        self.checkpoints += later.checkpoints
        self.events += later.events
        self.logs |= later.logs
        self.leases |= later.leases
        self.counters |= later.counters
        for place, row in later._dropped.items():
            self.drop_record(place, row)
        for place, row in later._put.items():
            self.put_record(place, row)

    def statements(self) -> Iterator[tuple[str, str, int]]:
        """Yield each statement, its one value and how many rows it must change."""
        changed = [f'{row[:-1]}, "base": {base}}}' for row, base in self._changed.values()]
        rows = (
            (_ADD, self._added.values()),
            (_CHANGE, changed),
            (_CHECKPOINTS, self.checkpoints),
            (_EVENTS, self.events),
            (_LEASES, self.leases.values()),
            (_DROP, self._dropped.values()),
            (_PUT, self._put.values()),
            (_COUNTERS, self.counters.values()),
        )
        for statement, values in rows:
            if values:
                yield statement, f"[{','.join(values)}]", len(values)
