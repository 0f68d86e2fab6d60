"""A LangGraph graph, beside the same graph wrapped."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypedDict

import surefoot
from surefoot_bench.plan import Plan, Side, interleaved
from surefoot_bench.results import Result, Skip, Target, extra

__all__ = ["langgraph"]

_STEPS: Final = 20
"""Super-steps an invocation."""
_PART: Final = 5
"""One super-step for so many calls of a round: each takes a millisecond."""


class _State(TypedDict):
    count: int


def langgraph(plan: Plan) -> Iterator[Result]:
    """Measure what ``surefoot.wrap`` adds to a super-step of a graph that keeps every checkpoint (``durability="sync"``).

    Raises :class:`Skip` where LangGraph or its SQLite saver is not installed.
    """
    try:
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    except ImportError as exc:
        raise Skip(f"{exc.name} is not installed; pip install 'surefoot[langgraph]' langgraph-checkpoint-sqlite") from exc

    async def saver(path: Path) -> AsyncSqliteSaver:
        return AsyncSqliteSaver(await aiosqlite.connect(path))

    guard = surefoot.Guard(plan.url("graph"))
    with asyncio.Runner() as runner, guard:
        savers = [runner.run(saver(plan.folder / f"{name}.db")) for name in ("plain-graph", "wrapped-graph")]
        graphs = [_graph(kept) for kept in savers]
        sides = {"plain": _side(runner, graphs[0]), "wrapped": _side(runner, surefoot.wrap(graphs[1], guard=guard))}
        number = max(_STEPS, plan.calls // _PART)
        found = interleaved(plan, {name: (side, number) for name, side in sides.items()})
        for kept in savers:
            runner.run(kept.conn.close())
    against = "AsyncSqliteSaver, sync; a super-step"
    yield extra("langgraph, added", found["wrapped"], against, found["plain"], Target("ratio", "<", 0.5))


def _graph(saver: Any) -> Any:
    from langgraph.graph import END, START, StateGraph

    async def count(state: _State) -> _State:
        return {"count": state["count"] + 1}

    def onward(state: _State) -> str:
        return "count" if state["count"] < _STEPS else END

    builder = StateGraph(_State)
    builder.add_node("count", count)
    builder.add_edge(START, "count")
    builder.add_conditional_edges("count", onward, ["count", END])
    return builder.compile(checkpointer=saver)


def _side(runner: asyncio.Runner, graph: Any) -> Side:
    """Return a side whose operation is one super-step; every invocation has a thread of its own."""
    threads = itertools.count(1)

    async def invocations(number: int) -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(number):
            config = {"configurable": {"thread_id": f"thread {next(threads)}"}, "recursion_limit": _STEPS + 1}
            await graph.ainvoke({"count": 0}, config, durability="sync")
        return (loop.time() - begun) / (number * _STEPS)

    return lambda number: runner.run(invocations(max(1, number // _STEPS)))
