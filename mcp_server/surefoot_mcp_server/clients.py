"""Client configurations: put the proxy in front of the servers that a client starts, and take it away again."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from surefoot import NotFound, UsageError
from surefoot_mcp_server.rules import named_after

__all__ = ["Edit", "read", "unwrapped", "wrapped", "write"]

_PLACES: Final = (("mcpServers",), ("servers",), ("mcp", "servers"))
"""Where clients keep their servers: Claude Desktop and Cursor, VS Code's ``mcp.json``, VS Code's settings."""
_MARK: Final = ("mcp", "run")
_BACKUP: Final = ".before-surefoot"


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of one server's entry."""

    server: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    """Its command line; the same as before where there is nothing to do."""
    why: str = ""
    """Why there is nothing to do."""


def read(file: Path) -> dict[str, Any]:
    """Return a configuration. Raises :class:`~surefoot.NotFound` and, for what has no servers in it, :class:`~surefoot.UsageError`."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except (OSError, ValueError) as exc:
        raise UsageError(f"{file} is not plain JSON ({exc}); remove comments from it, or edit the entries by hand") from exc
    if not isinstance(found, dict) or not any(True for _ in _entries(found)):
        raise UsageError(f"{file} has no servers under {', '.join('.'.join(place) for place in _PLACES)}")
    return found


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for place in _PLACES:
        found: Any = config
        for name in place:
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, dict):
            yield from found.items()


def wrapped(config: dict[str, Any], store: str) -> list[Edit]:
    """Put the proxy before the command of every server, in place; say what was done.

    A server keeps its name in the ledger when its command changes: it is that of its entry. One that is reached over HTTP is left alone.
    """
    edits = []
    taken: dict[str, str] = {}
    for name, entry in _entries(config):
        before = _command(entry)
        if before is None:
            edits.append(Edit(name, (), (), "has no command; for a server that speaks HTTP use 'surefoot mcp serve'"))
        elif _inner(before) is not None:
            edits.append(Edit(name, before, before, "is wrapped already"))
        else:
            after = (*_ours(store), *_MARK, "--name", _unique(name, taken), *before)
            entry["command"], entry["args"] = after[0], list(after[1:])
            edits.append(Edit(name, before, after))
    return edits


def unwrapped(config: dict[str, Any]) -> list[Edit]:
    """Take the proxy away again, in place, options included; say what was done."""
    edits = []
    for name, entry in _entries(config):
        before = _command(entry)
        after = _inner(before) if before else None
        if before is None or after is None:
            edits.append(Edit(name, before or (), before or (), "is not wrapped"))
        else:
            entry["command"], entry["args"] = after[0], list(after[1:])
            edits.append(Edit(name, before, after))
    return edits


def _command(entry: Any) -> tuple[str, ...] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("command"), str):
        return None
    arguments = entry.get("args", [])
    return (entry["command"], *arguments) if isinstance(arguments, list) and all(isinstance(one, str) for one in arguments) else None


def _ours(store: str) -> tuple[str, ...]:
    """Return our own command: this interpreter, because clients start servers with another search path than a terminal's."""
    return (sys.executable, "-m", "surefoot_cli.main", "--store", store)


def _inner(command: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the server's command behind the proxy's, or ``None`` where there is no proxy."""
    from surefoot_mcp_server.command import run

    ours = "surefoot_cli.main" in command[:3] or Path(command[0]).name == "surefoot"
    at = next((at for at in range(len(command) - 1) if command[at : at + 2] == _MARK), None)
    if not ours or at is None:
        return None
    with suppress(Exception):  # an entry that somebody has edited is not ours to guess at
        found = run.make_context("run", list(command[at + 2 :]), resilient_parsing=True).params["command"]
        return tuple(found) or None
    return None


def _unique(name: str, taken: dict[str, str]) -> str:
    """Return a name for the ledger: the entry's own, or one made of it where it has other characters or is another entry's too."""
    found = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in name)[:48]
    if found != name or not found or taken.get(found, name) != name:
        found = named_after([found or "server", name])
    taken[found] = name
    return found


def write(file: Path, config: Mapping[str, Any]) -> Path:
    """Replace a configuration in one step; return the copy of what it was, which an earlier copy is never lost for."""
    number, backup = 1, file.with_name(file.name + _BACKUP)
    while backup.exists():
        number += 1
        backup = file.with_name(f"{file.name}{_BACKUP}-{number}")
    target = file.resolve()  # a link stays one
    shutil.copy2(target, backup)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, delete=False) as new:
        new.write(text)
        new.flush()
        os.fsync(new.fileno())
    shutil.copymode(target, new.name)
    Path(new.name).replace(target)
    return backup
