"""The decision about one request, made inside one transaction: replay, wait, refuse, or claim."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from surefoot.contracts import Allow, Deny
from surefoot.engine import holds, matching, words
from surefoot.engine.key import below, business_key, call_id, conflict_key, slot_key
from surefoot.engine.transitions import CallEvent
from surefoot.errors import Denied, InDoubt, KeyConflict, LeaseLost, NotStorable, ResultUnavailable
from surefoot.types import Call, CallRecord, CallState, Effect, ToolRule

if TYPE_CHECKING:
    from surefoot.engine.frames import Frame
    from surefoot.engine.guard import Guard
    from surefoot.engine.unit import Unit

__all__ = ["Answer", "Ask", "AskGates", "Busy", "Claim", "Claimed", "Drifted", "InDoubtHere", "Position", "Replay", "Request", "Stop"]

RERUNS = frozenset({Effect.READ, Effect.IDEMPOTENT, Effect.COMPOSITE})
_PLACE = ("entry", "touched", "owner", "conversation", "run_id", "scope", "path", "alias", "occurrence")
_ROW = CallRecord("", "", "", "", "", "", "", "", "", None, Effect.UNCLASSIFIED, CallState.INTENT, 0, 0, "")


@dataclass(slots=True, eq=False, repr=False)
class Position:
    """Where in the model's reply a request stands."""

    digest: str
    """Digest of the arguments as the model asked for them."""
    rank: int
    """How many equal requests (tool and arguments) stand before it in the reply."""
    siblings: Sequence[str] = ()
    """Digests of the reply's other requests for the same tool."""

    def occurrence(self, digest: str, rank: int) -> str:
        """Return the occurrence of the ``rank``-th twin when the final arguments have this digest."""
        return str(rank) if self.digest == digest else f"{rank}@{self.digest[:16]}"


@dataclass(slots=True, eq=False, repr=False)
class Request:
    """One requested call, as the adapter at the tool's body sees it."""

    tool: str
    arguments: Mapping[str, Any]
    """Final values of what the model can see, static defaults filled in, injected ones left out."""
    tool_object: object
    alias: str | None = None
    """The model's id of the call; correlation only."""
    position: Position | None = None
    """``None`` in plain code, where nobody numbered the requests."""
    notice: Callable[[str], Any] | None = None
    """Turns words for the model into a result of the tool's shape; ``None`` where no model asked."""
    replaying: Callable[[CallRecord], None] | None = None
    """Called before a recorded answer is given: consume what the body consumed of the framework's task."""
    key: str | None = None
    """The ledger's key, where the caller itself says which operation it is: a digest over at least tenant, tool and that name."""


@dataclass(slots=True, eq=False, repr=False)
class _About:
    record: CallRecord
    """The row that the decision is about."""


@dataclass(slots=True, eq=False, repr=False)
class Claimed(_About):
    """The body may run."""

    reentered: bool = False


class Replay(_About):
    """The recorded answer is the answer."""


class Busy(_About):
    """Somebody else runs this very call now."""


class AskGates:
    """Nothing is recorded: the gates decide next."""


class Ask(_About):
    """In doubt, and the tool has a probe that was not asked yet."""


class InDoubtHere(_About):
    """In doubt and not a holder: the model is told, code gets :class:`~surefoot.InDoubt`."""


class Drifted(_About):
    """An unclassified call differs from what an earlier attempt did: say so once."""


@dataclass(slots=True, eq=False, repr=False)
class Stop:
    """The call is refused; ``hold`` when the run is held by it."""

    error: Exception
    hold: bool = False


Decision: TypeAlias = Claimed | Replay | Busy | AskGates | Ask | InDoubtHere | Drifted | Stop
Answer: TypeAlias = Claimed | Replay | InDoubtHere | Drifted | Stop


@dataclass(eq=False)
class Claim:
    """A request with its identity: who asks, for what, where."""

    guard: Guard
    frame: Frame
    request: Request
    rule: ToolRule
    effect: Effect
    """The class in force now."""
    digest: str
    key: str
    occurrence: str
    plain_rank: int | None
    arguments: str | None
    asked: set[str] = field(default_factory=set)
    """Calls whose probe this claim has asked."""
    allowed: bool = False
    """The gates have all said yes."""
    claimed: CallRecord | None = None
    """The intent that its last transaction wrote."""

    @classmethod
    def of(cls, guard: Guard, frame: Frame, request: Request) -> Claim:
        """Identify a request. Raises :class:`~surefoot.UsageError` when a declared key field is missing."""
        rule, codec = guard.rule(request.tool), guard.codec
        if frame.deadline is not None:  # a child has what its parent has left
            left = max(0.0, frame.deadline - guard.clock())
            rule = replace(rule, timeout=left if rule.timeout is None else min(left, rule.timeout))
        try:
            digest, arguments = codec.identify(dict(request.arguments))
        except NotStorable:
            digest, arguments = guard.opaque_digest(request.arguments), None
        if rule.redact and arguments is not None:
            arguments = codec.dumps({name: "[redacted]" if name in rule.redact else value for name, value in request.arguments.items()})
        tenant, scope = frame.run.record.tenant, frame.run.scope
        asked = request.position
        rank = frame.plain_occurrence(request.tool, digest) if asked is None else None
        occurrence = str(rank) if asked is None else asked.occurrence(digest, asked.rank)
        key = request.key or slot_key(tenant, request.tool, scope, frame.path, digest, occurrence)
        if rule.key and request.key is None:
            key = business_key(codec, rule, tenant, request.tool, scope, request.arguments)
        effect: Any = rule.effect  # an Effect since the rule was made
        return cls(guard, frame, request, rule, effect, digest, key, occurrence, rank, arguments, allowed=not guard.gates)

    @property
    def tool(self) -> str:
        """The qualified tool name."""
        return self.request.tool

    @property
    def scope(self) -> str:
        """The slot space."""
        return self.frame.run.scope

    @property
    def at_most_once(self) -> bool:
        """Whether the body must not run twice."""
        return self.effect not in RERUNS

    @property
    def siblings(self) -> Sequence[str]:
        """Digests of the other requests for this tool in the same model reply."""
        return self.request.position.siblings if self.request.position else ()

    def record(self, now: float) -> CallRecord:
        """Return the row that this claim would write."""
        run, frame = self.frame.run, self.frame
        what = {"tool": self.tool, "args_digest": self.digest, "arguments": self.arguments, "effect": self.effect}
        whose = {"tenant": run.record.tenant, "conversation": run.conversation, "run_id": run.record.run_id, "scope": self.scope}
        where = {"path": frame.path, "entry": frame.entry, "touched": frame.entry, "owner": self.guard.store.owner()}
        known = {"call_id": call_id(self.key), "key": self.key, "occurrence": self.occurrence, "alias": self.request.alias, "created": now}
        return _ROW.changed(**what, **whose, **where, **known)

    def touches(self, record: CallRecord) -> int:
        """Return the newest entry of the row's slot space that asked for it, now that this claim does."""
        return self.frame.entry if record.scope == self.scope else record.touched

    def call(self, record: CallRecord, deadline: float | None = None) -> Call:
        """Return what the tool sees of it."""
        return as_call(record, self.request.arguments, deadline)

    def shown(self, record: CallRecord) -> Call:
        """Return what one gate sees of it: a copy, so that no gate decides what the next one judges (I14)."""
        try:
            return as_call(record, copy.deepcopy(dict(self.request.arguments)))
        except Exception:  # noqa: BLE001 - what cannot be copied has no data-only form either
            return self.call(record)


def as_call(record: CallRecord, arguments: Mapping[str, Any], deadline: float | None = None) -> Call:
    """Return the public view of a ledger row."""
    thread = record.conversation if record.conversation != record.run_id else None
    what = (record.call_id, record.tool, arguments, record.args_digest, record.effect)
    return Call(*what, record.run_id, thread, record.tenant, record.path, f"surefoot-{record.key[:40]}", record.entry, deadline)


def fence(unit: Unit, frame: Frame) -> None:
    """Raise :class:`~surefoot.LeaseLost` unless ``frame`` is the newest entry of its step in the newest invocation."""
    run = frame.run
    stale = any(run.entries.get(f.path, f.entry) > f.entry for f in frame.chain())
    if run.lease is not None and not stale:
        lease = unit.leases.get(run.lease.name)
        stale = lease is None or lease.epoch != run.lease.epoch
    if stale:
        msg = f"step {frame.path} of run {run.record.run_id} was taken over by a newer entry; this one may do nothing more"
        raise LeaseLost(msg, run_id=run.record.run_id)


def decide(unit: Unit, claim: Claim) -> Decision:
    """Decide about a request; whatever was decided is written in the same transaction."""
    if claim.claimed is not None:  # the transaction is tried again
        claim.guard.ended(claim.claimed)
        claim.claimed = None
    fence(unit, claim.frame)
    record = unit.calls.get(call_id(claim.key))
    if record is not None:
        return _known(unit, claim, record)
    run = claim.frame.run
    for twin in unit.calls.sticky(run.record.tenant, run.conversation, claim.tool, claim.digest):
        return _known(unit, claim, twin)
    if rows := matching.unmatched(unit, claim):
        if (equal := matching.same(claim, rows)) is not None:
            return _known(unit, claim, equal)
        if (drift := matching.remind(claim, rows)) is not None and (decision := _drift(unit, claim, drift)) is not None:
            return decision
    return _start(unit, claim, None)


def _known(unit: Unit, claim: Claim, record: CallRecord) -> Decision:
    """Decide about a request that the ledger has a row for."""
    if record.args_digest not in {claim.digest, ""}:  # "": a tombstone of which only the hash is left
        return _conflict(unit, claim, record)
    reruns = not claim.at_most_once or record.effect is Effect.COMPOSITE
    match record.state:
        case CallState.COMPENSATION_FAILED | CallState.COMMITTED if claim.effect is not Effect.READ:
            return _replay(unit, claim, record)
        case CallState.INTENT if claim.guard.is_running(record):
            return Busy(record)
        case CallState.INTENT if not reruns:
            reason = "its process ended, or the call was cancelled, between its intent and its outcome"
            return _doubt(unit, claim, unit.move(record, CallEvent.LOST, reason=reason))
        case CallState.RAISED if not reruns:
            if record.sticky and record.key != claim.key:
                reason = "it raised, and was asked for again after that"
                return _doubt(unit, claim, unit.move(record, CallEvent.ASKED_AGAIN, reason=reason))
            return _replay(unit, claim, record)
        case CallState.IN_DOUBT if not reruns:
            return _doubt(unit, claim, record)
        case CallState.IN_DOUBT if claim.guard.runs_here(record):
            return Busy(record)
        case CallState.TOMBSTONE:
            return Stop(ResultUnavailable(words.unavailable(record), call_id=record.call_id))
    return _start(unit, claim, record)


def _replay(unit: Unit, claim: Claim, record: CallRecord) -> Decision:
    if record.effect is Effect.COMPOSITE and record.scope == claim.scope:  # what it has asked for inside is answered with it
        matching.passed(unit, unit.calls.under(record.scope, below(record.path, record, record.occurrence)), claim.frame.entry, 0)
    event = CallEvent.DELIVERED if record.sticky and record.state is CallState.COMMITTED else CallEvent.REPLAYED
    return Replay(unit.move(record, event, touched=claim.touches(record)))


def _doubt(unit: Unit, claim: Claim, record: CallRecord) -> Decision:
    if claim.rule.probe is not None and record.entered and record.call_id not in claim.asked:
        return Ask(record)
    record = unit.move(record, CallEvent.REPLAYED, touched=claim.touches(record))
    if claim.effect is not Effect.UNSAFE and record.entered:
        return InDoubtHere(record)
    message = words.doubt_error(record) if record.entered else words.held(record.tool, record.reason, record.call_id)
    return _hold(unit, claim, record, message)


def _hold(unit: Unit, claim: Claim, record: CallRecord, message: str) -> Stop:
    holds.place(unit, claim.frame.run.record.run_id, record.call_id, record.reason)
    return Stop(InDoubt(message, call_id=record.call_id, run_id=claim.frame.run.record.run_id), hold=True)


def refuse_and_hold(unit: Unit, claim: Claim, reason: str, key: str | None = None) -> Decision:
    """Record a call whose body was not entered and that a person must decide about; hold the run."""
    row = claim.record(unit.now)
    if key is not None:
        row = row.changed(key=key, call_id=call_id(key))
    record = unit.calls.get(row.call_id) or unit.add(row, CallEvent.HELD, entered=False, reason=reason)
    if record.state is not CallState.IN_DOUBT:
        return _known(unit, claim, record)
    return _hold(unit, claim, record, words.held(record.tool, reason, record.call_id))


def refuse(unit: Unit, claim: Claim, no: Deny, reason: str | None = None) -> Stop:
    """Refuse a call before its body and note it; a refusal is never an outcome (I7). ``reason``: its own one, as it may be stored."""
    reason = unit.clean(no.reason if reason is None else reason)
    unit.emit(claim.frame.run.record.run_id, "call.denied", step=claim.frame.path, tool=claim.tool, reason=reason)
    return Stop(no.error or Denied(words.denied(claim.tool, reason)), hold=no.stop)


def judged(gate: object, effect: Effect, decision: Any, answers: tuple[type, ...] = (Allow, Deny)) -> Any:
    """Return what a gate decided, one of ``answers``; what it raised, or junk, denies whatever is not a declared read (AS-46, I16)."""
    if isinstance(decision, answers):
        return decision
    why = f"{'raised' if isinstance(decision, BaseException) else 'returned'} {type(decision).__name__}"
    return Allow() if effect is Effect.READ else Deny(f"policy_unavailable: the gate {type(gate).__name__} {why}")


def _conflict(unit: Unit, claim: Claim, record: CallRecord) -> Decision:
    reason = words.conflict(record, claim.digest)
    if claim.effect is Effect.UNSAFE:
        return refuse_and_hold(unit, claim, reason, key=conflict_key(claim.key, claim.digest))
    return Stop(KeyConflict(f"{claim.tool} was not executed: {reason}", call_id=record.call_id))


def _drift(unit: Unit, claim: Claim, earlier: CallRecord) -> Decision | None:
    frame = matching.reentered(claim)[-1]
    if claim.effect is Effect.UNSAFE:
        return refuse_and_hold(unit, claim, f"an earlier attempt of this step already did {earlier.call_id} with other arguments")
    if claim.request.notice is not None and claim.tool not in frame.reminded:
        frame.reminded.add(claim.tool)
        unit.emit(claim.frame.run.record.run_id, "call.drift_told", step=claim.frame.path, call_id=earlier.call_id, tool=claim.tool)
        return Drifted(earlier)
    if claim.allowed:  # else the gates are asked first, and this is decided again
        unit.emit(claim.frame.run.record.run_id, "call.drift_allowed", step=claim.frame.path, call_id=earlier.call_id, tool=claim.tool)
    return None


def _start(unit: Unit, claim: Claim, record: CallRecord | None) -> Decision:
    """Claim: entry current, run not held, gates asked, budget reserved, then the intent, all in this transaction."""
    run = claim.frame.run
    if claim.at_most_once and (open_hold := holds.get(unit, run.record.run_id)) is not None:
        return Stop(holds.error(unit, run.record.run_id, open_hold), hold=True)
    if claim.effect not in {Effect.READ, Effect.COMPOSITE} and (stopped := holds.stopped(unit, run.record)) is not None:
        return Stop(stopped, hold=True)
    if not claim.allowed:
        return AskGates()
    for admission in claim.guard.admissions:
        try:
            decision: Any = admission.admit(unit, claim, record)
        except Exception as exc:  # noqa: BLE001 - fail closed, whatever it was
            decision = exc
        if isinstance(no := judged(admission, claim.effect, decision), Deny):
            return refuse(unit, claim, no)
    for admission in claim.guard.admissions:
        admission.spend(unit, claim, record)
    if record is None:
        return _claimed(claim, unit.add(claim.record(unit.now), CallEvent.CLAIMED), reentered=False)
    effect = record.effect if record.effect is Effect.COMPOSITE else claim.effect
    # A doubt that another slot of the conversation enters stays where it is; under its own key the row is whose body runs now.
    row, place = claim.record(unit.now).__dict__, _PLACE if record.key == claim.key else _PLACE[:3]
    again = unit.move(record, CallEvent.REENTERED, effect=effect, entered=True, **{name: row[name] for name in place})
    return _claimed(claim, again, reentered=True)


def _claimed(claim: Claim, record: CallRecord, *, reentered: bool) -> Claimed:
    claim.claimed = record
    claim.guard.started(record)  # before anybody can see the intent: an equal request would take it for a dead process's
    return Claimed(record, reentered)
