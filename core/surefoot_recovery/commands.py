"""``surefoot runs rollback``, ``fork``, ``quarantined`` and ``release``."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import Any

import click

from surefoot import Guard
from surefoot_cli.context import Context, as_json, load_object, moment, print_json, table
from surefoot_journal import Replays
from surefoot_recovery.branching import fork as forked
from surefoot_recovery.plan import Plan
from surefoot_recovery.poison import quarantined as set_aside
from surefoot_recovery.poison import released
from surefoot_recovery.undoing import rollback as rolled_back

__all__ = ["fork", "quarantined", "release", "rollback"]

_app = click.option("--app", metavar="MODULE:OBJECT", help="The agent that was run: it declares compensate=, or keeps the state.")
_by = click.option("--by", metavar="NAME", help="Who says so; recorded. Default: the user who runs this.")


def _loaded(context: Context, app: str | None) -> tuple[Guard, Any]:
    """Return the guard to work with, which is the agent's own where it has one, and the agent."""
    guard = context.guard()
    target = load_object(app) if app is not None else None
    for adapter in guard.plugins.adapters() if target is not None else ():
        owner = adapter.guard_of(target) if isinstance(adapter, Replays) and adapter.matches(target) else None
        if owner is not None and owner.store.url == guard.store.url:
            return owner, target
    return guard, target


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--to", metavar="STEP", help="The committed step that stays, with all before it. Default: nothing stays.")
@click.option("--plan", is_flag=True, help="Only say what would be undone, and what cannot be.")
@click.option("--partial", is_flag=True, help="Undo what can be undone; the rest is listed and stands.")
@_app
@_by
@as_json
@click.pass_obj
def rollback(
    context: Context, run_id: str, to: str | None, plan: bool, partial: bool, app: str | None, by: str | None, as_json: bool
) -> None:
    """Undo what RUN did after a step: the newest effect first, each at most once.

    Refused before anything is undone if it cannot be completed. Killed, the same command goes on. Exits with 1 where a compensation failed.
    """
    guard, target = _loaded(context, app)
    found = rolled_back(guard, run_id, to=to, plan=plan, partial=partial, by=by or getpass.getuser(), app=target)
    if as_json:
        print_json(**({"plan": asdict(found)} if isinstance(found, Plan) else {"undone": asdict(found)}))
    elif isinstance(found, Plan):
        click.echo(str(found))
    else:
        click.echo(str(found.plan))
        click.echo(f"{found.status}: {len(found.compensated)} undone, {len(found.failed)} failed, {len(found.left)} left as they are")
    if not isinstance(found, Plan) and found.failed:
        raise SystemExit(1)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--at", required=True, metavar="STEP", help="The committed step that the branch begins after.")
@click.option("--name", metavar="NAME", help="What the branch is called. Default: one that is made up.")
@_app
@_by
@as_json
@click.pass_obj
def fork(context: Context, run_id: str, at: str, name: str | None, app: str | None, by: str | None, as_json: bool) -> None:
    """Branch off RUN after a step: up to there the branch has its outputs and effects, from there on it goes its own way."""
    guard, target = _loaded(context, app)
    found = forked(guard, run_id, at=at, name=name, by=by or getpass.getuser(), app=target)
    if as_json:
        print_json(fork=asdict(found))
    else:
        click.echo(found.how)


@click.command()
@as_json
@click.pass_obj
def quarantined(context: Context, as_json: bool) -> None:
    """List the runs that crashed their process too often and were set aside."""
    found = set_aside(context.guard())
    if as_json:
        print_json(runs=[asdict(run) for run in found])
        return
    table(("run", "since", "reason"), ({"run": run.run_id, "since": moment(run.at), "reason": run.reason} for run in found))


@click.command()
@click.argument("run_id", metavar="RUN")
@_by
@click.pass_obj
def release(context: Context, run_id: str, by: str | None) -> None:
    """Let a run go on that was set aside; its crashes are forgotten."""
    released(context.guard(), run_id, by=by or getpass.getuser())
    click.echo(f"released; resume {run_id} to go on")
