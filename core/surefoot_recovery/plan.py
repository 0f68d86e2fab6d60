"""The plan of a rollback: what a run did after a step, newest first, and what of it can be undone. Made of the ledger alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from surefoot import CallRecord, CallState, Checkpoint, Effect, Guard, NotFound, RunRecord, UsageError
from surefoot.engine.key import quote
from surefoot.engine.transitions import CallEvent
from surefoot.engine.unit import Unit

__all__ = ["ROLLED_BACK", "History", "Item", "Plan", "made"]

ROLLED_BACK: Final = json.dumps({"status": "ROLLED_BACK"})
"""The verdict of a checkpoint without output that takes the place of one that was undone; checkpoints are only ever added."""
_BEGINS: Final = frozenset({CallEvent.CLAIMED, CallEvent.REENTERED})
_ENDS: Final = frozenset({CallEvent.COMMITTED, CallEvent.LANDED_LATE, CallEvent.SETTLED_COMMITTED})
_HARMLESS: Final = frozenset({Effect.READ, Effect.COMPOSITE})
_DONE: Final = frozenset({CallState.COMMITTED, CallState.COMPENSATION_FAILED, CallState.TOMBSTONE})


@dataclass(frozen=True, slots=True)
class Item:
    """One call that a rollback has to do with."""

    call_id: str
    tool: str
    step: str
    """Path of the step that asked for it."""
    effect: str
    """Its effect class."""
    state: str
    """Where it stands in the ledger now."""
    fate: str
    """``compensable``; ``irreversible``; ``in_doubt``: nobody knows whether there is anything to undo; ``running``;
    ``raised``: its tool answered with an error, which is taken at its word."""
    why: str = ""
    """Why it has that fate, in plain words."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollback would do. Calls stand in the order in which they are undone: the newest first."""

    run_id: str
    to: str | None
    """Path of the step that stays, with all before it; ``None``: nothing stays."""
    items: tuple[Item, ...]
    steps: tuple[str, ...]
    """Paths of the committed steps that are undone, newest first."""

    @property
    def blocking(self) -> tuple[Item, ...]:
        """What cannot be undone: without ``partial`` nothing is, as long as there is such a call (AS-71)."""
        return tuple(item for item in self.items if item.fate in {"irreversible", "in_doubt", "running"})

    def __str__(self) -> str:
        """Return it as lines for people."""
        lines = [f"run {self.run_id}, back to {self.to or 'its beginning'}: {len(self.items)} calls, {len(self.steps)} steps"]
        lines += [f"  {item.fate:12} {item.tool}  {item.call_id}  {item.step}  {item.why}".rstrip() for item in self.items]
        return "\n".join([*lines, *(f"  step         {path}" for path in self.steps)])


class History:
    """What a run did, and which of it is at or before a step."""

    def __init__(self, unit: Unit, run: RunRecord, to: str | None) -> None:
        """Look at a run. Raises :class:`~surefoot.NotFound` where it has no such committed step, and says which it has."""
        self.calls: Sequence[CallRecord] = unit.calls.list(run_id=run.run_id, limit=sys.maxsize)
        self.checkpoints = _standing(unit.checkpoints.list(run.run_id, limit=sys.maxsize))
        self.last = _named(self.checkpoints, run, to) if to is not None else None
        """The checkpoint that stays as the newest one."""
        self._begun: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._cut = 0
        for event in unit.tx.events.list(run.run_id, limit=sys.maxsize):
            if event.call_id is not None and event.type in _BEGINS:
                self._begun[event.call_id] = event.seq
            elif event.call_id is not None and event.type in _ENDS:
                self._ended[event.call_id] = event.seq
            elif self.last is not None and event.type == "step.committed" and event.step == self.last.path:
                self._cut = event.seq
        self.kept = [checkpoint for checkpoint in self.checkpoints if self._stays(checkpoint)]
        """Checkpoints that stay, oldest first."""
        self._paths = {checkpoint.path for checkpoint in self.kept}

    def _stays(self, checkpoint: Checkpoint) -> bool:
        """Return whether a step is committed in the state that the run goes back to; parallel ones of a super-step are one state."""
        if self.last is None:
            return False
        if self.last.mark is None or checkpoint.mark is None:
            return checkpoint.seq <= self.last.seq
        tops = {one.path: one.mark for one in self.checkpoints if "/" not in one.path and one.mark is not None}
        mark = tops.get(checkpoint.path.split("/", 1)[0])
        return mark is not None and mark <= self.last.mark

    def undone_steps(self) -> list[Checkpoint]:
        """Return the committed steps that do not stay, newest first."""
        kept = {checkpoint.seq for checkpoint in self.kept}
        return [checkpoint for checkpoint in reversed(self.checkpoints) if checkpoint.seq not in kept]

    def undone_calls(self) -> list[CallRecord]:
        """Return the calls that do not stay, the last to take effect first."""
        later = [row for row in self.calls if not self._belongs(row)]
        return sorted(later, key=lambda row: self._ended.get(row.call_id, self._begun.get(row.call_id, 0)), reverse=True)

    def stays(self, path: str) -> bool:
        """Return whether what a step left is a part of what stays: its own, or that of one around the last one."""
        around = self.last is not None and self.last.path.startswith(f"{path}/")
        return around or any(one in self._paths for one in _around(path))

    def _belongs(self, row: CallRecord) -> bool:
        """Return whether a call is a part of what stays: in a step that does, or before it in one around it."""
        if self.last is None:
            return False
        step = _step(row.path)
        if any(path in self._paths for path in _around(step)):
            return True
        around = step == "" or self.last.path.startswith(f"{step}/")
        return around and self._begun.get(row.call_id, self._ended.get(row.call_id, 0)) < self._cut


def _standing(found: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Return the newest checkpoint of each step, input and branch that was not undone since, oldest first."""
    newest: dict[tuple[str, str, str], Checkpoint] = {}
    for checkpoint in found:
        place = (checkpoint.path, checkpoint.branch, checkpoint.digest)
        newest.pop(place, None)
        if checkpoint.verdict != ROLLED_BACK:
            newest[place] = checkpoint
    return list(newest.values())


def _named(found: Sequence[Checkpoint], run: RunRecord, to: str) -> Checkpoint:
    """Return the newest checkpoint of a step, named by its path, or by its name where one step has it."""
    here = [checkpoint for checkpoint in found if to in {checkpoint.path, f"{checkpoint.seq}"}]
    here = here or [one for one in found if one.path.rsplit("/", 1)[-1].split("#", 1)[0] == quote(to)]
    if not here:
        there = ", ".join(dict.fromkeys(checkpoint.path for checkpoint in found)) or "none"
        raise NotFound(f"run {run.run_id} has no committed step {to!r}; it has {there}", run_id=run.run_id)
    if len({checkpoint.path for checkpoint in here}) > 1:
        there = ", ".join(dict.fromkeys(checkpoint.path for checkpoint in here))
        raise UsageError(f"{to!r} could be each of {there}; give one of these")
    return here[-1]


def _step(path: str) -> str:
    """Return the path of the step that a call was asked for in, without the calls around it inside of that step."""
    parts = path.split("/")
    while parts and "#" not in parts[-1]:
        parts.pop()
    return "/".join(parts)


def _around(path: str) -> list[str]:
    """Return the path and every one above it."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]


def made(guard: Guard, run: RunRecord, history: History) -> Plan:
    """Return the plan: every effect after the step, and what becomes of it (AS-72)."""
    found = (_item(guard, row) for row in history.undone_calls())
    steps = tuple(dict.fromkeys(checkpoint.path for checkpoint in history.undone_steps()))
    return Plan(run.run_id, history.last.path if history.last else None, tuple(item for item in found if item is not None), steps)


def _item(guard: Guard, row: CallRecord) -> Item | None:
    """Return what becomes of a call; ``None`` where there is nothing to undo."""
    if row.effect in _HARMLESS or not row.entered:
        return None
    fate, why = _fate(guard, row)
    return Item(row.call_id, row.tool, row.path, str(row.effect), str(row.state), fate, why) if fate else None


def _fate(guard: Guard, row: CallRecord) -> tuple[str, str]:
    if row.state is CallState.INTENT:
        return ("running", "its body runs") if guard.is_running(row) else ("in_doubt", "its process ended in it")
    if row.state is CallState.IN_DOUBT:
        return "in_doubt", row.reason
    if row.state is CallState.RAISED:
        return "raised", row.reason
    if row.state not in _DONE:
        return "", ""
    if guard.rule(row.tool).compensate is None:
        return "irreversible", f"{row.tool} declares no compensate="
    if row.state is CallState.TOMBSTONE:
        return "irreversible", row.reason
    lacks: Mapping[str, str | None] = {"arguments": row.arguments, "result": row.value}
    missing = [name for name, text in lacks.items() if text is None]
    return ("irreversible", f"its {' and '.join(missing)} could not be stored") if missing else ("compensable", "")
