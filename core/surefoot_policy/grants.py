"""Grants: a person's yes in advance, for calls of a pattern, a run and a time; counted and revocable (AS-83)."""

from __future__ import annotations

import fnmatch
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from surefoot.engine.key import owned
from surefoot_policy.expressions import holds, language
from surefoot_policy.rules import NAMES

if TYPE_CHECKING:
    from surefoot.engine.claims import Claim
    from surefoot.engine.unit import Unit
    from surefoot_policy.rules import Question

__all__ = ["Grant", "check", "covering", "find", "listed", "new", "use", "write"]

_GRANTS: Final = "approvals.grants"
"""Those that a call may use; each one that needs a grant reads them."""
_CLOSED: Final = "approvals.grants.closed"
"""Those that are used up, revoked, or were found expired."""
_LANGUAGE: Final = "cel"


@dataclass(frozen=True, slots=True)
class Grant:
    """Calls that a person has allowed beforehand. A deny of the policy still wins."""

    id: str
    tenant: str
    tool: str
    """Name or pattern."""
    run_id: str
    """The only run that may use it; empty: any run of the tenant."""
    when: str
    """Condition (CEL) over the call; empty: any arguments."""
    args_digest: str
    """The only arguments; empty: as ``when`` says."""
    uses: int | None
    """How often it may be used; ``None``: until it expires."""
    expires_at: float
    granted_by: str
    granted_at: float
    used: int = 0
    revoked_by: str | None = None
    fingerprint: str = ""
    """The only definition of the tool, by its digest; empty: any."""
    policy: str = ""
    """The only version of the policy; empty: any."""
    version: int = field(default=0, compare=False)
    """Of the stored row."""

    def open(self, now: float) -> bool:
        """Return whether it may still be used."""
        return self.revoked_by is None and now <= self.expires_at and (self.uses is None or self.used < self.uses)


_FIELDS: Final = tuple(name for name in Grant.__dataclass_fields__ if name != "version")


def new(tenant: str) -> str:
    """Return the id of a new grant; it begins with its tenant, so that one tenant's are found together."""
    return owned(tenant, f"grant_{secrets.token_hex(8)}")


def check(when: str) -> None:
    """Raise :class:`ValueError` for a condition that is none."""
    if when:
        language(_LANGUAGE).compile(when, NAMES)


def listed(unit: Unit, tenant: str | None = None) -> list[Grant]:
    """Return the grants of a tenant, or all, whether they are open or not."""
    return sorted([*_kept(unit, _GRANTS, tenant), *_kept(unit, _CLOSED, tenant)], key=lambda grant: grant.id)


def _kept(unit: Unit, namespace: str, tenant: str | None) -> list[Grant]:
    found: list[Grant] = []
    after = None
    while page := unit.records.list(namespace, prefix=owned(tenant, "") if tenant is not None else "", after=after):
        after = page[-1].key
        found += [Grant(**row.value, version=row.version) for row in page]
    return found


def find(unit: Unit, grant_id: str) -> Grant | None:
    """Return a grant, open or not."""
    row = unit.records.get(_GRANTS, grant_id) or unit.records.get(_CLOSED, grant_id)
    return Grant(**row.value, version=row.version) if row is not None else None


def write(unit: Unit, grant: Grant, event: str, by: str) -> Grant:
    """Write a grant, compare-and-set, and note what happened to it; one that is not open any more is kept where no call looks."""
    value = {name: getattr(grant, name) for name in _FIELDS}
    closed = unit.records.get(_CLOSED, grant.id) is not None
    record = unit.records.put(_CLOSED if closed else _GRANTS, grant.id, value, version=grant.version)
    if not closed and not grant.open(unit.now):
        unit.records.delete(_GRANTS, grant.id)
        record = unit.records.put(_CLOSED, grant.id, value, version=0)
    unit.emit(grant.run_id or f"tenant/{grant.tenant}", event, grant=grant.id, tool=grant.tool, used=grant.used, by=by)
    return replace(grant, version=record.version)


def covering(unit: Unit, claim: Claim, question: Question, policy: str) -> Iterator[Grant]:
    """Yield the grants that allow this call under a version of the policy, in a transaction that writes."""
    for grant in _kept(unit, _GRANTS, question.tenant):
        if not grant.open(unit.now):
            write(unit, grant, "grant.expired", by=grant.granted_by)
            continue
        bound = grant.run_id in {"", question.run} and grant.args_digest in {"", claim.digest} and grant.policy in {"", policy}
        bound = bound and grant.fingerprint in {"", claim.guard.fingerprint(claim.tool)}
        if bound and fnmatch.fnmatchcase(claim.tool, grant.tool) and _holds(grant.when, question):
            yield grant


def _holds(when: str, question: Question) -> bool:
    if not when:
        return True
    expressions = language(_LANGUAGE)
    try:
        return holds(expressions.compile(when, NAMES), expressions.values(question.values()))
    except Exception:  # noqa: BLE001 - a condition that cannot be evaluated does not hold; a person is asked
        return False


def use(unit: Unit, grant: Grant) -> None:
    """Count a use. Raises :class:`~surefoot.LeaseLost` where it changed meanwhile: nothing of the transaction happens then."""
    write(unit, replace(grant, used=grant.used + 1), "grant.used", by=grant.granted_by)
