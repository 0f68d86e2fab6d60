"""The gate contract: say before dispatch whether a call may run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias

from surefoot.types import Call

__all__ = ["Allow", "Decision", "Deny", "Gate", "Hold"]


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may run, as far as this gate is concerned."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The call must not run. ``reason`` is shown to whoever asked for it."""

    reason: str
    code: str = "denied"


@dataclass(frozen=True, slots=True)
class Hold:
    """The call must wait for someone; the run is held. ``reason`` says for what."""

    reason: str


Decision: TypeAlias = Allow | Deny | Hold


class Gate(ABC):
    """Decides about one call, after replay was ruled out and before its intent is written.

    A gate can only tighten: every gate must allow. A gate that raises, or returns anything but a
    :data:`Decision`, denies every call that is not a declared ``read`` (AS-46, I16, I26).
    """

    @abstractmethod
    def check(self, call: Call) -> Decision:
        """Return the decision about ``call``. Quick, without side effects, never a coroutine."""
