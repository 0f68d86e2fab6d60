"""``surefoot runs stop``: the kill switch. ``surefoot runs cost``: what models used."""

from __future__ import annotations

import getpass
from dataclasses import asdict

import click

from surefoot_cli.context import Context, as_json, print_json, table
from surefoot_policy import stops, usage

__all__ = ["cost", "stop"]


@click.command()
@click.argument("run_id", metavar="[RUN]", default="")
@click.option("--tenant", default="", metavar="NAME", help="All runs of this tenant.")
@click.option("--all", "everything", is_flag=True, help="Everything that shares the store.")
@click.option("--release", is_flag=True, help="Take the stop away; the runs can then be resumed.")
@click.option("--by", metavar="NAME", help="Who says so; recorded. Default: the user who runs this.")
@click.option("--reason", default="", metavar="TEXT", help="Why; whoever runs into it is told.")
@click.pass_obj
def stop(context: Context, run_id: str, tenant: str, everything: bool, release: bool, by: str | None, reason: str) -> None:
    """Let no effect start any more in a run, a tenant or anywhere, in whatever process. What runs already ends."""
    guard, who = context.guard(), by or getpass.getuser()
    if release:
        was = stops.release(guard, run_id, tenant=tenant, everything=everything, by=who)
        click.echo("released; resume the runs to go on" if was else "it was not stopped")
    else:
        stops.stop(guard, run_id, tenant=tenant, everything=everything, by=who, reason=reason)
        click.echo(f"stopped by {who}; the same command with --release lets it go on")


@click.command()
@click.argument("run_id", metavar="RUN")
@as_json
@click.pass_obj
def cost(context: Context, run_id: str, as_json: bool) -> None:
    """Say what a run used, by step, tool and model."""
    found = usage.cost(context.guard(), run_id)
    total = sum(used.cost_usd for used in found)
    if as_json:
        print_json(run=run_id, cost_usd=total, usage=[asdict(used) for used in found])
        return
    table(("step", "tool", "model", "replies", "input_tokens", "output_tokens", "cost_usd"), [asdict(used) for used in found])
    click.echo(f"{sum(used.input_tokens + used.output_tokens for used in found)} tokens, {total:.6f} US dollars")
