"""One worker of a fleet on one PostgreSQL store: run as a script, told in JSON. It works on every run until each has ended or is held."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash import Effects

import surefoot
from surefoot import Guard, InDoubt, SurefootError, ToolRule


def main() -> None:
    """Work until nothing is left to do."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    chance = random.Random(told["seed"])  # noqa: S311 - an order, not a secret
    effects, ends = Effects(Path(told["folder"]) / "effects"), Effects(Path(told["folder"]) / "ends")
    guard = Guard(told["url"], tools={"pay": ToolRule(effect=told["effect"], key=["name", "number"])}, wait=2.0)
    guard.clock = lambda: time.time() + told["clock"]

    @surefoot.tool()
    def pay(name: str, number: int) -> str:
        effects.add(name, number)
        return f"{name} {number}"

    def steps(name: str) -> list[str]:
        return [pay(name, number) for number in range(told["calls"])]

    work = surefoot.wrap(steps, guard=guard)
    print("started", flush=True)
    while left := sorted(set(told["runs"]) - {name for name, *_ in ends.all()}):
        name = chance.choice(left)
        try:
            with surefoot.run(name):
                answer = work(name)
        except InDoubt as exc:
            ends.add(name, "held", str(exc))
        except SurefootError:
            continue  # the store was away, somebody else has the run, or it was taken over: another try
        else:
            ends.add(name, "ended", answer)


if __name__ == "__main__":
    main()
