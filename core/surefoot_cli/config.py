"""``surefoot config``: what is in force."""

from __future__ import annotations

import importlib.metadata
import platform
import sqlite3

import click

from surefoot_cli.context import Context, as_json, print_json

__all__ = ["config"]


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@as_json
@click.pass_obj
def show(context: Context, as_json: bool) -> None:
    """Show the store in force, where that comes from, and versions."""
    data = {
        "store": context.url,
        "store_from": context.source,
        "surefoot": importlib.metadata.version("surefoot"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    if as_json:
        print_json(**data)
        return
    for name, value in data.items():
        click.echo(f"{name:12} {value}")
