"""What became of a body: the one write after it, whichever way it ended."""

from __future__ import annotations

import logging
import warnings
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from surefoot.engine import holds
from surefoot.engine.deadline import Overdue
from surefoot.engine.failure import dump_error
from surefoot.engine.program import Pause, Program, Tx
from surefoot.engine.transitions import CallEvent
from surefoot.errors import NotCommitted, NotStorable, StoreUnavailable, SurefootWarning
from surefoot.types import CallRecord, CallState, Effect

if TYPE_CHECKING:
    from surefoot.engine.claims import Claim
    from surefoot.engine.frames import ActiveCall
    from surefoot.engine.guard import Guard
    from surefoot.engine.unit import Unit

__all__ = ["committed", "escaped", "raised", "stored", "was_read", "withdrawn"]

_log = logging.getLogger("surefoot.call")
_TRIES: Final = (0.02, 0.1, 0.5, 1.0)


def committed(guard: Guard, record: CallRecord, value: Any, answers: tuple[str | None, ...]) -> Program[None]:
    """Record that the body returned."""
    changes = stored(guard, value, answers)
    yield from _write(record, partial(_land, claimed=record, changes=changes))
    _warn(record, changes)


def stored(guard: Guard, value: Any, answers: tuple[str | None, ...]) -> dict[str, Any]:
    """Return a result as fields of its row. One that cannot be stored is a reason, never an error of the call (AS-78)."""
    try:
        return {"value": guard.codec.dumps(value, whole=True), "reason": "", "interrupts": answers}
    except NotStorable as problem:
        return {"value": None, "reason": f"result_unserialisable: {problem}", "interrupts": answers}


def _warn(record: CallRecord, changes: dict[str, Any]) -> None:
    """Say that a result cannot be replayed, now that it is written; a filter that makes warnings errors does not take the value away."""
    if changes.get("reason"):
        what = f"the effect of {record.tool} ({record.call_id}) is committed, but its result cannot be replayed: {changes['reason']}"
        try:
            warnings.warn(what, SurefootWarning, stacklevel=2)
        except SurefootWarning:
            _log.warning("%s", what)


def _land(unit: Unit, claimed: CallRecord, changes: dict[str, Any]) -> None:
    record = unit.calls.get(claimed.call_id)
    assert record is not None  # noqa: S101 - rows are never deleted
    mine = (record.run_id, record.entry) == (claimed.run_id, claimed.entry)
    if mine and record.state is CallState.INTENT:
        unit.move(record, CallEvent.COMMITTED, **changes)
    elif mine and record.state in {CallState.IN_DOUBT, CallState.FAILED}:
        unit.move(record, CallEvent.LANDED_LATE, settled_by="late", **changes)
        holds.lift(unit, record.call_id, holds.held_by(unit, record.call_id))
    elif not (mine and record.state is CallState.COMMITTED and record.value == changes["value"]):  # else it is told a second time
        _log.critical("call %s landed after it had become %s under another entry; look at it", record.call_id, record.state)
        unit.emit(record.run_id, "call.late_conflict", step=record.path, call_id=record.call_id, state=str(record.state))


def raised(guard: Guard, claim: Claim, record: CallRecord, exc: BaseException, active: ActiveCall) -> Program[None]:
    """Record that the body raised: an answer, a proof, the framework's control flow, or a doubt."""
    changes: dict[str, Any] = {"reason": guard.redact(f"{type(exc).__name__}: {exc}")[:500], "interrupts": active.answers()}
    if guard.suspends(exc):
        event = CallEvent.SUSPENDED
    elif not active.entered or isinstance(exc, (NotCommitted, *claim.rule.not_committed)):
        event = CallEvent.NOT_COMMITTED
    elif isinstance(exc, Exception):
        event = CallEvent.RAISED
        changes |= {"error": dump_error(guard.codec, guard.redact, exc), "sticky": record.effect is Effect.UNSAFE}
    elif record.effect is Effect.COMPOSITE:
        event = CallEvent.SUSPENDED
    else:
        event = CallEvent.LOST
        changes["reason"] = str(exc) if isinstance(exc, Overdue) else f"it was cancelled while its body ran ({type(exc).__name__})"
    yield from _write(record, partial(_end, claimed=record, event=event, changes=changes))


def withdrawn(guard: Guard, record: CallRecord) -> Program[None]:
    """Record that a claimed body will not be entered: who asked was cancelled, or the claim may not have been stored."""
    reason = "it was cancelled before its body was entered"
    try:
        with suppress(StoreUnavailable):
            yield Tx(partial(_end, claimed=record, event=CallEvent.NOT_COMMITTED, changes={"reason": reason}))
    finally:
        guard.ended(record)


def _end(unit: Unit, claimed: CallRecord, event: CallEvent, changes: dict[str, Any]) -> None:
    record = unit.calls.get(claimed.call_id)
    if record is not None and record.state is CallState.INTENT and (record.run_id, record.entry) == (claimed.run_id, claimed.entry):
        unit.move(record, event, **changes)


def was_read(claim: Claim, record: CallRecord, event: CallEvent, changes: dict[str, Any]) -> Program[None]:
    """Record the outcome of a declared read: its only write, which rides along with the next one; if it is lost, it is read again."""

    def work(unit: Unit) -> None:
        row = claim.record(unit.now)
        old = unit.calls.get(row.call_id)
        if old is None:
            unit.add(row, event, **changes)
        elif old.entry <= row.entry:  # else a newer entry has read it since
            if old.state is not CallState.INTENT:
                old = unit.move(old, CallEvent.REENTERED, entry=row.entry, touched=row.entry)
            unit.move(old, event, **changes)

    yield Tx(work, rides=event is CallEvent.COMMITTED)
    _warn(record, changes)


def escaped(unit: Unit, call_ids: list[str]) -> None:
    """Note that these calls' errors escaped their step: for a declared unsafe tool that is a doubt (``design`` 5.7)."""
    for call_id in call_ids:
        record = unit.calls.get(call_id)
        if record is not None and record.state is CallState.RAISED and record.effect is Effect.UNSAFE:
            unit.move(record, CallEvent.ESCAPED, reason=f"it raised out of its step ({record.reason})")


def _write(record: CallRecord, work: Any) -> Program[None]:
    """Write an outcome, trying again while the store is away; the result is never given without it (I3)."""
    for pause in (*_TRIES, None):
        try:
            yield Tx(work)
        except StoreUnavailable as exc:
            if pause is None:
                what = f"the outcome of {record.tool} ({record.call_id}) could not be stored"
                raise StoreUnavailable(f"{what}; it is in doubt until the store is back ({exc})", call_id=record.call_id) from exc
            yield Pause(pause)
        else:
            return
