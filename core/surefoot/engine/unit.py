"""One unit of work: a transaction, the clock, and the events to deliver once it is durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from surefoot.contracts import Transaction
from surefoot.engine.transitions import CallEvent, advance
from surefoot.types import CallRecord, CallState, Event

__all__ = ["Unit"]

_EVENT = Event("", "", 0.0)


class Unit:
    """What a :class:`~surefoot.engine.program.Tx` works with. ``events`` is what it appended."""

    __slots__ = ("_redact", "calls", "checkpoints", "counters", "events", "leases", "now", "records", "tx")

    def __init__(self, tx: Transaction, now: float, redact: Callable[[str], str] | None = None) -> None:
        self.tx = tx
        self.now = now
        self._redact = redact
        self.calls = tx.calls
        self.checkpoints = tx.checkpoints
        self.leases = tx.leases
        self.records = tx.records
        self.counters = tx.counters
        self.events: list[Event] = []

    def emit(self, run_id: str, kind: str, *, step: str | None = None, call_id: str | None = None, **data: Any) -> None:
        """Append an event to the run's log, without secrets."""
        if self._redact is not None:
            data = {name: self._redact(value) if isinstance(value, str) else value for name, value in data.items()}
        new = _EVENT.changed(run_id=run_id, type=kind, at=self.now, data=data, step=step, call_id=call_id)
        self.events.append(self.tx.events.append(new))

    def clean(self, text: str) -> str:
        """Return ``text`` without secrets."""
        return text if self._redact is None else self._redact(text)

    def add(self, record: CallRecord, event: CallEvent, **changes: Any) -> CallRecord:
        """Insert a call that the ledger does not know, as ``event`` makes it."""
        record = advance(record, None, event, self.now, **changes)
        self.calls.insert(record)
        self._log(record, event)
        return record

    def move(self, record: CallRecord, event: CallEvent, **changes: Any) -> CallRecord:
        """Apply ``event`` to a stored call and write it back, compare-and-set."""
        record = self.calls.update(advance(record, record.state, event, self.now, **changes))
        self._log(record, event)
        return record

    def _log(self, record: CallRecord, event: CallEvent) -> None:
        data: dict[str, Any] = {"tool": record.tool, "state": str(record.state), "entry": record.entry}
        if record.state is CallState.IN_DOUBT or record.state is CallState.FAILED or record.settled_by:
            data |= {"reason": record.reason, "settled_by": record.settled_by}
        self.emit(record.run_id, str(event), step=record.path, call_id=record.call_id, **data)
