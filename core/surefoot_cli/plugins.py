"""``surefoot plugins``: what is installed."""

from __future__ import annotations

import click

from surefoot.plugins import Plugins
from surefoot_cli.context import as_json, print_json, table

__all__ = ["plugins"]


@click.group()
def plugins() -> None:
    """Look at the plugins."""


@plugins.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List the plugins that are loaded, and those that were skipped with the reason."""
    loaded = Plugins.default()
    if as_json:
        print_json(loaded=loaded.names(), skipped=loaded.skipped)
        return
    table(("plugin", "state"), [{"plugin": name, "state": "loaded"} for name in loaded.names()])
    for name, why in sorted(loaded.skipped.items()):
        click.echo(f"{name}: skipped, {why}")
