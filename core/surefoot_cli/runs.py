"""``surefoot runs``: what happened."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from surefoot import Event, RunRecord
from surefoot_cli.context import Context, as_json, moment, print_json, table

__all__ = ["runs"]


@click.group()
def runs() -> None:
    """List runs and show what happened in one."""


@runs.command("list")
@click.option("--limit", default=50, type=click.IntRange(1), show_default=True)
@as_json
@click.pass_obj
def list_(context: Context, limit: int, as_json: bool) -> None:
    """List runs, newest first."""
    found = context.guard().runs.list(limit=limit)
    if as_json:
        print_json(runs=[dataclasses.asdict(run) for run in found])
        return
    table(("run", "thread", "n", "status", "begun"), (_line(run) for run in found))


def _line(run: RunRecord) -> dict[str, Any]:
    status = f"{run.status}, held" if run.hold else str(run.status)
    return {"run": run.run_id, "thread": run.thread or "-", "n": run.ordinal, "status": status, "begun": moment(run.created)}


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--follow", is_flag=True, help="Go on with what happens until the run has ended.")
@as_json
@click.pass_obj
def show(context: Context, run_id: str, follow: bool, as_json: bool) -> None:
    """Show a run: its steps and calls in order, and what is open."""
    guard = context.guard()
    run = guard.runs.show(run_id)
    if follow:
        for event in guard.runs.follow(run_id):
            click.echo(json.dumps(dataclasses.asdict(event)) if as_json else _timeline(event, run.created))
        return
    events = guard.runs.events(run_id, limit=100_000)
    calls = guard.calls.list(run_id=run_id, limit=100_000)
    if as_json:
        print_json(
            run=dataclasses.asdict(run),
            events=[dataclasses.asdict(event) for event in events],
            calls=[dataclasses.asdict(call) for call in calls],
            checkpoints=[dataclasses.asdict(checkpoint) for checkpoint in guard.runs.checkpoints(run_id)],
        )
        return
    click.echo(f"run {run.run_id}  thread {run.thread or '-'}  number {run.ordinal}  {_line(run)['status']}")
    for event in events:
        click.echo(_timeline(event, run.created))
    for call_id in run.hold:
        click.echo(f"held by {call_id}: surefoot calls show {call_id}")


def _timeline(event: Event, begun: float) -> str:
    told = {key: value for key, value in event.data.items() if key in _TOLD and value not in (None, "")}
    words = "  ".join(f"{key}={value}" for key, value in told.items())
    return f"{event.at - begun:9.3f} s  {event.type:24} {event.step or '':28} {event.call_id or '':37} {words}".rstrip()


_TOLD = ("tool", "state", "reason", "settled_by", "attempt", "verdict", "error_class", "hint", "status", "by", "memo")
