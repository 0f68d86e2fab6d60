"""``surefoot mcp wrap`` and ``unwrap``."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import click

from surefoot import UsageError
from surefoot_cli.context import Context, as_json, print_json
from surefoot_mcp_server import clients

__all__ = ["unwrap", "wrap"]

_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
_DRY = click.option("--dry-run", is_flag=True, help="Show what would be done, change nothing.")
_STORES = Path(".surefoot")


@click.command()
@_FILE
@_DRY
@as_json
@click.pass_obj
def wrap(context: Context, /, file: Path, *, dry_run: bool, as_json: bool) -> None:
    """Put surefoot before every server that FILE starts: the configuration of Claude Desktop, Cursor or VS Code.

    A copy of FILE stays beside it. The ledger is --store or SUREFOOT_STORE, else .surefoot/mcp.db in your home folder, because a client
    starts its servers in a folder of its own.
    """
    store = context.url if context.source != "default" else f"sqlite:///{Path.home() / _STORES / 'mcp.db'}"
    if store.startswith("sqlite:///") and not Path(store.removeprefix("sqlite:///")).is_absolute():
        raise UsageError(f"the store {store} is a path from here, and a client starts its servers elsewhere; give the whole path")
    config = clients.read(file)
    edits = clients.wrapped(config, store)
    if store.endswith("/mcp.db") and not dry_run:
        Path(store.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    _done(file, config, edits, dry_run=dry_run, as_json=as_json)


@click.command()
@_FILE
@_DRY
@as_json
def unwrap(file: Path, *, dry_run: bool, as_json: bool) -> None:
    """Take surefoot away from every server in FILE. A copy of FILE stays beside it; the ledger stays where it is."""
    config = clients.read(file)
    _done(file, config, clients.unwrapped(config), dry_run=dry_run, as_json=as_json)


def _done(file: Path, config: dict[str, object], edits: list[clients.Edit], *, dry_run: bool, as_json: bool) -> None:
    changed = [edit for edit in edits if edit.before != edit.after]
    backup = clients.write(file, config) if changed and not dry_run else None
    if as_json:
        print_json(
            file=str(file), backup=str(backup) if backup else None, dry_run=dry_run, servers=[dataclasses.asdict(edit) for edit in edits]
        )
        return
    for edit in edits:
        click.echo(f"{edit.server}: {edit.why or shlex.join(edit.after)}")
    if backup is not None:
        click.echo(f"{file} is changed; what it was is in {backup}. Start the client anew.")
    else:
        click.echo(f"{file} is as it was")
