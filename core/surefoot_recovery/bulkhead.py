"""Bulkheads: pools of calls that run at a time, so that one slow dependency or one loud tenant does not take everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from surefoot import Admission, Allow, CallRecord, Decision, Denied, Deny, Guard
from surefoot.engine.claims import Claim
from surefoot.engine.key import owned, top
from surefoot.engine.unit import Unit
from surefoot.types import expect
from surefoot_recovery.watching import Watched, looked_at, matches, watch

__all__ = ["Bulkhead", "BulkheadFull", "Bulkheads"]

_NAMESPACE: Final = "bulkheads"
"""Records ``<pool>/<whose>``: the calls that run in it."""
_PER: Final = ("all", "tenant", "agent", "dependency")


class BulkheadFull(Denied):
    """As many calls as the pool takes run already; nothing ran, and the call may be tried again."""

    code = "bulkhead_full"


@dataclass(frozen=True, slots=True)
class Bulkhead:
    """How many calls of some tools may run at a time, in all processes of the store together."""

    name: str
    """What the pool is called."""
    limit: int
    """Calls at a time."""
    tools: str | Sequence[str] = "*"
    """Names or patterns of the tools that need a place in it."""
    per: Literal["all", "tenant", "agent", "dependency"] = "all"
    """Who shares a pool: everybody; a tenant; the runs of a tenant in one outermost step (agent, node or function) of that name; or all
    calls that need one dependency (``depends_on=``): a call that needs several needs a place for each, and one that needs none has none."""

    def __post_init__(self) -> None:
        """Refuse what cannot work with a :class:`~surefoot.UsageError`."""
        expect("limit", self.limit, "a number, 1 or more", lambda given: isinstance(given, int) and given >= 1)
        expect("per", self.per, f"one of {', '.join(_PER)}", _PER.__contains__)


class Bulkheads(Admission):
    """Bulkheads at work. A process that dies frees its places; a body that its caller has left keeps its own until it ends."""

    reads = True

    def __init__(self, guard: Guard, pools: Sequence[Bulkhead]) -> None:
        self._guard = guard
        self._pools = list(pools)

    def admit(self, unit: Unit, claim: Claim, record: CallRecord | None) -> Decision:  # noqa: ARG002 - a call entered again needs a place too
        """Deny a call that has no place."""
        for pool, key in self._places(claim):
            if len(self._running(unit, key)) >= pool.limit:
                message = f"{claim.tool} was not executed: {pool.limit} calls run in {pool.name} already; try again later"
                return Deny(message.partition(": ")[2], BulkheadFull.code, BulkheadFull(message, run_id=claim.frame.run.record.run_id))
        return Allow()

    def spend(self, unit: Unit, claim: Claim, record: CallRecord | None) -> None:  # noqa: ARG002 - as above
        """Take a place in every pool that the call needs."""
        for _pool, key in self._places(claim):
            unit.records.put(_NAMESPACE, key, [*self._running(unit, key), watch(claim)])

    def _places(self, claim: Claim) -> Iterator[tuple[Bulkhead, str]]:
        """Yield the pools in which a call needs a place, and the record of each."""
        tenant = claim.frame.run.record.tenant
        for pool in self._pools:
            if not matches(claim.tool, pool.tools):
                continue
            if pool.per == "dependency":
                shares = list(claim.rule.depends_on)
            else:
                shares = [{"all": "", "tenant": owned(tenant, ""), "agent": owned(tenant, top(claim.frame.path)[0])}[pool.per]]
            yield from ((pool, f"{pool.name}/{share}") for share in shares)

    def _running(self, unit: Unit, key: str) -> Watched:
        stored = unit.records.get(_NAMESPACE, key)
        return looked_at(unit, self._guard, stored.value)[0] if stored else []
