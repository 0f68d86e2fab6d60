"""An agent for processes that play hosts: a host has temporary files of its own and a clock that may be wrong. Told in JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash import Effects

import surefoot
from surefoot import Allow, Call, Gate, Guard, SurefootError, ToolRule


class Worker(Gate):
    """One process: it charges 1, 2 and 3, and waits where it was told to until a line comes."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.effects = Effects(Path(told["folder"]) / "effects")
        rules = {"charge": ToolRule(effect=told.get("effect", "unclassified"))}
        self.guard = Guard(told["url"], tools=rules, gates=[self], wait=told.get("wait"))
        offset = told.get("clock", 0.0)
        self.guard.clock = lambda: time.time() + offset
        if told.get("unfenced"):
            _take_fence_away()

    def check(self, call: Call) -> Allow:
        """Allow it; wait before the intent if told so."""
        self._wait("before intent", call.arguments["amount"])
        return Allow()

    def _wait(self, point: str, amount: int) -> None:
        if self.told.get("waits") == [point, amount]:
            print(point, flush=True)
            sys.stdin.readline()

    def charge(self, amount: int) -> str:
        """Have the effect."""
        self._wait("in the body", amount)
        self.effects.add("charge", amount)
        return f"charged {amount}"

    def python(self) -> Any:
        """Run a plain program."""

        @surefoot.tool()
        def charge(amount: int) -> str:
            return self.charge(amount)

        def main() -> list[str]:
            return [charge(amount) for amount in (1, 2, 3)]

        with surefoot.run("order-7"):
            return surefoot.wrap(main, guard=self.guard)()

    def langgraph(self) -> Any:
        """Run a graph, with its checkpoints in the same store."""
        from langchain_core.messages import AIMessage, HumanMessage
        from langchain_core.tools import tool
        from langgraph.graph import END, START, MessagesState, StateGraph
        from langgraph.prebuilt import ToolNode

        from surefoot_langgraph import SurefootSaver

        worker = self

        @tool
        def charge(amount: int) -> str:
            """Charge a customer."""
            return worker.charge(amount)

        def plan(state: Any) -> dict[str, Any]:
            given = sum(isinstance(message, AIMessage) for message in state["messages"])
            if given == len(AMOUNTS):
                return {"messages": [AIMessage("done")]}
            ask = {"name": "charge", "args": {"amount": AMOUNTS[given]}, "id": f"call{time.monotonic_ns()}", "type": "tool_call"}
            return {"messages": [AIMessage("", tool_calls=[ask])]}

        builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
        builder.add_node("agent", plan)
        builder.add_node("tools", ToolNode([charge]))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", lambda s: "tools" if s["messages"][-1].tool_calls else END, ["tools", END])
        builder.add_edge("tools", "agent")
        graph = surefoot.wrap(builder.compile(checkpointer=SurefootSaver(self.guard.store)), guard=self.guard)
        config: Any = {"configurable": {"thread_id": "order-7"}}
        given = None if self.told.get("goes_on") else {"messages": [HumanMessage("pay", id="h")]}
        final = graph.invoke(given, config, durability="sync")
        return [message.content for message in final["messages"] if message.type == "tool"]

    def openai_agents(self) -> Any:
        """Run an OpenAI agent, which keeps nothing: it is resumed from the journal."""
        sys.path.insert(0, str(Path(__file__).parent.parent / "surefoot_openai_agents"))
        from agents import Agent, Runner, function_tool, set_tracing_disabled
        from oai_support import Script, asks, says

        set_tracing_disabled(disabled=True)
        worker = self

        @function_tool
        def charge(amount: int) -> str:
            """Charge a customer."""
            return worker.charge(amount)

        def reply(answered: list[str], _items: list[Any]) -> list[Any]:
            return [asks("charge", amount=AMOUNTS[len(answered)])] if len(answered) < len(AMOUNTS) else [says(json.dumps(answered))]

        agent: Any = Agent("worker", model=Script(reply), tools=[charge])
        with surefoot.run("order-7"):
            return json.loads(Runner.run_sync(surefoot.wrap(agent, guard=self.guard), "pay").final_output)


AMOUNTS = (1, 2, 3)


def _take_fence_away() -> None:
    """Break surefoot: nobody looks at the epoch of the lease any more."""
    from surefoot.engine import claims, step

    claims.fence = step.fence = lambda _unit, _frame: None


def serve() -> None:
    """Run what the command line tells, and print what it returned or raised."""
    worker = Worker(json.loads(sys.argv[1]))
    try:
        print(json.dumps({"result": getattr(worker, worker.told["kind"])()}), flush=True)
    except SurefootError as exc:
        print(json.dumps({"error": type(exc).__name__, "says": str(exc)}), flush=True)
    worker.guard.close()


if __name__ == "__main__":
    serve()
