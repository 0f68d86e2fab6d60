"""``surefoot bench``: what surefoot costs, as ratios measured in one run beside floors and a peer."""

from __future__ import annotations

from typing import Any

from surefoot import hookimpl

__all__ = ["surefoot_cli"]


@hookimpl
def surefoot_cli(group: Any) -> None:
    """Add ``surefoot bench``."""
    import surefoot_bench.cli

    group.add_command(surefoot_bench.cli.bench)
