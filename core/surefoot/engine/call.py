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
from surefoot.engine import claims, doubt, outcomes, words
from surefoot.engine.deadline import Overdue, Timed, limited
from surefoot.engine.failure import load_error
from surefoot.engine.frames import ActiveCall, Frame, inside
from surefoot.engine.key import call_id
from surefoot.engine.patience import Patience
from surefoot.engine.program import Do, Pause, Program, Tx
from surefoot.engine.transitions import CallEvent
from surefoot.errors import Denied, InDoubt, InFlight, ResultUnavailable
from surefoot.types import CallRecord, CallState, Effect

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard
    from surefoot.engine.unit import Unit

__all__ = ["call"]

_log = logging.getLogger("surefoot.call")


def call(guard: Guard, frame: Frame, request: claims.Request, body: Do) -> Program[Any]:
    """Govern one requested call and return (or raise) its answer."""
    claim = claims.Claim.of(guard, frame, request)
    answered = False
    frame.asked.add(claim)
    try:
        if claim.effect is Effect.READ and not any(admission.reads for admission in guard.admissions):
            refused = yield from _ask_gates(guard, claim, claim.record(guard.clock()))
            result = yield from (_read(guard, claim, body) if refused is None else _give(guard, claim, refused))
        else:
            result = yield from _answer(guard, claim, body)
        answered = True
        return result
    finally:
        frame.asked.discard(claim)
        if claim.plain_rank is not None:
            frame.plain_ended(request.tool, claim.digest, claim.plain_rank, answered=answered)


def _answer(guard: Guard, claim: claims.Claim, body: Do) -> Program[Any]:
    answer = yield from _decide(guard, claim)
    if isinstance(answer, claims.Claimed):
        return (yield from _perform(guard, claim, answer, body))
    return (yield from _give(guard, claim, answer))


def _decide(guard: Guard, claim: claims.Claim) -> Program[claims.Answer]:
    """Decide until there is an answer: wait for a running twin, ask a probe, ask the gates."""
    patience: Patience | None = None
    while True:
        try:
            decision = yield Tx(partial(claims.decide, claim=claim))
        except BaseException:
            if claim.claimed is not None:
                yield from outcomes.withdrawn(guard, claim.claimed)
            raise
        match decision:
            case claims.Busy(record):
                if guard.runs_around(record, claim.frame):
                    msg = f"{claim.tool} ({record.call_id}) asks for itself from inside its own body; give the inner call other arguments"
                    raise InFlight(msg, call_id=record.call_id)
                patience = patience or Patience(guard, f"call {claim.tool} of {claim.frame.path}")
                yield from patience.wait(call_id=record.call_id)
            case claims.Ask(record):
                claim.asked.add(record.call_id)
                yield from doubt.probe(guard, record, claim.rule)
            case claims.AskGates():
                held = yield from _ask_gates(guard, claim, claim.record(guard.clock()))
                if held is not None:
                    return held
                claim.allowed = True
            case _:
                return decision  # type: ignore[no-any-return]


def _ask_gates(guard: Guard, claim: claims.Claim, record: CallRecord) -> Program[claims.Stop | None]:
    """Ask every gate; all must allow. A broken gate denies whatever is not a declared read (I16)."""
    for gate in guard.gates:
        try:
            decision: Any = yield limited(partial(gate.check, claim.shown(record)), gate.timeout)
        except (Exception, Overdue) as exc:  # noqa: BLE001 - fail closed, whatever it was
            decision = exc
        match claims.judged(gate, claim.effect, decision, (Allow, Deny, Hold)):
            case Hold(reason):
                held = yield Tx(partial(claims.refuse_and_hold, claim=claim, reason=guard.redact(reason)))
                if not isinstance(held, claims.AskGates):  # else somebody has settled that it may run
                    return held  # type: ignore[no-any-return]
            case Deny() as no:
                return (yield Tx(partial(claims.refuse, claim=claim, no=no, reason=guard.redact(no.reason))))  # type: ignore[no-any-return]
    return None


def _give(guard: Guard, claim: claims.Claim, answer: claims.Replay | claims.InDoubtHere | claims.Drifted | claims.Stop) -> Program[Any]:
    """Give an answer that needs no body: a recorded value or error, words for the model, or a stop."""
    match answer:
        case claims.Replay(record):
            return replay(guard, claim, record)
        case claims.InDoubtHere(record):
            if claim.request.notice is None:
                raise InDoubt(words.doubt_error(record), call_id=record.call_id, run_id=record.run_id)
            return claim.request.notice(words.doubt_notice(record))
        case claims.Drifted(earlier):
            assert claim.request.notice is not None  # noqa: S101 - decided only then
            return claim.request.notice(words.drift_notice(earlier, guard.show(earlier)))
        case claims.Stop(Denied() as error, hold=False) if claim.request.notice is not None:
            return claim.request.notice(str(error))
        case claims.Stop(error, hold):
            yield from _calls_in_flight(claim.frame)
            raise claim.frame.run.stop(error) if hold else error


def _calls_in_flight(frame: Frame) -> Program[None]:
    """Let the bodies that run beside this call end before the run is stopped."""
    while frame.running:
        yield Pause(0.005)


def replay(guard: Guard, claim: claims.Claim, record: CallRecord) -> Any:
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


def _perform(guard: Guard, claim: claims.Claim, claimed: claims.Claimed, body: Do) -> Program[Any]:
    """Run the body under its intent and make its outcome durable."""
    record, frame = claimed.record, claim.frame
    active, work = _active(guard, claim, record, body, reentered=claimed.reentered)
    frame.running.add(claim)
    try:
        value = yield work
    except Overdue as exc:
        yield from outcomes.raised(guard, claim, record, exc, active)
        if not claim.at_most_once:
            raise TimeoutError(f"{claim.tool}: {exc}") from None
    except BaseException as exc:
        frame.raised[record.call_id] = exc
        yield from outcomes.raised(guard, claim, record, exc, active)
        raise
    else:
        yield from outcomes.committed(guard, record, value, active.answers())
        return value
    finally:
        frame.running.discard(claim)
        if isinstance(work, Timed):
            work.when_ended(partial(_landed, guard, claim, record, active))
        else:
            guard.ended(record)
    claim.asked.add(record.call_id)  # a probe would take time that the caller was not promised to wait
    claim.claimed = None  # the body runs on: this asks anew
    return (yield from _answer(guard, claim, body))


def _active(guard: Guard, claim: claims.Claim, record: CallRecord, body: Do, *, reentered: bool) -> tuple[ActiveCall, Do]:
    """Return the call as its body finds it, and the body in it."""
    seconds = claim.rule.timeout
    call = claim.call(record, guard.clock() + seconds if seconds is not None else None)
    tool, composite = claim.request.tool_object, record.effect is Effect.COMPOSITE
    active = ActiveCall(call, claim.frame, tool, claim.occurrence, reentered, composite, record.interrupts)
    work = inside(active, body)
    return active, work if seconds is None else Timed(work, seconds)


def _landed(guard: Guard, claim: claims.Claim, record: CallRecord, active: ActiveCall, ended: Any) -> None:
    """Note that a body has ended; what one returned that its caller had left lands late, on its own effect (AS-42)."""
    guard.ended(record)
    if ended is None or ended.cancelled() or ended.exception() is not None:
        return
    try:
        guard.drive(outcomes.committed(guard, record, ended.result(), active.answers()))
    except Exception:  # noqa: BLE001 - there is no caller any more
        _log.exception("what %s (%s) returned after its deadline could not be recorded; it stays in doubt", claim.tool, record.call_id)


def _read(guard: Guard, claim: claims.Claim, body: Do) -> Program[Any]:
    """Run a declared read: no intent, one write for the outcome."""
    old = yield Tx(partial(_seen, claim=claim), write=False)
    record = old or claim.record(guard.clock())
    active, work = _active(guard, claim, record, body, reentered=False)
    try:
        value = yield work
    except Overdue as exc:
        raise TimeoutError(f"{claim.tool}: {exc}") from None
    except Exception as exc:
        if guard.suspends(exc):
            claim.frame.raised[record.call_id] = exc
            yield from outcomes.was_read(claim, record, CallEvent.SUSPENDED, {"interrupts": active.answers()})
        raise
    yield from outcomes.was_read(claim, record, CallEvent.COMMITTED, outcomes.stored(guard, value, active.answers()))
    return value


def _seen(unit: Unit, claim: claims.Claim) -> CallRecord | None:
    claims.fence(unit, claim.frame)
    return unit.calls.get(call_id(claim.key))
