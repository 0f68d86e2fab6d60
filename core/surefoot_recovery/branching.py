"""Branching off: a run that has another one's outputs and effects up to a step, and goes its own way from there."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

from surefoot import Guard, NotFound, RunRecord, RunStatus, UsageError
from surefoot.engine.key import owned
from surefoot.engine.program import Tx
from surefoot.engine.run import INPUTS, THREADS, load, save
from surefoot.engine.unit import Unit
from surefoot_recovery.plan import History
from surefoot_recovery.undoing import adapter_of

__all__ = ["Branches", "Forked", "fork"]


@runtime_checkable
class Branches(Protocol):
    """An adapter whose framework branches off by itself, from a place of its own."""

    name: str
    """The adapter's."""

    @abstractmethod
    def place(self, target: Any, run: RunRecord, mark: int | None) -> Mapping[str, Any]:
        """Return what an invocation names to start after the super-step ``mark``; empty where the framework has none kept."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A branch."""

    run_id: str | None
    """The new run; ``None`` where the framework opens it when it is invoked with :attr:`invoke`."""
    name: str | None
    """What to call the run, so that it is this one: ``with surefoot.run(name):``."""
    invoke: Mapping[str, Any] = field(default_factory=dict)
    """What to give the framework instead of a name."""

    @property
    def how(self) -> str:
        """Say how to go on."""
        if self.name is not None:
            return f"{self.run_id}: run the agent with the same input in 'with surefoot.run({self.name!r}):'"
        return f"invoke the graph with None and the config {dict(self.invoke)!r}"


def fork(guard: Guard, run_id: str, *, at: str, name: str | None = None, by: str, app: Any = None) -> Forked:
    """Branch off a run after step ``at`` (AS-81).

    The branch has the run's outputs and effects up to there: they are replayed. What the run did after it counts as an earlier
    attempt's: the same request gets its answer, another one of a declared unsafe tool is held until a person decides. Business keys
    know no branches. The run itself stays as it is.

    :param at: path or name of a committed step. :param name: names the branch, as :func:`surefoot.run` does.
    :param by: who says so; recorded. :param app: the wrapped object, where its framework branches off by itself (LangGraph).

    Raises :class:`~surefoot.NotFound` for an unknown run or step, :class:`~surefoot.UsageError` for a name that is taken, or a run
    without a name of its own, whose input nobody kept.
    """
    run = guard.runs.show(run_id)
    adapter = adapter_of(guard, run, app)
    if isinstance(adapter, Branches):
        if app is None:
            raise UsageError(f"{adapter.name} keeps the state of run {run_id} itself: give the wrapped object (app=, --app module:object)")
        last = guard.transact(Tx(lambda unit: History(unit, run, at).last, write=False))
        return Forked(None, None, adapter.place(app, run, last.mark))
    name = name or f"{run.thread or run_id}-{os.urandom(3).hex()}".removeprefix("run:")
    done: Forked = guard.transact(Tx(partial(_branch, guard=guard, run_id=run_id, at=at, name=name, by=by)))
    return done


def _branch(unit: Unit, guard: Guard, run_id: str, at: str, name: str, by: str) -> Forked:
    run = load(unit, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}", run_id=run_id)
    if run.thread is None:
        raise UsageError(f"run {run_id} has no name, so nothing can go on from it")
    thread = f"run:{name}"
    if unit.records.get(THREADS, owned(run.tenant, thread)) is not None:
        raise UsageError(f"there is a run called {name!r} already; give the branch another name")
    new = f"run_{os.urandom(10).hex()}"
    begun: dict[str, Any] = {"status": RunStatus.OPEN, "ordinal": 1, "created": unit.now, "ended": None, "reason": "", "previous": ""}
    save(unit, replace(run, run_id=new, thread=thread, origin=run.origin or run_id, **begun))
    unit.records.put(THREADS, owned(run.tenant, thread), {"run": new, "count": 1})
    if (given := unit.records.get(INPUTS, run_id)) is not None:
        unit.records.put(INPUTS, new, given.value)
    history = History(unit, run, at)
    unit.emit(new, "run.opened", thread=thread, adapter=run.adapter, ordinal=1, origin=run.origin or run_id)
    unit.emit(new, "run.forked", of=run_id, at=history.last.path if history.last else None, by=by)
    for checkpoint in history.kept:
        unit.checkpoints.append(checkpoint.changed(run_id=new))
    _catch_up(unit, guard, owned(run.tenant, run.thread), owned(run.tenant, thread))
    return Forked(new, name)


def _catch_up(unit: Unit, guard: Guard, old: str, new: str) -> None:
    """Let the branch's entries be newer than every one of the run's: what the run did is an earlier attempt's to it."""
    known = unit.leases.get(old)
    lease = unit.leases.get(new)
    while known is not None and (lease is None or lease.epoch < known.epoch):
        lease = unit.leases.take(new, guard.store.owner())
    if lease is not None:
        unit.leases.release(lease)
