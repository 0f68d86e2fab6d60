"""Calls of which nobody will say how they ended."""

from __future__ import annotations

from surefoot.engine.deadline import Overdue

__all__ = ["Died", "Lost"]


class Lost(Overdue):
    """Nobody will say how the call ended: the server went away, the client cancelled it, or its time is up. The message says which."""


class Died(Lost):
    """The server went away while it had the call."""
