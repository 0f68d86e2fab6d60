"""A program for the peer's own environment, where surefoot is not installed: the peer's calls as a side to measure.

Answers every line ``agentledger number`` with the seconds that one of so many calls took (see ``surefoot_bench.workers``).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from typing import Any

from agentledger import Runtime  # pyright: ignore[reportMissingImports] - see above

TOOL = "bench.pay"


def pay(_arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer what surefoot's tool answers in the same benchmark."""
    return {"receipt": "r-000042", "status": "paid"}


def arguments(number: int) -> dict[str, Any]:
    """Return what surefoot's tool is asked in the same benchmark."""
    return {
        "order_id": f"order-{number:010}",
        "amount": {"cents": 1999, "currency": "EUR"},
        "customer": {"name": "A customer", "country": "NL", "reference": "c-000042"},
        "note": "Two items; deliver to the door on the left.",
    }


def calls(number: int) -> float:
    """Make so many calls in one run over a new ledger; return the seconds that one took."""
    with tempfile.TemporaryDirectory(dir=".", prefix="agentledger-") as root:
        runtime = Runtime.local(root)
        runtime.tool(name=TOOL, side_effect="external_write", idempotency=True)(pay)
        runtime.policy.allow_tool("Agent", TOOL)
        run_id = runtime.create_run(initial_state={})[0]
        spent = 0.0

        async def agent(context: Any, state: dict[str, Any]) -> dict[str, Any]:
            nonlocal spent
            begun = time.perf_counter()
            for n in range(number):
                await context.call_tool(TOOL, arguments(n))
            spent = time.perf_counter() - begun
            return state

        try:
            if not asyncio.run(runtime.run_once(agent, run_id=run_id)) or not spent:
                raise SystemExit(f"AgentLedger did not complete the run {run_id}")
        finally:
            runtime.close()
    return spent / number


if __name__ == "__main__":
    for line in sys.stdin:
        print(calls(int(line.split()[1])), flush=True)
