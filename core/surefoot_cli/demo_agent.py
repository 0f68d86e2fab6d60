"""The agent of the demo, run as a process of its own: ``python -m surefoot_cli.demo_agent FOLDER AGENT PHASE``."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

import surefoot

__all__ = ["main"]


def main(folder: Path, agent: str, phase: str) -> None:
    """Run one phase: ``pay`` dies right after the charge, ``resume`` goes on from LangGraph's checkpoint."""
    bank = sqlite3.connect(folder / "bank.db", isolation_level=None, check_same_thread=False)
    bank.execute("PRAGMA synchronous = FULL")

    @tool
    def charge(customer: str, cents: int) -> str:
        """Charge a customer."""
        call = surefoot.current_call()
        key = call.idempotency_key if call else None
        bank.execute("INSERT INTO charges VALUES (?, ?, ?, ?, ?)", (agent, customer, cents, key, os.getpid()))
        if phase == "pay" and agent != "verified":
            os.kill(os.getpid(), signal.SIGKILL)
        return f"charged {customer} {cents} cents"

    def look_in_the_bank(call: surefoot.Call) -> Any:
        found = bank.execute("SELECT customer, cents FROM charges WHERE key = ?", (call.idempotency_key,)).fetchone()
        return surefoot.happened(f"charged {found[0]} {found[1]} cents") if found else surefoot.not_seen()

    saver = SqliteSaver(sqlite3.connect(folder / "checkpoints.db", check_same_thread=False))
    graph = build(charge).compile(checkpointer=saver)
    if agent != "unprotected":
        graph = surefoot.wrap(
            graph,
            store=f"sqlite:///{folder / 'surefoot.db'}",
            tools={"charge": surefoot.ToolRule(effect="unsafe", probe=look_in_the_bank)},
            steps={"answer": surefoot.StepRule(goal="name the amount", verifier=names_the_amount)} if agent == "verified" else None,
        )
    config: Any = {"configurable": {"thread_id": agent}}
    given: Any = None if phase == "resume" else {"messages": [HumanMessage("Charge alice 4200 cents.")]}
    graph.invoke(given, config, durability="sync")


def build(charge: Any) -> StateGraph[Any, Any, Any, Any]:
    """Return the agent: plan, run the tool, answer."""
    builder = StateGraph(MessagesState)
    builder.add_node("plan", plan)  # type: ignore[call-overload, unused-ignore]
    builder.add_node("tools", ToolNode([charge]))
    builder.add_node("answer", answer)
    for begin, end in ((START, "plan"), ("plan", "tools"), ("tools", "answer"), ("answer", END)):
        builder.add_edge(begin, end)
    return builder


def plan(state: MessagesState) -> dict[str, Any]:  # noqa: ARG001 - the signature of a node
    """Ask for the charge, with a fresh call id each time, as models do."""
    call = {"name": "charge", "args": {"customer": "alice", "cents": 4200}, "id": f"call_{os.urandom(4).hex()}", "type": "tool_call"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


def answer(state: MessagesState) -> dict[str, Any]:
    """Answer; name the amount only when told to, so that a verifier has something to reject."""
    told = "amount" in str(state["messages"][-1].content)
    return {"messages": [AIMessage("Alice was charged 4200 cents." if told else "Done.")]}


def names_the_amount(output: surefoot.StepOutput) -> surefoot.Verdict:
    """Pass an answer that names the amount."""
    if "4200" in str(output.output["messages"][-1].content):
        return surefoot.Verdict.passed()
    return surefoot.Verdict.failed(surefoot.ErrorClass.INCOMPLETE, "Name the amount that was charged.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
