"""The inbox: what happened, what is open, and settling it. The same things the command line shows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from surefoot.engine import doubt
from surefoot.engine.program import Tx
from surefoot.engine.run import find_run, load
from surefoot.errors import NotFound, UsageError
from surefoot.types import CallRecord, CallState, Checkpoint, Event, RunRecord

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard

__all__ = ["Calls", "Runs"]


class Calls:
    """The calls in the ledger: ``guard.calls``."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def list(self, *, state: CallState | str | None = None, run_id: str | None = None, limit: int = 100) -> Sequence[CallRecord]:
        """Return calls, oldest first, at most ``limit``."""
        wanted = CallState(state) if state is not None else None
        found: Sequence[CallRecord] = self._guard.transact(
            Tx(lambda unit: unit.calls.list(state=wanted, run_id=run_id, limit=limit), write=False)
        )
        return found

    def show(self, call_id: str) -> CallRecord:
        """Return one call. Raises :class:`~surefoot.NotFound`."""
        record: CallRecord | None = self._guard.transact(Tx(lambda unit: unit.calls.get(call_id), write=False))
        if record is None:
            raise NotFound(f"there is no call {call_id}; 'surefoot calls list' shows what there is", call_id=call_id)
        return record

    def settle(self, call_id: str, *, committed: Any = ..., failed: bool = False, by: str) -> CallRecord:
        """Say what became of a call in doubt: ``committed=`` its result, or ``failed=True``. ``by`` is recorded.

        Raises :class:`~surefoot.UsageError` unless exactly one of them is given, :class:`~surefoot.NotFound`, and
        :class:`~surefoot.IntegrityError` when the call is not in doubt.
        """
        if (committed is not ...) == failed:
            raise UsageError("say either committed=<the result> or failed=True")
        text = None if failed else self._guard.codec.dumps(committed)
        record: CallRecord = self._guard.transact(Tx(partial(doubt.settle, call_id=call_id, by=by, value=text)))
        return record


class Runs:
    """The runs of the store: ``guard.runs``."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def list(self, *, limit: int = 100) -> Sequence[RunRecord]:
        """Return runs, newest first, at most ``limit``."""
        found: Sequence[RunRecord] = self._guard.transact(Tx(lambda unit: find_run(unit, limit=limit), write=False))
        return found

    def show(self, run_id: str) -> RunRecord:
        """Return one run. Raises :class:`~surefoot.NotFound`."""
        record: RunRecord | None = self._guard.transact(Tx(lambda unit: load(unit, run_id), write=False))
        if record is None:
            raise NotFound(f"there is no run {run_id}; 'surefoot runs list' shows what there is", run_id=run_id)
        return record

    def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Return the run's events, oldest first."""
        found: Sequence[Event] = self._guard.transact(Tx(lambda unit: unit.tx.events.list(run_id, after=after, limit=limit), write=False))
        return found

    def checkpoints(self, run_id: str) -> Sequence[Checkpoint]:
        """Return the run's committed steps, oldest first."""
        found: Sequence[Checkpoint] = self._guard.transact(Tx(lambda unit: unit.checkpoints.list(run_id), write=False))
        return found
