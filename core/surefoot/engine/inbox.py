"""The inbox: what happened, what is open, and settling it. The same things the command line shows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from surefoot.engine import doubt
from surefoot.engine.program import Tx
from surefoot.engine.run import find_run, load
from surefoot.errors import NotFound, UsageError
from surefoot.types import CallRecord, CallState, Checkpoint, Event, RunRecord

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard
    from surefoot.engine.unit import Unit

__all__ = ["Calls", "Runs"]

T = TypeVar("T")


class _View:
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def _look(self, work: Callable[[Unit], T]) -> T:
        return self._guard.transact(Tx(work, write=False))  # type: ignore[no-any-return]


class Calls(_View):
    """The calls in the ledger: ``guard.calls``."""

    def list(self, *, state: CallState | str | None = None, run_id: str | None = None, limit: int = 100) -> Sequence[CallRecord]:
        """Return calls, oldest first, at most ``limit``."""
        wanted = CallState(state) if state is not None else None
        return self._look(lambda unit: unit.calls.list(state=wanted, run_id=run_id, limit=limit))

    def show(self, call_id: str) -> CallRecord:
        """Return one call. Raises :class:`~surefoot.NotFound`."""
        if (record := self._look(lambda unit: unit.calls.get(call_id))) is None:
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
        return self._guard.transact(Tx(partial(doubt.settle, call_id=call_id, by=by, value=text)))  # type: ignore[no-any-return]


class Runs(_View):
    """The runs of the store: ``guard.runs``."""

    def list(self, *, limit: int = 100) -> Sequence[RunRecord]:
        """Return runs, newest first, at most ``limit``."""
        return self._look(lambda unit: find_run(unit, limit=limit))

    def show(self, run_id: str) -> RunRecord:
        """Return one run. Raises :class:`~surefoot.NotFound`."""
        if (record := self._look(lambda unit: load(unit, run_id))) is None:
            raise NotFound(f"there is no run {run_id}; 'surefoot runs list' shows what there is", run_id=run_id)
        return record

    def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Return the run's events, oldest first."""
        return self._look(lambda unit: unit.tx.events.list(run_id, after=after, limit=limit))

    def follow(self, run_id: str, *, after: int = 0, poll: float = 0.1) -> Iterator[Event]:
        """Yield the run's stored events from the one behind ``after`` on, as they come, until the run has ended.

        Goes on without a gap from the ``seq`` of the last event that was worked on. Looks every ``poll`` seconds. Raises
        :class:`~surefoot.NotFound`.
        """
        while True:
            ended = self.show(run_id).ended is not None  # before the look at its events: one may come in between
            found = self.events(run_id, after=after)
            for event in found:
                after = event.seq
                yield event
            if not found:
                if ended:
                    return
                time.sleep(poll)

    def rollback(self, run_id: str, **options: Any) -> Any:
        """Undo what a run did after one of its steps; see :func:`surefoot_recovery.rollback`, whose options these are."""
        return self._guard.plugins.view("rollback", self._guard)(run_id, **options)

    def fork(self, run_id: str, **options: Any) -> Any:
        """Branch off a run at one of its steps; see :func:`surefoot_recovery.fork`, whose options these are."""
        return self._guard.plugins.view("fork", self._guard)(run_id, **options)

    def checkpoints(self, run_id: str) -> Sequence[Checkpoint]:
        """Return the run's committed steps, oldest first."""
        return self._look(lambda unit: unit.checkpoints.list(run_id, limit=sys.maxsize))
