"""``surefoot approvals``: what people have to decide, and deciding it."""

from __future__ import annotations

import getpass
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar, get_args

import click

from surefoot import UsageError
from surefoot_cli.context import Context, as_json, moment, print_json, table
from surefoot_policy.approvals import Approval, State
from surefoot_policy.desk import Desk
from surefoot_policy.links import Action, sign

__all__ = ["approvals"]

_POSITIVE: Final = click.FloatRange(0, min_open=True)
F = TypeVar("F", bound=Callable[..., Any])


def _who(command: F) -> F:
    """Add the options of a decision."""
    command = click.option("--comment", default="", metavar="TEXT", help="Why; whoever asked is told.")(command)
    return click.option("--by", metavar="NAME", help="Who decides; recorded. Default: the user who runs this.")(command)


_seconds = click.option("--seconds", type=_POSITIVE, metavar="N", help="How long links work; default: as long as the approval.")


@click.group()
def approvals() -> None:
    """List, show and decide about calls that wait for a person."""


@approvals.command("list")
@click.option("--state", type=click.Choice(get_args(State)), default="pending", show_default=True)
@click.option("--all", "everything", is_flag=True, help="Whatever their state.")
@click.option("--run", "run_id", metavar="RUN", help="Only what this run waits for: its batch.")
@as_json
@click.pass_obj
def list_(context: Context, state: State, everything: bool, run_id: str | None, as_json: bool) -> None:
    """List approvals, oldest first."""
    found = context.guard().approvals.list(state=None if everything else state, run_id=run_id)
    if as_json:
        print_json(approvals=[asdict(approval) for approval in found])
        return
    table(("approval", "state", "tool", "arguments", "expires", "run"), [_line(approval) for approval in found])


def _line(approval: Approval) -> dict[str, Any]:
    arguments = json.dumps(approval.arguments, default=str)
    shown = {"approval": approval.id, "state": approval.state, "tool": approval.tool, "arguments": arguments[:80]}
    return {**shown, "expires": moment(approval.expires_at), "run": approval.run_id}


@approvals.command()
@click.argument("approval_id", metavar="APPROVAL")
@as_json
@click.pass_obj
def show(context: Context, approval_id: str, as_json: bool) -> None:
    """Show what would run, who asks for it and under which policy."""
    approval = context.guard().approvals.show(approval_id)
    if as_json:
        print_json(approval=asdict(approval))
        return
    for name, value in asdict(approval).items():
        shown = moment(value) if name.endswith("_at") else json.dumps(value, default=str) if name in {"arguments", "instead"} else value
        if shown not in (None, "", [], "null"):
            click.echo(f"{name:14} {shown}")
    if approval.state == "pending":
        click.echo(f"\nDecide: surefoot approvals approve {approval_id}   or   deny   or   edit --arguments JSON")


@approvals.command()
@click.argument("approval_ids", metavar="APPROVAL...", nargs=-1, required=True)
@_who
@as_json
@click.pass_obj
def approve(context: Context, approval_ids: Sequence[str], by: str | None, comment: str, as_json: bool) -> None:
    """Let these very calls run, once each; all of them or none."""
    _tell(context.guard().approvals.approve(*approval_ids, by=by or getpass.getuser(), comment=comment), as_json=as_json)


@approvals.command()
@click.argument("approval_ids", metavar="APPROVAL...", nargs=-1, required=True)
@_who
@as_json
@click.pass_obj
def deny(context: Context, approval_ids: Sequence[str], by: str | None, comment: str, as_json: bool) -> None:
    """Refuse these calls; all of them or none."""
    _tell(context.guard().approvals.deny(*approval_ids, by=by or getpass.getuser(), comment=comment), as_json=as_json)


@approvals.command()
@click.argument("approval_id", metavar="APPROVAL")
@click.option("--arguments", metavar="JSON", required=True, help="The arguments to run with instead, all of them.")
@_who
@as_json
@click.pass_obj
def edit(context: Context, approval_id: str, arguments: str, by: str | None, comment: str, as_json: bool) -> None:
    """Put other arguments in the place of these: the model is told to ask for them, and may once."""
    try:
        given = json.loads(arguments)
    except ValueError as exc:
        raise UsageError(f"--arguments is not JSON ({exc})") from exc
    if not isinstance(given, dict):
        raise UsageError('--arguments is a JSON object of all arguments, like {"amount": 5}')
    _tell([context.guard().approvals.edit(approval_id, given, by=by or getpass.getuser(), comment=comment)], as_json=as_json)


def _tell(decided: Sequence[Approval], *, as_json: bool) -> None:
    if as_json:
        print_json(approvals=[asdict(approval) for approval in decided])
        return
    for approval in decided:
        click.echo(f"{approval.id} is {approval.state} by {approval.decided_by}. Resume run {approval.run_id} to go on.")


@approvals.command()
@click.argument("approval_id", metavar="APPROVAL")
@click.option("--by", metavar="NAME", required=True, help="Whose decisions the links are.")
@click.option("--url", required=True, metavar="URL", help="Where 'surefoot approvals serve' is reached.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), metavar="N", help="How long they work; default: as long as the approval."
)
@as_json
@click.pass_obj
def link(context: Context, approval_id: str, by: str, url: str, seconds: float | None, as_json: bool) -> None:
    """Make the links with which NAME decides about APPROVAL: signed, for this very request, once."""
    guard = context.guard()
    approval = guard.approvals.show(approval_id)
    made = {
        action: f"{url.rstrip('/')}/decide?token={sign(guard, approval, action, by=by, seconds=seconds)}" for action in get_args(Action)
    }
    if as_json:
        print_json(links=made)
        return
    for action, address in made.items():
        click.echo(f"{action:8} {address}")


@approvals.command()
@click.option("--webhook", required=True, metavar="URL", help="Where cards are posted to, as JSON.")
@click.option("--by", metavar="NAME", required=True, help="Whose decisions the links are.")
@click.option("--listen", default="127.0.0.1:8765", show_default=True, metavar="HOST:PORT", help="Where the links are served.")
@click.option("--public-url", default="", metavar="URL", help="What the links begin with; default: where they are served.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), metavar="N", help="How long links work; default: as long as the approval."
)
@click.option(
    "--every", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, metavar="SECONDS", help="How often to look."
)
@click.pass_obj
def serve(context: Context, webhook: str, by: str, listen: str, public_url: str, seconds: float | None, every: float) -> None:
    """Post what waits for a person to a webhook, with links to decide; serve the links, until it is ended.

    A card is signed with SUREFOOT_WEBHOOK_SECRET, where that is set: header Surefoot-Signature, HMAC-SHA-256 of the body.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--listen {listen} is not of the form HOST:PORT")
    secret = os.environ.get("SUREFOOT_WEBHOOK_SECRET", "")
    address = (host, int(port))
    desk = Desk(context.guard(), webhook=webhook, by=by, listen=address, public_url=public_url, secret=secret, seconds=seconds)
    threading.Thread(target=desk.server.serve_forever, name="surefoot-desk", daemon=True).start()
    click.echo(f"links are served at {desk.url}")
    while True:
        for approval_id in desk.tell():
            click.echo(f"told about {approval_id}")
        time.sleep(every)


@approvals.command()
@click.argument("tool", metavar="TOOL")
@click.option("--when", default="", metavar="CEL", help="Only calls for which this holds, like 'args.amount < 100'.")
@click.option("--run", "run_id", default="", metavar="RUN", help="Only in this run; default: in all runs of the tenant.")
@click.option("--tenant", default="default", show_default=True, metavar="NAME")
@click.option("--uses", type=click.IntRange(1), metavar="N", help="How often; default: until it expires.")
@click.option("--expires", type=click.FloatRange(0, min_open=True), default=3600, show_default=True, metavar="SECONDS")
@click.option("--by", metavar="NAME", help="Who grants it; recorded. Default: the user who runs this.")
@as_json
@click.pass_obj
def grant(
    context: Context, tool: str, when: str, run_id: str, tenant: str, uses: int | None, expires: float, by: str | None, as_json: bool
) -> None:
    """Allow calls of TOOL (a name or pattern) beforehand. What the policy denies stays denied."""
    options = {"when": when, "run_id": run_id, "tenant": tenant, "uses": uses, "expires": expires}
    given = context.guard().approvals.grant(tool, by=by or getpass.getuser(), **options)
    if as_json:
        print_json(grant=asdict(given))
    else:
        click.echo(f"{given.id} allows {tool} until {moment(given.expires_at)}; 'surefoot approvals revoke {given.id}' takes it back")


@approvals.command()
@as_json
@click.pass_obj
def grants(context: Context, as_json: bool) -> None:
    """List what is allowed beforehand, and how often it was used."""
    found = context.guard().approvals.grants()
    if as_json:
        print_json(grants=[asdict(one) for one in found])
        return
    rows = ({**asdict(one), "grant": one.id, "expires": moment(one.expires_at), "of": one.uses or "-"} for one in found)
    table(("grant", "tool", "when", "run_id", "used", "of", "expires", "granted_by", "revoked_by"), rows)


@approvals.command()
@click.argument("grant_id", metavar="GRANT")
@click.option("--by", metavar="NAME", help="Who takes it back; recorded. Default: the user who runs this.")
@click.pass_obj
def revoke(context: Context, grant_id: str, by: str | None) -> None:
    """Take a grant back. What it has let run has run."""
    taken = context.guard().approvals.revoke(grant_id, by=by or getpass.getuser())
    click.echo(f"{grant_id} is revoked; it was used {taken.used} times")
