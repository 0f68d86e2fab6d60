"""Adds ``surefoot certify`` to the command line."""

from __future__ import annotations

from typing import Any

from surefoot.hookspecs import hookimpl

__all__ = ["surefoot_cli"]


@hookimpl
def surefoot_cli(group: Any) -> None:
    """Add the command."""
    from surefoot_conformance.command import certify

    group.add_command(certify)
