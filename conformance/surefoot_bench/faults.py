"""Faults that are put into steps, and a judge who misses some of them; every draw comes from a seed.

Two kinds of streams. ``shared`` is AgentRaft's published method: one stream for the agent, one for the judge, drawn in the order of
events, so that its figures can be compared cell for cell. ``independent`` has a stream for each (seed, who, step, attempt): a retry
changes nothing about the faults of other steps, and a baseline meets the same first attempts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CLASSES", "Cell", "Faults", "Outcome"]

CLASSES: Final = {"GOAL_DRIFT": 0.30, "HALLUCINATION": 0.25, "INCOMPLETE": 0.20, "CONTRADICTION": 0.15, "SCOPE_CREEP": 0.10}
_NAMES: Final = list(CLASSES)
_WEIGHTS: Final = list(CLASSES.values())
_SALT: Final = 0x9E3779B9
Outcome = Literal["success", "silent_corruption", "caught_failure"]


@dataclass(frozen=True, slots=True)
class Cell:
    """The parameters of one workload."""

    n_steps: int
    p_fail: float
    """Probability that a first attempt is bad."""
    recall: float = 0.90
    """Probability that the judge rejects a bad output."""
    fpr: float = 0.03
    """Probability that the judge rejects a good output."""
    max_attempts: int = 4
    improvement: float = 0.45
    """Each further attempt is bad with this many times the probability of the one before."""
    repeats: float = 0.0
    """Probability that the judge, who missed a fault of a class in a step, misses it there every time (correlated misses)."""
    breaks: float = 0.0
    """Probability that an attempt raises after its effect, so that the run has to be resumed."""
    late: float = 0.0
    """Probability that the answer to an effect does not come in time: it happened, and its caller gets a timeout."""
    away: float = 0.0
    """Probability that the judge cannot be reached when he is asked."""


class Faults:
    """The draws of one trial."""

    def __init__(self, cell: Cell, seed: int, streams: Literal["shared", "independent"]) -> None:
        self._cell = cell
        self._seed = seed
        agent, judge = random.Random(seed), random.Random(seed ^ _SALT)  # noqa: S311 - a simulation
        if streams == "shared":
            self._agent: Callable[..., random.Random] = lambda *_place: agent
            self._judge: Callable[..., random.Random] = lambda *_place: judge
        else:
            self._agent = lambda *place: self._stream("agent", *place)
            self._judge = lambda *place: self._stream("judge", *place)
        self._asked = 0

    def _stream(self, *place: object) -> random.Random:
        return random.Random("/".join(map(str, (self._seed, *place))))  # noqa: S311 - as above

    def fault(self, step: int, attempt: int, *, told: bool = True) -> str | None:
        """Return what is wrong with the output of an attempt (0-based), or ``None``; who was ``told`` a hint does better."""
        rng = self._agent(step, attempt)
        if rng.random() < self._cell.p_fail * (self._cell.improvement**attempt if told else 1.0):
            return rng.choices(_NAMES, weights=_WEIGHTS, k=1)[0]
        return None

    def rejection(self, step: int, attempt: int, fault: str | None) -> str | None:
        """Return the class that the judge gives for an output with this fault, or ``None`` where he passes it."""
        rng = self._judge(step, attempt)
        if fault is None:
            return rng.choice(_NAMES) if rng.random() < self._cell.fpr else None
        if self._cell.repeats and self._stream("habit", step, fault).random() < self._cell.repeats:
            rng = self._stream("blind", step, fault)
        return fault if rng.random() < self._cell.recall else None

    def breaks(self, step: int, attempt: int, entry: int) -> bool:
        """Return whether this entry of an attempt raises after its effect."""
        return self._cell.breaks > 0 and self._stream("breaks", step, attempt, entry).random() < self._cell.breaks

    def late(self, step: int) -> bool:
        """Return whether the answer to the effect of a step comes too late."""
        return self._cell.late > 0 and self._stream("late", step).random() < self._cell.late

    def away(self) -> bool:
        """Return whether the judge cannot be reached this time."""
        self._asked += 1
        return self._cell.away > 0 and self._stream("away", self._asked).random() < self._cell.away
