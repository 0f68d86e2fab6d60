"""SIGKILL at every store operation in turn and at random moments, counted where the process really died of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sweeps import vfs

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not vfs.available(), reason="this interpreter has SQLite built in, where nothing can be put below it"),
]

KILLS = int(os.environ.get("SUREFOOT_SWEEP_KILLS", "10000"))
WORKERS = 2
TESTS = Path(__file__).parent.parent


@contextmanager
def worker(**told: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a worker of :mod:`sweeps.kill`; it is gone after the block."""
    start = [sys.executable, "-m", "sweeps.kill", json.dumps(told)]
    process = subprocess.Popen(start, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(TESTS)})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def tallies(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """Yield what a worker says, the last one being the result."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    assert process.wait() == 0


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return a worker's result."""
    *_, last = tallies(process)
    return last


@pytest.mark.sweep
def test_i1_i2_i3_i4_killed_at_every_store_operation_and_at_any_moment(say: Callable[[str], None]) -> None:
    """Whenever it is killed: at most one effect, returned results readable, a sound file, and every run ends or says why not."""
    seed = int(os.environ.get("SUREFOOT_SWEEP_SEED", str(time.time_ns() % 100_000)))
    say(f"killing {KILLS:,} processes (repeat with SUREFOOT_SWEEP_SEED={seed})")
    start, total, sites, wrong = time.monotonic(), Counter[str](), Counter[str](), list[str]()
    with ExitStack() as stack:
        told = {"sabotage": "none", "of": WORKERS, "kills": KILLS / WORKERS}
        workers = [stack.enter_context(worker(seed=seed + share, share=share, **told)) for share in range(WORKERS)]
        for tally in tallies(workers[0]):
            speed = tally["kills"] * WORKERS / (time.monotonic() - start)
            say(f"  {tally['kills'] * WORKERS:,} kills, about {speed:.0f} a second, {tally['runs'] * WORKERS:,} runs ended")
            last = tally
        for tally in (last, *(result(process) for process in workers[1:])):
            total.update({name: count for name, count in tally.items() if isinstance(count, int)})
            sites.update(tally["sites"])
            wrong += tally["wrong"]
    say(
        f"{total['kills']:,} kills ({total['moments']:,} of them at random moments) of {total['processes']:,} processes in "
        f"{time.monotonic() - start:.0f} s: {total['positions']:,} distinct positions in {len(sites)} kinds of places, "
        f"{total['runs']:,} runs ended, {total['doubts']:,} calls in doubt "
        f"({total['doubts'] / total['kills']:.1%} of the kills), {len(wrong)} violations"
    )
    assert wrong == []
    assert total["kills"] >= KILLS
    assert {"before the effect", "after the effect", "returned", "noted", "before COMMIT", "after COMMIT"} <= set(sites)


@pytest.mark.parametrize("sabotage", ["the intent is written after the effect", "the outcome is not durable when it is returned"])
def test_negative_control_a_broken_order_is_found(sabotage: str, say: Callable[[str], None]) -> None:
    """A guard that writes its intent, or its outcome, too late is found out by the same sweep."""
    with worker(sabotage=sabotage, seed=1, share=0, of=1, kills=2000) as process:
        found = result(process)
    say(f"{sabotage}: found after {found['kills']:,} kills: {found['wrong'][:1]}")
    wanted = "took effect" if "intent" in sabotage else "was returned as"
    assert any(wanted in what for what in found["wrong"])


def test_i9_what_a_killed_process_left_behind_may_not_go_on(say: Callable[[str], None]) -> None:
    """A child forked inside a run, whose parent is killed and whose run was finished by a successor, claims and commits nothing."""
    with worker(sabotage="none", seed=1, orphans=True) as process:
        found = result(process)
    say(f"{found['orphans']} orphans of killed processes wanted to go on: {len(found['wrong'])} violations")
    assert found["wrong"] == []
    assert found["orphans"] > 30


def test_negative_control_without_entry_tokens_it_goes_on(say: Callable[[str], None]) -> None:
    """The same without the fence: the orphan claims and commits, and the oracle says so."""
    with worker(sabotage="no entry token", seed=1, orphans=True) as process:
        found = result(process)
    say(f"no entry token: {len(found['wrong'])} violations by {found['orphans']} orphans")
    assert any("a superseded entry committed" in what for what in found["wrong"])
