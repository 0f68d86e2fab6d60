"""``surefoot runs rollback`` and ``surefoot runs fork``."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import Any

import click

from surefoot import Guard
from surefoot_cli.context import Context, as_json, load_object, print_json
from surefoot_journal import Replays
from surefoot_recovery.fork import fork as forked
from surefoot_recovery.plan import Plan
from surefoot_recovery.rollback import rollback as rolled_back

__all__ = ["fork", "rollback"]

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
