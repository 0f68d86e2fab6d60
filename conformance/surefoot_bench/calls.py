"""Durable calls of an unsafe tool in a SQLite store: one client, and 64 at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from surefoot_bench.agents import Agent, clients, governed
from surefoot_bench.floors import GroupCommitFloor, OneClientFloor
from surefoot_bench.plan import Plan, interleaved
from surefoot_bench.results import Result, Target, rates

__all__ = ["BURST", "CLIENTS", "call", "concurrent"]

CLIENTS: Final = 64
BURST: Final = 8
"""Many clients do this many times the calls of one, so that a round is not over in an instant."""


def call(plan: Plan) -> Iterator[Result]:
    """Measure one client."""
    with OneClientFloor(plan.folder / "floor.db") as floor, governed(plan.url("call")) as guard:
        found = interleaved(plan, {"floor": (floor.calls, plan.calls), "surefoot": (Agent(guard).calls, plan.calls)})
    yield rates("call", found["surefoot"], "sqlite3, 2 commits", found["floor"], Target("ratio", ">=", 0.75))


def concurrent(plan: Plan) -> Iterator[Result]:
    """Measure 64 clients of one event loop."""
    with (
        OneClientFloor(plan.folder / "one-client-floor.db") as one,
        asyncio.Runner() as runner,
        GroupCommitFloor(plan.folder / "group-commit-floor.db") as group,
        clients(plan.url("concurrent"), CLIENTS) as ours,
    ):
        sides = {
            "one": (one.calls, plan.calls),
            "group": (lambda number: runner.run(group.calls(CLIENTS, number)), plan.calls * BURST),
            "surefoot": (ours, plan.calls * BURST),
        }
        found = interleaved(plan, sides)
    yield rates("concurrent", found["surefoot"], "group commit, 64 clients", found["group"], Target("ratio", ">=", 0.35))
    yield rates("concurrent/one", found["surefoot"], "sqlite3, one client", found["one"], Target("ratio", ">=", 3))
