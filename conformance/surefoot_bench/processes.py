"""What is measured of fresh interpreters: the time of ``import surefoot``, and the peak memory of a run.

Run as a program it is the run whose memory is measured.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from surefoot_bench.agents import Agent, governed
from surefoot_bench.plan import Plan, Side, interleaved
from surefoot_bench.results import Result, Skip, Target, costs
from surefoot_bench.workers import failure

__all__ = ["import_", "main", "rss"]

_TIMED: Final = "{before}; from time import perf_counter as t; begun = t(); import {module}; print(t() - begun)"
_STATUS: Final = Path("/proc/self/status")
_CHUNK: Final = 100
"""Calls a step."""
_LONG: Final = 25
"""The run has so many times the calls of a round."""
_ROUNDS: Final = 3
"""Memory hardly varies, and these rounds are long."""


def import_(plan: Plan) -> Iterator[Result]:
    """Measure ``import surefoot`` after ``import pluggy``, beside ``import pluggy`` itself."""
    sides = {"pluggy": (_import(plan, "import sys", "pluggy"), 1), "surefoot": (_import(plan, "import pluggy", "surefoot"), 1)}
    found = interleaved(plan, sides)
    yield costs("import", found["surefoot"], "import pluggy", found["pluggy"], Target("measured", "<", 40), unit="ms", scale=1e3)


def rss(plan: Plan) -> Iterator[Result]:
    """Measure the peak memory of a process with a long run, beside one with a single call.

    Raises :class:`Skip` where the system does not tell a process its own peak.
    """
    if not _STATUS.exists():
        raise Skip(f"needs {_STATUS}, which Linux has")
    length = plan.calls * _LONG
    sides = {"one": (_peak(plan, "one-call"), 1), "many": (_peak(plan, "many-calls"), length)}
    found = interleaved(replace(plan, rounds=min(_ROUNDS, plan.rounds)), sides)
    yield costs(f"rss ({length:,} calls)", found["many"], "1 call", found["one"], unit="MiB", scale=1 / 2**20)


def _import(plan: Plan, before: str, module: str) -> Side:
    program = _TIMED.format(before=before, module=module)

    def measure(number: int) -> float:
        return sum(float(_output(plan, "-c", program)) for _ in range(number)) / number

    return measure


def _peak(plan: Plan, name: str) -> Side:
    """Return a side that costs bytes."""
    return lambda number: float(_output(plan, "-m", "surefoot_bench.processes", plan.url(name), str(number)))


def _output(plan: Plan, *arguments: str) -> str:
    # Bytecode of its own, written before anything counts: an environment may forbid to write it where the modules are.
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(plan.folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=plan.folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise failure(done.returncode, done.stderr)
    return done.stdout


def main(url: str, number: int) -> None:
    """Make so many durable calls and print the peak memory of this process in bytes."""
    with governed(url) as guard:
        agent = Agent(guard)
        for done in range(0, number, _CHUNK):
            agent.calls(min(_CHUNK, number - done))
    # ru_maxrss would be wrong here: it survives exec, so that a child starts with its parent's peak.
    peak = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert peak is not None  # noqa: S101 - every Linux since 2.6 writes it
    print(int(peak[1]) * 1024)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
