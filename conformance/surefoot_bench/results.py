"""What a benchmark finds: figures with their spread, beside what they are measured against, and the target."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

__all__ = ["Result", "Skip", "Skipped", "Spread", "Target", "costs", "extra", "rates"]

_SIGNS: Final = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


class Skip(Exception):
    """A benchmark cannot be run here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A benchmark that was not run."""

    name: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"name": self.name, "skipped": self.reason}


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the spread of one value a round."""
        return cls(statistics.median(values), min(values), max(values))

    def as_json(self) -> dict[str, float]:
        """Return plain data."""
        return {"median": self.median, "min": self.low, "max": self.high}


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that the median has to keep."""

    of: Literal["ratio", "measured"]
    sign: Literal[">=", "<=", "<"]
    bound: float

    def met_by(self, result: Result) -> bool:
        """Return whether the result keeps it."""
        spread = result.ratio if self.of == "ratio" else result.measured
        return bool(_SIGNS[self.sign](spread.median, self.bound))


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the report. Every round measured both sides; ``ratio`` is the spread of the rounds' own ratios."""

    name: str
    unit: str
    measured: Spread
    against: str
    """What the anchor is."""
    anchor: Spread
    ratio: Spread
    targets: tuple[Target, ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether every target is met; ``None`` where there is none."""
        return all(target.met_by(self) for target in self.targets) if self.targets else None

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "unit": self.unit,
            "measured": self.measured.as_json(),
            "against": self.against,
            "anchor": self.anchor.as_json(),
            "ratio": self.ratio.as_json(),
            "targets": [{"of": target.of, "sign": target.sign, "bound": target.bound} for target in self.targets],
            "met": self.met,
        }


def _result(name: str, unit: str, ours: Sequence[float], against: str, theirs: Sequence[float], targets: tuple[Target, ...]) -> Result:
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Result(name, unit, Spread.of(ours), against, Spread.of(theirs), Spread.of(ratios), targets)


def rates(name: str, ours: Sequence[float], against: str, theirs: Sequence[float], *targets: Target) -> Result:
    """Return a result in calls a second from the seconds that one call took in each round; more is better."""
    return _result(name, "calls/s", [1 / seconds for seconds in ours], against, [1 / seconds for seconds in theirs], targets)


def costs(
    name: str, ours: Sequence[float], against: str, theirs: Sequence[float], *targets: Target, unit: str = "us", scale: float = 1e6
) -> Result:
    """Return a result in ``unit`` (``scale`` of them are one of what was measured); less is better."""
    return _result(name, unit, [scale * cost for cost in ours], against, [scale * cost for cost in theirs], targets)


def extra(
    name: str, whole: Sequence[float], against: str, part: Sequence[float], *targets: Target, unit: str = "us", scale: float = 1e6
) -> Result:
    """Return the cost of what ``whole`` does beyond ``part``, against ``part``; less is better."""
    added = [one - other for one, other in zip(whole, part, strict=True)]
    return costs(name, added, against, part, *targets, unit=unit, scale=scale)
