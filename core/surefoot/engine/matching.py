"""Drift: is this request what an earlier attempt already did, or something else instead of it? See AS-16 and AS-17."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from surefoot.types import CallRecord, CallState, Effect

if TYPE_CHECKING:
    from surefoot.engine.claims import Claim
    from surefoot.engine.frames import Frame
    from surefoot.engine.unit import Unit

__all__ = ["passed", "reentered", "remind", "same", "unmatched"]

_EFFECTS = frozenset({CallState.COMMITTED, CallState.IN_DOUBT, CallState.RAISED, CallState.INTENT, CallState.COMPENSATION_FAILED})


def reentered(claim: Claim) -> list[Frame]:
    """Return the frames around the claim that are not in their first entry, innermost first."""
    return [frame for frame in claim.frame.chain() if frame.reentered]


def unmatched(unit: Unit, claim: Claim) -> list[CallRecord]:
    """Return the effects of the tool that an earlier attempt or entry left and this one has not asked for."""
    frames = reentered(claim)
    if not frames or not claim.at_most_once:
        return []
    newest = max(frame.entry for frame in frames)
    rows = unit.calls.under(claim.scope, frames[-1].path, tool=claim.tool, before=newest)
    return [
        row
        for row in rows
        if row.state in _EFFECTS and row.effect in {Effect.UNSAFE, Effect.UNCLASSIFIED} and any(_earlier(row, f) for f in frames)
    ]


def _earlier(row: CallRecord, frame: Frame) -> bool:
    return row.touched < frame.entry and (row.path == frame.path or row.path.startswith(frame.path + "/"))


def passed(unit: Unit, rows: Sequence[CallRecord], entry: int, floor: int) -> None:
    """Note that these calls need not be asked for again: their step is over, and its output counts. Not those of a rejected attempt."""
    for row in rows:
        if row.state in {CallState.COMMITTED, CallState.RAISED} and row.entry > floor:
            unit.calls.update(row.changed(touched=entry))


def same(claim: Claim, rows: Sequence[CallRecord]) -> CallRecord | None:
    """Return the earlier effect that this request asks for again under another slot, or ``None``.

    The slot of a twin in the same model reply is the twin's: its effect is never this request's answer.
    """
    asked = claim.request.position
    twins = {asked.occurrence(claim.digest, rank) for rank in range(1 + claim.siblings.count(asked.digest))} if asked else set()
    equal = (row for row in rows if row.args_digest == claim.digest)
    return next((row for row in equal if row.path != claim.frame.path or row.occurrence not in twins), None)


def remind(claim: Claim, rows: Sequence[CallRecord]) -> CallRecord | None:
    """Return the earlier effect that this request drifts from, or ``None``.

    The requests of one model reply are matched as a set: what a sibling asks for exactly is not unmatched.
    """
    siblings = Counter(claim.siblings)
    for row in rows:
        if siblings[row.args_digest]:
            siblings[row.args_digest] -= 1
        else:
            return row
    return None
