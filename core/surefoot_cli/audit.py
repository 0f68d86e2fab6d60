"""``surefoot audit``: whether the event log is what was written."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from surefoot import Guard, IntegrityError, RunStatus
from surefoot.engine.events import verify as first_bad
from surefoot.engine.program import Tx
from surefoot.engine.run import load
from surefoot_cli.context import Context, as_json, print_json
from surefoot_stores.retention import PRUNED

if TYPE_CHECKING:
    from surefoot.engine.unit import Unit

__all__ = ["audit", "problem_of"]


@click.group()
def audit() -> None:
    """Check the event log."""


@audit.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1)
@as_json
@click.pass_obj
def verify(context: Context, run_ids: tuple[str, ...], as_json: bool) -> None:
    """Check every link of the runs' logs (default: all runs) and that they end where the ledger stands."""
    guard = context.guard()
    checked = list(run_ids or (run.run_id for run in guard.runs.list(limit=1_000_000)))
    bad: dict[str, str] = {}
    with click.progressbar(checked, label="checking", file=sys.stderr, hidden=as_json) as progress:
        for run_id in progress:
            if (problem := problem_of(guard, run_id)) is not None:
                bad[run_id] = problem
    if as_json:
        print_json(checked=len(checked), bad=bad)
    else:
        click.echo(f"{len(checked) - len(bad)} of {len(checked)} runs are as they were written")
    if bad:
        raise IntegrityError("; ".join(f"run {run_id}: {problem}" for run_id, problem in bad.items()))


def problem_of(guard: Guard, run_id: str) -> str | None:
    """Return what is wrong with a run's log, naming the first bad position, or ``None`` (I21).

    Checks every link of the chain, and that the log ends where the store stands: the last event of each call, and of the
    run, has its state, and each checkpoint its event. Raises :class:`~surefoot.NotFound`.
    """
    run = guard.runs.show(run_id)
    return guard.transact(Tx(partial(_problem, run_id=run.run_id), write=False))  # type: ignore[no-any-return]


def _problem(unit: Unit, run_id: str) -> str | None:
    """Look at everything in one transaction: a run that goes on meanwhile is as sound as any."""
    if (pruned := unit.records.get(PRUNED, run_id)) is not None and "log" in pruned.value:
        return None
    states: dict[str, Any] = {}
    steps, status = 0, str(RunStatus.OPEN)
    after, link = 0, ""
    while found := unit.tx.events.list(run_id, after=after):
        if (bad := first_bad(found, link, after)) is not None:
            return f"event {bad} does not fit the chain"
        states |= {event.call_id: event.data["state"] for event in found if event.call_id and "state" in event.data}
        steps += sum(event.type == "step.committed" for event in found)
        status = next((event.data["status"] for event in reversed(found) if event.type in {"run.ended", "run.paused"}), status)
        after, link = found[-1].seq, found[-1].link
    for call in unit.calls.list(run_id=run_id, limit=sys.maxsize):
        if (told := states.get(call.call_id, "unknown")) != call.state:
            return f"behind event {after}: call {call.call_id} is {call.state} in the ledger, {told} in the log"
    if not after:
        return "there is no event"
    if (kept := len(unit.checkpoints.list(run_id, limit=sys.maxsize))) != steps:
        return f"behind event {after}: {kept} steps are committed in the store, {steps} in the log"
    run = load(unit, run_id)
    assert run is not None  # noqa: S101 - it was shown
    return None if status == run.status else f"behind event {after}: the run is {run.status} in the store, {status} in the log"
