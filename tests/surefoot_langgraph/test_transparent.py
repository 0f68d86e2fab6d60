"""A wrapped graph cannot be told from the bare one where nothing fails."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from graphs import ASYNC_ONLY, GRAPHS, HELLO
from langchain_core.messages import BaseMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from support import Effects, ask, config, planner, react

import surefoot

MODES: list[Any] = ["values", "updates", "custom", "messages", "tasks", "checkpoints", "debug", ["updates", "custom"]]
PARALLEL = {"create_agent in parallel", "fan out", "typed dict", "pydantic", "dataclass"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+\+00:00")


def shown(value: Any) -> str:
    """Return a value as text, with generated ids and times renamed by first appearance."""
    text = repr(_plain(value))
    names: dict[str, str] = {}
    text = TIME.sub("TIME", text)
    return UUID.sub(lambda m: names.setdefault(m[0], f"ID{len(names)}"), text)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        return (type(value).__name__, {k: _plain(v) for k, v in vars(value).items()})
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in {"checkpoint_map", "stop"}}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def both(name: str, *, saver: bool = True) -> tuple[Any, Any]:
    """Return the bare and the wrapped graph of that name, each with a checkpointer of its own."""

    def build() -> Any:
        builder, _ = (GRAPHS | ASYNC_ONLY)[name]
        return builder().compile(checkpointer=InMemorySaver() if saver else None, cache=InMemoryCache())

    return build(), surefoot.wrap(build(), store="memory://")


def listed(items: Any, *, ordered: bool) -> str:
    """Return stream items as text; what parallel tasks emit has no order."""
    return shown(items) if ordered else shown(sorted(re.sub(UUID, "ID", shown([item])) for item in items))


def outcome(call: Callable[[], Any], *, ordered: bool = True) -> str:
    """Return what a call returned or raised, as text."""
    try:
        return listed(call(), ordered=ordered)
    except Exception as exc:  # noqa: BLE001 - the error is what is compared
        return shown((type(exc).__name__, str(exc)))


def given(name: str) -> Any:
    """Return a fresh input."""
    return copy.deepcopy((GRAPHS | ASYNC_ONLY)[name][1])


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("saver", [True, False])
def test_invoke_and_every_stream_mode(name: str, saver: bool) -> None:  # noqa: FBT001 - pytest passes by name
    """Results, stream items in every mode, errors and the state afterwards are the same."""
    if name == "interrupt" and not saver:
        saver = True
    seen = []
    for graph in both(name, saver=saver):
        parts = [outcome(lambda g=graph: g.invoke(given(name), config("t")))]  # type: ignore[misc]
        for number, mode in enumerate(MODES):
            parts.append(
                outcome(
                    lambda g=graph, m=mode, n=number: list(g.stream(given(name), config(f"s{n}"), stream_mode=m)),
                    ordered=name not in PARALLEL,
                )
            )  # type: ignore[misc]
        parts.append(
            outcome(
                lambda g=graph: list(g.stream(given(name), config("sub"), stream_mode="updates", subgraphs=True)),
                ordered=name not in PARALLEL,
            )
        )  # type: ignore[misc]
        if saver:
            # not the tasks' own results: whether their messages have ids yet depends on LangGraph's background writer
            history = [(s.values, s.next, s.metadata, s.interrupts) for s in graph.get_state_history(config("t"))]
            parts.append(shown(history))
        seen.append(parts)
    for bare, wrapped in zip(*seen, strict=True):
        assert wrapped == bare


@pytest.mark.parametrize("name", [*GRAPHS, *ASYNC_ONLY])
def test_ainvoke_and_astream(name: str) -> None:
    """The same holds for the asynchronous face."""

    async def collect(graph: Any) -> list[str]:
        parts = []
        for number, mode in enumerate([None, "values", "updates", "messages", "custom"]):
            try:
                if mode is None:
                    parts.append(shown(await graph.ainvoke(given(name), config("t"))))
                else:
                    items = [item async for item in graph.astream(given(name), config(f"s{number}"), stream_mode=mode)]
                    parts.append(listed(items, ordered=name not in PARALLEL))
            except Exception as exc:  # noqa: BLE001 - the error is what is compared
                parts.append(shown((type(exc).__name__, str(exc))))
        return parts

    bare, wrapped = both(name)
    assert asyncio.run(collect(wrapped)) == asyncio.run(collect(bare))


@pytest.mark.parametrize("name", ["loop", "sub-graph", "tool command", "commands", "writer", "create_agent"])
def test_astream_events(name: str) -> None:
    """The events of version 2 come with the same names, in the same order."""

    async def collect(graph: Any) -> list[tuple[str, str]]:
        return [(e["event"], e["name"]) async for e in graph.astream_events(given(name), config("t"), version="v2")]

    bare, wrapped = both(name)
    assert asyncio.run(collect(wrapped)) == asyncio.run(collect(bare))


@pytest.mark.parametrize("name", GRAPHS)
def test_shape(name: str) -> None:
    """Type, name, drawings, schemas and sub-graphs are the same."""
    bare, wrapped = both(name)
    assert isinstance(wrapped, type(bare))
    assert (type(wrapped).__name__, type(wrapped).__module__) == (type(bare).__name__, type(bare).__module__)
    assert wrapped.get_name() == bare.get_name()
    for xray in (False, True):
        assert shown(wrapped.get_graph(xray=xray).to_json()) == shown(bare.get_graph(xray=xray).to_json())
        assert wrapped.get_graph(xray=xray).draw_mermaid() == bare.get_graph(xray=xray).draw_mermaid()
    assert wrapped.get_input_jsonschema() == bare.get_input_jsonschema()
    assert wrapped.get_output_jsonschema() == bare.get_output_jsonschema()
    assert wrapped.get_context_jsonschema() == bare.get_context_jsonschema()
    assert [n for n, _ in wrapped.get_subgraphs()] == [n for n, _ in bare.get_subgraphs()]
    assert list(wrapped.nodes) == list(bare.nodes)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_interrupt_and_resume(durability: Any) -> None:
    """An interrupt surfaces and is answered in every durability as it is bare."""
    seen = []
    for graph in both("interrupt"):
        first = graph.invoke(given("interrupt"), config("t"), durability=durability)
        state = graph.get_state(config("t"))
        second = graph.invoke(Command(resume="yes"), config("t"), durability=durability)
        seen.append(shown([first, state.next, second, graph.get_state(config("t")).next]))
    assert seen[0] == seen[1]


def test_time_travel_and_update_state() -> None:
    """Going back to an old checkpoint, changing the state and going on from there gives what it gives bare."""
    seen = []
    for graph in both("loop"):
        graph.invoke(given("loop"), config("t"))
        history = list(graph.get_state_history(config("t")))
        old = history[-3].config
        again = graph.invoke(None, old)
        changed = graph.update_state(old, {"messages": []})
        forked = graph.invoke(None, changed)
        next_run = graph.invoke(given("loop"), config("t"))
        seen.append(shown([again, forked, next_run, len(list(graph.get_state_history(config("t"))))]))
    assert seen[0] == seen[1]


def test_a_node_runs_again_after_time_travel() -> None:
    """Nodes after the checkpoint that was gone back to are run, not answered from the record."""
    ran: list[int] = []

    def count(_state: Any) -> Any:
        ran.append(1)
        return {"messages": []}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("count", count)
    builder.add_edge(START, "count")
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), store="memory://")
    graph.invoke(HELLO, config("t"))
    graph.invoke(None, list(graph.get_state_history(config("t")))[1].config)
    assert len(ran) == 2


def test_with_config_and_as_a_sub_graph() -> None:
    """A configured copy, and a wrapped graph as a node of a bare and of a wrapped one, give what the bare one gives."""
    seen = []
    for graph in both("loop"):
        outer: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
        outer.add_node("inner", graph.copy({"checkpointer": None}))
        outer.add_edge(START, "inner")
        compiled = outer.compile(checkpointer=InMemorySaver())
        seen.append(shown([graph.with_config(tags=["x"]).invoke(given("loop"), config("c")), compiled.invoke(given("loop"), config("o"))]))
    assert seen[0] == seen[1]


def test_a_stream_closed_early() -> None:
    """A consumer that stops early leaves the thread as it does bare, and the run can be gone on with."""
    seen = []
    for graph in both("loop"):
        items = graph.stream(given("loop"), config("t"), stream_mode="updates", durability="sync")
        first = next(items)
        items.close()
        seen.append(shown([first, graph.get_state(config("t")).next, graph.invoke(None, config("t"))]))
    assert seen[0] == seen[1]


def test_many_threads_at_once() -> None:
    """Batches, thread pools and gathered coroutines on different threads do not meet."""
    _, graph = both("parallel")
    alone = shown(graph.invoke(given("parallel"), config("alone")))
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: shown(graph.invoke(given("parallel"), config(f"t{n}"))), range(16)))

    async def gathered() -> list[Any]:
        return list(await asyncio.gather(*(graph.ainvoke(given("parallel"), config(f"a{n}")) for n in range(16))))

    results += map(shown, asyncio.run(gathered()))
    results += map(shown, graph.batch([given("parallel")] * 4, [config(f"b{n}") for n in range(4)]))
    assert set(results) == {alone}


def test_one_thread_at_a_time(effects: Effects, store: str) -> None:
    """Concurrent invocations of one thread run one after the other; each is a run of its own."""
    graph = surefoot.wrap(react(planner([ask("pay", amount=1)]), [effects.tool("pay")]).compile(), store=store)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _n: graph.invoke(HELLO, config("t")), range(4)))
    assert effects.count("pay") == 4


def test_the_documented_exception_an_automatic_retry_of_an_unclassified_tool_that_raised(effects: Effects, store: str) -> None:
    """The framework's own retry gets the recorded error, with the declaration that would let the tool run, which then does."""
    from langgraph.prebuilt import ToolNode
    from langgraph.types import RetryPolicy

    for reads, runs in (([], 1), (["flaky"], 3)):
        before = effects.count("flaky")

        def fail_once(_amount: int, before: int = before) -> str:
            if effects.count("flaky") == before + 1:
                raise ConnectionError("once")
            return "ok"

        builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
        builder.add_node("agent", planner([ask("flaky", amount=1)]))
        retry = RetryPolicy(initial_interval=0.001, retry_on=ConnectionError, max_attempts=2)
        builder.add_node("tools", ToolNode([effects.tool("flaky", fail_once)]), retry_policy=retry)
        builder.add_edge(START, "agent")
        builder.add_edge("agent", "tools")
        graph = surefoot.wrap(builder.compile(), store=store, reads=reads)
        if reads:
            assert graph.invoke(HELLO)["messages"][-1].content == "ok"
        else:
            with pytest.raises(ConnectionError, match="once") as caught:
                graph.invoke(HELLO)
            assert any("reads=['flaky']" in note for note in caught.value.__notes__)
        assert effects.count("flaky") == runs
