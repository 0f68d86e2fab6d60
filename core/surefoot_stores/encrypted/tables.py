"""The tables of an encrypted store, as one transaction sees them: plain outside, sealed inside.

Each row has one seal over all of it. Of a call that is its reason, of a checkpoint its verdict, of an event its data, of a record
its value: these columns are never empty. What else is secret in a row is sealed by itself, so that large values stay where the
store inside keeps them, and the row's seal covers it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, Final

from surefoot.contracts import CheckpointStore, EventLog, Ledger, Records, Transaction
from surefoot.engine.events import chained
from surefoot.errors import IntegrityError, LeaseLost
from surefoot.types import CallRecord, CallState, Checkpoint, Event, Record
from surefoot_stores.encrypted.box import Box
from surefoot_stores.rows import ENDS, IDENTITY, PLACE, readable

__all__ = ["Tables", "sealed_in"]

_call_fields: Final = itemgetter(*(f.name for f in fields(CallRecord) if f.name not in {"reason", "created", "updated", "effect", "state"}))
_checkpoint_fields: Final = itemgetter("path", "branch", "entry", "attempt", "digest", "mark")
_dumps: Final = json.JSONEncoder().encode


class Tables:
    """A :class:`~surefoot.contracts.Transaction` around another one. :meth:`finish` must come before that commits."""

    def __init__(self, tx: Transaction, box: Box) -> None:
        self._tx: Any = tx
        self.leases, self.counters = tx.leases, tx.counters
        self.records: Records = _Records(tx.records, box)
        self._ends = _Ends(self.records)
        self._calls = _Calls(tx.calls, box)
        self.calls: Ledger = self._calls
        self.checkpoints: CheckpointStore = _Checkpoints(tx.checkpoints, box, self._ends)
        self.events: EventLog = _Events(tx.events, box, self._ends)

    def finish(self) -> None:
        """Write down where the logs end that this transaction added to."""
        self._ends.save()

    @property
    def rewrite(self) -> Callable[..., int]:
        """What removes rows of the store inside: retention's alone."""
        self._ends.save()
        rewrite: Callable[..., int] = self._tx.rewrite
        return rewrite

    def replace(self, record: CallRecord) -> int:
        """Write a call without what ``record`` has no more, its identity too: retention's alone. Returns how many rows that were."""
        replaced: int = self._tx.replace(self._calls.pruned(record))
        return replaced


class _Table:
    def __init__(self, box: Box) -> None:
        self._box = box
        self._asked = box.asked


def sealed_in(value: Any) -> Any:
    """Return what is sealed in JSON data that a store keeps, ``None`` where there is nothing."""
    return value.get("sealed") if isinstance(value, dict) else None


class _Calls(_Table, Ledger):
    def __init__(self, calls: Ledger, box: Box) -> None:
        super().__init__(box)
        self._calls = calls

    def _sealed(self, record: CallRecord, **kept: Any) -> CallRecord:
        """Return a call as the store inside keeps it; ``kept`` are columns that it has sealed already and does not write again."""
        answers = _dumps(record.interrupts) if record.interrupts else None
        texts = {
            column: self._put(record, column, getattr(record, column)) for column in ("arguments", "value", "error") if column not in kept
        }
        if "interrupts" not in kept:
            texts["interrupts"] = (self._put(record, "interrupts", answers),) if answers else ()
        new = record.changed(**texts, **kept)
        return new.changed(reason=self._box.seal(readable(record.reason), *_call_place(new)))

    def _put(self, record: CallRecord, column: str, text: str | None) -> Any:
        return None if text is None else self._box.seal(text, "call", record.call_id, column)

    def pruned(self, record: CallRecord) -> CallRecord:
        """Return a call of which retention took something, as the store inside keeps it."""
        old = self._calls.get(record.call_id)
        return self._sealed(record, interrupts=old.interrupts if old else ())

    def _opened(self, kept: CallRecord) -> CallRecord:
        reason = self._box.open(kept.reason, *_call_place(kept))
        get = self._get
        answers = tuple(json.loads(get(kept, "interrupts", kept.interrupts[0]) or "")) if kept.interrupts else ()
        secrets = {column: get(kept, column, getattr(kept, column)) for column in ("arguments", "value", "error")}
        return kept.changed(reason=reason, interrupts=answers, **secrets)

    def _get(self, kept: CallRecord, column: str, sealed: str | None) -> str | None:
        return None if sealed is None else self._box.open(sealed, "call", kept.call_id, column)

    def get(self, call_id: str) -> CallRecord | None:
        kept = self._asked(self._calls.get, call_id)
        return None if kept is None else self._opened(kept)

    def insert(self, record: CallRecord) -> None:
        self._calls.insert(self._sealed(record))

    def update(self, record: CallRecord) -> CallRecord:
        old = self._asked(self._calls.get, record.call_id)
        if old is None or old.version != record.version:
            raise LeaseLost(f"call {record.call_id} was changed by somebody else", call_id=record.call_id)
        self._box.open(old.reason, *_call_place(old))  # what was changed by somebody else is not sealed anew
        fixed = IDENTITY if record.state is CallState.INTENT else IDENTITY.union(PLACE)
        new = record.changed(version=old.version + 1)
        kept = self._sealed(new.changed(**{column: getattr(old, column) for column in fixed}), arguments=old.arguments)
        self._calls.update(kept.changed(version=old.version))
        return new

    def sticky(self, tenant: str, conversation: str, tool: str, args_digest: str) -> Sequence[CallRecord]:
        return [self._opened(kept) for kept in self._asked(self._calls.sticky, tenant, conversation, tool, args_digest)]

    def unsettled(self, run_id: str) -> Sequence[CallRecord]:
        return [self._opened(kept) for kept in self._asked(self._calls.unsettled, run_id)]

    def under(self, scope: str, path: str, *, tool: str | None = None, before: int | None = None) -> Sequence[CallRecord]:
        return [self._opened(kept) for kept in self._asked(self._calls.under, scope, path, tool=tool, before=before)]

    def touches(self, scope: str, path: str) -> bool:
        return self._calls.touches(scope, path)

    def list(
        self, *, state: CallState | None = None, run_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[CallRecord]:
        return [self._opened(kept) for kept in self._asked(self._calls.list, state=state, run_id=run_id, after=after, limit=limit)]


def _call_place(kept: CallRecord) -> tuple[Any, ...]:
    """Return all of a call but its reason, for the seal in that."""
    words = (kept.effect.value, kept.state.value, float(kept.created), float(kept.updated))
    return ("call", kept.call_id, *words, *_call_fields(kept.__dict__))


class _Checkpoints(_Table, CheckpointStore):
    def __init__(self, checkpoints: CheckpointStore, box: Box, ends: _Ends) -> None:
        super().__init__(box)
        self._checkpoints = checkpoints
        self._ends = ends

    def append(self, checkpoint: Checkpoint) -> Checkpoint:
        end = self._ends.of(checkpoint.run_id)
        new = checkpoint.changed(seq=end["checkpoints"] + 1)
        place = _checkpoint_place(new)
        output = None if new.output is None else self._box.seal(new.output, *place, "output")
        kept = self._checkpoints.append(new.changed(output=output, verdict=self._box.seal(new.verdict, *place)))
        _expect_end(kept.seq, new.seq, "checkpoints", new.run_id)
        self._ends.move(new.run_id, checkpoints=new.seq)
        return new

    def at(self, run_id: str, path: str) -> Sequence[Checkpoint]:
        return [self._opened(kept) for kept in self._asked(self._checkpoints.at, run_id, path)]

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Checkpoint]:
        return [self._opened(kept) for kept in self._asked(self._checkpoints.list, run_id, after=after, limit=limit)]

    def _opened(self, kept: Checkpoint) -> Checkpoint:
        place = _checkpoint_place(kept)
        output = None if kept.output is None else self._box.open(kept.output, *place, "output")  # retention may have taken it
        return kept.changed(output=output, verdict=self._box.open(kept.verdict, *place))


def _checkpoint_place(row: Checkpoint) -> tuple[Any, ...]:
    return ("checkpoint", f"{row.seq} of the run {row.run_id}", row.seq, row.run_id, float(row.created), *_checkpoint_fields(row.__dict__))


class _Events(_Table, EventLog):
    """Two chains: the store inside links what is sealed, this one what it says, whose links are sealed with it."""

    def __init__(self, events: EventLog, box: Box, ends: _Ends) -> None:
        super().__init__(box)
        self._events = events
        self._ends = ends

    def append(self, event: Event) -> Event:
        end = self._ends.of(event.run_id)
        new, text = chained(event, end["events"] + 1, end["link"])
        sealed = self._box.seal(f'[{new.monotonic!r},"{new.salt}","{new.link}",{text}]', *_event_place(new))
        kept = self._events.append(event.changed(monotonic=new.monotonic, data={"sealed": sealed}))
        _expect_end(kept.seq, new.seq, "events", new.run_id)
        self._ends.move(new.run_id, events=new.seq, link=new.link)
        return new

    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        return [self._opened(kept) for kept in self._asked(self._events.list, run_id, after=after, limit=limit)]

    def _opened(self, kept: Event) -> Event:
        monotonic, salt, link, data = json.loads(self._box.open(sealed_in(kept.data), *_event_place(kept)))
        return kept.changed(monotonic=monotonic, salt=salt, link=link, data=data)


def _event_place(event: Event) -> tuple[Any, ...]:
    where = f"{event.seq} of the run {event.run_id}"
    return ("event", where, event.seq, event.run_id, f"{event.type}", float(event.at), event.step, event.call_id, event.schema)


class _Ends:
    """Where the log and the checkpoints of each run end: a record each, written once a transaction."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._moved: dict[str, dict[str, Any]] = {}

    def of(self, run_id: str) -> dict[str, Any]:
        """Return the end of a run's log."""
        moved = self._moved.get(run_id)
        if moved is not None:
            return moved
        record = self._records.get(ENDS, run_id)
        return record.value if record else {"events": 0, "link": "", "checkpoints": 0}

    def move(self, run_id: str, **end: Any) -> None:
        """Note what was added."""
        self._moved[run_id] = self.of(run_id) | end

    def save(self) -> None:
        """Write down what was noted."""
        moved, self._moved = self._moved, {}
        for run_id, end in moved.items():
            self._records.put(ENDS, run_id, end)


def _expect_end(found: int, expected: int, what: str, run_id: str) -> None:
    if found != expected:
        raise IntegrityError(
            f"the {what} of the run {run_id} end at {found - 1}, and {expected - 1} were written; restore the store from a backup"
        )


class _Records(_Table, Records):
    def __init__(self, records: Records, box: Box) -> None:
        super().__init__(box)
        self._records = records

    def get(self, namespace: str, key: str) -> Record | None:
        kept = self._asked(self._records.get, namespace, key)
        return None if kept is None else self._opened(namespace, kept)

    def _opened(self, namespace: str, kept: Record) -> Record:
        return Record(
            kept.key, json.loads(self._box.open(sealed_in(kept.value), "record", kept.key, namespace, kept.version)), kept.version
        )

    def put(self, namespace: str, key: str, value: Any, *, version: int | None = None) -> Record:
        kept = self._asked(self._records.get, namespace, key)
        old = kept.version if kept else 0
        if version is not None and version != old:
            raise LeaseLost(f"{namespace}/{key} was changed by somebody else")
        sealed = self._box.seal(_dumps(value), "record", key, namespace, old + 1)
        self._records.put(namespace, key, {"sealed": sealed}, version=old)
        return Record(key, value, old + 1)

    def delete(self, namespace: str, key: str) -> None:
        self._records.delete(namespace, key)

    def list(self, namespace: str, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> Sequence[Record]:
        return [
            self._opened(namespace, kept) for kept in self._asked(self._records.list, namespace, prefix=prefix, after=after, limit=limit)
        ]
