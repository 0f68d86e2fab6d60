"""``surefoot store``: how much is in it, what it may forget, whether it is sound, a copy of it, and its schema."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Final

import click

from surefoot import Guard, IntegrityError
from surefoot_cli.audit import problem_of
from surefoot_cli.context import Context, as_json, print_json
from surefoot_stores.care import backup as copy_to
from surefoot_stores.care import damage, newest_schema, schema_of
from surefoot_stores.care import stats as stats_of
from surefoot_stores.retention import Retention
from surefoot_stores.retention import prune as prune_store

__all__ = ["store"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)


class _Age(click.ParamType[float]):
    """A time that people write: ``90s``, ``12h``, ``30d``."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds."""
        if isinstance(value, float):
            return value
        if (found := _AGE.fullmatch(value)) is None:
            self.fail(f"{value!r} is no age; write 90s, 45m, 12h or 30d", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


@click.group()
def store() -> None:
    """Look after the store."""


@store.command()
@as_json
@click.pass_obj
def stats(context: Context, as_json: bool) -> None:
    """Show how much is in the store: calls by state, records by namespace, rows and bytes."""
    found = stats_of(context.guard().store)
    if as_json:
        print_json(**found)
        return
    for name, value in found.items():
        if isinstance(value, dict):
            click.echo(f"{name:12} {sum(value.values())}")
            for part, count in value.items():
                click.echo(f"  {part:22} {count}")
        else:
            click.echo(f"{name:12} {value}")


@store.command()
@click.option("--payload-ttl", type=_Age(), required=True, help="Keep values for this long after their run is over, for example 30d.")
@click.option("--dedup-ttl", type=_Age(), required=True, help="Recognise calls by more than their hash for this long, for example 365d.")
@click.option("--max-run-age", type=_Age(), required=True, help="A run that has not ended is over at this age, for example 90d.")
@as_json
@click.pass_obj
def prune(context: Context, payload_ttl: float, dedup_ttl: float, max_run_age: float, as_json: bool) -> None:
    """Remove what need not be remembered. What took effect is never run again; what is in doubt is never touched."""
    guard = context.guard()
    done = dataclasses.asdict(prune_store(guard.store, Retention(payload_ttl, dedup_ttl, max_run_age), guard.clock()))
    if as_json:
        print_json(**done)
        return
    for name, count in done.items():
        click.echo(f"{name:12} {count}")


@store.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@as_json
@click.pass_obj
def backup(context: Context, target: Path, as_json: bool) -> None:
    """Copy a SQLite store that may be in use to a new file, and the key of its digests to FILE.key."""
    copy_to(context.guard().store, target.absolute())
    if as_json:
        print_json(backup=str(target.absolute()))
    else:
        beside = target.with_name(f"{target.name}.key")
        click.echo(f"{target} and {beside} are a whole store; keep them together" if beside.exists() else f"{target} is a whole store")


@store.command()
@as_json
@click.pass_obj
def verify(context: Context, as_json: bool) -> None:
    """Check the store's pages, rows and large values, its key, and every run's log."""
    guard = context.guard()
    guard.store.digest_key()
    bad = damage(guard.store) or _bad_logs(guard)
    if as_json:
        print_json(sound=not bad, bad=bad)
    elif not bad:
        click.echo("the store is sound")
    if bad:
        raise IntegrityError("; ".join(bad))


def _bad_logs(guard: Guard) -> list[str]:
    checked = ((run.run_id, problem_of(guard, run.run_id)) for run in guard.runs.list(limit=1_000_000))
    return [f"run {run_id}: {problem}" for run_id, problem in checked if problem is not None]


@store.command()
@as_json
@click.pass_obj
def migrate(context: Context, as_json: bool) -> None:
    """Bring the store's tables up to date, as opening it does, and say what schema it had and has."""
    kept = context.guard().store
    before, newest = schema_of(kept), newest_schema(kept)
    kept.run(lambda _tx: None)
    if as_json:
        print_json(before=before, schema=newest)
    else:
        click.echo(f"schema {newest}" if before == newest else f"schema {before} is {newest} now")
