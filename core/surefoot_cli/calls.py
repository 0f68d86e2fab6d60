"""``surefoot calls``: the ledger, and settling what is in doubt."""

from __future__ import annotations

import dataclasses
import getpass
import json
from typing import Any

import click

from surefoot import CallState, UsageError
from surefoot_cli.context import Context, as_json, moment, print_json, table

__all__ = ["calls"]


@click.group()
def calls() -> None:
    """List, show and settle calls."""


@calls.command("list")
@click.option("--state", type=click.Choice([str(state) for state in CallState]), help="Only calls in this state.")
@click.option("--run", "run_id", metavar="RUN", help="Only calls of this run.")
@click.option("--limit", default=100, type=click.IntRange(1), show_default=True)
@as_json
@click.pass_obj
def list_(context: Context, state: str | None, run_id: str | None, limit: int, as_json: bool) -> None:
    """List calls, oldest first."""
    found = context.guard().calls.list(state=state, run_id=run_id, limit=limit)
    if as_json:
        print_json(calls=[dataclasses.asdict(call) for call in found])
        return
    rows = ({"call": c.call_id, "tool": c.tool, "effect": c.effect, "state": c.state, "step": c.path, "run": c.run_id} for c in found)
    table(("call", "tool", "effect", "state", "step", "run"), rows)


@calls.command()
@click.argument("call_id", metavar="CALL")
@as_json
@click.pass_obj
def show(context: Context, call_id: str, as_json: bool) -> None:
    """Show everything about a call."""
    call = context.guard().calls.show(call_id)
    data: dict[str, Any] = dataclasses.asdict(call)
    if as_json:
        print_json(call=data)
        return
    for name, value in data.items():
        shown = moment(value) if name in {"created", "updated"} else value
        if shown not in (None, "", ()):
            click.echo(f"{name:12} {shown}")
    if call.state is CallState.IN_DOUBT:
        click.echo(f"\nSettle it: surefoot calls settle {call_id} --committed JSON   or   --failed")


@calls.command()
@click.argument("call_id", metavar="CALL")
@click.option("--committed", metavar="JSON", help="It happened; this is what the tool returned, as JSON.")
@click.option("--failed", is_flag=True, help="It did not happen and will not: it may run again.")
@click.option("--by", metavar="NAME", help="Who says so; recorded. Default: the user who runs this.")
@as_json
@click.pass_obj
def settle(context: Context, call_id: str, committed: str | None, failed: bool, by: str | None, as_json: bool) -> None:
    """Say what became of a call in doubt, so that its run can go on."""
    if (committed is None) != failed:
        raise UsageError("say either --committed JSON or --failed")
    who = by or getpass.getuser()
    guard = context.guard()
    if failed:
        record = guard.calls.settle(call_id, failed=True, by=who)
    else:
        record = guard.calls.settle(call_id, committed=_value(committed or ""), by=who)
    if as_json:
        print_json(call=dataclasses.asdict(record))
    else:
        click.echo(f"{call_id} is {record.state}, settled by {who}. Resume its run to go on.")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise UsageError(f"--committed is not JSON ({exc}); a text needs quotes of its own: --committed '\"charged\"'") from exc
