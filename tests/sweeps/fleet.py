"""One worker of a fleet on one PostgreSQL store: run as a script, told in JSON. It works on every run until each has ended or is held."""

from __future__ import annotations

import json
import random
import sys
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash import Effects
from sweeps.support import Lines

import surefoot
from surefoot import Guard, InDoubt, SurefootError, ToolRule


def main() -> None:
    """Work until nothing is left to do."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    chance = random.Random(told["seed"])  # noqa: S311 - an order, not a secret
    history = Lines(Path(told["folder"]) / "history")
    effects, ends = Effects(Path(told["folder"]) / "effects"), Effects(Path(told["folder"]) / "ends")
    guard = Guard(told["url"], tools={"pay": ToolRule(effect=told["effect"], key=["name", "number"])}, wait=2.0)
    guard.clock = lambda: time.time() + told["clock"]

    asking = ""

    @surefoot.tool()
    def pay(name: str, number: int) -> str:
        token = uuid.uuid4().hex
        call = surefoot.current_call()
        assert call is not None
        history.add("body", asking, token, call.call_id)
        effects.add(name, number)
        return token

    def asked(name: str, number: int) -> str:
        nonlocal asking
        asking = uuid.uuid4().hex
        history.add("asked", asking, f"{name} {number}", str(time.monotonic()))
        try:
            token: str = pay(name, number)
        except InDoubt as exc:
            history.add("doubt", asking, exc.call_id or "", str(time.monotonic()))
            raise
        history.add("answered", asking, token, str(time.monotonic()))
        return f"{name} {number}"

    def steps(name: str) -> list[str]:
        return [asked(name, number) for number in range(told["calls"])]

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
