"""What the stores on databases have in common: the names of their columns, in the order in which they are written."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from surefoot.types import CallRecord, Checkpoint, Event

__all__ = ["CALL", "CHECKPOINT", "ENDS", "EVENT", "IDENTITY", "MUTABLE", "PLACE", "readable", "replacing"]

CALL: Final = [f.name for f in fields(CallRecord)]
CHECKPOINT: Final = [f.name for f in fields(Checkpoint)]
EVENT: Final = [f.name for f in fields(Event)]
PLACE: Final = ["conversation", "run_id", "scope", "path", "alias", "occurrence"]
"""Columns of a call that an update changes when its body is about to be entered: who asks for it, and where."""
IDENTITY: Final = frozenset(["call_id", "key", "tenant", "tool", "args_digest", "arguments", "created"])
"""Columns of a call that no update changes."""
MUTABLE: Final = [name for name in CALL if name not in IDENTITY.union(PLACE)]
"""Columns of a call that any update may change."""
_REPLACED: Final = [*PLACE, "tenant", "args_digest", "owner", "arguments", "value", "error", "reason", "version"]
_REPLACE: Final = f"UPDATE calls SET {', '.join(f'{name} = ?' for name in _REPLACED)} WHERE call_id = ?"  # noqa: S608 - constants
ENDS: Final = "surefoot.ends"
"""Records by run id: where the log and the checkpoints of a run end, in a store that is encrypted."""


def readable(reason: str) -> str:
    """Return a reason as text that a database takes: a tool's error may quote a file name that is not Unicode."""
    return reason if reason.isascii() else reason.encode("utf-8", "backslashreplace").decode()


def replacing(record: CallRecord) -> tuple[str, ...]:
    """Return the statement that takes from a call what ``record`` has no more, and its values: retention's alone."""
    return _REPLACE, *(getattr(record, name) for name in _REPLACED), record.call_id
