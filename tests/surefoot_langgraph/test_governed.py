"""What a policy promises, on LangGraph: the scenarios of :mod:`governed`, and those that only a graph has."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from governed import Governed, Reply
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from support import Agent, Effects, Scripted, answers, ask, config, hello, planner, react

import surefoot
from surefoot import Allow, Call, Gate, Guard


class Counting(Scripted):
    """A chat model that reports what it used."""

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        result = super()._generate(messages, stop, run_manager, **kwargs)
        message = result.generations[0].message
        message.usage_metadata = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        message.response_metadata["model_name"] = "m1"
        return result


class TestGoverned(Governed):
    """A graph with an agent loop, whose checkpoints are in a file."""

    saver: SqliteSaver

    @pytest.fixture(autouse=True)
    def _closed(self, placed: None) -> Iterator[None]:
        yield
        self.saver.conn.close()

    def start(self, folder: Path) -> None:
        """Open the checkpoints."""
        super().start(folder)
        self.saver = SqliteSaver(sqlite3.connect(folder / "checkpoints.db", check_same_thread=False))

    def tool(self, name: str) -> BaseTool:
        """Return a tool."""

        def body(amount: int) -> Any:
            return self.body(name, amount)

        body.__doc__, body.__name__, body.__qualname__ = f"Do {name}.", name, name
        return tool(body)

    def play(self, guard: Guard, *replies: Reply, fails_after: int | None = None, silent: bool = False) -> list[str] | None:
        """Run the graph, or go on with it."""

        def plan(state: Any) -> Any:
            if sum(message.type == "ai" for message in state["messages"]) == fails_after:
                raise ConnectionError("HTTP 500")
            return planner(*[[ask(name, amount=amount) for name, amount in reply] for reply in replies])(state)

        model = (Scripted if silent else Counting)(plan=plan)
        tools = [self.tool(name) for name in sorted({name for reply in replies for name, _ in reply})]
        return self._played(guard, react(lambda state: {"messages": [model.invoke(state["messages"])]}, tools))

    def _played(self, guard: Guard, built: StateGraph[Any, Any, Any, Any]) -> list[str] | None:
        graph = surefoot.wrap(built.compile(checkpointer=self.saver), guard=guard)
        state = graph.invoke(None if graph.get_state(config("t")).values else hello(), {**config("t"), "recursion_limit": 200})
        return None if state.get("__interrupt__") else answers(state)

    def team(self, guard: Guard, calls: int) -> None:
        """Run three graphs as nodes of a fourth one."""
        pay = self.tool("pay")
        builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
        names = [START]
        for number, more in enumerate([0, 0, 0, 1]):

            def plan(state: Any, number: int = number, more: int = more) -> Any:
                asked = [m for m in state["messages"] if m.type == "ai" and m.tool_calls]
                mine = [m for m in asked if m.tool_calls[0]["args"]["amount"] // 100 == number]
                return planner(*[[ask("pay", amount=100 * number + n)] for n in range(calls + more)])({"messages": mine})

            builder.add_node(f"agent {number}", react(plan, [pay]).compile())
            builder.add_edge(names[-1], f"agent {number}")
            names.append(f"agent {number}")
        self._played(guard, builder)


class Counts(Gate):
    """Counts how often it is asked about each call."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self, call: Call) -> Allow:
        """Allow."""
        self.asked.append(call.call_id)
        return Allow()


CELLS = list(itertools.product(["parallel", "sequential"], ["sync", "async"], ["stream", "whole"], ["tool node", "create_agent"]))


@pytest.mark.parametrize(("dispatch", "face", "delivery", "made"), CELLS)
async def test_as_48_a_gate_is_asked_exactly_once(effects: Effects, store: str, dispatch: str, face: str, delivery: str, made: str) -> None:
    """AS-48: parallel and one after the other, sync and async, streamed and not, a node or an agent: each call is seen exactly once."""
    counts = Counts()
    calls = [ask("pay", amount=1), ask("pay", amount=2)]
    plan = planner(calls) if dispatch == "parallel" else planner(*[[call] for call in calls])
    tools = [effects.tool("pay")]
    built = react(plan, tools) if made == "tool node" else Agent(tools, plan)
    graph = surefoot.wrap(built.compile(checkpointer=InMemorySaver()), guard=Guard(store, gates=[counts]))
    match face, delivery:
        case "sync", "whole":
            graph.invoke(hello(), config("t"))
        case "sync", _:
            list(graph.stream(hello(), config("t")))
        case _, "whole":
            await graph.ainvoke(hello(), config("t"))
        case _:
            [part async for part in graph.astream(hello(), config("t"))]
    assert answers(graph.get_state(config("t")).values) == ["pay 1", "pay 2"]
    assert len(counts.asked) == len(set(counts.asked)) == 2
    assert sorted(effects.all()) == [["pay", 1], ["pay", 2]]
