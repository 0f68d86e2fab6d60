"""LangGraph: agents as compiled graphs, with LangGraph's own SQLite checkpointers and a scripted model node."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import aiosqlite
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, RetryPolicy, Send, interrupt

from surefoot_conformance.harness import NOTHING, Agent, Harness, Site, Turn

__all__ = ["LangGraphHarness", "model_of", "tools_of"]

_STREAMED = ["updates", "values", "messages"]


class LangGraphHarness(Harness):
    """Graphs of a model node and a tool node."""

    name = "langgraph"
    distribution = "langgraph"
    packages: Sequence[str] = ("surefoot_langgraph",)
    modes = ("sync", "async", "exit")
    has_hand_off = has_fan_out = has_retries = has_worker_threads = True

    def build(self, agent: Agent, site: Site) -> Any:
        """Compile the graph of the agent's shape with a checkpointer on disk."""
        builder = getattr(self, f"_{agent.shape}")(agent, site)
        if agent.inside:
            return site.wrap(builder.compile())
        path = site.folder / "checkpoints.db"
        saver = AsyncSqliteSaver(aiosqlite.connect(path)) if site.is_async else SqliteSaver(sqlite3.connect(path, check_same_thread=False))
        return site.wrap(builder.compile(checkpointer=saver))

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Invoke the graph."""
        return target.invoke(*_given(turn), durability=turn.mode or "sync")

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Invoke it asynchronously."""
        return await target.ainvoke(*_given(turn), durability=turn.mode or "sync")

    def stream(self, target: Any, turn: Turn) -> Iterator[Any]:
        """Stream updates, values and messages."""
        return target.stream(*_given(turn), stream_mode=_STREAMED, durability=turn.mode or "sync")  # type: ignore[no-any-return]

    def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Stream them asynchronously."""
        return target.astream(*_given(turn), stream_mode=_STREAMED, durability=turn.mode or "sync")  # type: ignore[no-any-return]

    def ask_person(self, question: str) -> Any:
        """Interrupt."""
        return interrupt(question)

    def shown(self, raw: Any) -> str:
        """Return messages with all their fields."""
        return repr(_data(raw))

    def outline(self, target: Any) -> Any:
        """Return type, name, schemas and drawing."""
        drawing = target.get_graph(xray=True)
        schemas = [target.get_input_jsonschema(), target.get_output_jsonschema()]
        return [*super().outline(target), target.get_name(), drawing.draw_mermaid(), json.dumps(drawing.to_json(), default=repr), schemas]

    def move_hook_point(self) -> None:
        """Have tools called past their ``_run``."""
        from langchain_core.tools import StructuredTool

        def invoke(self: Any, input: Any, config: Any = None, **_options: Any) -> Any:  # noqa: ARG001 - LangChain's signature
            return ToolMessage(self.func(**input["args"]), tool_call_id=input["id"])

        StructuredTool.invoke = invoke  # type: ignore[method-assign]

    def touch(self, target: Any, turn: Turn) -> None:
        """Update the state with nothing, as the model's node."""
        target.update_state(_given(turn)[1], {"messages": []}, as_node="agent")

    # --- shapes

    def _loop(self, agent: Agent, site: Site) -> Any:  # noqa: ARG002 - shapes have one signature
        builder: Any = StateGraph(MessagesState)
        builder.add_node("agent", model_of(agent))
        retry = RetryPolicy(initial_interval=0.001, retry_on=ConnectionError, max_attempts=agent.retries + 1)
        tools = ToolNode(tools_of(agent), handle_tool_errors=agent.shows_errors)
        builder.add_node("tools", tools, retry_policy=retry if agent.retries else None)
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END])
        builder.add_edge("tools", "agent")
        return builder

    def _nested(self, agent: Agent, site: Site) -> Any:
        builder: Any = StateGraph(MessagesState)
        builder.add_node(agent.step, self._loop(agent, site).compile())
        builder.add_edge(START, agent.step)
        builder.add_edge(agent.step, END)
        return builder

    def _hand_off(self, agent: Agent, site: Site) -> Any:  # noqa: ARG002 - as above
        def leave(state: Any) -> Any:
            visited = sum(message.content == "from a" for message in state["messages"])
            return Command(graph=Command.PARENT, goto=END if visited else "b", update={"messages": [AIMessage("from a")]})

        def back(_state: Any) -> Any:
            return Command(graph=Command.PARENT, goto="a", update={"messages": [HumanMessage("back")]})

        a: Any = StateGraph(MessagesState)
        a.add_node("agent", model_of(agent))
        a.add_node("tools", ToolNode(tools_of(agent)))
        a.add_node("leave", leave)
        a.add_edge(START, "agent")
        a.add_conditional_edges("agent", lambda state: "tools" if state["messages"][-1].tool_calls else "leave", ["tools", "leave"])
        a.add_edge("tools", "agent")
        b: Any = StateGraph(MessagesState)
        b.add_node("back", back)
        b.add_edge(START, "back")
        builder: Any = StateGraph(MessagesState)
        builder.add_node("a", a.compile(), destinations=("b", END))
        builder.add_node("b", b.compile(), destinations=("a",))
        builder.add_edge(START, "a")
        return builder

    def _fan_out(self, agent: Agent, site: Site) -> Any:
        charge = site.tool(tools_of(agent)[0])

        def branch(state: Any) -> Any:
            return {"messages": [AIMessage(charge.invoke({"amount": state["amount"]}))]}

        async def abranch(state: Any) -> Any:
            return {"messages": [AIMessage(await charge.ainvoke({"amount": state["amount"]}))]}

        builder: Any = StateGraph(MessagesState)
        builder.add_node("branch", abranch if site.is_async else branch)
        builder.add_conditional_edges(START, lambda _state: [Send("branch", {"amount": 5}), Send("branch", {"amount": 5})], ["branch"])
        return builder


def _given(turn: Turn) -> tuple[Any, Any]:
    given: Any = None if turn.input is None else {"messages": [HumanMessage(turn.input)]}
    if turn.answer is not NOTHING:
        given = Command(resume=turn.answer)
    config = {"configurable": {"thread_id": turn.thread}} if turn.thread is not None else None
    return given, config


def tools_of(agent: Agent) -> list[BaseTool]:
    """Return the agent's tools as LangChain's."""
    return [tool(entry.function) for entry in agent.tools]


def model_of(agent: Agent) -> Callable[[Any], dict[str, Any]]:
    """Return a node that says what the scripted model says."""

    def model(state: Any) -> dict[str, Any]:
        messages = state["messages"]
        said = max(index for index, message in enumerate(messages) if isinstance(message, HumanMessage))
        since = messages[said + 1 :]
        seen = [str(message.content) for message in since if isinstance(message, ToolMessage)]
        reply = agent.reply(sum(isinstance(message, AIMessage) for message in since), seen, str(messages[said].content))
        calls = [{"name": ask.tool, "args": dict(ask.arguments), "id": ask.call_id, "type": "tool_call"} for ask in reply.calls]
        return {"messages": [AIMessage(reply.text, tool_calls=calls)]}

    return model


def _data(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        return [type(value).__name__, {key: _data(item) for key, item in vars(value).items()}]
    if isinstance(value, dict):
        return {key: _data(item) for key, item in value.items()}
    return [_data(item) for item in value] if isinstance(value, list | tuple) else value
