"""Approvals: what a person decides about one call, bound to what runs, used once, and looked at immediately before the body."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from surefoot import ApprovalMismatch, ApprovalPending, CallState, Deny, NotFound
from surefoot_policy.hidden import marks

if TYPE_CHECKING:
    from surefoot.engine.claims import Claim
    from surefoot.engine.unit import Unit

__all__ = [
    "APPROVALS",
    "Approval",
    "State",
    "Terms",
    "ask",
    "current",
    "find",
    "may_decide",
    "on_behalf_of",
    "read",
    "requester",
    "use",
    "write",
]

State = Literal["pending", "approved", "denied", "expired", "used", "void"]
APPROVALS: Final = "approvals"
_SLOTS: Final = "approvals.slots"
_AGENT: Final = "agent"
_requester: ContextVar[str | None] = ContextVar("surefoot_policy_requester", default=None)


@contextmanager
def on_behalf_of(name: str) -> Iterator[None]:
    """Say who asks for what the runs in this block do. That person cannot approve it (I15).

    Default: ``SUREFOOT_REQUESTER``, else ``agent``.
    """
    token = _requester.set(name)
    try:
        yield
    finally:
        _requester.reset(token)


def requester(nobody: str = _AGENT) -> str:
    """Return who asks for what is asked for here; ``nobody`` where nobody is named."""
    return _requester.get() or os.environ.get("SUREFOOT_REQUESTER") or nobody


def may_decide(by: str, asks: str, approvers: Sequence[str]) -> bool:
    """Return whether somebody may decide about what ``asks`` has asked for; ``approvers`` are names and patterns, none: anybody else."""
    return by != asks and (not approvers or any(fnmatch.fnmatchcase(by, pattern) for pattern in approvers))


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a policy asks."""

    policy: str
    """Version of the policy."""
    entry: str
    reason: str
    expires: float
    """Seconds from now."""
    approvers: Sequence[str] = ()
    targets: Sequence[Any] | None = None
    """What the call would act on, where a plan says so."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One request to a person, and what was decided. Times are POSIX seconds."""

    id: str
    """Made of the call's id, never of a position."""
    state: State
    call_id: str
    tool: str
    fingerprint: str
    """Digest of the tool's definition that the request was made with."""
    args_digest: str
    """Keyed digest of the final arguments, as in the ledger."""
    arguments: Any
    """The arguments as data, redacted; for people."""
    effect: str
    run_id: str
    tenant: str
    thread: str | None
    step: str
    policy: str
    """Version of the policy that asks."""
    entry: str
    reason: str
    requested_by: str
    requested_at: float
    expires_at: float
    """It must be decided, and its call must start, before that."""
    approvers: Sequence[str] = ()
    decided_by: str | None = None
    decided_at: float | None = None
    comment: str = ""
    instead: Any = None
    """Arguments that a person put in the place of these."""
    alias: str | None = None
    """The model's id of the call; correlation only."""
    targets: Any = None
    """What the call would act on, as its plan says; ``None``: it has no plan."""
    hidden: Mapping[str, Any] = field(default_factory=dict)
    """What the values of redacted arguments are recognised by; see :mod:`surefoot_policy.hidden`."""
    version: int = field(default=0, compare=False)
    """Of the stored row."""

    def card(self) -> dict[str, Any]:
        """Return what a person should see."""
        return {name: getattr(self, name) for name in _CARD}


_CARD: Final = [
    "id",
    "tool",
    "arguments",
    "targets",
    "args_digest",
    "fingerprint",
    "effect",
    "run_id",
    "thread",
    "tenant",
    "step",
    "policy",
    "entry",
    "reason",
    "requested_by",
    "requested_at",
    "expires_at",
    "approvers",
]


# --- in the transaction of a claim


def ask(unit: Unit, claim: Claim, terms: Terms) -> Approval | Deny:
    """Return the approval that this very call may use, or the refusal: nobody decided yet, or not this, or no."""
    asked = current(unit, claim)
    if asked is None:
        known = _at_slot(unit, claim)
        if known is not None:
            return _mismatch(claim, "its arguments", known.args_digest, claim.digest)
        return _pending(claim, _request(unit, claim, terms, 1))
    if asked.state in {"pending", "approved"}:
        return _open(unit, claim, terms, asked)
    if asked.state == "denied":
        return _denied(asked)
    if asked.state == "used" and _stands(unit, claim, terms, asked):
        return asked
    if asked.state == "expired" and claim.request.position is not None:  # whoever resumes asks for the same; a model asks anew
        return _expired(asked)
    return _again(unit, claim, terms, asked)


def _open(unit: Unit, claim: Claim, terms: Terms, asked: Approval) -> Approval | Deny:
    """Decide by a request that is pending or approved: it may have expired, or be about something that has changed."""
    if unit.now > asked.expires_at:
        write(unit, replace(asked, state="expired"), "approval.expired")
        return _expired(asked)
    for what, (then, now) in _bound(claim, terms, asked).items():
        if then != now:
            write(unit, replace(asked, state="void", comment=f"{what} changed"), "approval.void")
            return _mismatch(claim, what, then, now) if asked.state == "approved" else _again(unit, claim, terms, asked)
    return asked if asked.state == "approved" else _pending(claim, asked)


def _bound(claim: Claim, terms: Terms, asked: Approval) -> dict[str, tuple[str, str]]:
    """Return what a request is bound to, as it was then and as it is now."""
    definition = (asked.fingerprint, claim.guard.fingerprint(claim.tool))
    return {"the tool's definition": definition, "the policy": (asked.policy, terms.policy)}


def _stands(unit: Unit, claim: Claim, terms: Terms, asked: Approval) -> bool:
    """Return whether what was used counts still: its call is known not to have happened, and nothing that was agreed on has changed."""
    row = unit.calls.get(asked.call_id)
    undone = row is not None and row.state is CallState.FAILED
    return undone and unit.now <= asked.expires_at and all(then == now for then, now in _bound(claim, terms, asked).values())


def _again(unit: Unit, claim: Claim, terms: Terms, asked: Approval) -> Deny:
    """Ask once more: who asked before knows that nothing came of it."""
    return _pending(claim, _request(unit, claim, terms, int(asked.id.rpartition(".")[2]) + 1))


def use(unit: Unit, approval: Approval) -> None:
    """Use an approval up. Raises :class:`~surefoot.LeaseLost` when somebody else has: nothing of the transaction happens then."""
    if approval.state == "approved":
        write(unit, replace(approval, state="used"), "approval.used")


def _slots(claim: Claim) -> list[str]:
    """Return the places of the request: two requests at one place, of which one was approved, must be the same.

    The model's id of a call is one of them: not every framework can say what the model asked for where the body is.
    """
    asked, alias = claim.request.position, claim.request.alias
    where = [f"{asked.digest}.{asked.rank}" if asked is not None else "", *([f"id/{alias}"] if alias else [])]
    return [f"{claim.scope}/{claim.frame.path}/{claim.tool}/{place}" for place in where]


def _at_slot(unit: Unit, claim: Claim) -> Approval | None:
    """Return what was approved at one of the request's places."""
    for slot in _slots(claim):
        record = unit.records.get(_SLOTS, slot)
        known = read(unit, record.value) if record is not None else None
        if known is None or known.state != "approved":
            continue
        if unit.now <= known.expires_at:
            return known
        write(unit, replace(known, state="expired"), "approval.expired")  # it lets nothing run any more, so nothing has to equal it
    return None


def current(unit: Unit, claim: Claim) -> Approval | None:
    """Return the newest request to a person about a call."""
    call_id, number, found = claim.record(unit.now).call_id, 1, None
    while (newer := read(unit, _id(call_id, number))) is not None:
        found, number = newer, number + 1
    return found


def _id(call_id: str, number: int) -> str:
    return f"appr_{call_id.removeprefix('call_')[:20]}.{number}"


def _request(unit: Unit, claim: Claim, terms: Terms, number: int) -> Approval:
    run = claim.frame.run.record
    row = claim.record(unit.now)
    approval = Approval(
        id=_id(row.call_id, number),
        state="pending",
        call_id=row.call_id,
        tool=claim.tool,
        fingerprint=claim.guard.fingerprint(claim.tool),
        args_digest=claim.digest,
        arguments=json.loads(claim.arguments) if claim.arguments else None,
        effect=str(claim.effect),
        run_id=run.run_id,
        tenant=run.tenant,
        thread=run.thread,
        step=claim.frame.path,
        policy=terms.policy,
        entry=terms.entry,
        reason=unit.clean(terms.reason),
        requested_by=unit.clean(requester()),
        requested_at=unit.now,
        expires_at=unit.now + terms.expires,
        approvers=tuple(terms.approvers),
        alias=row.alias,
        targets=terms.targets,
        hidden=marks(claim),
    )
    for slot in _slots(claim):
        unit.records.put(_SLOTS, slot, approval.id)
    return write(unit, approval, "approval.requested")


def _pending(claim: Claim, approval: Approval) -> Deny:
    message = (
        f"{claim.tool} waits for a person: {approval.reason}. Decide with 'surefoot approvals approve {approval.id}' or 'deny', "
        "then resume the run"
    )
    error = ApprovalPending(message, call_id=approval.call_id, run_id=approval.run_id)
    error.cards = {approval.id: approval.card()}
    return Deny(f"it waits for approval {approval.id}", error.code, error, stop=True)


def _mismatch(claim: Claim, what: str, then: str, now: str) -> Deny:
    reason = f"approval_mismatch: {what} changed since a person approved it (approved {then[:12]}, now {now[:12]})"
    return Deny(reason, error=ApprovalMismatch(f"{claim.tool} was not executed: {reason}."))


def _expired(approval: Approval) -> Deny:
    reason = f"expired: nobody decided about {approval.id} in time, and nobody rejected it; ask for it again if it is still wanted"
    return Deny(reason)


def _denied(approval: Approval) -> Deny:
    why = f": {approval.comment}" if approval.comment else ""
    if approval.instead is not None:
        return Deny(f"{approval.decided_by} put other arguments in the place of these{why}; ask for {json.dumps(approval.instead)} instead")
    return Deny(f"{approval.decided_by} denied it{why}; do not ask for it again unless something has changed")


# --- rows


def read(unit: Unit, approval_id: str) -> Approval | None:
    """Return a stored approval."""
    record = unit.records.get(APPROVALS, approval_id)
    return Approval(**record.value, version=record.version) if record is not None else None


def find(unit: Unit, approval_id: str) -> Approval:
    """Return a stored approval. Raises :class:`~surefoot.NotFound`."""
    if (approval := read(unit, approval_id)) is None:
        raise NotFound(f"there is no approval {approval_id}; 'surefoot approvals list --all' shows what there is")
    return approval


def write(unit: Unit, approval: Approval, event: str) -> Approval:
    """Write an approval, compare-and-set on the row it was read from, and note what happened to it."""
    value = {name: getattr(approval, name) for name in _FIELDS}
    record = unit.records.put(APPROVALS, approval.id, value, version=approval.version)
    told = {"tool": approval.tool, "approval": approval.id, "args_digest": approval.args_digest, "policy": approval.policy}
    told |= {"by": approval.decided_by or approval.requested_by, "comment": approval.comment}
    unit.emit(approval.run_id, event, step=approval.step, call_id=approval.call_id, **told)
    return replace(approval, version=record.version)


_FIELDS: Final = tuple(name for name in Approval.__dataclass_fields__ if name != "version")
