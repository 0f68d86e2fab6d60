"""The life of a call as one table: (state, event) → state. The engine executes it, tests enumerate it, docs print it.

``None`` is the state of a call that the ledger does not know. What is not in the table cannot happen:
:func:`advance` raises :class:`~surefoot.IntegrityError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from surefoot.errors import IntegrityError
from surefoot.types import CallRecord, CallState

__all__ = ["TABLE", "CallEvent", "Transition", "advance"]


class CallEvent(StrEnum):
    """What can happen to a call. The value is the type of the stored event."""

    CLAIMED = "call.claimed"
    """An entry asks for it and its body is about to start."""
    REENTERED = "call.reentered"
    """A later entry enters the body again: it is a read, idempotent, composite, suspended, or proven not to have run."""
    REPLAYED = "call.replayed"
    """A later request got the recorded answer; no body ran."""
    COMMITTED = "call.committed"
    """The body returned."""
    RAISED = "call.raised"
    """The body raised: that is the answer here."""
    NOT_COMMITTED = "call.failed"
    """Proven not to have happened."""
    SUSPENDED = "call.suspended"
    """The framework's control flow left the body (an interrupt)."""
    LOST = "call.lost"
    """The owner is dead or the body was cancelled: nobody can know."""
    ASKED_AGAIN = "call.asked_again"
    """A declared unsafe tool raised, and an equal request came after that."""
    ESCAPED = "call.escaped"
    """The error of a declared unsafe tool escaped its step."""
    HELD = "call.held"
    """Refused before its body, until a person decides (drift, key conflict, a gate)."""
    LANDED_LATE = "call.landed_late"
    """A superseded entry's body returned after all."""
    SETTLED_COMMITTED = "call.settled_committed"
    """A probe or a person says that it happened."""
    SETTLED_FAILED = "call.settled_failed"
    """A probe or a person says that it did not and will not happen."""
    DELIVERED = "call.delivered"
    """A recorded value that its own run never got was given to a later one."""
    UNDELIVERED = "call.undelivered"
    """Its run was abandoned before the framework committed the answer."""
    RECLASSIFIED = "call.reclassified"
    """The tool's effect class was changed; the new one decides."""
    COMPENSATED = "call.compensated"
    """Its compensation committed."""
    COMPENSATION_FAILED = "call.compensation_failed"
    """Its compensation did not commit."""
    PRUNED = "call.pruned"
    """Retention removed the payload; the key stays taken."""


@dataclass(frozen=True, slots=True)
class Transition:
    """Where an event leads, and whether equal requests of the conversation get the answer from then on."""

    to: CallState
    sticky: bool | None = None
    """``True`` or ``False`` sets the mark, ``None`` leaves it."""
    why: str = ""


_S, _E, _T = CallState, CallEvent, Transition
_DOUBT: Final = _T(_S.IN_DOUBT, sticky=True)
_AGAIN: Final = _T(_S.INTENT, sticky=False)

TABLE: Final[dict[tuple[CallState | None, CallEvent], Transition]] = {
    (None, _E.CLAIMED): _T(_S.INTENT, why="durable before the body starts"),
    (None, _E.COMMITTED): _T(_S.COMMITTED, why="a read has no intent: outcome only"),
    (None, _E.SUSPENDED): _T(_S.SUSPENDED, why="a read has no intent: outcome only"),
    (None, _E.HELD): _DOUBT,
    (_S.INTENT, _E.COMMITTED): _T(_S.COMMITTED, sticky=False, why="durable before the framework sees the value"),
    (_S.INTENT, _E.RAISED): _T(_S.RAISED, why="sticky for a declared unsafe tool"),
    (_S.INTENT, _E.NOT_COMMITTED): _T(_S.FAILED, sticky=False),
    (_S.INTENT, _E.SUSPENDED): _T(_S.SUSPENDED, sticky=False),
    (_S.INTENT, _E.LOST): _DOUBT,
    (_S.INTENT, _E.REENTERED): _AGAIN,
    (_S.INTENT, _E.RECLASSIFIED): _T(_S.INTENT, why="a graph was entered: composite"),
    (_S.COMMITTED, _E.REPLAYED): _T(_S.COMMITTED),
    (_S.COMMITTED, _E.DELIVERED): _T(_S.COMMITTED, sticky=False),
    (_S.COMMITTED, _E.UNDELIVERED): _T(_S.COMMITTED, sticky=True),
    (_S.COMMITTED, _E.REENTERED): _T(_S.INTENT, why="a read is read again"),
    (_S.COMMITTED, _E.COMPENSATED): _T(_S.COMPENSATED, sticky=False),
    (_S.COMMITTED, _E.COMPENSATION_FAILED): _T(_S.COMPENSATION_FAILED),
    (_S.COMPENSATION_FAILED, _E.COMPENSATED): _T(_S.COMPENSATED, sticky=False),
    (_S.COMPENSATION_FAILED, _E.REPLAYED): _T(_S.COMPENSATION_FAILED, why="it happened, and is not undone"),
    (_S.COMPENSATED, _E.REENTERED): _AGAIN,
    (_S.FAILED, _E.REENTERED): _AGAIN,
    (_S.FAILED, _E.LANDED_LATE): _T(_S.COMMITTED, sticky=True, why="nobody was given the value yet"),
    (_S.RAISED, _E.REPLAYED): _T(_S.RAISED),
    (_S.RAISED, _E.REENTERED): _AGAIN,
    (_S.RAISED, _E.ASKED_AGAIN): _DOUBT,
    (_S.RAISED, _E.ESCAPED): _DOUBT,
    (_S.RAISED, _E.SETTLED_COMMITTED): _T(_S.COMMITTED, sticky=True),
    (_S.RAISED, _E.SETTLED_FAILED): _T(_S.FAILED, sticky=False),
    (_S.SUSPENDED, _E.REENTERED): _AGAIN,
    (_S.IN_DOUBT, _E.REPLAYED): _T(_S.IN_DOUBT, why="doubt is sticky"),
    (_S.IN_DOUBT, _E.REENTERED): _T(_S.INTENT, sticky=False, why="reclassified as read or idempotent"),
    (_S.IN_DOUBT, _E.LANDED_LATE): _T(_S.COMMITTED, sticky=True, why="the one write a superseded entry may make"),
    (_S.IN_DOUBT, _E.SETTLED_COMMITTED): _T(_S.COMMITTED, sticky=True),
    (_S.IN_DOUBT, _E.SETTLED_FAILED): _T(_S.FAILED, sticky=False),
    **{(state, _E.PRUNED): _T(_S.TOMBSTONE, sticky=False) for state in (_S.COMMITTED, _S.FAILED, _S.RAISED, _S.COMPENSATED)},
    (_S.TOMBSTONE, _E.REPLAYED): _T(_S.TOMBSTONE, why="expired is never fresh"),
}


def advance(record: CallRecord, state: CallState | None, event: CallEvent, now: float, **changes: Any) -> CallRecord:
    """Return ``record`` as ``event`` leaves it when its stored state is ``state``.

    ``changes`` are further fields to set; ``sticky`` among them overrides the table's mark. Raises
    :class:`~surefoot.IntegrityError` for a transition that is not in the table.
    """
    if (transition := TABLE.get((state, event))) is None:
        msg = f"call {record.call_id} is {state or 'unknown'}: {event} is not a transition; report this with 'surefoot calls show'"
        raise IntegrityError(msg, call_id=record.call_id)
    if transition.sticky is not None:
        changes.setdefault("sticky", transition.sticky)
    return record.changed(state=transition.to, updated=now, **changes)
