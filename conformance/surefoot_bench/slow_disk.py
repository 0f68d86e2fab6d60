"""The same calls on a slower disk, which a small library loaded before everything else pretends to be.

Run as a program it is the process in which that is measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

from surefoot_bench.agents import clients
from surefoot_bench.calls import BURST, CLIENTS
from surefoot_bench.floors import OneClientFloor
from surefoot_bench.plan import Plan, interleaved
from surefoot_bench.results import Result, Skip, Target, rates
from surefoot_bench.workers import Worker, serve

__all__ = ["main", "slow_disk"]

_DELAY: Final = "SUREFOOT_BENCH_FSYNC_NS"
_SYNCS: Final = 2
"""A call of the floor waits for the disk this often."""
_PART: Final = 4
"""The floor does one in so many of the calls: each takes milliseconds."""


def slow_disk(plan: Plan) -> Iterator[Result]:
    """Measure 64 clients against one on a disk whose fsync takes longer.

    Raises :class:`Skip` where the disk cannot be slowed down.
    """
    if not plan.fsync_delay_ms:
        raise Skip("left out, as --fsync-delay-ms 0 says")
    environment = os.environ | {"LD_PRELOAD": str(_library(plan.folder)), _DELAY: str(round(plan.fsync_delay_ms * 1e6))}
    with Worker([sys.executable, "-m", "surefoot_bench.slow_disk"], folder=plan.folder, environment=environment) as worker:
        sides = {"floor": (worker.side("floor"), max(1, plan.calls // _PART)), "surefoot": (worker.side("surefoot"), plan.calls * BURST)}
        found = interleaved(plan, sides)
    if min(found["floor"]) * 1e3 < _SYNCS * plan.fsync_delay_ms:
        raise Skip("the delay did not reach SQLite, which is probably linked statically; use a Python that links it dynamically")
    against = f"sqlite3, one client, fsync +{plan.fsync_delay_ms:g} ms"
    yield rates("slow-disk", found["surefoot"], against, found["floor"], Target("ratio", ">=", 15))


def _library(folder: Path) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise Skip("slowing fsync down needs Linux and gcc; install gcc")
    library = folder / "slow_fsync.so"
    with resources.as_file(resources.files("surefoot_bench") / "slow_fsync.c") as source:
        done = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise Skip(f"gcc cannot compile slow_fsync.c: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return library


def main() -> None:
    """Serve both sides from the current directory."""
    folder = Path.cwd()
    with OneClientFloor(folder / "slow-floor.db") as floor, clients(f"sqlite:///{folder}/slow.db", CLIENTS) as ours:
        serve({"floor": floor.calls, "surefoot": ours})


if __name__ == "__main__":
    main()
