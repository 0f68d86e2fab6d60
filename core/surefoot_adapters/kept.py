"""Runs that go on from what the caller kept: a state with requests in it that wait for a person, or for nobody any more."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

from surefoot import Guard, RunStatus
from surefoot.engine.frames import Frame
from surefoot.engine.key import owned
from surefoot.engine.matching import passed
from surefoot.engine.program import Do, Program, Tx
from surefoot.engine.run import THREADS, load
from surefoot.engine.step import rejected
from surefoot.engine.unit import Unit

__all__ = ["KEPT", "kept_head", "kept_run", "passed_on"]

KEPT: Final = "kept"
"""What :attr:`RunSpec.fork` says of an invocation with kept state: it goes on in the run that is open, and forks one that ended."""


def kept_head(guard: Guard, tenant: str, thread: str | None) -> Do:
    """Return the ``head`` of such an invocation: the kept state, where the thread's last run is one that can go on."""

    async def head() -> str | None:
        if thread is None:
            return None
        return KEPT if await guard.atransact(Tx(partial(kept_run, tenant=tenant, thread=thread), write=False)) else None

    return Do(lambda: None, head)


def kept_run(unit: Unit, tenant: str, thread: str) -> str | None:
    """Return the id of the run that kept state of a thread goes on in: its last one, unless that has ended."""
    known = unit.records.get(THREADS, owned(tenant, thread))
    run = load(unit, known.value["run"]) if known is not None else None
    return run.run_id if run is not None and run.status in {RunStatus.OPEN, RunStatus.SUSPENDED} else None


def passed_on(frame: Frame, waiting: Collection[str]) -> Program[None]:
    """Note that what was kept has its calls behind it, but for those whose ids wait: they are asked for no more."""

    def work(unit: Unit) -> None:
        rows = unit.calls.under(frame.run.scope, frame.path)
        passed(unit, [row for row in rows if row.alias not in waiting], frame.entry, rejected(frame.parent))

    yield Tx(work)
