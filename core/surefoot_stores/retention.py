"""Retention: what a store forgets about runs that are over, and what it never does (AS-74, I8).

Payloads go first: arguments, results, step outputs, inputs and recorded replies. A call that took effect becomes a tombstone,
which answers "expired" and is never run again. Much later its identity goes too: a call by slot leaves a hash, one by business
key stays recognisable for ever; the run's log goes with it. Nothing of a run that may still be resumed, that shares its slots
with such a run, or in which something is in doubt or undelivered, is touched.

Each transaction leaves the store whole and does work that the next pass does not find again: killed anywhere, it is run again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol, TypeVar, cast

from surefoot.contracts import Store, Transaction
from surefoot.engine.key import slot_key
from surefoot.engine.transitions import CallEvent
from surefoot.engine.unit import Unit
from surefoot.errors import UsageError
from surefoot.types import CallRecord, CallState, Effect, expect, is_time
from surefoot_stores.rows import ENDS

__all__ = ["PRUNED", "Pruned", "Retention", "prune"]

T = TypeVar("T")

PRUNED: Final = "pruned"
"""Records by run id: what of it retention has removed (``payloads``, ``log``), and when."""
_DAY: Final = 86_400.0
_PAGE: Final = 200
"""Calls in one transaction: others wait for it."""
_TOOK_EFFECT: Final = frozenset({CallState.COMMITTED, CallState.RAISED})
_OPEN: Final = frozenset({CallState.INTENT, CallState.IN_DOUBT, CallState.COMPENSATION_FAILED})
_AS_IF_NEW: Final = frozenset({CallState.FAILED, CallState.COMPENSATED, CallState.SUSPENDED})
"""A call in such a state may run, as one that the ledger does not know may."""
_ERASED: Final = dict.fromkeys(("arguments", "value", "error"))
_SHRUNK: Final = dict.fromkeys(("tenant", "conversation", "run_id", "scope", "path", "args_digest", "owner", "occurrence"), "") | {
    "alias": None
}
_DROP_CALL: Final = "DELETE FROM calls WHERE call_id = ?"
_ERASE_OUTPUTS: Final = "UPDATE checkpoints SET output = NULL WHERE run_id = ?"
_DROP_LOG: Final = ("DELETE FROM checkpoints WHERE run_id = ?", "DELETE FROM events WHERE run_id = ?")
# Namespaces whose keys are the run's id, or begin with it and a slash.
_PAYLOADS: Final = ("inputs", "history", "journal", "mcp_passed")
_GRANTS: Final = ("approvals.grants", "approvals.grants.closed")
"""What people allowed beforehand: what may be used, and what is over."""
_TRACES: Final = ("attempts", "modes", "usage", "langgraph.nested", ENDS)


class _Rewritable(Protocol):
    """What the tables of a database can do beyond the contract, where nothing is ever deleted."""

    def rewrite(self, statement: str, *values: Any) -> int: ...

    def replace(self, record: CallRecord) -> int: ...


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a store remembers, in seconds."""

    payload_ttl: float = 30 * _DAY
    """Values of a run stay this long after it is over."""
    dedup_ttl: float = 365 * _DAY
    """A call is recognised by more than its hash for this long after it was first asked for."""
    max_run_age: float = 90 * _DAY
    """A run that has not ended is taken for over at this age: nobody will resume it, or fork what it came from."""

    def __post_init__(self) -> None:
        """Refuse ages that would forget a key while a retry may come, or before the payload, with :class:`~surefoot.UsageError`."""
        for name in ("payload_ttl", "dedup_ttl", "max_run_age"):
            expect(name, getattr(self, name), "a number of seconds, 0 or more", lambda given: given is not None and is_time(given))
        if self.dedup_ttl <= self.max_run_age:
            raise UsageError("dedup_ttl must be longer than max_run_age: a run of that age may still ask for its calls again")
        if self.dedup_ttl < self.payload_ttl:
            raise UsageError("payload_ttl must not be longer than dedup_ttl: a result is nothing without the call that it belongs to")


@dataclass(slots=True)
class Pruned:
    """How much one pass removed."""

    payloads: int = 0
    """Calls that lost arguments, result and error."""
    tombstones: int = 0
    """Calls among them that took effect, and answer "expired" now."""
    hashes: int = 0
    """Tombstones of which only the hash is left."""
    removed: int = 0
    """Calls that were removed: declared reads, and what may run again anyway."""
    runs: int = 0
    """Runs whose outputs, input and replies were removed."""
    logs: int = 0
    """Runs whose log and checkpoints were removed."""
    grants: int = 0
    """Grants that had long allowed nothing any more."""


@dataclass(slots=True)
class _Family:
    """The runs that share one slot space: an origin and its forks."""

    over: float = 0.0
    """When the last of them was over, ``inf`` while one is held or under way."""
    created: float = 0.0
    """When the last of them began."""


@dataclass(slots=True)
class _Pass:
    store: Store
    retention: Retention
    now: float
    done: Pruned = field(default_factory=Pruned)
    families: dict[str, _Family] = field(default_factory=dict)
    """Origin → its family."""
    runs: dict[str, str] = field(default_factory=dict)
    """Run → origin."""
    open: set[str] = field(default_factory=set)
    """Runs with calls that are in doubt, or whose result nobody was given: they are left alone."""
    kept: set[str] = field(default_factory=set)
    """Runs with calls that may still change: they keep their log."""

    def stage(self, run_id: str) -> int:
        """Return 0 for a run that is left alone, 1 for one whose payloads go, 2 for one whose log goes too."""
        family = self.families.get(self.runs.get(run_id, ""))
        if family is None or self.now - family.over < self.retention.payload_ttl:
            return 0
        return 2 if self.now - family.created >= self.retention.dedup_ttl else 1

    def write(self, work: Callable[[Unit], T]) -> T:
        """Run one transaction."""
        return self.store.run(lambda tx: work(Unit(tx, self.now)))


def prune(store: Store, retention: Retention, now: float) -> Pruned:
    """Remove what the store need not remember at ``now`` (POSIX seconds); return how much that was.

    May be killed and run again, and run beside agents. Raises :class:`~surefoot.UsageError` for a store that is not one database.
    """
    if not store.run(lambda tx: hasattr(tx, "rewrite"), write=False):
        raise UsageError(f"the store {store.url} cannot be pruned: give the URL of a SQLite or PostgreSQL store")
    work = _Pass(store, retention, now)
    store.run(lambda tx: _families(work, tx), write=False)
    after: str | None = None
    more = True
    while more:
        after, more = work.write(partial(_prune_calls, work, after))
    for run_id in work.runs:
        if work.stage(run_id) and run_id not in work.open:
            work.write(partial(_prune_run, work, run_id))
    for namespace in _GRANTS:
        grant, more = None, True
        while more:
            grant, more = work.write(partial(_prune_grants, work, namespace, grant))
    collect = getattr(store, "collect", None)
    if collect is not None:
        collect()
    return work.done


def _families(work: _Pass, tx: Transaction) -> None:
    held = {record.key for record in tx.records.list("holds", limit=sys.maxsize)}
    for run in (record.value for record in tx.records.list("runs", limit=sys.maxsize)):
        work.runs[run["run_id"]] = origin = run["origin"] or run["run_id"]
        family = work.families.setdefault(origin, _Family())
        over = run["ended"] or run["created"] + work.retention.max_run_age
        busy = run["run_id"] in held or (run["ended"] is None and _under_way(work.store, tx, f"{run['tenant']}/{run['thread']}"))
        family.over = max(family.over, math.inf if busy else over)
        family.created = max(family.created, run["created"])


def _under_way(store: Store, tx: Transaction, name: str) -> bool:
    lease = tx.leases.get(name)
    return lease is not None and lease.held and store.alive(lease.owner)


def _prune_calls(work: _Pass, after: str | None, unit: Unit) -> tuple[str | None, bool]:
    page = unit.calls.list(after=after, limit=_PAGE)
    for record in page:
        if not _prune_call(work, unit, record):
            after = record.call_id
    return after, len(page) == _PAGE


def _prune_call(work: _Pass, unit: Unit, record: CallRecord) -> bool:
    """Prune a call as far as its run's age says; return whether it is gone."""
    stage = work.stage(record.run_id)
    if not stage or record.sticky or record.state in _OPEN:
        work.open.add(record.run_id)
        return False
    tx, read = cast("_Rewritable", unit.tx), record.effect is Effect.READ
    if stage > 1 and (read or (record.state in _AS_IF_NEW and not work.store.alive(record.owner))):  # else its body may yet land
        work.done.removed += tx.rewrite(_DROP_CALL, record.call_id)
        return True
    if record.state in _TOOK_EFFECT and not read:
        day = datetime.fromtimestamp(work.now, UTC).date()
        record = unit.move(record, CallEvent.PRUNED, reason=f"retention removed it on {day}; it is not run again", interrupts=())
        work.done.tombstones += 1
    if (record.arguments, record.value, record.error) != (None, None, None):
        record = record.changed(**_ERASED, version=record.version + 1)
        work.done.payloads += tx.replace(record)
    if record.state is not CallState.TOMBSTONE:
        work.kept.add(record.run_id)
    elif stage > 1 and _by_slot(record):
        work.done.hashes += tx.replace(record.changed(**_SHRUNK, version=record.version + 1))
    return False


def _by_slot(record: CallRecord) -> bool:
    slot = slot_key(record.tenant, record.tool, record.scope, record.path, record.args_digest, record.occurrence)
    return record.key == slot


def _prune_run(work: _Pass, run_id: str, unit: Unit) -> None:
    known = unit.records.get(PRUNED, run_id)
    done: dict[str, float] = known.value if known else {}
    rewrite = cast("_Rewritable", unit.tx).rewrite
    new: dict[str, float] = {}
    if "payloads" not in done:
        rewrite(_ERASE_OUTPUTS, run_id)
        _forget(unit, _PAYLOADS, run_id)
        new["payloads"] = work.now
        work.done.runs += 1
    if "log" not in done and work.stage(run_id) > 1 and run_id not in work.kept:
        for statement in _DROP_LOG:
            rewrite(statement, run_id)
        _forget(unit, _TRACES, run_id)
        new["log"] = work.now
        work.done.logs += 1
    if new:
        unit.records.put(PRUNED, run_id, done | new)


def _prune_grants(work: _Pass, namespace: str, after: str | None, unit: Unit) -> tuple[str | None, bool]:
    """Remove the grants of a page that expired ``dedup_ttl`` ago, or were given then and are used up or revoked."""
    page = unit.records.list(namespace, after=after, limit=_PAGE)
    for row in page:
        over = row.value["expires_at" if namespace == _GRANTS[0] else "granted_at"]
        if work.now - over >= work.retention.dedup_ttl:
            unit.records.delete(namespace, row.key)
            work.done.grants += 1
    return (page[-1].key if page else after), len(page) == _PAGE


def _forget(unit: Unit, namespaces: tuple[str, ...], run_id: str) -> None:
    for namespace in namespaces:
        unit.records.delete(namespace, run_id)
        for key in list(_below(unit, namespace, f"{run_id}/")):
            unit.records.delete(namespace, key)


def _below(unit: Unit, namespace: str, prefix: str) -> Iterator[str]:
    after = None
    while page := unit.records.list(namespace, prefix=prefix, after=after, limit=_PAGE):
        after = page[-1].key
        yield from (record.key for record in page)
