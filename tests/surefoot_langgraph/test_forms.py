"""Tool nodes and tools in every form that people put them into a graph. Effects are counted in a file."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Send
from support import Effects, ask, config, planner, react
from typing_extensions import TypedDict

import surefoot
from surefoot import Guard, SurefootWarning, ToolRule, UsageError

HELLO: Any = {"messages": [HumanMessage("go")]}


class Chat(TypedDict):
    """State whose conversation has another name."""

    chat: Annotated[list[AnyMessage], add_messages]


def sending(plan: Callable[..., Any], node: ToolNode, key: str = "messages") -> StateGraph[Any, Any, Any, Any]:
    """Return an agent loop that hands each call to the tool node by itself and without the reply, as create_agent does."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState if key == "messages" else Chat)
    builder.add_node("agent", lambda state: {key: plan({"messages": state[key]})["messages"]})
    builder.add_node("tools", node)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda s: [Send("tools", [c]) for c in s[key][-1].tool_calls] or END, ["tools", END])
    builder.add_edge("tools", "agent")
    return builder


FORMS: dict[str, Callable[[ToolNode], Any]] = {
    "fallbacks": lambda node: node.with_fallbacks([RunnableLambda(lambda _s: {"messages": [AIMessage("sorry")]})]),
    "retry": lambda node: node.with_retry(stop_after_attempt=2),
    "binding": lambda node: node.with_config(tags=["payments"]),
    "sequence": lambda node: RunnableLambda(lambda state: state) | node,
    "nested": lambda node: (RunnableLambda(lambda state: state) | node.with_retry()).with_config(tags=["payments"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_as_61_a_tool_node_inside_another_runnable_is_guarded(effects: Effects, store: str, form: str) -> None:
    """With fallbacks, retries, tags or in a sequence: the ledger has each of its calls, as a model's request."""
    guard = Guard(store)
    builder = react(planner([ask("pay", amount=5), ask("pay", amount=5)]), [])
    builder.nodes.pop("tools")
    builder.add_node("tools", FORMS[form](ToolNode([effects.tool("pay")])))
    graph = surefoot.wrap(builder.compile(), guard=guard)
    result = graph.invoke(HELLO)
    assert [m.content for m in result["messages"] if isinstance(m, ToolMessage)] == ["pay 5", "pay 5"]
    assert sorted((c.tool, c.occurrence, str(c.state)) for c in guard.calls.list()) == [
        ("pay", "0", "committed"),
        ("pay", "1", "committed"),
    ]
    assert effects.count("pay") == 2


def test_as_61_a_tool_that_is_a_node_is_guarded(effects: Effects, store: str) -> None:
    """A tool that is a node by itself: the ledger has its call."""

    class Amount(TypedDict):
        amount: int

    guard = Guard(store)
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Amount)
    builder.add_node("pay", effects.tool("pay", lambda amount: {"amount": amount + 1}))
    builder.add_edge(START, "pay")
    assert surefoot.wrap(builder.compile(), guard=guard).invoke({"amount": 1}) == {"amount": 2}
    assert [(c.tool, str(c.state)) for c in guard.calls.list()] == [("pay", "committed")]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_as_61_a_tool_that_a_wrapper_brings_is_guarded(effects: Effects, store: str, mode: str) -> None:
    """A wrapper of the tool node runs a tool that the node does not have: the ledger has its call."""
    late = effects.tool("late")

    async def awrap(request: Any, execute: Any) -> Any:
        return await execute(request.override(tool=late))

    guard = Guard(store)
    node = ToolNode([], wrap_tool_call=lambda request, execute: execute(request.override(tool=late)), awrap_tool_call=awrap)
    graph = surefoot.wrap(sending(planner([ask("late", amount=1)]), node).compile(), guard=guard)
    _invoke(graph, mode)
    assert [(c.tool, str(c.state)) for c in guard.calls.list()] == [("late", "committed")]
    assert effects.count("late") == 1


def _invoke(graph: Any, mode: str, given: Any = HELLO) -> Any:
    return graph.invoke(given, config("t")) if mode == "sync" else asyncio.run(graph.ainvoke(given, config("t")))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_wrapper_that_executes_twice_has_asked_once(effects: Effects, store: str, mode: str) -> None:
    """A wrapper that executes a call again after it succeeded gets the recorded answer: a framework's repetition is no request."""

    def twice(request: Any, execute: Any) -> Any:
        execute(request)
        return execute(request)

    async def atwice(request: Any, execute: Any) -> Any:
        await execute(request)
        return await execute(request)

    node = ToolNode([effects.tool("pay")], wrap_tool_call=twice, awrap_tool_call=atwice)
    graph = surefoot.wrap(sending(planner([ask("pay", amount=5), ask("pay", amount=5)]), node).compile(), store=store)
    result = _invoke(graph, mode)
    assert [m.content for m in result["messages"] if isinstance(m, ToolMessage)] == ["pay 5", "pay 5"]
    assert effects.count("pay") == 2


@pytest.mark.parametrize("key", ["messages", "chat"])
def test_calls_sent_one_by_one_are_still_a_models_requests(effects: Effects, store: str, key: str) -> None:
    """A call that left its reply behind and is in doubt: the model is told so, the run goes on, and nothing is repeated."""

    def stop(_amount: int) -> None:
        raise KeyboardInterrupt

    node = ToolNode([effects.tool("pay", stop)], messages_key=key)
    graph = surefoot.wrap(sending(planner([ask("pay", amount=5)]), node, key).compile(checkpointer=InMemorySaver()), store=store)
    with pytest.raises(KeyboardInterrupt):
        graph.invoke({key: [HumanMessage("go")]}, config("t"))
    (told,) = [m.content for m in graph.invoke(None, config("t"))[key] if isinstance(m, ToolMessage)]
    assert "Outcome unknown" in told
    assert effects.count("pay") == 1


def test_calls_that_nobody_asked_for_in_a_message_run(effects: Effects, store: str) -> None:
    """Code that makes up calls and sends them to a tool node has no reply to stand in: equal ones are twins, and both run."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([effects.tool("pay")]))
    builder.add_conditional_edges(START, lambda _s: [Send("tools", [ask("pay", amount=5)]) for _ in range(2)], ["tools"])
    surefoot.wrap(builder.compile(), store=store).invoke(HELLO)
    assert effects.count("pay") == 2


def _calling(node: Callable[..., Any]) -> Any:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("acts", node)
    builder.add_edge(START, "acts")
    return builder.compile()


def test_as_59_what_a_node_calls_past_the_guard_is_said(effects: Effects) -> None:
    """A node function that calls a tool or a graph which nothing guards: wrapping names it, and strict refuses."""
    tools = {"pay": effects.tool("pay")}
    inner = react(planner(), []).compile(name="inner")

    def by_name(state: Any) -> Any:
        return {
            "messages": [ToolMessage(tools[c["name"]].invoke(c["args"]), tool_call_id=c["id"]) for c in state["messages"][-1].tool_calls]
        }

    async def by_graph(state: Any) -> Any:
        return await inner.ainvoke(state)

    for node, missed in ((by_name, "node 'acts' calls pay"), (by_graph, "node 'acts' calls inner")):
        with pytest.warns(SurefootWarning, match=missed):
            surefoot.wrap(_calling(node), store="memory://")
        with pytest.raises(UsageError, match=missed):
            surefoot.wrap(_calling(node), store="memory://", strict=True)


def test_as_59_tasks_are_not_guarded_and_that_is_said() -> None:
    """The tasks of an entrypoint run past the guard: wrapping it warns."""

    @task
    def pay(amount: int) -> int:
        return amount

    @entrypoint()
    def work(amount: int) -> int:
        return pay(amount).result()

    with pytest.warns(SurefootWarning, match="@task functions of an @entrypoint"):
        wrapped = surefoot.wrap(work, store="memory://")
    assert wrapped.invoke(5) == 5


def test_as_59_what_is_guarded_is_not_complained_about(effects: Effects) -> None:
    """Guarded tools and graphs in node code, and a model node that names the tools of the tool node, raise no warning."""
    guard = Guard("memory://")
    pay = guard.tool(effects.tool("pay"))
    inner = surefoot.wrap(react(planner(), []).compile(), guard=guard)
    tools = [effects.tool("search")]

    def model(_state: Any) -> Any:
        return {"messages": [AIMessage(str([tool.name for tool in tools]))]}

    surefoot.wrap(_calling(lambda state: pay.invoke({"amount": 1}) and inner.invoke(state)), guard=guard)
    surefoot.wrap(react(model, tools).compile(), guard=guard)


def paying(effects: Effects) -> Any:
    """Return an agent with the tools ``charge`` and ``refund``, the second in a sub-graph."""
    builder = react(planner(), [effects.tool("charge")])
    builder.add_node("worker", react(planner(), [effects.tool("refund")]).compile())
    builder.add_edge("worker", END)
    return builder.compile()


SLIPS = {
    "a slip": ("chrage", "no tool is called 'chrage', which tools= or reads= names; did you mean 'charge'"),
    "a slip in a sub-graph": ("refnd", "did you mean 'refund'"),
    "another name": (
        "ship",
        r"no tool is called 'ship', which tools= or reads= names; for one that comes later, write the pattern 'ship\*'",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("option", ["tools", "reads"])
def test_a_name_that_no_tool_has_is_said(effects: Effects, option: str, slip: str) -> None:
    """A declaration for a tool that what is wrapped does not have is warned of with the name that it looks like; strict refuses it."""
    name, sentence = SLIPS[slip]
    options: dict[str, Any] = {option: {name: ToolRule("unsafe")} if option == "tools" else [name]}
    with pytest.warns(SurefootWarning, match=sentence):
        surefoot.wrap(paying(effects), store="memory://", **options)
    classified = {"reads": ["[cr]*"]} | options if option == "tools" else {"tools": {"[cr]*": ToolRule("unsafe")}, **options}
    with pytest.raises(UsageError, match=sentence):
        surefoot.wrap(paying(effects), store="memory://", strict=True, **classified)


def test_a_name_that_some_tool_has_or_may_have_is_not_complained_about(effects: Effects) -> None:
    """Tools of sub-graphs, patterns, functions that a node calls, and in a guard of one's own the tools of what is wrapped later."""

    @surefoot.tool(effect="unsafe")
    def ship(amount: int) -> str:
        return f"shipped {amount}"

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("node", lambda _s: {"messages": [AIMessage(ship(1))]})
    builder.add_edge(START, "node")
    unsafe = ToolRule("unsafe")
    surefoot.wrap(builder.compile(), store="memory://", tools={"ship": unsafe})
    surefoot.wrap(paying(effects), store="memory://", tools={"charge": unsafe, "refund": unsafe, "ship*": unsafe})
    guard = Guard("memory://", tools={"ship": unsafe, "charge": unsafe})
    surefoot.wrap(paying(effects), guard=guard)
    with pytest.warns(SurefootWarning, match="did you mean 'refund'"):
        surefoot.wrap(paying(effects), guard=Guard("memory://", tools={"refnd": unsafe}))


@pytest.mark.parametrize("odd", ["cycle", "deep", "raises", "unset"])
def test_a_state_that_has_no_digest_is_no_error(effects: Effects, store: str, odd: str) -> None:
    """A state with a cycle, a thousand levels or an object that raises when looked at: the node runs as it would bare."""

    class Raises(Mapping[str, int]):
        def __getitem__(self, _key: str) -> int:
            raise RuntimeError("do not look")

        def __iter__(self) -> Iterator[str]:
            return iter("a")

        def __len__(self) -> int:
            return 1

    @dataclasses.dataclass
    class Unset:
        value: int = dataclasses.field(init=False)

    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)
    pay = (guard := Guard(store)).tool(effects.tool("pay"))
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("node", lambda _state: {"out": pay.invoke({"amount": 1})})
    builder.add_edge(START, "node")
    state = {"cycle": cycle, "deep": deep, "raises": Raises(), "unset": Unset()}[odd]
    assert surefoot.wrap(builder.compile(), guard=guard).invoke({"given": state})["out"] == "pay 1"
    assert effects.count("pay") == 1


class State(TypedDict):
    """Anything in, a text out."""

    given: Any
    out: str
