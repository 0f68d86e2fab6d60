"""Settling what is in doubt: by a probe, by hand, and by looking who died."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from surefoot.engine import holds
from surefoot.engine.claims import as_call
from surefoot.engine.deadline import Overdue, limited
from surefoot.engine.program import Program, Tx
from surefoot.engine.transitions import CallEvent
from surefoot.errors import IntegrityError, NotFound
from surefoot.types import HOOK_SECONDS, CallRecord, CallState, Effect, Happened, NotSeen, ToolRule, WillNotHappen

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard
    from surefoot.engine.unit import Unit

__all__ = ["probe", "recover", "settle"]

_log = logging.getLogger("surefoot.doubt")


def probe(guard: Guard, record: CallRecord, rule: ToolRule) -> Program[None]:
    """Ask the tool's probe about a call in doubt and settle it by the answer; a broken probe settles nothing."""
    assert rule.probe is not None  # noqa: S101 - asked only then
    arguments = guard.codec.loads(record.arguments) if record.arguments else {}
    try:
        answer: Any = yield limited(partial(rule.probe, as_call(record, arguments)), getattr(rule.probe, "timeout", HOOK_SECONDS))
        text = guard.codec.dumps(answer.value) if isinstance(answer, Happened) else None
    except (Exception, Overdue) as exc:  # noqa: BLE001 - whatever it raises, or gives that nobody can store, it has not answered
        _log.warning("the probe of %s raised %s: %s stays in doubt", record.tool, guard.redact(str(exc)), record.call_id)
        return
    match answer:
        case Happened():
            yield Tx(partial(settle, call_id=record.call_id, by="probe", value=text))
        case WillNotHappen() if not guard.is_running(record):
            yield Tx(partial(settle, call_id=record.call_id, by="probe"))
        case NotSeen() | WillNotHappen():  # a body that runs may yet do it, whatever the probe's author vouches for
            return
        case _:
            _log.warning("the probe of %s returned %r, which is no answer; %s stays in doubt", record.tool, answer, record.call_id)


def settle(unit: Unit, call_id: str, by: str, value: str | None = None, *, happened: bool | None = None) -> CallRecord:
    """Settle a call in doubt: ``value`` (JSON text) says that it happened, none that it did not. Lifts its holds.

    Raises :class:`~surefoot.NotFound` for an unknown call and :class:`~surefoot.IntegrityError` for one that is not in doubt.
    """
    record = unit.calls.get(call_id)
    if record is None:
        raise NotFound(f"there is no call {call_id}; 'surefoot calls list' shows what there is", call_id=call_id)
    event = CallEvent.SETTLED_COMMITTED if happened or (happened is None and value is not None) else CallEvent.SETTLED_FAILED
    if record.state not in {CallState.IN_DOUBT, CallState.RAISED}:
        if by == "probe":
            return record
        raise IntegrityError(f"call {call_id} is {record.state}, not in doubt; there is nothing to settle", call_id=call_id)
    record = unit.move(record, event, value=value, settled_by=unit.clean(by))
    holds.lift(unit, call_id, holds.held_by(unit, call_id))
    return record


def recover(guard: Guard, run_id: str) -> Program[None]:
    """Find what dead owners left of a run: their intents become doubts, and every doubt's probe is asked.

    What a declared unsafe tool leaves in doubt after that holds the run.
    """
    found: list[CallRecord] = yield Tx(partial(_lost, guard=guard, run_id=run_id))
    for record in found:
        rule = guard.rule(record.tool)
        if rule.probe is not None and record.entered:
            yield from probe(guard, record, rule)
    if found:
        yield Tx(partial(_hold_unsafe, run_id=run_id))


def _lost(unit: Unit, guard: Guard, run_id: str) -> list[CallRecord]:
    doubts = []
    for record in unit.calls.unsettled(run_id):
        if record.state is CallState.IN_DOUBT:
            doubts.append(record)
        elif record.effect in {Effect.UNSAFE, Effect.UNCLASSIFIED} and not guard.is_running(record):
            doubts.append(unit.move(record, CallEvent.LOST, reason="its process ended between its intent and its outcome"))
    return doubts


def _hold_unsafe(unit: Unit, run_id: str) -> None:
    for record in unit.calls.unsettled(run_id):
        if record.state is CallState.IN_DOUBT and (record.effect is Effect.UNSAFE or not record.entered):
            holds.place(unit, run_id, record.call_id, record.reason)
