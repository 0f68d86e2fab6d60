"""AgentLedger, the nearest peer, in an environment of its own, beside surefoot in the same run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

from surefoot_bench.agents import clients
from surefoot_bench.plan import Plan, interleaved
from surefoot_bench.results import Result, Skip, Target, rates
from surefoot_bench.workers import Worker

__all__ = ["REQUIREMENT", "installed", "peer"]

REQUIREMENT: Final = "agentledger-runtime==1.6.1"
_PART: Final = 5
"""The peer makes one in so many of the calls: each takes milliseconds."""


def installed(interpreter: Path) -> bool:
    """Return whether an interpreter's environment has exactly the peer that is measured."""
    name, _, version = REQUIREMENT.partition("==")
    program = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run([interpreter, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def peer(plan: Plan) -> Iterator[Result]:
    """Measure governed calls of one asyncio client.

    Raises :class:`Skip` without the peer's interpreter.
    """
    if plan.peer is None:
        raise Skip(f"give --peer PYTHON, the interpreter of an environment with {REQUIREMENT}; 'make bench' makes one")
    with (
        resources.as_file(resources.files("surefoot_bench") / "agentledger_peer.py") as program,
        Worker([plan.peer.absolute(), program], folder=plan.folder) as worker,
        clients(plan.url("peer"), 1) as ours,
    ):
        sides = {"peer": (worker.side("agentledger"), max(1, plan.calls // _PART)), "surefoot": (ours, plan.calls)}
        found = interleaved(plan, sides)
    yield rates("peer", found["surefoot"], REQUIREMENT, found["peer"], Target("ratio", ">=", 4))
