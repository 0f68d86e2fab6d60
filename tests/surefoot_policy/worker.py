"""A process of the policy tests, told in JSON: it pays in a run of a store, and says how that ended."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash import Effects

import surefoot
from surefoot import Guard

told: dict[str, Any] = json.loads(sys.argv[1])
folder = Path(told["folder"])
effects = Effects(folder / "effects")


@surefoot.tool()
def pay(amount: int) -> str:
    """Pay."""
    effects.add("pay", amount)
    return f"paid {amount}"


def main() -> list[str]:
    """Pay as often as was told; wait for a line before each payment if told so."""
    paid = []
    for amount in told["amounts"]:
        if told.get("waits"):
            print("ready", flush=True)
            sys.stdin.readline()
        paid.append(pay(amount))
    return paid


guard = Guard(
    f"sqlite:///{folder}/surefoot.db", policy=told.get("policy"), budget=surefoot.Budget(**told["budget"]) if "budget" in told else None
)
ended: dict[str, Any]
try:
    with surefoot.run(told.get("run", "r"), tenant=told.get("tenant", "default")):
        ended = {"result": surefoot.wrap(main, guard=guard)()}
except surefoot.SurefootError as exc:
    ended = {"error": exc.code, "message": str(exc), "stop_reason": dict(getattr(exc, "stop_reason", {}))}
if told.get("dies"):
    os.kill(os.getpid(), signal.SIGKILL)
print(json.dumps(ended), flush=True)
