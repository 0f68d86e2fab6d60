"""What stands in the way of a rollback as a whole: who works on the run, what stands on it, and what nobody can read any more."""

from __future__ import annotations

import sys

from surefoot import Guard, InFlight, ResultUnavailable, RunRecord, RunStatus, UsageError
from surefoot.engine.key import owned
from surefoot.engine.run import THREADS, find_run
from surefoot.engine.unit import Unit
from surefoot_journal.governed import is_under_way
from surefoot_stores.retention import PRUNED

__all__ = ["check_log", "check_run"]


def check_log(unit: Unit, run: RunRecord) -> None:
    """Raise :class:`~surefoot.ResultUnavailable` where retention has removed the log of a run."""
    pruned = unit.records.get(PRUNED, run.run_id)
    if pruned is not None and "log" in pruned.value:
        msg = f"retention has removed what run {run.run_id} did, so nobody can say what of it stands, and nothing of it can be undone"
        raise ResultUnavailable(msg, run_id=run.run_id)


def check_run(unit: Unit, guard: Guard, run: RunRecord) -> None:
    """Raise what says why nothing of a run may be undone now.

    :class:`~surefoot.InFlight`: it is under way. :class:`~surefoot.UsageError`: a later run of its thread, or a branch of it, stands on
    it. :class:`~surefoot.ResultUnavailable`: see :func:`check_log`.
    """
    if run.thread is None:
        _check_owners(unit, guard, run)
    else:
        newest = unit.records.get(THREADS, owned(run.tenant, run.thread))
        if newest is not None and newest.value["run"] != run.run_id:
            msg = f"run {newest.value['run']} came after {run.run_id} in thread {run.thread} and stands on it; roll that one back first"
            raise UsageError(msg)
    _check_branches(unit, run)
    check_log(unit, run)


def _check_owners(unit: Unit, guard: Guard, run: RunRecord) -> None:
    """Refuse a run that no lease is held of, because it has no name, while it is open here or a living process has calls in it."""
    if run.status is not RunStatus.OPEN:
        return
    others = {row.owner for row in unit.calls.list(run_id=run.run_id, limit=sys.maxsize)} - {guard.store.owner()}
    if is_under_way(guard, run.run_id) or any(guard.store.alive(owner) for owner in others):
        raise InFlight(f"run {run.run_id} has no name and is under way, as far as can be seen; wait for its end", run_id=run.run_id)


def _check_branches(unit: Unit, run: RunRecord) -> None:
    """Refuse a run that was branched off: with its effects undone the branch would go on from what never was."""
    for other in find_run(unit, limit=sys.maxsize):
        if other.run_id == run.run_id or other.origin != (run.origin or run.run_id) or other.status is RunStatus.COMPENSATED:
            continue
        of = next((event.data["of"] for event in unit.tx.events.list(other.run_id, limit=10) if event.type == "run.forked"), None)
        if run.run_id == (of or other.origin):
            msg = f"run {other.run_id} was branched off {run.run_id} and shares what it did; roll that one back first, whole"
            raise UsageError(msg)
