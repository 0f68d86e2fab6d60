"""Quarantine: the runs that were set aside because they killed whoever worked on them, and letting them go."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from surefoot import Guard, NotFound
from surefoot.engine.holds import STOPS
from surefoot.engine.program import Tx
from surefoot.engine.unit import Unit
from surefoot_adapters.poison import BY, CRASHES

__all__ = ["Quarantined", "quarantined", "released"]

_RUN = "run/"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A run that nobody may go on with."""

    run_id: str
    reason: str
    at: float
    """Since when, in POSIX seconds."""


def quarantined(guard: Guard) -> list[Quarantined]:
    """Return the runs that crashed their process too often, in the order of their ids."""

    def work(unit: Unit) -> list[Quarantined]:
        found = unit.records.list(STOPS, prefix=_RUN, limit=sys.maxsize)
        aside = [stop for stop in found if stop.value["by"] == BY]
        return [Quarantined(stop.key.removeprefix(_RUN), stop.value["reason"], stop.value["at"]) for stop in aside]

    return guard.transact(Tx(work, write=False))  # type: ignore[no-any-return]


def released(guard: Guard, run_id: str, *, by: str) -> None:
    """Let a run go on that was set aside; its crashes are forgotten. ``by`` is recorded. Raises :class:`~surefoot.NotFound` for another."""

    def work(unit: Unit) -> None:
        stop = unit.records.get(STOPS, f"{_RUN}{run_id}")
        if stop is None or stop.value["by"] != BY:
            raise NotFound(f"run {run_id} is not quarantined; 'surefoot runs quarantined' lists those that are", run_id=run_id)
        unit.records.delete(STOPS, f"{_RUN}{run_id}")
        unit.records.delete(CRASHES, run_id)
        unit.emit(run_id, "run.released", by=by)

    guard.transact(Tx(work))
