"""Holds and stops: durable state of a run that a claim looks at."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from surefoot.engine import words
from surefoot.errors import InDoubt, RunStopped

if TYPE_CHECKING:
    from surefoot.engine.unit import Unit
    from surefoot.types import RunRecord

__all__ = ["STOPS", "error", "get", "lift", "place", "stopped"]

_NAMESPACE = "holds"
STOPS = "stops"
"""Records ``run/<id>``, ``tenant/<name>`` and ``all``: who stopped it (``by``), why (``reason``) and when (``at``)."""


def get(unit: Unit, run_id: str) -> dict[str, Any] | None:
    """Return the run's hold: ``{"calls": [...], "reason": ...}``, or ``None`` when it is not held."""
    record = unit.records.get(_NAMESPACE, run_id)
    return record.value if record else None


def place(unit: Unit, run_id: str, call_id: str, reason: str) -> None:
    """Hold the run until ``call_id`` is settled; adds to a hold that exists."""
    hold = get(unit, run_id) or {"calls": [], "reason": reason}
    if call_id not in hold["calls"]:
        unit.records.put(_NAMESPACE, run_id, {**hold, "calls": [*hold["calls"], call_id]})
        unit.emit(run_id, "run.held", call_id=call_id, reason=reason)


def lift(unit: Unit, call_id: str, run_ids: set[str]) -> None:
    """Take ``call_id`` out of the holds of these runs; a run that nothing holds any more is free."""
    for run_id in run_ids:
        hold = get(unit, run_id)
        if hold is None or call_id not in hold["calls"]:
            continue
        left = [c for c in hold["calls"] if c != call_id]
        if left:
            unit.records.put(_NAMESPACE, run_id, {**hold, "calls": left})
        else:
            unit.records.delete(_NAMESPACE, run_id)
            unit.emit(run_id, "run.freed", call_id=call_id)


def held_by(unit: Unit, call_id: str) -> set[str]:
    """Return the runs that ``call_id`` holds: its own, and later ones of its conversation that asked for it again."""
    return {record.key for record in unit.records.list(_NAMESPACE, limit=sys.maxsize) if call_id in record.value["calls"]}


def error(unit: Unit, run_id: str, hold: dict[str, Any]) -> InDoubt:
    """Return the error that a held run answers with."""
    call_id = hold["calls"][0]
    record = unit.calls.get(call_id)
    if record is None:
        message = f"run {run_id} is held: {hold['reason']}"
    elif record.entered:
        message = words.doubt_error(record)
    else:
        message = words.held(record.tool, record.reason, call_id)
    return InDoubt(message, call_id=call_id, run_id=run_id)


def stopped(unit: Unit, run: RunRecord) -> RunStopped | None:
    """Return the error of a run that somebody has stopped: itself, its tenant, or everything."""
    for key in (f"run/{run.run_id}", f"tenant/{run.tenant}", "all"):
        if (stop := unit.records.get(STOPS, key)) is not None:
            return RunStopped(words.stopped(run.run_id, key, stop.value), run_id=run.run_id)
    return None
