"""How reliable pipelines are: through the real guard, unprotected, verified once at the end, and run anew as a whole."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import surefoot
from surefoot import Guard, Retry, StepOutput, Verdict
from surefoot_bench.faults import Cell, Faults, Outcome
from surefoot_python import Context, Pipeline, Step, Task

__all__ = ["JUDGING", "PARITY", "Tally", "baseline", "guarded", "parity", "wilson"]

JUDGING: Final = 0.08
"""What a judgement costs, in generations."""
PARITY: Final = [
    Cell(5, 0.05),
    Cell(10, 0.10),
    Cell(20, 0.10),
    Cell(5, 0.10),
    Cell(15, 0.10),
    Cell(15, 0.10, recall=0.5),
    Cell(15, 0.10, recall=0.7),
    Cell(15, 0.10, recall=0.99),
]
"""The eight workloads whose figures AgentRaft published."""
_MOST_RESUMES: Final = 1000
Streams = Literal["shared", "independent"]
Kind = Literal["unprotected", "verified once at the end", "run anew as a whole"]


@dataclass(slots=True)
class Tally:
    """What became of the trials of one workload."""

    trials: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    generations: int = 0
    judgements: int = 0
    effects: int = 0
    """Calls of the tool whose body ran."""
    duplicates: int = 0
    """Of these, those that had happened before."""
    resumes: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one trial."""
        self.trials += 1
        self.outcomes[outcome] += 1

    def rate(self, outcome: Outcome) -> float:
        """Return the share of the trials with this outcome."""
        return self.outcomes[outcome] / self.trials

    def as_json(self) -> dict[str, Any]:
        """Return rates with their 95 % intervals, and costs in generations for each trial."""
        names: tuple[Outcome, ...] = ("success", "silent_corruption", "caught_failure")
        cost = (self.generations + JUDGING * self.judgements) / self.trials
        good = self.outcomes["success"] / self.trials
        return {
            "trials": self.trials,
            **{name: self.rate(name) for name in names},
            "intervals": {name: wilson(self.outcomes[name], self.trials) for name in names},
            "generations": self.generations / self.trials,
            "judgements": self.judgements / self.trials,
            "cost": cost,
            "cost_per_success": cost / good if good else None,
            "effects": self.effects,
            "duplicate_effects": self.duplicates,
            "resumes": self.resumes,
        }


def wilson(hits: int, trials: int, z: float = 1.959964) -> list[float]:
    """Return the Wilson interval of a rate (95 %)."""
    rate, square = hits / trials, z * z
    centre = (rate + square / (2 * trials)) / (1 + square / trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials)) / (1 + square / trials)
    return [max(0.0, centre - half), min(1.0, centre + half)]


class _Trials:
    """A guarded pipeline of one workload; each run of it is a trial."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.tally = Tally()
        self._faults = Faults(cell, 0, "shared")
        self._happened: set[tuple[int, int]] = set()
        self._entries: Counter[tuple[int, int]] = Counter()
        self._trial = 0
        acts = cell.breaks > 0 or cell.late > 0

        def look(call: surefoot.Call) -> Any:
            place = (call.arguments["trial"], call.arguments["step"])
            return surefoot.happened("acted") if place in self._happened else surefoot.will_not_happen()

        @surefoot.tool(effect="unsafe", probe=look)
        def act(trial: int, step: int) -> str:
            self._effect(trial, step)
            if self._faults.late(step):
                raise TimeoutError("no answer in time")
            return "acted"

        def body(number: int) -> Callable[[Context], Any]:
            return lambda ctx: self._attempt(number, ctx.attempt - 1, act if acts else None)

        retry = Retry(max_attempts=cell.max_attempts)
        steps = [Step(f"step_{number:02}", body(number), verifier=self._judge, retry=retry) for number in range(1, cell.n_steps + 1)]
        self._pipeline = surefoot.wrap(Pipeline(steps), guard=Guard("memory://"))

    def run(self, seed: int, streams: Streams) -> None:
        """Run one trial; where a step raises, resume it."""
        self._trial = seed
        self._faults = Faults(self._cell, seed, streams)
        for _ in range(_MOST_RESUMES):
            try:
                result = self._pipeline.run(Task("the work", {"trial": seed}, id=f"trial-{seed}"))
            except (ConnectionError, TimeoutError):
                self.tally.resumes += 1
                continue
            bad = any(output is not None for output in result.outputs.values())
            self.tally.add("caught_failure" if not result.success else "silent_corruption" if bad else "success")
            return
        raise RuntimeError(f"trial {seed} was resumed {_MOST_RESUMES} times and never ended")

    def _effect(self, trial: int, step: int) -> None:
        self.tally.effects += 1
        self.tally.duplicates += (trial, step) in self._happened
        self._happened.add((trial, step))

    def _attempt(self, step: int, attempt: int, act: Callable[..., Any] | None) -> str | None:
        self.tally.generations += 1
        fault = self._faults.fault(step, attempt)
        if act is not None:
            act(self._trial, step)
            self._entries[step, attempt] += 1
            if self._faults.breaks(step, attempt, self._entries[step, attempt]):
                raise ConnectionError("the connection broke after the effect")
        return fault

    def _judge(self, output: StepOutput) -> Verdict:
        if self._faults.away():
            raise ConnectionError("the judge is away")
        self.tally.judgements += 1
        number = int(output.name.rpartition("_")[2])
        given = self._faults.rejection(number, output.attempt - 1, output.output)
        return Verdict.passed() if given is None else Verdict.failed(given)


def guarded(cell: Cell, trials: int, seed: int, streams: Streams) -> Tally:
    """Return what became of trials of a workload through the real guard: each step verified, then committed."""
    running = _Trials(cell)
    for number in range(trials):
        running.run(seed + number, streams)
    return running.tally


def baseline(kind: Kind, cell: Cell, trials: int, seed: int, streams: Streams) -> Tally:
    """Return what became of the same trials without a guard."""
    tally = Tally()
    for number in range(trials):
        faults = Faults(cell, seed + number, streams)
        tally.add(_unguarded(kind, cell, faults, tally))
    return tally


def _unguarded(kind: Kind, cell: Cell, faults: Faults, tally: Tally) -> Outcome:
    """Run all steps; where the whole is verified, its fault is the first one of its steps."""
    runs = cell.max_attempts if kind == "run anew as a whole" else 1
    for again in range(runs):
        found = list(_faults(cell, faults, again))
        tally.generations += cell.n_steps
        fault = next((one for one in found if one is not None), None)
        if kind == "unprotected":
            return "success" if fault is None else "silent_corruption"
        tally.judgements += 1
        if faults.rejection(0, again, fault) is None:
            return "success" if fault is None else "silent_corruption"
    return "caught_failure"


def _faults(cell: Cell, faults: Faults, again: int) -> Iterator[str | None]:
    """Yield the fault of each step in the n-th run of the whole, none of which is told what was wrong with it."""
    for step in range(1, cell.n_steps + 1):
        yield faults.fault(step, again, told=False)


def parity(cell: Cell, trials: int, seed: int) -> dict[str, Any]:
    """Return one row of the comparison with AgentRaft's method: its streams, its parameters, through the real guard."""
    ours, bare = guarded(cell, trials, seed, "shared"), baseline("unprotected", cell, trials, seed, "shared")
    names: tuple[Outcome, ...] = ("success", "silent_corruption", "caught_failure")
    place = {"n_steps": cell.n_steps, "p_fail": cell.p_fail, "recall": cell.recall, "baseline_success": bare.rate("success")}
    return {**place, **{name: ours.rate(name) for name in names}, "generations": ours.generations / trials}
