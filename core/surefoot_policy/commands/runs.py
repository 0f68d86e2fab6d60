"""``surefoot runs stop``: the kill switch. ``surefoot runs cost``: what models used."""

from __future__ import annotations

import getpass
from dataclasses import asdict

import click

from surefoot_cli.context import Context, as_json, print_json, table
from surefoot_policy import prices, stops, usage

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
        known = stops.stop(guard, run_id, tenant=tenant, everything=everything, by=who, reason=reason)
        click.echo(f"stopped by {who}; the same command with --release lets it go on")
        if not known:
            click.echo(f"no run {f'of the tenant {tenant} ' if tenant else ''}is known yet: what begins from now on starts no effect")


@click.command()
@click.argument("run_id", metavar="[RUN]", default="")
@click.option("--by", multiple=True, type=click.Choice(usage.GROUPS), help="What to sum over; several times, if you like.")
@click.option("--tenant", metavar="NAME", help="Only what this tenant's runs used.")
@as_json
@click.pass_obj
def cost(context: Context, run_id: str, by: tuple[str, ...], tenant: str | None, as_json: bool) -> None:
    """Say what a run, or all of them, used: by agent, step, tool and model, or by what you ask for."""
    names = by or ("agent", "step", "tool", "model")
    found = [used for used in usage.cost(context.guard(), run_id or None) if tenant in {None, used.tenant}]
    shown, total = usage.grouped(found, *names), sum(used.cost_usd for used in found)
    by_list = sorted({used.model for used in found if prices.listed(used.model) is not None})
    unpriced = sorted({used.model for used in found if not used.cost_usd and used.input_tokens + used.output_tokens})
    if as_json:
        told = {"cost_usd": total, "unpriced": unpriced, "listed": by_list, "list_taken": prices.TAKEN}
        print_json(run=run_id or None, by=names, **told, usage=[asdict(used) for used in shown])
        return
    table((*names, "replies", "input_tokens", "output_tokens", "cost_usd"), [asdict(used) for used in shown])
    click.echo(f"{sum(used.input_tokens + used.output_tokens for used in found)} tokens, {total:.6f} US dollars")
    if by_list:
        click.echo(f"where the policy named no price, surefoot's list of {prices.TAKEN} counted: {', '.join(by_list)}")
    if unpriced:
        click.echo(f"without a price, and counted as 0: {', '.join(unpriced)}; the policy's prices: can name one")
