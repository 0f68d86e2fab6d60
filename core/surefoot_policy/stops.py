"""The kill switch: no effect starts any more in a run, a tenant or anywhere, in whatever process shares the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from surefoot import Denied, UsageError
from surefoot.engine.frames import here
from surefoot.engine.holds import STOPS
from surefoot.engine.program import Tx
from surefoot_policy.scopes import no_secrets

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot.engine.unit import Unit

__all__ = ["release", "stop"]


def stop(guard: Guard, run_id: str = "", *, tenant: str = "", everything: bool = False, by: str, reason: str = "") -> bool:
    """Let no effect start any more, from every process's next claim on. What runs already ends; reads still run.

    Returns whether a run is known that it is about; a tenant of which none is, is stopped for whatever begins in it. Raises
    :class:`~surefoot.UsageError` unless exactly one of the three is named, and for a tenant with a secret in its name, and
    :class:`~surefoot.NotFound` for an unknown run.
    """
    key = _named(guard, run_id, tenant, everything=everything)

    def work(unit: Unit) -> None:
        unit.records.put(STOPS, key, {"by": unit.clean(by), "reason": unit.clean(reason) or "no reason given", "at": unit.now})
        unit.emit(run_id or key, "run.stopped", by=by, reason=reason)

    guard.transact(Tx(work))
    return bool(run_id) or guard.transact(Tx(partial(_known, tenant=tenant), write=False))


def release(guard: Guard, run_id: str = "", *, tenant: str = "", everything: bool = False, by: str) -> bool:
    """Take a stop away, so that the runs can be resumed; return whether there was one.

    Raises as :func:`stop`, and :class:`~surefoot.Denied` from inside of a run, which cannot take away what stops it.
    """
    if here() is not None:
        raise Denied("a run cannot take a stop away; do it from outside of it")
    key = _named(guard, run_id, tenant, everything=everything)

    def work(unit: Unit) -> bool:
        there = unit.records.get(STOPS, key) is not None
        unit.records.delete(STOPS, key)
        if there:
            unit.emit(run_id or key, "run.released", by=by)
        return there

    return guard.transact(Tx(work))  # type: ignore[no-any-return]


def _named(guard: Guard, run_id: str, tenant: str, *, everything: bool) -> str:
    keys = [key for key, given in ((f"run/{run_id}", run_id), (f"tenant/{tenant}", tenant), ("all", everything)) if given]
    if len(keys) != 1:
        raise UsageError("say what to stop: one run, one tenant, or everything")
    if run_id:
        guard.runs.show(run_id)
    no_secrets(guard, tenant=tenant)
    return keys[0]


def _known(unit: Unit, tenant: str) -> bool:
    """Return whether there is a run of a tenant; without its name, of anybody."""
    after = None
    while page := unit.records.list("runs", after=after, limit=1000):
        after = page[-1].key
        if any(not tenant or row.value["tenant"] == tenant for row in page):
            return True
    return False
