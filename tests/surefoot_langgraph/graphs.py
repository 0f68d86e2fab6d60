"""Ordinary graphs, as people write them: what a wrapped one must not be told from."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, ToolException, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode, ToolRuntime
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt
from pydantic import BaseModel
from support import Agent, ask
from typing_extensions import TypedDict

__all__ = ["GRAPHS", "Builder"]

Builder = StateGraph[Any, Any, Any, Any]


def script(*replies: Sequence[dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """Return a planner whose messages and calls have fixed ids, so that two runs can be compared."""

    def plan(state: Any) -> dict[str, Any]:
        given = sum(1 for m in state["messages"] if isinstance(m, AIMessage))
        calls = list(replies[given]) if given < len(replies) else []
        return {"messages": [AIMessage("" if calls else "done", id=f"ai{given}", tool_calls=calls)]}

    return plan


def agent(tools: Sequence[Any], *replies: Sequence[dict[str, Any]], **options: Any) -> Builder:
    """Return an agent loop with a scripted planner."""
    builder: Builder = StateGraph(MessagesState)
    builder.add_node("agent", script(*replies))
    builder.add_node("tools", ToolNode(tools, **options))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda s: "tools" if s["messages"][-1].tool_calls else END, ["tools", END])
    builder.add_edge("tools", "agent")
    return builder


@tool
def search(query: str, limit: int = 3) -> str:
    """Search."""
    return f"{limit} results for {query}"


@tool
async def async_search(query: str) -> str:
    """Search, asynchronously only."""
    return f"async results for {query}"


@tool
def broken(query: str) -> str:
    """Raise an ordinary error."""
    raise ValueError(f"cannot {query}")


@tool
def stopping(query: str) -> str:
    """Raise what generators cannot raise."""
    raise StopIteration(query)


@tool
def polite(query: str) -> str:
    """Raise the error that tools raise for models."""
    raise ToolException(f"please do not {query}")


polite.handle_tool_error = True


@tool(response_format="content_and_artifact")
def with_artifact(query: str) -> tuple[str, dict[str, int]]:
    """Return content and an artifact."""
    return f"content of {query}", {"n": len(query)}


@tool
def hand_over(query: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Return a command."""
    return Command(update={"messages": [ToolMessage(f"handed {query}", tool_call_id=tool_call_id, id=f"handed-{tool_call_id}")]})


@tool
def stateful(query: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
    """Look at the state."""
    return f"{query} after {len(state['messages'])} messages"


@tool
def with_runtime(query: str, runtime: ToolRuntime) -> str:
    """Use the runtime."""
    runtime.stream_writer({"progress": query})
    return f"{query} by {runtime.tool_call_id}"


class Classic(BaseTool):
    """A tool written as a class."""

    name: str = "classic"
    description: str = "Do it the classic way."

    def _run(self, query: str) -> str:
        return f"classic {query}"

    async def _arun(self, query: str) -> str:
        return self._run(query)


def _single(node: Callable[..., Any], state: Any = MessagesState, **options: Any) -> Builder:
    builder: Builder = StateGraph(state)
    builder.add_node("node", node, **options)
    builder.add_edge(START, "node")
    return builder


def _retrying() -> Builder:
    tried: list[int] = []

    def node(_state: Any) -> Any:
        tried.append(1)
        if len(tried) % 2:
            raise ConnectionError("once")
        return {"messages": [AIMessage("second time", id="a")]}

    return _single(node, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ConnectionError))


def _failing(_state: Any) -> Any:
    raise LookupError("nothing there")


class Numbers(TypedDict):
    """State with a reducer."""

    given: list[int]
    out: Annotated[list[int], operator.add]


def _fan_out() -> Builder:
    builder: Builder = StateGraph(Numbers)
    builder.add_node("square", lambda s: {"out": [s["n"] ** 2]})
    builder.add_node("sum", lambda s: {"out": [sum(s["out"])]})
    builder.add_conditional_edges(START, lambda s: [Send("square", {"n": n}) for n in s["given"]], ["square"])
    builder.add_edge("square", "sum")
    return builder


class Model(BaseModel):
    """State as a pydantic model."""

    given: list[int] = []
    out: Annotated[list[int], operator.add] = []


@dataclasses.dataclass
class Data:
    """State as a dataclass."""

    given: list[int] = dataclasses.field(default_factory=list)
    out: Annotated[list[int], operator.add] = dataclasses.field(default_factory=list)


def _parallel(state: Any) -> Builder:
    builder: Builder = StateGraph(state)
    builder.add_node("a", lambda s: {"out": [len(_given(s))]})
    builder.add_node("b", lambda s: {"out": [sum(_given(s))]})
    builder.add_node("c", lambda s: {"out": [0]})
    for begin, end in ((START, "a"), (START, "b"), ("a", "c"), ("b", "c")):
        builder.add_edge(begin, end)
    return builder


def _given(state: Any) -> list[int]:
    given: list[int] = state["given"] if isinstance(state, dict) else state.given
    return given


def _commands() -> Builder:
    builder: Builder = StateGraph(MessagesState)
    builder.add_node("a", lambda _s: Command(goto="b", update={"messages": [AIMessage("a", id="a")]}), destinations=("b",))
    builder.add_node("b", lambda _s: {"messages": [AIMessage("b", id="b")]})
    builder.add_edge(START, "a")
    return builder


def _sub() -> Builder:
    builder: Builder = StateGraph(MessagesState)
    builder.add_node("sub", agent([search], [ask("search", "c1", query="x")]).compile())
    builder.add_node("after", lambda _s: {"messages": [AIMessage("after", id="after")]})
    builder.add_edge(START, "sub")
    builder.add_edge("sub", "after")
    return builder


def _to_parent() -> Builder:
    inner = _single(lambda _s: Command(graph=Command.PARENT, goto="after", update={"messages": [AIMessage("up", id="up")]}))
    builder: Builder = StateGraph(MessagesState)
    builder.add_node("inner", inner.compile(), destinations=("after",))
    builder.add_node("after", lambda _s: {"messages": [AIMessage("after", id="after")]})
    builder.add_edge(START, "inner")
    return builder


def _asking(state: Any) -> Any:
    answer = interrupt({"question": len(state["messages"])})
    return {"messages": [AIMessage(f"answer {answer}", id="answer")]}


def _writing(_state: Any) -> Any:
    from langgraph.config import get_stream_writer

    get_stream_writer()("half way")
    return {"messages": [AIMessage("written", id="w")]}


HELLO: dict[str, Any] = {"messages": [HumanMessage("hello", id="h")]}
NUMBERS: dict[str, Any] = {"given": [1, 2, 2], "out": []}
ONE = [ask("search", "c1", query="x")]

GRAPHS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "create_agent": (lambda: Agent([search], script(ONE, [ask("search", "c2", query="y", limit=1)]), system_prompt="Help."), HELLO),
    "create_agent in parallel": (
        lambda: Agent([search, Classic()], script([*ONE, ask("search", "c2", query="x"), ask("classic", "c3", query="z")])),
        HELLO,
    ),
    "create_agent and a command": (lambda: Agent([hand_over], script([ask("hand_over", "c1", query="x")])), HELLO),
    "loop": (lambda: agent([search], ONE, [ask("search", "c2", query="y", limit=1)]), HELLO),
    "twins": (lambda: agent([search], [ask("search", "c1", query="x"), ask("search", "c2", query="x")]), HELLO),
    "parallel": (lambda: agent([search, Classic()], [*ONE, ask("classic", "c2", query="y"), ask("search", "c3", query="z")]), HELLO),
    "handled error": (
        lambda: agent([broken, search], [ask("broken", "c1", query="x"), ask("search", "c2", query="y")], handle_tool_errors=True),
        HELLO,
    ),
    "error": (lambda: agent([broken], [ask("broken", "c1", query="x")]), HELLO),
    "stop iteration": (lambda: agent([stopping], [ask("stopping", "c1", query="x")], handle_tool_errors=True), HELLO),
    "tool exception": (lambda: agent([polite], [ask("polite", "c1", query="x")]), HELLO),
    "unknown tool": (lambda: agent([search], [ask("nobody", "c1", query="x"), ask("search", "c2", query="x")]), HELLO),
    "bad arguments": (lambda: agent([search], [ask("search", "c1", limit="many")]), HELLO),
    "artifact": (lambda: agent([with_artifact], [ask("with_artifact", "c1", query="x")]), HELLO),
    "tool command": (lambda: agent([hand_over], [ask("hand_over", "c1", query="x")]), HELLO),
    "injected state": (lambda: agent([stateful], [ask("stateful", "c1", query="x")]), HELLO),
    "runtime": (lambda: agent([with_runtime], [ask("with_runtime", "c1", query="x")]), HELLO),
    "retry": (_retrying, HELLO),
    "cache": (lambda: _single(lambda _s: {"messages": [AIMessage("c", id="c")]}, cache_policy=CachePolicy()), HELLO),
    "failing node": (lambda: _single(_failing), HELLO),
    "fan out": (_fan_out, NUMBERS),
    "typed dict": (lambda: _parallel(Numbers), NUMBERS),
    "pydantic": (lambda: _parallel(Model), NUMBERS),
    "dataclass": (lambda: _parallel(Data), NUMBERS),
    "commands": (_commands, HELLO),
    "sub-graph": (_sub, HELLO),
    "to parent": (_to_parent, HELLO),
    "writer": (lambda: _single(_writing), HELLO),
    "interrupt": (lambda: _single(_asking), HELLO),
}
ASYNC_ONLY: dict[str, tuple[Callable[[], Builder], dict[str, Any]]] = {
    "async tool": (lambda: agent([async_search], [ask("async_search", "c1", query="x")]), HELLO)
}
