"""What a call or step costs at the beginning, and what it costs late: both should be the same."""

from __future__ import annotations

from collections.abc import Iterator
from time import process_time
from typing import Final

from surefoot import StepOutput, Verdict, Verifier
from surefoot_bench.agents import Agent, governed
from surefoot_bench.plan import Plan, Side, interleaved
from surefoot_bench.results import Result, Target, costs

__all__ = ["growth", "memory"]

_FLAT: Final = Target("ratio", "<=", 1.2)
_RUN: Final = 50
"""A run grows to so many times the calls of a round."""
_THREAD: Final = 5
"""A thread grows to so many runs for each call of a round."""
_FULL: Final = 10
"""``--full`` grows to so many times that."""
_CHUNK: Final = 100
"""Operations at a time while it grows; calls are made so many a step."""
_WINDOW: Final = 1000
"""How many are compared, at most a tenth of all."""


class _AtOnce(Verifier):
    """A verifier that cannot hang, and says so; one that does not say it is asked in a thread of its own."""

    timeout = None

    def verify(self, output: StepOutput) -> Verdict:  # noqa: ARG002 - it is not judged, only timed
        """Pass."""
        return Verdict.passed()


def memory(plan: Plan) -> Iterator[Result]:
    """Measure a call, and a step with a trivial verifier, in a store that does no I/O: early in a run, and late.

    The clock is the processor time of this process: nothing waits here, and what others do meanwhile is not counted.
    """
    length = plan.calls * _RUN
    early, late = (Agent(governed("memory://"), clock=process_time).calls for _ in range(2))
    yield _aged(plan, "memory/call", length, "early in the run", early, late, Target("measured", "<", 60))
    for name, verifier, targets in (("memory/step", _AtOnce(), [Target("measured", "<", 25)]), ("memory/step, timed", bool, [])):
        early, late = (Agent(governed("memory://", verifier=verifier), clock=process_time).steps for _ in range(2))
        yield _aged(plan, name, length, "early in the run", early, late, *targets)


def growth(plan: Plan) -> Iterator[Result]:
    """Measure durable calls as one run grows, and runs as one thread grows."""
    factor = _FULL if plan.full else 1
    with governed(plan.url("first-calls")) as first, governed(plan.url("last-calls")) as last:
        length = plan.calls * _RUN * factor
        yield _aged(plan, "growth/calls", length, "the run's first calls", Agent(first).calls, Agent(last).calls)
    with governed(plan.url("first-runs")) as first, governed(plan.url("last-runs")) as last:
        length = plan.calls * _THREAD * factor
        yield _aged(plan, "growth/runs", length, "the thread's first runs", Agent(first).runs, Agent(last).runs)


def _aged(plan: Plan, name: str, length: int, against: str, early: Side, late: Side, *targets: Target) -> Result:
    """Let ``late`` grow until its last operations are due; then measure these beside the first ones of ``early``."""
    window = min(_WINDOW, max(1, length // 10))
    _grow(late, length - window)
    share = max(1, window // plan.rounds)
    found = interleaved(plan, {"early": (early, share), "late": (late, share)})
    return costs(f"{name} ({length:,})", found["late"], against, found["early"], *targets, _FLAT)


def _grow(side: Side, number: int) -> None:
    for done in range(0, number, _CHUNK):
        side(min(_CHUNK, number - done))
