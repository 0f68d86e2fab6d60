"""Questions to people: what an adapter uses to have a policy's approvals asked and answered in its framework's own way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from surefoot import Guard
from surefoot.engine.claims import Request
from surefoot.engine.frames import Frame
from surefoot.engine.program import Program

__all__ = ["Asking", "asking"]


class Asking(Protocol):
    """What a policy that asks people offers adapters. Whichever way it is asked and answered, its record decides, at the body."""

    def may(self, tool: str) -> bool:
        """Return whether a person may be asked about some call of a tool."""
        ...

    def waits(self, frame: Frame, request: Request) -> Program[bool]:
        """Return whether a call waits for a person; that person is asked if nobody was before (AS-26)."""
        ...

    def states(self, run_id: str) -> Mapping[str, tuple[str, str]]:
        """Return what was asked in a run: the model's id of a call → the newest question's id, and its state."""
        ...

    def cards(self, run_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what a run waits for: the id of each pending question → its card."""
        ...

    def decider(self) -> str:
        """Return whose the answers are that name nobody."""
        ...

    def answer(self, approval_id: str, *, yes: bool, by: str = "") -> None:
        """Record what a person said. Raises :class:`~surefoot.Denied` for somebody who may not decide (I15)."""
        ...


def asking(guard: Guard) -> Asking | None:
    """Return what asks people for a guard's policy, ``None`` where nothing does: such a policy has a method ``asking(guard)``."""
    made: Any = getattr(guard.policy, "asking", None)
    found: Asking | None = made(guard) if made is not None else None
    return found
