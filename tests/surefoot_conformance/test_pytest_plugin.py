"""The pytest plugin for users: their own graph, killed at every step."""

from __future__ import annotations

import ast
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

import surefoot
from surefoot_conformance import pytest_plugin
from surefoot_conformance.effects import Effects
from surefoot_conformance.pytest_plugin import CrashAt, LedgerView


def agent(effects: Effects, folder: Path, *, store: str | None) -> Any:
    """Return a graph that charges once, as a user would write it; bare where there is no store."""

    @tool
    def charge(amount: int) -> str:
        """Charge."""
        effects.add("charge", amount)
        return f"charged {amount}"

    def plan(state: Any) -> dict[str, Any]:
        if len(state["messages"]) > 1:
            return {"messages": [AIMessage("done")]}
        return {"messages": [AIMessage("", tool_calls=[{"name": "charge", "args": {"amount": 5}, "id": "c", "type": "tool_call"}])]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("plan", plan)
    builder.add_node("tools", ToolNode([charge]))
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END])
    builder.add_edge("tools", "plan")
    graph = builder.compile(checkpointer=SqliteSaver(sqlite3.connect(folder / "lg.db", check_same_thread=False)))
    return surefoot.wrap(graph, store=store) if store else graph


def test_a_users_agent_is_killed_at_every_step(
    surefoot_crash_at: CrashAt, surefoot_effects: Effects, surefoot_ledger: LedgerView, surefoot_folder: Path
) -> None:
    """Killed at each durable event in turn and resumed, a wrapped graph charges at most once, and once unless it is in doubt."""

    def work() -> None:
        graph = agent(surefoot_effects, surefoot_folder, store=surefoot_ledger.url)
        graph.invoke({"messages": [HumanMessage("go")]}, {"configurable": {"thread_id": "t"}}, durability="sync")

    steps = []
    for step in surefoot_crash_at.every(work):
        steps.append(step)
        assert surefoot_effects.count("charge") == (0 if surefoot_ledger.calls("in_doubt") else 1)
        assert {run.status for run in surefoot_ledger.runs()} == {"completed"}
    assert len(steps) > 5
    assert steps == list(range(1, len(steps) + 1))


def test_code_of_a_user_is_killed_at_every_step(surefoot_crash_at: CrashAt, surefoot_effects: Effects, surefoot_ledger: LedgerView) -> None:
    """Plain code is resumed until its run is completed; killed at that event it is over, and is not run as another run."""

    @surefoot.tool(effect="unsafe")
    def pay(amount: int) -> None:
        surefoot_effects.add("pay", amount)

    def work() -> None:
        with surefoot.run("invoice"):
            surefoot.wrap(lambda: pay(5), store=surefoot_ledger.url)()

    last = 0
    for step in surefoot_crash_at.every(work):
        last = step
        assert surefoot_effects.count("pay") == (0 if surefoot_ledger.calls("in_doubt") else 1)
    assert last > 2


def test_work_that_is_not_wrapped_is_noticed(surefoot_crash_at: CrashAt, surefoot_effects: Effects, surefoot_folder: Path) -> None:
    """An agent that nobody wrapped has no event, and the test that kills it fails instead of passing on nothing."""

    def work() -> None:
        agent(surefoot_effects, surefoot_folder, store=None).invoke(
            {"messages": [HumanMessage("go")]}, {"configurable": {"thread_id": "t"}}
        )

    with pytest.raises(pytest.fail.Exception, match="is the agent wrapped"):
        list(surefoot_crash_at.every(work))


def test_what_the_work_raises_is_told(surefoot_crash_at: CrashAt) -> None:
    """Work that fails before it is killed fails the test with its own error."""
    with pytest.raises(pytest.fail.Exception, match="ZeroDivisionError"):
        surefoot_crash_at(1, lambda: 1 / 0)


def test_the_plugin_imports_pytest_and_the_standard_library_only() -> None:
    """The modules that pytest loads for everybody import nothing else at module level."""
    package = Path(pytest_plugin.__file__).parent
    for name in ("pytest_plugin", "effects", "forks", "__init__", "capability", "harness", "keepers", "judges"):
        tree = ast.parse((package / f"{name}.py").read_text(encoding="utf-8"))
        found = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        found |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        foreign = {module.partition(".")[0] for module in found} - sys.stdlib_module_names
        assert foreign <= {"pytest", "surefoot_conformance"}, name
