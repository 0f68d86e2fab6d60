"""What every command shares: the store it works on and how it prints."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from surefoot import Guard, NotFound, UsageError
from surefoot.plugins import DEFAULT_STORE
from surefoot_stores.encrypted import expect_plain

__all__ = ["Context", "as_json", "load_object", "moment", "print_json", "table"]


@dataclass(frozen=True, slots=True)
class Context:
    """The options of the root command."""

    store: str | None

    @property
    def url(self) -> str:
        """The store's URL."""
        return self.store or os.environ.get("SUREFOOT_STORE") or DEFAULT_STORE

    @property
    def source(self) -> str:
        """Where the URL comes from."""
        return "--store" if self.store else "SUREFOOT_STORE" if os.environ.get("SUREFOOT_STORE") else "default"

    def guard(self) -> Guard:
        """Return a guard over a store that exists; looking at one never creates it."""
        plain = self.url.removeprefix("encrypted+")
        if plain.startswith("sqlite:///"):
            path = Path(plain.removeprefix("sqlite:///"))
            if not path.exists():
                raise NotFound(f"there is no store at {path.absolute()}; give --store or set SUREFOOT_STORE")
        guard = Guard(self.url)
        expect_plain(guard.store)
        return guard


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON with a schema_version.")


def print_json(**data: Any) -> None:
    """Print one JSON object with ``schema_version``."""
    click.echo(json.dumps({"schema_version": 1, **data}, indent=2, default=str))


def moment(seconds: float | None) -> str:
    """Return a time for people, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""
    except (OverflowError, ValueError):
        return "never"  # no calendar goes as far


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as aligned text."""
    lines = [list(columns), *([_in_a_line(str(row.get(column, ""))) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _in_a_line(text: str) -> str:
    """Return a cell without what would move a terminal's cursor: a thread may have any name."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def load_object(spec: str) -> Any:
    """Return the object that ``module:object`` names, looking in the current directory too.

    Raises :class:`~surefoot.UsageError` when there is none.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise UsageError(f"{spec!r} is not of the form module:object, for example my_app.agent:graph")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as exc:
        raise UsageError(f"{spec} cannot be loaded ({type(exc).__name__}: {exc}); name it as module:object, importable from here") from exc
    return found
