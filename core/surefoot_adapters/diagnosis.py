"""Steps that look at themselves: a verdict with little confidence goes to a person, and a step that has got slow is degraded."""

from __future__ import annotations

import fnmatch
import inspect
import statistics
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Any, Final
from weakref import WeakKeyDictionary

from surefoot import Guard, StepOutput, StepRule, Verdict, VerdictStatus, Verifier
from surefoot.engine.key import owned
from surefoot.engine.step import StepSpec
from surefoot.engine.unit import Unit
from surefoot.types import expect, is_time

__all__ = ["Diagnosis", "NeedsReview", "diagnose", "diagnosis", "is_slow", "reviewing", "took"]

_NAMESPACE: Final = "latency"
"""Records ``<tenant>/<step>``: how long the last attempts took, in seconds, and until when the step is degraded."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What steps find out about themselves, and what they do about it."""

    steps: str
    """Name or pattern of the steps."""
    review_below: float | None = None
    """A PASS with a confidence below this is a person's to decide: the run is held with the output staged."""
    slow: float | None = None
    """Seconds: where the median of the last ``samples`` executions is more, the step begins with its first fallback for ``cooldown``."""
    samples: int = 5
    cooldown: float = 60.0
    """Seconds."""

    def __post_init__(self) -> None:
        """Refuse what cannot work with a :class:`~surefoot.UsageError`."""
        expect("steps", self.steps, "the name or pattern of steps", lambda given: isinstance(given, str) and bool(given))
        expect("review_below", self.review_below, "a confidence, 0 to 1", lambda given: given is None or 0 <= given <= 1)
        expect("slow", self.slow, "a number of seconds", is_time)
        expect("samples", self.samples, "a number, 1 or more", lambda given: isinstance(given, int) and given >= 1)
        expect("cooldown", self.cooldown, "a number of seconds", lambda given: given is not None and is_time(given))


class NeedsReview(BaseException):
    """An output passed with too little confidence. Never leaves the step."""

    def __init__(self, output: Any, confidence: float) -> None:
        super().__init__()
        self.output = output
        self.confidence = confidence


_known: WeakKeyDictionary[Guard, list[Diagnosis]] = WeakKeyDictionary()
_rules: WeakKeyDictionary[Guard, dict[tuple[int, Diagnosis], tuple[StepRule, StepRule]]] = WeakKeyDictionary()
"""Rules, and what they are with a review; each is kept, so that its id stays its own."""


def diagnose(guard: Guard, *given: Diagnosis) -> None:
    """Let steps of a guard look at themselves from now on."""
    _known.setdefault(guard, []).extend(given)


def diagnosis(guard: Guard, name: str) -> Diagnosis | None:
    """Return the first diagnosis that is for a step of this name."""
    return next((one for one in _known.get(guard, ()) if fnmatch.fnmatchcase(name, one.steps)), None)


def reviewing(guard: Guard, rule: StepRule, look: Diagnosis | None) -> StepRule:
    """Return a rule whose verifier leaves to a person what it is not sure of; one that has none stays as it is."""
    verifier = guard.verifier(rule)
    if look is None or look.review_below is None or verifier is None:
        return rule
    made = _rules.setdefault(guard, {})
    if (id(rule), look) not in made:
        made[id(rule), look] = (rule, replace(rule, verifier=_Unsure(verifier, look.review_below)))
    return made[id(rule), look][1]


class _Unsure(Verifier):
    """A verifier whose PASS counts only where it is sure."""

    def __init__(self, verifier: Verifier, below: float) -> None:
        self._verifier = verifier
        self._below = below
        self.timeout = verifier.timeout

    def verify(self, output: StepOutput) -> Any:
        """Return the verdict; raise :class:`NeedsReview` for a PASS with too little confidence."""
        answer = self._verifier.verify(output)
        return self._later(output, answer) if inspect.isawaitable(answer) else self._sure(output, answer)

    async def _later(self, output: StepOutput, answer: Awaitable[Any]) -> Any:
        return self._sure(output, await answer)

    def _sure(self, output: StepOutput, verdict: Any) -> Any:
        passed = isinstance(verdict, Verdict) and verdict.status is VerdictStatus.PASS
        if passed and verdict.confidence is not None and verdict.confidence < self._below:
            raise NeedsReview(output.output, verdict.confidence)
        return verdict


def took(unit: Unit, look: Diagnosis, spec: StepSpec, seconds: float) -> None:
    """Note how long a step took; where it has got slow, it is degraded for a while."""
    assert look.slow is not None  # noqa: S101 - asked only then
    key = _key(spec)
    record = unit.records.get(_NAMESPACE, key)
    times = [*(record.value["times"] if record is not None else ()), seconds][-look.samples :]
    until = 0.0
    if len(times) == look.samples and statistics.median(times) > look.slow:
        until, times = unit.now + look.cooldown, []
        unit.emit(spec.run.record.run_id, "step.slow", step=spec.path, until=until)
    unit.records.put(_NAMESPACE, key, {"times": times, "until": until})


def is_slow(unit: Unit, look: Diagnosis, spec: StepSpec) -> bool:
    """Return whether a step is degraded because it was slow."""
    record = unit.records.get(_NAMESPACE, _key(spec)) if look.slow is not None else None
    return record is not None and bool(record.value["until"] > unit.now)


def _key(spec: StepSpec) -> str:
    return owned(spec.run.record.tenant, spec.name)
