"""Budgets: limits that are looked at and reserved in the transaction that writes the intent (I12), and what was used up."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from surefoot import Admission, Allow, Budget, BudgetExceeded, CallRecord, CallState, Decision, Deny
from surefoot.engine.claims import Claim
from surefoot.engine.frames import LiveRun
from surefoot.engine.holds import STOPS
from surefoot.engine.key import top
from surefoot.engine.unit import Unit
from surefoot.types import expect
from surefoot_policy.scopes import MICRO, MILLI, scope_of

__all__ = ["Budgets", "Limited", "exceeded", "is_new", "stopping", "used"]


_OVER: Final = frozenset({CallState.FAILED, CallState.RAISED, CallState.COMPENSATED})
"""States in which a call has come to its end: whoever enters it again asks for another one."""


@dataclass(frozen=True, slots=True)
class Limited:
    """One limit, ready to be looked at."""

    metric: str
    """calls, tokens, cost_usd, seconds, depth or iterations."""
    allowed: float
    per: str = "run"
    action: str = "pause"
    tool: str = "*"
    effect: str | None = None
    origin: str = "budget"
    """Who says so: the option ``budget``, or the ``policy``. Each counts for itself."""

    def concerns(self, claim: Claim) -> bool:
        """Return whether a call counts, and is stopped."""
        return fnmatch.fnmatchcase(claim.tool, self.tool) and self.effect in {None, claim.effect.value}

    def counter(self, claim: Claim) -> str:
        """Return the name of the counter of calls."""
        return f"calls/{self.origin}/{self.per}/{scope_of(self.per, claim.frame)}/{self.tool}|{self.effect or ''}"


def is_new(record: CallRecord | None) -> bool:
    """Return whether a call costs something: a retry does; what is replayed, or goes on after an interruption, was paid for."""
    return record is None or record.state in _OVER


def used(unit: Unit, metric: str, per: str, claim: Claim) -> float:
    """Return how much of a metric a scope has used so far, in its own unit."""
    frame = claim.frame
    if metric == "depth":
        return sum(1 for around in frame.chain() if around.parent is not None and not around.name)
    if metric == "iterations":
        return top(frame.path)[1]
    value = unit.counters.value(f"{metric}/{per}/{scope_of(per, frame)}")
    return value / {"cost_usd": MICRO, "seconds": MILLI}.get(metric, 1)


class Budgets(Admission):
    """Lets calls run as long as every limit allows it. All of it is O(1) a call."""

    reads = True

    def __init__(self, limits: Iterable[Limited], *, counting: Collection[str] = ()) -> None:
        """Take limits, and the scopes whose calls and seconds are counted without a limit, for guardrails."""
        self._limits = list(limits)
        self._counting = sorted(counting)
        self._timed = sorted({limit.per for limit in self._limits if limit.metric == "seconds"}.union(counting))
        self._seen: WeakKeyDictionary[LiveRun, float] = WeakKeyDictionary()
        """When each run under way was last looked at."""

    @classmethod
    def of(cls, budget: Budget) -> Budgets:
        """Return what the option ``budget=`` asks for. Raises :class:`~surefoot.UsageError` for a limit that is no number."""
        names = ("calls", "tokens", "cost_usd", "seconds", "depth")
        given = [(name, getattr(budget, name)) for name in names if getattr(budget, name) is not None]
        for name, allowed in given:
            expect(
                f"Budget({name}=)", allowed, "a number, 0 or more", lambda limit: isinstance(limit, int | float) and 0 <= limit < math.inf
            )
        return cls(Limited(name, allowed, budget.per) for name, allowed in given)

    def admit(self, unit: Unit, claim: Claim, record: CallRecord | None) -> Decision:
        """Deny a call that a limit has nothing left for; nothing is reserved yet."""
        self._pass_time(unit, claim)
        for limit in self._limits if is_new(record) else ():
            if limit.concerns(claim) and (spent := self._spent(unit, claim, limit)) is not None:
                return exceeded(unit, claim, limit, spent)
        return Allow()

    def _spent(self, unit: Unit, claim: Claim, limit: Limited) -> float | None:
        """Return what was used of a limit that is used up, else ``None``."""
        if limit.metric == "calls":
            spent: float = unit.counters.value(limit.counter(claim))
            return spent if spent + 1 > limit.allowed else None
        spent = used(unit, limit.metric, limit.per, claim)
        more = limit.metric in {"depth", "iterations"}  # they name the call itself, not what was before it
        spent += limit.metric == "depth"
        return spent if (spent > limit.allowed if more else spent >= limit.allowed) else None

    def _pass_time(self, unit: Unit, claim: Claim) -> None:
        """Add the time since this invocation was last looked at; what lies between two invocations is nobody's."""
        run = claim.frame.run
        begun = unit.now if run.resumed else run.record.created
        passed = max(0, round((unit.now - self._seen.get(run, begun)) * MILLI))
        self._seen[run] = unit.now
        for per in self._timed:
            unit.counters.reserve(f"seconds/{per}/{scope_of(per, claim.frame)}", passed, None)

    def spend(self, unit: Unit, claim: Claim, record: CallRecord | None) -> None:
        """Reserve the call."""
        if is_new(record):
            names = {limit.counter(claim) for limit in self._limits if limit.metric == "calls" and limit.concerns(claim)}
            for name in names.union(f"calls/{per}/{scope_of(per, claim.frame)}" for per in self._counting):
                unit.counters.reserve(name, 1, None)


def exceeded(unit: Unit, claim: Claim, limit: Limited, spent: float) -> Deny:
    """Return the refusal of a call that a limit has nothing left for, and note it."""
    what = {"cost_usd": "US dollars", "tokens": "tokens", "seconds": "seconds"}.get(limit.metric, limit.metric)
    kind = f"{limit.effect} " if limit.effect else ""
    of = f" of {limit.tool}" if limit.tool != "*" else ""
    message = f"{claim.tool} was not executed: the budget of {limit.allowed:g} {kind}{what}{of} per {limit.per} is used up"
    reason = {"limit": limit.metric, "per": limit.per, "allowed": limit.allowed, "used": spent, "tool": limit.tool, "effect": limit.effect}
    return stopping(unit, claim, limit.action, message, reason)


def stopping(unit: Unit, claim: Claim, action: str, message: str, reason: Mapping[str, Any]) -> Deny:
    """Return the refusal that an action asks for: the model is told, or the run pauses, or it is stopped until it is released."""
    run_id = claim.frame.run.record.run_id
    error = BudgetExceeded(message, run_id=run_id)
    error.stop_reason = {**reason, "action": action}
    unit.emit(run_id, "budget.exceeded", step=claim.frame.path, tool=claim.tool, stop_reason=error.stop_reason)
    if action == "abort":
        unit.records.put(STOPS, f"run/{run_id}", {"by": "policy", "reason": message, "at": unit.now})
    return Deny(message.partition(": ")[2], error.code, error, stop=action != "reject")
