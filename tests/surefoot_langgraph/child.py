"""Agents for processes of their own, killed at a named point: what :mod:`zygote` forks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import uuid
from pathlib import Path
from typing import Any

import aiosqlite
from crash import Death, die, store_of
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from support import Agent, Effects, ask, config, planner, react

import surefoot
from surefoot import Event, Guard, ToolRule


class Child:
    """One process of a scenario: what it was told, its effects, and the guard that dies where it was told to."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.folder = Path(told["folder"])
        self.effects = Effects(self.folder / "effects")
        self.death = Death(told)
        self.kill = self.death.point
        self.first = bool(self.kill)
        self.charged = threading.Event()
        """Set when a charge is recorded."""
        self.guard = Guard(
            store_of(self.folder),
            tools={name: ToolRule(effect=effect) for name, effect in told.get("tools", {}).items()},
            gates=[self.death],
            on_event=self._event,
        )

    def _event(self, event: Event) -> None:
        """Die right after something became durable, if told so."""
        if event.type == "call.committed" and event.data["tool"] == "charge":
            self.charged.set()
        self.death.event(event)

    def charge(self, amount: int) -> str:
        """Have the effect; die right after it if told so."""
        self.effects.add("charge", amount)
        self.death.at("effect")
        return f"charged {amount}"

    def tool(self) -> Any:
        """Return the charging tool."""
        child = self

        @tool
        def charge(amount: int) -> str:
            """Charge a customer."""
            return child.charge(amount)

        return charge

    def agent(self, plan: Any, tools: Any) -> Any:
        """Return an agent loop: one made by hand, or by ``create_agent`` if told so."""
        return Agent(tools, plan) if self.told.get("create_agent") else react(plan, tools)

    def run(self, builder: StateGraph[Any, Any, Any, Any], given: Any) -> Any:
        """Compile with a saver on disk, wrap unless told otherwise, and invoke."""
        durability = self.told.get("durability", "sync")
        if self.told.get("async"):
            return asyncio.run(self._arun(builder, given, durability))
        saver = SqliteSaver(sqlite3.connect(self.folder / "lg.db", check_same_thread=False))
        if self.told.get("slow"):
            _never_lands(saver)
        if self.kill == "before checkpoint":
            self._die_before_checkpoint(saver)
        return self._wrap(builder.compile(checkpointer=saver)).invoke(given, config("t"), durability=durability)

    def _die_before_checkpoint(self, saver: Any) -> None:
        """Die when the output of the task that charged is kept, and the checkpoint of its super-step is not."""
        kept = threading.Event()
        put, put_writes = saver.put, saver.put_writes

        def charged() -> bool:
            return self.effects.count("charge") == self.told.get("nth", 1)

        def dying_put(*args: Any) -> Any:
            if charged():
                kept.wait(20)
                die()
            return put(*args)

        def telling_put_writes(*args: Any) -> None:
            put_writes(*args)
            if charged():
                kept.set()

        saver.put, saver.put_writes = dying_put, telling_put_writes

    async def _arun(self, builder: Any, given: Any, durability: Any) -> Any:
        async with aiosqlite.connect(self.folder / "lg.db") as db:
            return await self._wrap(builder.compile(checkpointer=AsyncSqliteSaver(db))).ainvoke(given, config("t"), durability=durability)

    def _wrap(self, graph: Any) -> Any:
        return graph if self.told.get("bare") else surefoot.wrap(graph, guard=self.guard)


def _never_lands(saver: Any) -> None:
    """Make every write of a process that will be killed too slow to land before that: the framework's worst race."""
    block = threading.Event()
    real = saver.put

    def put(config_: Any, checkpoint: Any, *rest: Any) -> Any:
        if checkpoint["channel_versions"] and threading.current_thread() is not threading.main_thread():
            block.wait(60)
        return real(config_, checkpoint, *rest)

    saver.put = put


def words() -> str:
    """Return what a model says differently each time."""
    return f"I will charge now ({uuid.uuid4().hex[:6]})"


def pay(child: Child) -> Any:
    """Plan, charge, end; the planner words it differently each time."""

    def plan(state: Any) -> Any:
        if len(state["messages"]) > 1:
            return {"messages": [AIMessage("done")]}
        return {"messages": [AIMessage(words(), tool_calls=[ask("charge", amount=5)])]}

    def last(state: Any) -> Any:
        if child.kill == "after checkpoint":
            die()
        return plan(state)

    return react(lambda state: last(state) if len(state["messages"]) > 1 else plan(state), [child.tool()])


def loop(child: Child) -> Any:
    """Charge the same amount in two iterations."""
    return child.agent(planner([ask("charge", amount=5)], [ask("charge", amount=5)]), [child.tool()])


def sibling(child: Child) -> Any:
    """Two parallel calls, of which the second dies after the first has ended."""

    @tool
    def dies(amount: int) -> str:
        """Die the first time."""
        if child.kill == "sibling":
            child.charged.wait(20)
            die()
        return f"lived {amount}"

    return child.agent(planner([ask("charge", amount=5), ask("dies", amount=1)]), [child.tool(), dies])


def fickle(child: Child) -> Any:
    """A planner that asks for another amount in the next process."""
    return react(planner([ask("charge", amount=5 if child.kill else 6)]), [child.tool()])


def asking(child: Child) -> Any:
    """A charge beside a tool that asks a person."""

    @tool
    def ask_human(amount: int) -> str:
        """Ask a person."""
        return f"{amount}: {interrupt(amount)}"

    return child.agent(planner([ask("charge", amount=5), ask("ask_human", amount=1)]), [child.tool(), ask_human])


def subgraph(child: Child) -> Any:
    """The agent loop as a node of another graph."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("worker", loop(child).compile())
    builder.add_edge(START, "worker")
    builder.add_edge("worker", END)
    return builder


def graph_in_tool(child: Child) -> Any:
    """A guarded agent called inside a tool."""
    inner = child._wrap(loop(child).compile())

    @tool
    def delegate(task: str) -> str:
        """Delegate."""
        return str(inner.invoke({"messages": [HumanMessage(task)]})["messages"][-1].content)

    return react(planner([ask("delegate", task="x")]), [delegate])


def fan_out(child: Child) -> Any:
    """Two branches with equal inputs that charge in node code, one after the other; the second dies."""
    charge = child.tool() if child.told.get("bare") else child.guard.tool(child.tool())
    turn = threading.Lock()

    def branch(state: Any) -> Any:
        with turn:
            return {"messages": [AIMessage(charge.invoke({"amount": state["n"]}))]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("branch", branch)
    builder.add_conditional_edges(START, lambda _s: [Send("branch", {"n": 5}), Send("branch", {"n": 5})], ["branch"])
    return builder


def swarm(child: Child) -> Any:
    """A → B → A by hand-off; A charges on both visits."""

    def a(state: Any) -> Any:
        seen = sum(1 for m in state["messages"] if m.content == "from a")
        return {"messages": [AIMessage("", tool_calls=[ask("charge", amount=5)])], "seen": seen}

    def leave(state: Any) -> Any:
        seen = sum(1 for m in state["messages"] if m.content == "from a")
        return Command(graph=Command.PARENT, goto="b" if seen == 0 else END, update={"messages": [AIMessage("from a")]})

    def b(_state: Any) -> Any:
        return Command(graph=Command.PARENT, goto="a", update={"messages": [AIMessage("from b")]})

    agent_a = react(lambda state: leave(state) if getattr(state["messages"][-1], "tool_call_id", None) else a(state), [child.tool()])
    agent_b: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    agent_b.add_node("b", b)
    agent_b.add_edge(START, "b")
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("a", agent_a.compile(), destinations=("b", END))
    builder.add_node("b", agent_b.compile(), destinations=("a",))
    builder.add_edge(START, "a")
    return builder


def main(told: dict[str, Any]) -> None:
    """Run one process of a scenario and print what the graph returned."""
    child = Child(told)
    builder = globals()[child.told["scenario"]](child)
    given = None if child.told.get("input") is None else {"messages": [HumanMessage(child.told["input"])]}
    if "resume" in told:
        given = Command(resume=told["resume"])
    result = child.run(builder, given)
    print(
        json.dumps(
            [
                [m.type, m.content, getattr(m, "tool_call_id", None), [c["id"] for c in getattr(m, "tool_calls", [])]]
                for m in result["messages"]
            ]
        )
    )
