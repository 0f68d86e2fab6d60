"""Poison: a run that kills whoever works on it is set aside, so that it does not take one process after the other with it."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from surefoot import UsageError
from surefoot.engine.holds import STOPS
from surefoot.engine.key import owned
from surefoot.engine.program import Program, Tx
from surefoot.engine.run import THREADS, RunSpec

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot.engine.unit import Unit
    from surefoot.types import Lease

__all__ = ["BY", "CRASHES", "crashed", "limit", "noted"]

BY: Final = "quarantine"
"""Who has stopped a run that is set aside."""
CRASHES: Final = "crashes"
"""Records by run: the leases that a process died with since the run last committed a step, and how many steps that were."""
_LIMIT: Final = 5


def noted(guard: Guard, spec: RunSpec) -> Program[None]:
    """Note that the process before this one died in the run that an invocation would go on with; set the run aside the k-th time.

    k is ``SUREFOOT_POISON_CRASHES``, by default 5; 0: never. Crashes count while the run commits no step in between.
    """
    most = limit()
    if spec.thread is None or not most:
        return
    name = owned(spec.tenant, spec.thread)
    lease = yield Tx(lambda unit: unit.leases.get(name), write=False)
    if lease is not None and lease.held and lease.owner != guard.store.owner() and not guard.store.alive(lease.owner):
        yield Tx(partial(_count, lease=lease, most=most))


def limit() -> int:
    """Return how many crashes set something aside; 0: none do. Raises :class:`~surefoot.UsageError` for what is no number."""
    given = os.environ.get("SUREFOOT_POISON_CRASHES", str(_LIMIT))
    if not given.isdecimal():
        raise UsageError(f"SUREFOOT_POISON_CRASHES={given!r} is no number of crashes; 0 never sets a run aside")
    return int(given)


def _count(unit: Unit, lease: Lease, most: int) -> None:
    known, now = unit.records.get(THREADS, lease.name), unit.leases.get(lease.name)
    if known is None or now is None or now.epoch != lease.epoch:
        return
    run_id = known.value["run"]
    steps = len(unit.checkpoints.list(run_id, limit=sys.maxsize))
    crashed(unit, run_id, lease.epoch, most, "its process died {} times without a step committed in between", steps)


def crashed(unit: Unit, run_id: str, mark: int | str, most: int, words: str, steps: int = 0) -> None:
    """Count a crash, told from another one by its ``mark``; set what crashed aside the ``most``-th time.

    ``words`` say why, with a place for the number. Crashes before the last of ``steps`` do not count.
    """
    record = unit.records.get(CRASHES, run_id)
    marks, before = record.value if record else ([], 0)
    if mark in marks:
        return
    released = len(marks) >= most and unit.records.get(STOPS, f"run/{run_id}") is None
    marks = [*([] if steps > before or released else marks), mark]
    unit.records.put(CRASHES, run_id, [marks, steps])
    unit.emit(run_id, "run.crashed", times=len(marks))
    if len(marks) >= most:
        reason = words.format(len(marks))
        unit.records.put(STOPS, f"run/{run_id}", {"by": BY, "reason": reason, "at": unit.now})
        unit.emit(run_id, "run.quarantined", reason=reason)
