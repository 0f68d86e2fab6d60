"""The gate contract: say before dispatch whether a call may run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from surefoot.errors import Denied
from surefoot.types import HOOK_SECONDS, Call, CallRecord

if TYPE_CHECKING:
    from surefoot.engine.claims import Claim
    from surefoot.engine.unit import Unit

__all__ = ["Admission", "Allow", "Decision", "Deny", "Gate", "Hold"]


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may run, as far as this gate is concerned."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The call must not run. ``reason`` is shown to whoever asked for it."""

    reason: str
    code: str = "denied"
    error: Denied | None = None
    """What to raise instead of a plain :class:`~surefoot.Denied`."""
    stop: bool = False
    """Stop the run with it, through the framework's own stop channel; else the model is told and the run goes on."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The call must wait for someone; the run is held. ``reason`` says for what."""

    reason: str


Decision: TypeAlias = Allow | Deny | Hold


class Gate(ABC):
    """Decides about one call, after replay was ruled out and before its intent is written.

    A gate can only tighten: every gate must allow. A gate that raises, or returns anything but a
    :data:`Decision`, or does not answer in time, denies every call that is not a declared ``read`` (AS-46, I16, I26).
    """

    timeout: float | None = HOOK_SECONDS
    """Seconds in which it must answer, settable on the class or the object; ``None``: it is waited for without end. A gate that has
    one is asked in a thread of its own, with the caller's context."""

    @abstractmethod
    def check(self, call: Call) -> Decision:
        """Return the decision about ``call``. Quick, without side effects, never a coroutine."""


class Admission(ABC):
    """Has the last word about one call: inside the transaction that writes its intent, immediately before the body.

    All admissions must allow. What they decide about is what runs: nothing can come between. Like a gate, one that raises or
    returns anything but :class:`Allow` or :class:`Deny` denies every call that is not a declared ``read``.
    """

    reads: bool = False
    """Declared reads come here as well; each of them then costs an intent."""

    @abstractmethod
    def admit(self, unit: Unit, claim: Claim, record: CallRecord | None) -> Decision:
        """Return the decision about a call that is about to run.

        ``record`` is the row of a call that is entered again, ``None`` for a new one. Quick: the store is locked meanwhile. It
        may read and write records, counters and events of the transaction, which stay written when the call is refused.
        """

    @abstractmethod
    def spend(self, unit: Unit, claim: Claim, record: CallRecord | None) -> None:
        """Use up what the call needs, now that everybody has allowed it. What it raises undoes the transaction."""
