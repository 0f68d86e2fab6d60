"""Watching calls: who runs now, and what became of those that ran, read back from the ledger when the next one asks.

Nobody has to report an outcome, so none is lost with the process that would have: the ledger has it, or says that nobody knows.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

from surefoot import CallRecord, CallState, Guard
from surefoot.engine.claims import Claim
from surefoot.engine.key import call_id
from surefoot.engine.unit import Unit

__all__ = ["Watched", "looked_at", "matches", "watch"]

Watched = list[list[Any]]
"""Calls as a record keeps them: id, and the entry that claimed it."""


def watch(claim: Claim) -> list[Any]:
    """Return a call that is about to be claimed, as a record keeps it."""
    return [call_id(claim.key), claim.frame.entry]


def looked_at(unit: Unit, guard: Guard, watched: Iterable[Sequence[Any]]) -> tuple[Watched, list[CallRecord]]:
    """Return the calls that still run, and the rows of those that have ended; what was claimed anew since is somebody else's."""
    running: Watched = []
    ended: list[CallRecord] = []
    for known, entry in watched:
        row = unit.calls.get(known)
        if row is None or row.entry != entry:
            continue
        if (row.state is CallState.INTENT and guard.is_running(row)) or (row.state is CallState.IN_DOUBT and guard.runs_here(row)):
            running.append([known, entry])
        if row.state is not CallState.INTENT or not guard.is_running(row):
            ended.append(row)
    return running, ended


def matches(tool: str, patterns: str | Sequence[str]) -> bool:
    """Return whether a tool has one of these names or patterns."""
    return any(fnmatch.fnmatchcase(tool, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))
