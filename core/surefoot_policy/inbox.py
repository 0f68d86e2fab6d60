"""``guard.approvals``: what people have to decide, and deciding it. The same things the command line shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from surefoot import Denied, IntegrityError, NotFound, RunStatus, UsageError
from surefoot.engine.frames import here
from surefoot.engine.program import Tx
from surefoot.engine.run import load
from surefoot.types import expect
from surefoot_policy import grants
from surefoot_policy.approvals import APPROVALS, Approval, State, find, may_decide, requester, write
from surefoot_policy.grants import Grant
from surefoot_policy.hidden import kept, without
from surefoot_policy.scopes import no_secrets

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot.engine.unit import Unit

__all__ = ["Approvals"]

T = TypeVar("T")
_PAGE = 1000


class Approvals:
    """The approvals of a store. One decision wins; the requester, and code inside of a run, cannot decide (I15)."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def list(self, *, state: State | None = "pending", run_id: str | None = None, tenant: str | None = None) -> Sequence[Approval]:
        """Return approvals, oldest first; ``state=None``: whatever their state. A batch is what one run waits for."""

        def work(unit: Unit) -> Sequence[Approval]:
            found = [_today(unit, approval) for approval in _all(unit)]
            return [
                approval
                for approval in sorted(found, key=lambda approval: (approval.requested_at, approval.id))
                if state in {None, approval.state} and run_id in {None, approval.run_id} and tenant in {None, approval.tenant}
            ]

        return self._look(work)

    def show(self, approval_id: str) -> Approval:
        """Return one approval as it stands now. Raises :class:`~surefoot.NotFound`."""
        return self._look(lambda unit: _today(unit, find(unit, approval_id)))

    def approve(self, *approval_ids: str, by: str, comment: str = "") -> Sequence[Approval]:
        """Let these very calls run, once each. All are approved or none.

        Raises :class:`~surefoot.NotFound`, :class:`~surefoot.IntegrityError` for one that is not pending any more, and
        :class:`~surefoot.Denied` for somebody who may not decide.
        """
        return self._decide(approval_ids, "approved", by, comment)

    def deny(self, *approval_ids: str, by: str, comment: str = "") -> Sequence[Approval]:
        """Refuse these calls; whoever asked is told who did and why. All are denied or none. Raises as :meth:`approve`."""
        return self._decide(approval_ids, "denied", by, comment)

    def edit(self, approval_id: str, arguments: Mapping[str, Any], *, by: str, comment: str = "") -> Approval:
        """Put other arguments in the place of these: the call does not run, the model is told to ask for the others, and may once.

        Raises as :meth:`approve`, and :class:`~surefoot.UsageError` for another value of an argument that is redacted.
        """
        digest, text = self._guard.codec.identify(dict(arguments))
        instead = kept(self._guard, self.show(approval_id).hidden, self._guard.codec.loads(text))
        comment = self._typed(approval_id, comment)

        def work(unit: Unit) -> Approval:
            old = find(unit, approval_id)
            new = replace(_decided(unit, old, "denied", by, comment), instead=instead)
            given = (old.tool, old.run_id, "", digest, 1, old.expires_at, unit.clean(by), unit.now)
            grant = Grant(grants.new(old.tenant), old.tenant, *given, fingerprint=old.fingerprint, policy=old.policy)
            grants.write(unit, grant, "grant.given", by)
            return write(unit, new, "approval.edited")

        return self._look(work, write=True)

    def _decide(self, approval_ids: Sequence[str], state: State, by: str, comment: str) -> Sequence[Approval]:
        if not approval_ids:
            raise UsageError("name the approvals to decide about; 'surefoot approvals list' shows them")
        comments = {approval_id: self._typed(approval_id, comment) for approval_id in approval_ids}

        def work(unit: Unit) -> Sequence[Approval]:
            new = [_decided(unit, find(unit, approval_id), state, by, said) for approval_id, said in comments.items()]
            return [write(unit, approval, f"approval.{state}") for approval in new]

        return self._look(work, write=True)

    def _typed(self, approval_id: str, comment: str) -> str:
        """Return a comment without the values that the card hides; it is searched before the store is locked."""
        return without(self._guard.codec, comment, self.show(approval_id).hidden.get("texts", ()))

    # --- grants

    def grant(
        self, tool: str, *, by: str, expires: float, run_id: str = "", when: str = "", uses: int | None = None, tenant: str = "default"
    ) -> Grant:
        """Allow calls beforehand: of a tool or pattern, in one run or all of a tenant, for ``expires`` seconds, ``uses`` times.

        A call that the policy denies stays denied, and one that the granter asks for, or could not approve, is not covered. Raises
        :class:`~surefoot.UsageError` for a condition that is none, a name that is empty, a time or number that could let nothing
        run or never ends, and a secret in what is stored, and
        :class:`~surefoot.Denied` from inside of a run, for who asks, and for somebody whom the guard's policy does not name among
        its approvers.
        """
        _outside()
        _somebody(by)
        expect("tool", tool, "a name or pattern of tools", lambda given: isinstance(given, str) and bool(given.strip()))
        expect(
            "expires", expires, "a number of seconds, more than 0", lambda given: isinstance(given, int | float) and 0 < given < math.inf
        )
        expect("uses", uses, "a whole number, 1 or more", lambda given: given is None or (isinstance(given, int) and given >= 1))
        no_secrets(self._guard, tool=tool, when=when, tenant=tenant)
        approvers = getattr(getattr(self._guard.policy, "file", None), "approvals", None)
        if not may_decide(by, requester(), approvers.approvers if approvers is not None else ()):
            raise Denied(f"{by} may not decide about what {requester()} asks for, so it cannot be granted beforehand either")
        try:
            grants.check(when)
        except ValueError as exc:
            raise UsageError(f"when={when!r}: {exc}") from exc
        run = self._guard.runs.show(run_id) if run_id else None
        owner = run.tenant if run is not None else tenant

        def work(unit: Unit) -> Grant:
            grant = Grant(grants.new(owner), owner, tool, run_id, when, "", uses, unit.now + expires, unit.clean(by), unit.now)
            return grants.write(unit, grant, "grant.given", by)

        return self._look(work, write=True)

    def grants(self, *, tenant: str | None = None) -> Sequence[Grant]:
        """Return the grants of a tenant, or all: what each allows, how often it was used, whether it is still open."""
        return self._look(partial(grants.listed, tenant=tenant))

    def revoke(self, grant_id: str, *, by: str) -> Grant:
        """Take a grant back. What it has let run has run. Raises :class:`~surefoot.NotFound`."""

        def work(unit: Unit) -> Grant:
            if (grant := grants.find(unit, grant_id)) is None:
                raise NotFound(f"there is no grant {grant_id}; 'surefoot approvals grants' shows what there is")
            return grants.write(unit, replace(grant, revoked_by=unit.clean(by)), "grant.revoked", by)

        return self._look(work, write=True)

    def _look(self, work: Callable[[Unit], T], *, write: bool = False) -> T:
        return self._guard.transact(Tx(work, write=write))  # type: ignore[no-any-return]


def _all(unit: Unit) -> list[Approval]:
    found: list[Approval] = []
    after = None
    while page := unit.records.list(APPROVALS, after=after, limit=_PAGE):
        after = page[-1].key
        found += [Approval(**row.value, version=row.version) for row in page]
    return found


def _today(unit: Unit, approval: Approval) -> Approval:
    """Return an approval with the state that it has now, whether anybody has looked since or not."""
    if approval.state not in {"pending", "approved"}:
        return approval
    if unit.now > approval.expires_at:
        return replace(approval, state="expired")
    run = load(unit, approval.run_id)
    over = run is None or run.status in {RunStatus.COMPLETED, RunStatus.ABANDONED}
    return replace(approval, state="void", comment="its run is over") if over else approval


def _outside() -> None:
    if here() is not None:
        raise Denied("a run cannot decide about its own calls; decide from outside of it")


def _somebody(by: str) -> None:
    if not by.strip():
        raise UsageError("say who decides: by= is empty")


def _decided(unit: Unit, approval: Approval, state: State, by: str, comment: str) -> Approval:
    """Return the approval as decided. Raises :class:`~surefoot.Denied` and :class:`~surefoot.IntegrityError`."""
    _outside()
    now = _today(unit, approval)
    if now.state != "pending":
        who = f" by {now.decided_by}" if now.decided_by else f" ({now.comment})" if now.comment else ""
        raise IntegrityError(f"approval {approval.id} is {now.state}{who}; there is nothing to decide any more", run_id=approval.run_id)
    _somebody(by)
    by = unit.clean(by)
    if by == approval.requested_by:
        raise Denied(f"{by} asked for {approval.id} and cannot decide about it; somebody else has to")
    if not may_decide(by, approval.requested_by, approval.approvers):
        raise Denied(f"{by} is not among those who decide about {approval.id}: {', '.join(approval.approvers)}")
    return replace(approval, state=state, decided_by=by, decided_at=unit.now, comment=unit.clean(comment))
