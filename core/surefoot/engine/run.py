"""Which run does an invocation belong to? Opening and closing runs under the thread's lease (``design`` 1)."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from surefoot.engine import doubt, holds
from surefoot.engine.frames import LiveRun
from surefoot.engine.key import owned, top
from surefoot.engine.patience import Patience
from surefoot.engine.program import Do, Program, Tx
from surefoot.engine.transitions import CallEvent
from surefoot.errors import NotStorable, StoreUnavailable, UsageError
from surefoot.types import CallState, Effect, Lease, RunRecord, RunStatus

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard
    from surefoot.engine.unit import Unit

__all__ = ["Opened", "RunSpec", "close_run", "find_run", "load", "open_run", "release", "save", "take"]

_log = logging.getLogger("surefoot.run")
_RUNS: Final = "runs"
THREADS: Final = "threads"
INPUTS: Final = "inputs"
_held: dict[tuple[str, str], int] = {}
"""Leases that this process holds: store and name → epoch."""
_live: dict[tuple[str, str], LiveRun] = {}
"""Runs that are under way here."""


@dataclass(slots=True, eq=False, repr=False)
class RunSpec:
    """One invocation of a wrapped object, in core terms."""

    adapter: str
    tenant: str
    thread: str | None
    """The framework's durable conversation, or the caller's name for the run."""
    kind: Literal["input", "resume", "continue"]
    """A new input; an answer to an interrupt; nothing (go on)."""
    input: Any
    digest: str
    """Digest of the raw input without message ids."""
    head: Do = Do(lambda: None)  # noqa: RUF009 - frozen
    """Returns the framework's head: its id, or ``None`` where it has none. Newer ids are greater."""
    behind: Do = Do(dict)  # noqa: RUF009 - frozen
    """Returns how many instances of each step name the framework has behind its head in the run."""
    stop: Callable[[BaseException], BaseException] = lambda error: error
    """Turns an error that must end the run into one that the framework's own error handling lets through."""
    fork: str | None = None
    """The checkpoint that the invocation names to start from."""
    joins: bool = False
    """The caller named the run: the same input, sent again while it was busy, is that run still (AS-05)."""


@dataclass(slots=True, eq=False, repr=False)
class Opened:
    """The live run, and what to feed the framework."""

    run: LiveRun
    feed: Literal["given", "stored", "nothing"]
    stored: Any = None


@dataclass(slots=True, eq=False, repr=False)
class _Taken:
    lease: Lease | None
    open_run: RunRecord | None
    last: RunRecord | None
    ordinal: int


def open_run(guard: Guard, spec: RunSpec) -> Program[Opened]:
    """Take the thread's lease and return the run that this invocation belongs to.

    Raises :class:`~surefoot.InDoubt` when that run is held, after its probes were asked, and
    :class:`~surefoot.InFlight` when the thread stays busy for longer than ``wait=``.
    """
    taken = yield from take(guard, spec)
    try:
        head = yield spec.head
        before = taken.open_run
        fork = spec.fork if spec.fork != head else None
        same = before is not None and fork is None and (spec.kind != "input" or spec.digest == before.digest)
        if before is not None and same:
            live = _alive(guard, spec, before, taken.lease, resumed=True)
            yield from doubt.recover(guard, before.run_id)
            yield from _refuse_held(before)
            return (yield from _resume(guard, spec, live, head))
        if before is not None:
            yield from doubt.recover(guard, before.run_id)
            behind = yield spec.behind
            yield Tx(partial(_abandon, record=before, behind=behind))
        record = yield from _begin(guard, spec, taken, head, fork)
        return Opened(_alive(guard, spec, record, taken.lease, resumed=fork is not None), "given")
    except BaseException:
        yield from release(guard, taken.lease)
        raise


def take(guard: Guard, spec: RunSpec) -> Program[_Taken]:
    """Take the lease of the thread at once from a dead owner, or wait for a living one."""
    name = owned(spec.tenant, f"{spec.thread}")
    if any(guard.redact(part) != part for part in (spec.tenant, f"{spec.thread}")):
        raise UsageError("the name of this run, thread or tenant contains a registered secret, and names are stored; give another one")
    if spec.thread is None:
        return _Taken(None, None, None, 1)
    patience = Patience(guard, f"thread {spec.thread}")
    taken: Any = ""
    while True:
        leases: list[Lease] = []
        try:
            taken = yield Tx(partial(_try_take, guard=guard, spec=spec, name=name, awaited=taken, leases=leases))
        except BaseException:
            yield from release(guard, leases[-1] if leases else None)
            raise
        if isinstance(taken, _Taken):
            return taken
        yield from patience.wait()


def _try_take(unit: Unit, guard: Guard, spec: RunSpec, name: str, awaited: str, leases: list[Lease]) -> _Taken | str:
    """Take the lease, or return the run that has it."""
    lease = unit.leases.get(name)
    me = guard.store.owner()
    known = unit.records.get(THREADS, name)
    if lease is not None and lease.held:
        live = _live.get((guard.store.url, name))
        paused = live is not None and live.paused and live.lease is not None and live.lease.epoch == lease.epoch
        running = _held.get((guard.store.url, name)) == lease.epoch and not paused
        if running or (lease.owner != me and guard.store.alive(lease.owner)):
            return known.value["run"] if known else ""
    taken = unit.leases.take(name, me)
    leases.append(taken)
    _held[guard.store.url, name] = taken.epoch
    if known is None:
        return _Taken(taken, None, None, 1)
    last = load(unit, known.value["run"])
    joins = spec.joins and last is not None and last.run_id == awaited and last.digest == spec.digest
    is_open = last is not None and (joins or last.ended is None)
    return _Taken(taken, last if is_open else None, last, known.value["count"] + 1)


def _alive(guard: Guard, spec: RunSpec, record: RunRecord, lease: Lease | None, *, resumed: bool) -> LiveRun:
    live = LiveRun(guard, record, spec.thread or record.run_id, lease, spec.stop, resumed=resumed)
    if lease is not None:
        _live[guard.store.url, lease.name] = live
    return live


def _refuse_held(record: RunRecord) -> Program[None]:
    def look(unit: Unit) -> Exception | None:
        hold = holds.get(unit, record.run_id)
        return holds.stopped(unit, record) or (holds.error(unit, record.run_id, hold) if hold else None)

    if (error := (yield Tx(look, write=False))) is not None:
        raise error


def _resume(guard: Guard, spec: RunSpec, live: LiveRun, head: str | None) -> Program[Opened]:
    record = live.record
    yield Tx(lambda unit: unit.emit(record.run_id, "run.resumed", by=spec.kind))
    if spec.kind == "input":
        passed_on = record.status is not RunStatus.SUSPENDED and head != record.first
        return Opened(live, "nothing" if passed_on else "given")
    if head != record.first:
        return Opened(live, "given")
    stored = yield Tx(lambda unit: unit.records.get(INPUTS, record.run_id), write=False)
    return Opened(live, "given") if stored is None else Opened(live, "stored", guard.codec.loads(stored.value))


def _begin(guard: Guard, spec: RunSpec, taken: _Taken, head: str | None, fork: str | None) -> Program[RunRecord]:
    try:
        stored = guard.codec.dumps(spec.input, whole=True) if spec.thread is not None and spec.kind == "input" else None
    except NotStorable:
        stored = None
    run_id = f"run_{os.urandom(10).hex()}"
    forked = (yield Tx(partial(_writer, run=taken.last, checkpoint=fork), write=False)) if fork is not None else None
    first, origin = (forked.first, forked.origin or forked.run_id) if forked else (head, "")
    now, is_open, last = guard.clock(), RunStatus.OPEN, taken.last.run_id if taken.last else ""
    place = (run_id, spec.tenant, spec.thread, taken.ordinal)
    record = RunRecord(*place, is_open, spec.digest, spec.adapter, first, origin, head, last, now)

    def work(unit: Unit) -> None:
        save(unit, record)
        unit.emit(run_id, "run.opened", thread=spec.thread, adapter=spec.adapter, ordinal=taken.ordinal, origin=record.origin)
        if spec.thread is not None:
            unit.records.put(THREADS, owned(spec.tenant, spec.thread), {"run": run_id, "count": taken.ordinal})
        if stored is not None:
            unit.records.put(INPUTS, run_id, stored)

    yield Tx(work)
    return record


def _writer(unit: Unit, run: RunRecord | None, checkpoint: str) -> RunRecord | None:
    """Return the run of a thread that wrote ``checkpoint``: from the last one back, the first that began before it."""
    while run is not None and run.head is not None and run.head >= checkpoint:
        run = load(unit, run.previous)
    return run


def _abandon(unit: Unit, record: RunRecord, behind: Mapping[str, int]) -> None:
    """Close an open run in favour of a new one; what its framework never got stays with the thread (AS-98)."""
    save(unit, dataclasses.replace(record, status=RunStatus.ABANDONED, ended=unit.now, reason="another input came"))
    unit.emit(record.run_id, "run.ended", status="abandoned")
    after = None
    while page := unit.calls.list(state=CallState.COMMITTED, run_id=record.run_id, after=after, limit=500):
        after = page[-1].call_id
        for row in page:
            name, instance = top(row.path)
            if row.effect not in {Effect.READ, Effect.COMPOSITE} and instance > behind.get(name, 0) and not row.sticky:
                unit.move(row, CallEvent.UNDELIVERED)


def close_run(guard: Guard, run: LiveRun, status: RunStatus, reason: str = "") -> Program[None]:
    """End the invocation: write where the run stands and give the lease back.

    A run that was superseded meanwhile writes nothing. Raises the hold again if somebody ate it (AS-91).
    """
    try:
        held = yield Tx(partial(_close, run=run, status=status, reason=reason))
    finally:
        _forget(guard, run.lease)
    if held is not None:
        raise held


def _close(unit: Unit, run: LiveRun, status: RunStatus, reason: str) -> Exception | None:
    if run.lease is not None and not unit.leases.release(run.lease):
        return None
    record = load(unit, run.record.run_id)
    assert record is not None  # noqa: S101 - written when it was opened
    hold = holds.get(unit, record.run_id)
    status = RunStatus.OPEN if hold else status
    if status is not record.status or status is RunStatus.SUSPENDED:
        ended = unit.now if status is RunStatus.COMPLETED else None
        save(unit, dataclasses.replace(record, status=status, ended=ended, reason=reason))
        unit.emit(record.run_id, "run.ended" if ended else "run.paused", status=str(status))
    return holds.error(unit, record.run_id, hold) if hold else None


def release(guard: Guard, lease: Lease | None) -> Program[None]:
    """Give the lease back. Where the store is away it stays taken there, by an owner that does not hold it and may take it again."""
    _forget(guard, lease)
    if lease is not None:
        with suppress(StoreUnavailable):
            yield Tx(lambda unit: unit.leases.release(lease))


def _forget(guard: Guard, lease: Lease | None) -> None:
    if lease is None:
        return
    key = (guard.store.url, lease.name)
    live = _live.get(key)
    if live is not None and live.lease is not None and live.lease.epoch == lease.epoch:
        _live.pop(key, None)
    if _held.get(key) == lease.epoch:
        _held.pop(key, None)


def save(unit: Unit, record: RunRecord) -> None:
    """Write where a run stands."""
    unit.records.put(_RUNS, record.run_id, dataclasses.asdict(dataclasses.replace(record, hold=())))


def load(unit: Unit, run_id: str) -> RunRecord | None:
    """Return the stored run, with what holds it."""
    stored = unit.records.get(_RUNS, run_id)
    return _record(unit, stored.value) if stored else None


def _record(unit: Unit, value: dict[str, Any]) -> RunRecord:
    hold = holds.get(unit, value["run_id"])
    return RunRecord(**{**value, "status": RunStatus(value["status"]), "hold": tuple(hold["calls"]) if hold else ()})


def find_run(unit: Unit, *, limit: int = 100) -> list[RunRecord]:
    """Return runs, newest first."""
    found = (_record(unit, record.value) for record in unit.records.list(_RUNS, limit=sys.maxsize))
    return sorted(found, key=lambda run: run.created, reverse=True)[:limit]
