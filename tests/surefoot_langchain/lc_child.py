"""A chain, or an agent with the middleware, in a process of its own that is killed at a named point: what :mod:`zygote` forks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite
from crash import Death, Effects, store_of
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from lc_support import agent, answers, chain, charging, go, thread

import surefoot
from surefoot import Guard, ToolRule
from surefoot_langchain import SurefootMiddleware


def main(told: dict[str, Any]) -> None:
    """Run what was told, and print what it returned."""
    folder = Path(told["folder"])
    effects, death = Effects(folder / "effects"), Death(told)
    rules = {"charge": ToolRule(told["effect"])} if "effect" in told else {}
    guard = Guard(store_of(folder), tools=rules, gates=[death], on_event=death.event)
    charge = charging(effects, lambda: death.at("effect"))
    if told["what"] == "chain":
        print(json.dumps(_chain(surefoot.wrap(chain(charge, effects), guard=guard), told.get("face", "sync"))))
    else:
        print(json.dumps(asyncio.run(_agent(charge, guard, told)) if told.get("face") == "async" else _plain(charge, guard, told)))


def _chain(wrapped: Any, face: str) -> Any:
    with surefoot.run("invoice-7"):
        if face == "async":
            return asyncio.run(wrapped.ainvoke(5))
        return wrapped.invoke(5) if face == "sync" else "".join(wrapped.stream(5))


def _plain(charge: Any, guard: Guard, told: dict[str, Any]) -> Any:
    saver = SqliteSaver(sqlite3.connect(Path(told["folder"]) / "checkpoints.db", check_same_thread=False))
    made = agent(charge, [5, 6], [7], middleware=[SurefootMiddleware(guard)], checkpointer=saver)
    return answers(made.invoke(go() if told["input"] else None, thread(), durability=told.get("durability", "sync")))


async def _agent(charge: Any, guard: Guard, told: dict[str, Any]) -> Any:
    async with aiosqlite.connect(Path(told["folder"]) / "checkpoints.db") as connection:
        middleware = [SurefootMiddleware(guard)]
        made = agent(charge, [5, 6], [7], middleware=middleware, checkpointer=AsyncSqliteSaver(connection))
        return answers(await made.ainvoke(go() if told["input"] else None, thread(), durability=told.get("durability", "sync")))
