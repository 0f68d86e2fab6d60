"""The call protocol: replay or wait, gates, intent, body, outcome. Read this module to know what surefoot does.

``call`` is a program (see :mod:`surefoot.engine.program`); the order of its steps is the promise:

1. the request is identified (:class:`~surefoot.engine.claims.Claim`);
2. one transaction decides: a recorded answer, somebody else's running call, a doubt, or a claim, whose intent is
   durable before the body starts (I2);
3. the body runs, once;
4. its outcome is durable before the framework sees it (I3); what nobody can know becomes ``in_doubt`` (I4).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from surefoot.contracts import Allow, Deny, Hold
from surefoot.engine import doubt, outcomes, words
from surefoot.engine.claims import (
    Ask,
    AskGates,
    Busy,
    Claim,
    Claimed,
    Drifted,
    InDoubtHere,
    Replay,
    Request,
    Stop,
    decide,
    fence,
    refuse_and_hold,
)
from surefoot.engine.failure import load_error
from surefoot.engine.frames import ActiveCall, Frame, inside
from surefoot.engine.key import call_id
from surefoot.engine.patience import Patience
from surefoot.engine.program import Do, Pause, Program, Tx
from surefoot.engine.transitions import CallEvent
from surefoot.errors import Denied, InDoubt, InFlight, ResultUnavailable
from surefoot.types import CallRecord, CallState, Effect

if TYPE_CHECKING:
    from surefoot.engine.claims import Answer
    from surefoot.engine.guard import Guard
    from surefoot.engine.unit import Unit

__all__ = ["call"]

_log = logging.getLogger("surefoot.call")


def call(guard: Guard, frame: Frame, request: Request, body: Do) -> Program[Any]:
    """Govern one requested call and return (or raise) its answer."""
    claim = Claim.of(guard, frame, request)
    answered = False
    frame.count(asked=+1)
    try:
        if claim.effect is Effect.READ and guard.budget is None:
            refused = yield from _ask_gates(guard, claim, claim.record(guard.clock()))
            result = yield from (_read(guard, claim, body) if refused is None else _give(guard, claim, refused))
            answered = True
            return result
        answer = yield from _decide(guard, claim)
        if isinstance(answer, Claimed):
            result = yield from _perform(guard, claim, answer, body)
        else:
            result = yield from _give(guard, claim, answer)
        answered = True
        return result
    finally:
        frame.count(asked=-1)
        if claim.plain_rank is not None:
            frame.plain_ended(request.tool, claim.digest, claim.plain_rank, answered=answered)


def _decide(guard: Guard, claim: Claim) -> Program[Answer]:
    """Decide until there is an answer: wait for a running twin, ask a probe, ask the gates."""
    patience = Patience(guard, f"call {claim.tool} of {claim.frame.path}")
    while True:
        decision = yield Tx(partial(decide, claim=claim))
        match decision:
            case Busy(record):
                if guard.runs_around(record, claim.frame):
                    msg = f"{claim.tool} ({record.call_id}) asks for itself from inside its own body; give the inner call other arguments"
                    raise InFlight(msg, call_id=record.call_id)
                yield from patience.wait(call_id=record.call_id)
            case Ask(record):
                claim.asked.add(record.call_id)
                yield from doubt.probe(guard, record, claim.rule)
            case AskGates():
                held = yield from _ask_gates(guard, claim, claim.record(guard.clock()))
                if held is not None:
                    return held
                claim.allowed = True
            case _:
                return decision  # type: ignore[no-any-return]


def _ask_gates(guard: Guard, claim: Claim, record: CallRecord) -> Program[Stop | None]:
    """Ask every gate; all must allow. A broken gate denies whatever is not a declared read (I16)."""
    for gate in guard.gates:
        try:
            decision: Any = gate.check(claim.call(record))
        except Exception as exc:  # noqa: BLE001 - fail closed, whatever it was
            decision = f"the gate {type(gate).__name__} raised {type(exc).__name__}"
        match decision:
            case Allow():
                continue
            case Hold(reason):
                return (yield Tx(partial(refuse_and_hold, claim=claim, reason=reason)))  # type: ignore[no-any-return]
            case Deny(reason):
                return Stop(Denied(words.denied(claim.tool, reason)))
        if claim.effect is not Effect.READ:
            reason = decision if isinstance(decision, str) else f"the gate {type(gate).__name__} returned {type(decision).__name__}"
            return Stop(Denied(words.denied(claim.tool, f"policy_unavailable: {reason}")))
    return None


def _give(guard: Guard, claim: Claim, answer: Replay | InDoubtHere | Drifted | Stop) -> Program[Any]:
    """Give an answer that needs no body: a recorded value or error, words for the model, or a stop."""
    match answer:
        case Replay(record):
            return replay(guard, claim, record)
        case InDoubtHere(record):
            if claim.request.notice is None:
                raise InDoubt(words.doubt_error(record), call_id=record.call_id, run_id=record.run_id)
            return claim.request.notice(words.doubt_notice(record))
        case Drifted(earlier):
            assert claim.request.notice is not None  # noqa: S101 - decided only then
            return claim.request.notice(words.drift_notice(earlier, guard.show(earlier)))
        case Stop(Denied() as error, hold=False) if claim.request.notice is not None:
            return claim.request.notice(str(error))
        case Stop(error, hold):
            yield from _calls_in_flight(claim.frame)
            raise claim.frame.run.stop(error) if hold else error


def _calls_in_flight(frame: Frame) -> Program[None]:
    """Let the bodies that run beside this call end before the run is stopped."""
    while frame.running:
        yield Pause(0.005)


def replay(guard: Guard, claim: Claim, record: CallRecord) -> Any:
    """Return the recorded value, or raise the recorded error; no body runs."""
    if claim.request.replaying is not None:
        claim.request.replaying(record)
    if record.state is CallState.RAISED and record.error is not None:
        error = load_error(guard.codec, record.error)
        if record.effect is Effect.UNCLASSIFIED:
            error.add_note(words.raised_note(record))
            _log.warning("%s", words.raised_note(record))
        claim.frame.raised[record.call_id] = error
        raise error
    if record.value is None:
        if claim.request.notice is not None:
            return claim.request.notice(words.unavailable(record))
        raise ResultUnavailable(words.unavailable(record), call_id=record.call_id)
    return guard.codec.loads(record.value)


def _perform(guard: Guard, claim: Claim, claimed: Claimed, body: Do) -> Program[Any]:
    """Run the body under its intent and make its outcome durable."""
    record, frame = claimed.record, claim.frame
    composite = record.effect is Effect.COMPOSITE
    active = ActiveCall(
        claim.call(record), frame, claim.request.tool_object, claim.occurrence, claimed.reentered, composite, record.interrupts
    )
    guard.started(record)
    frame.count(running=+1)
    try:
        value = yield inside(active, body)
    except BaseException as exc:
        frame.raised[record.call_id] = exc
        yield from outcomes.raised(guard, claim, record, exc, active.answers())
        raise
    else:
        yield from outcomes.committed(guard, claim, record, value, active.answers())
        return value
    finally:
        frame.count(running=-1)
        guard.ended(record)


def _read(guard: Guard, claim: Claim, body: Do) -> Program[Any]:
    """Run a declared read: no intent, one write for the outcome."""
    old = yield Tx(partial(_seen, claim=claim), write=False)
    record = old or claim.record(guard.clock())
    active = ActiveCall(
        claim.call(record), claim.frame, claim.request.tool_object, claim.occurrence, reentered=False, interrupts=record.interrupts
    )
    try:
        value = yield inside(active, body)
    except Exception as exc:
        if guard.suspends(exc):
            claim.frame.raised[record.call_id] = exc
            yield from outcomes.was_read(claim, CallEvent.SUSPENDED, {"interrupts": active.answers()})
        raise
    yield from outcomes.was_read(claim, CallEvent.COMMITTED, outcomes.stored(guard, claim, record, value, active.answers()))
    return value


def _seen(unit: Unit, claim: Claim) -> CallRecord | None:
    fence(unit, claim.frame)
    return unit.calls.get(call_id(claim.key))
