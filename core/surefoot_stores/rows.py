"""What the stores on databases have in common: the names of their columns, in the order in which they are written."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from surefoot.types import CallRecord, Checkpoint, Event

__all__ = ["CALL", "CHECKPOINT", "EVENT", "MUTABLE", "PLACE", "readable"]

CALL: Final = [f.name for f in fields(CallRecord)]
CHECKPOINT: Final = [f.name for f in fields(Checkpoint)]
EVENT: Final = [f.name for f in fields(Event)]
PLACE: Final = ["conversation", "run_id", "scope", "path", "alias", "occurrence"]
"""Columns of a call that an update changes when its body is about to be entered: who asks for it, and where."""
_IDENTITY: Final = frozenset(["call_id", "key", "tenant", "tool", "args_digest", "arguments", "created", *PLACE])
MUTABLE: Final = [name for name in CALL if name not in _IDENTITY]
"""Columns of a call that any update may change."""


def readable(reason: str) -> str:
    """Return a reason as text that a database takes: a tool's error may quote a file name that is not Unicode."""
    return reason if reason.isascii() else reason.encode("utf-8", "backslashreplace").decode()
