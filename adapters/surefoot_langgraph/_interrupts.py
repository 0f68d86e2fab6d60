"""Whose answer is it? Several tools of one task share LangGraph's list of resume values; each call gets its own (AS-95).

LangGraph numbers ``interrupt()`` calls in the order in which they happen to run. Which call an answered interrupt belongs to
is kept in the ledger instead: when an interrupt surfaces, its index is noted on the call that raised it, and on re-entry only
that call is given the answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from surefoot import Effect
from surefoot.engine.frames import ActiveCall, Frame
from surefoot.engine.program import Tx
from surefoot.engine.unit import Unit

__all__ = ["Answers", "consume", "note", "own"]

_SCRATCHPAD: Final = "__pregel_scratchpad"
_SEND: Final = "__pregel_send"
_RESUME: Final = "__resume__"
_NESTED: Final = -1


class Answers:
    """A task's scratchpad as one of its calls sees it."""

    def __init__(self, real: Any) -> None:
        self.call: ActiveCall | None = None
        """The call whose body is running; set when it starts."""
        self._real = real
        self._before = list(real.resume)
        self._asked = 0
        self._mine = False

    def __getattr__(self, name: str) -> Any:
        """Everything else is the task's own."""
        return getattr(self._real, name)

    @property
    def _noted(self) -> tuple[int, ...]:
        return self.call.interrupts if self.call is not None else ()

    def interrupt_counter(self) -> int:
        """Return the index of this call's next interrupt: the noted one, else one that has no answer yet."""
        noted = [index for index in self._noted if index != _NESTED]
        asked, self._asked = self._asked, self._asked + 1
        self._mine = asked < len(noted) and noted[asked] <= len(self._real.resume)
        return noted[asked] if self._mine else len(self._before)

    @property
    def resume(self) -> list[Any]:
        """The answers that this call may read."""
        return self._real.resume if self._mine else self._before

    def get_null_resume(self, consume: bool = False) -> Any:  # noqa: FBT001, FBT002 - LangGraph's signature
        """Return the answer of this invocation, if the interrupt that surfaced was this call's."""
        noted = self._noted
        mine = bool(noted) and noted[-1] in {_NESTED, len(self._real.resume)}
        return self._real.get_null_resume(consume) if mine else None


def own(config: Any) -> tuple[Any, Answers | None]:
    """Return a tool's config with its own view of the task's resume values, and that view."""
    conf = (config or {}).get("configurable", {})
    if _SCRATCHPAD not in conf:
        return config, None
    real, send = conf[_SCRATCHPAD], conf[_SEND]
    answers = Answers(real)

    def whole(writes: Any) -> None:
        send([(channel, list(real.resume) if channel == _RESUME else value) for channel, value in writes])

    return {**config, "configurable": {**conf, _SCRATCHPAD: answers, _SEND: whole}}, answers


def consume(config: Any, count: int) -> None:
    """Advance the task's interrupt counter as a replayed body would have."""
    scratchpad = (config or {}).get("configurable", {}).get(_SCRATCHPAD)
    if scratchpad is not None:
        for _ in range(count):
            scratchpad.interrupt_counter()


def note(frame: Frame, exc: BaseException, config: Mapping[str, Any]) -> Tx | None:
    """Return the transaction that notes a surfaced interrupt on the call that raised it, or ``None`` if none did."""
    call_id = next((call_id for call_id, error in frame.raised.items() if error is exc), None)
    if call_id is None:
        return None
    scratchpad = config.get("configurable", {}).get(_SCRATCHPAD)
    answered = len(scratchpad.resume) if scratchpad is not None else 0

    def work(unit: Unit) -> None:
        record = unit.calls.get(call_id)
        assert record is not None  # noqa: S101 - its body ran
        index = _NESTED if record.effect is Effect.COMPOSITE else answered
        if record.interrupts[-1:] != (index,):
            unit.calls.update(dataclasses.replace(record, interrupts=(*record.interrupts, index)))

    return Tx(work)
