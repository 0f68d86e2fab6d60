"""A scope: all of it, or none of what can be undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import surefoot
from surefoot import ApprovalPending, Guard, InDoubt, InFlight, LeaseLost, RunStatus, UsageError
from surefoot.engine.key import owned
from surefoot.engine.program import Tx
from surefoot.engine.run import THREADS
from surefoot_recovery.undoing import rollback

__all__ = ["undone_on_failure"]


@contextmanager
def undone_on_failure(
    guard: Guard, name: str | None = None, *, tenant: str = "default", thread: str | None = None, partial: bool = False, app: Any = None
) -> Iterator[None]:
    """Name the run of the wrapped call in the block (as :func:`surefoot.run`), and undo it when the block finally fails (AS-70).

    .. code-block:: python

        with undone_on_failure(guard, "transfer-7"):
            transfer("a", "b", 10)

    What an earlier run of that name did is not the block's to undo. Two calls of the wrapped object in one block are two runs, of which
    the last is undone: a scope is for one.

    An error of a tool that a framework or the code inside handles is no failure of the scope: only what leaves the block is. Where
    nobody knows yet (:class:`~surefoot.InDoubt`, an approval that is pending, a run that is busy or was taken over) nothing is undone,
    and the run can be resumed. The error leaves the block in any case. What cannot be undone is as in :func:`rollback`: with ``partial``
    it is left, without nothing is undone, and :class:`RollbackRefused` is raised from the error.

    Raises :class:`~surefoot.UsageError` where neither a name nor a thread is given.
    """
    if name is None and thread is None:
        raise UsageError("give undone_on_failure the name of the run, or its thread: what has no name cannot be found again")
    key = owned(tenant, thread or f"run:{name}")
    before = _ended(guard, key)
    try:
        with surefoot.run(name, tenant=tenant, thread=thread):
            yield
    except (InDoubt, ApprovalPending, InFlight, LeaseLost):
        raise
    except Exception as exc:
        found = guard.transact(Tx(lambda unit: unit.records.get(THREADS, key), write=False))
        run_id = found.value["run"] if found is not None else None
        if run_id is not None and run_id != before and guard.runs.show(run_id).status in {RunStatus.OPEN, RunStatus.COMPLETED}:
            try:
                rollback(guard, run_id, partial=partial, by=f"scope {name or thread}", app=app)
            except surefoot.SurefootError as refused:
                raise refused from exc
        raise


def _ended(guard: Guard, key: str) -> str | None:
    """Return the thread's last run where that one has ended: whatever comes is another one."""
    found = guard.transact(Tx(lambda unit: unit.records.get(THREADS, key), write=False))
    return found.value["run"] if found is not None and guard.runs.show(found.value["run"]).status is not RunStatus.OPEN else None
