"""Places: where in a run something is asked for, and steps of the run around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from surefoot import Effect, Guard, SurefootWarning, UsageError
from surefoot.engine.frames import ActiveCall, Frame, innermost, join
from surefoot.engine.key import element
from surefoot.engine.program import Do, Program, Tx
from surefoot.engine.step import StepSpec
from surefoot.engine.transitions import CallEvent
from surefoot.engine.unit import Unit
from surefoot_adapters.modes import Instead, step

__all__ = ["AlreadyGuarded", "composite", "frame_at", "is_guarded", "nested_step", "warn"]


class AlreadyGuarded(UsageError):
    """An object has another guard than the one that it would get."""


def is_guarded(known: Guard | None, guard: Guard | None, what: str) -> bool:
    """Return whether an object has this guard already. Raises :class:`AlreadyGuarded` where it has another one."""
    if known is not None and known is not guard:
        raise AlreadyGuarded(f"{what} is guarded by another guard already; wrap everything with one guard: guard=")
    return known is not None


def frame_at(place: Frame | ActiveCall | None, guard: Guard, what: str) -> Frame:
    """Return the frame in which something that is asked for at ``place`` is claimed.

    It is the open step, or the inside of the call whose body runs there. ``place`` is :func:`here`, as a rule. Raises
    :class:`~surefoot.UsageError` outside of any run, and in a run of another guard; ``what`` names who asks.
    """
    frame = innermost(place)
    if frame is None:
        raise UsageError(f"{what} was called outside of any run; run the wrapped object that it belongs to, or call the original")
    if frame.run.guard is not guard:
        raise UsageError(f"{what} is guarded by another guard than the run it is called in; wrap both with one guard: guard=")
    return frame


def composite(place: Frame | ActiveCall | None) -> Program[None]:
    """Note that the call whose body runs at ``place`` holds steps and governed calls: it may run again, they will not (AS-94).

    What its author classified stays as it is.
    """
    if isinstance(place, ActiveCall) and not place.composite and place.call.effect is Effect.UNCLASSIFIED:
        yield Tx(partial(_reclassified, call_id=place.call.call_id))
        place.composite = True


def _reclassified(unit: Unit, call_id: str) -> None:
    record = unit.calls.get(call_id)
    assert record is not None  # noqa: S101 - its body runs
    unit.move(record, CallEvent.RECLASSIFIED, effect=Effect.COMPOSITE)


def nested_step(
    guard: Guard,
    place: Frame | ActiveCall,
    name: str,
    given: Any,
    digest: str | None,
    body: Callable[[Frame], Do],
    *,
    memo: bool = True,
    instead: Instead | None = None,
) -> Program[Any]:
    """Be a step of the run around ``place``: the n-th of this name and input there, whatever order its siblings run in.

    :param digest: the digest of its input ``given``; ``None``: it cannot be told from another one.
    :param body: returns what to do in an attempt; the frame knows which attempt it is, and the hint of a verifier.
    :param instead: makes an attempt of a fallback (see :func:`step`).
    :param memo: its committed output is given again where it is asked for again; without, its body runs and its calls are replayed.
    """
    yield from composite(place)
    frame = frame_at(place, guard, name)
    kind, known = f"step {name}", digest or ""
    rank = frame.plain_occurrence(kind, known)
    answered = False
    try:
        path = join(frame.path, element(name, rank + 1, known[:12]))
        value = yield from step(guard, StepSpec(frame.run, frame, path, name, given, digest if memo else None), body, instead=instead)
        answered = True
        return value
    finally:
        frame.plain_ended(kind, known, rank, answered=answered)


def warn(sentence: str, guard: Guard, *, stacklevel: int = 3) -> None:
    """Warn of what is not guarded, or not as it was meant; a strict guard refuses it with :class:`~surefoot.UsageError`."""
    if guard.strict:
        raise UsageError(f"strict=True, and {sentence}")
    warnings.warn(sentence, SurefootWarning, stacklevel=stacklevel + 1)
