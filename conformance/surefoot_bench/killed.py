"""Pipelines whose process dies between an effect and its record, and is begun again, and how often each effect happens then.

Real processes, real SIGKILL, a store on the disk; effects are counted in a file that the steps append to. Run as a program it is
one such process.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import surefoot
from surefoot_bench.workers import failure
from surefoot_python import Context, Pipeline, Task

__all__ = ["killings", "main"]

_STEPS: Final = 5
_SIDES: Final = ("surefoot", "run anew as a whole")


def killings(trials: int, seed: int, tick: Callable[[], None]) -> list[dict[str, Any]]:
    """Return what became of so many pipelines that were killed once each, with surefoot and without.

    ``effects`` is what happened, ``duplicate_effects`` how much of it had happened before.
    """
    found = []
    for side in _SIDES:
        counts: Counter[str] = Counter()
        for number in range(trials):
            with tempfile.TemporaryDirectory(prefix="surefoot-killed-") as folder:
                counts.update(_trial(side, Path(folder), random.Random(f"{seed + number}/killed").randint(1, _STEPS)))  # noqa: S311 - a simulation
            tick()
        names = ("killed", "ended", "effects", "duplicate_effects")
        found.append({"side": side, "steps": _STEPS, "trials": trials, **{name: counts[name] for name in names}})
    return found


def _trial(side: str, folder: Path, dies_in: int) -> dict[str, int]:
    """Begin a pipeline, have it killed in a step, begin it again."""
    codes = [_process(side, folder, str(dies)) for dies in (dies_in, 0)]
    happened = (folder / "effects").read_text().split()
    ended, killed = codes[1] == 0, codes[0] == -signal.SIGKILL
    return {"killed": killed, "ended": ended, "effects": len(happened), "duplicate_effects": len(happened) - len(set(happened))}


def _process(side: str, folder: Path, dies_in: str) -> int:
    done = subprocess.run([sys.executable, "-m", __name__, side, str(folder), dies_in], capture_output=True, text=True, check=False)
    if done.returncode not in {0, -signal.SIGKILL}:
        raise failure(done.returncode, done.stderr)
    return done.returncode


def main(side: str, folder: Path, dies_in: int) -> None:
    """Be one process: it dies in a step after that step's effect, or not at all (0)."""

    def effects() -> list[str]:
        return (folder / "effects").read_text().split() if (folder / "effects").exists() else []

    def act(step: int) -> str:
        with (folder / "effects").open("a") as file:
            file.write(f"{step}\n")
        if step == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)
        return "acted"

    if side == "run anew as a whole":
        for step in range(1, _STEPS + 1):
            act(step)
        return

    def look(call: surefoot.Call) -> Any:
        return surefoot.happened("acted") if str(call.arguments["step"]) in effects() else surefoot.will_not_happen()

    governed = surefoot.tool()(act)

    def body(number: int) -> Callable[[Context], str]:
        def step(_context: Context) -> str:
            return governed(number)

        step.__name__ = f"step_{number}"
        return step

    pipeline = Pipeline([body(number) for number in range(1, _STEPS + 1)], verifier=None)
    rules = {"act": surefoot.ToolRule(effect="unsafe", probe=look)}  # known before the tool is asked for again
    surefoot.wrap(pipeline, store=f"sqlite:///{folder}/surefoot.db", tools=rules).run(Task("the work", id="killed")).raise_for_error()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
