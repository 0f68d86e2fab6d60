"""Acceptance scenarios on LangGraph that need no dying process. Effects are counted in a file."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from support import Effects, answers, ask, asker, config, hello, planner, react

import surefoot
from surefoot import Allow, Call, Gate, Guard, InDoubt, NotCommitted, StepRule, ToolRule, Verdict


@pytest.mark.parametrize(
    ("rule", "outcome", "runs"),
    [
        ({"reads": ["flaky"]}, "done", 2),
        ({"tools": {"flaky": ToolRule(effect="idempotent")}}, "done", 2),
        ({}, "RuntimeError", 1),
        ({"tools": {"flaky": ToolRule(effect="unsafe")}}, "InDoubt", 1),
    ],
)
def test_as_02_a_tool_that_raised_runs_again_only_if_it_may(
    effects: Effects, store: str, rule: dict[str, Any], outcome: str, runs: int
) -> None:
    """R3: after a sibling raised and the run is resumed, the charge stands once, and the sibling runs again as it is declared."""

    def fail_once(_amount: int) -> str:
        if effects.count("flaky") == 1:
            msg = "network"
            raise RuntimeError(msg)
        return "ok"

    plan = planner([ask("charge", amount=7), ask("flaky", amount=1)])
    tools = [effects.tool("charge"), effects.tool("flaky", fail_once)]
    graph = surefoot.wrap(react(plan, tools).compile(checkpointer=InMemorySaver()), store=store, **rule)
    with pytest.raises(RuntimeError, match="network"):
        graph.invoke(hello(), config("t"))
    if outcome == "done":
        assert answers(graph.invoke(None, config("t"))) == ["charge 7", "ok"]
    else:
        with pytest.raises({"RuntimeError": RuntimeError, "InDoubt": InDoubt}[outcome]):
            graph.invoke(None, config("t"))
    assert Counter(e[0] for e in effects.all()) == {"charge": 1, "flaky": runs}


def test_as_22_proof_that_nothing_happened_allows_a_retry(effects: Effects, store: str) -> None:
    """A tool that raises NotCommitted may run again, even when it is declared unsafe."""
    tried: list[int] = []

    @tool
    def charge(amount: int) -> str:
        """Charge."""
        tried.append(amount)
        if len(tried) == 1:
            msg = "connection refused"
            raise NotCommitted(msg)
        effects.add("charge", amount)
        return "charged"

    graph = surefoot.wrap(
        react(planner([ask("charge", amount=1)]), [charge]).compile(checkpointer=InMemorySaver()),
        store=store,
        tools={"charge": ToolRule(effect="unsafe")},
    )
    with pytest.raises(NotCommitted):
        graph.invoke(hello(), config("t"))
    assert answers(graph.invoke(None, config("t"))) == ["charged"]
    assert effects.count("charge") == 1


class RejectOnce:
    """A verifier that rejects the first ``times`` attempts of a step."""

    def __init__(self, times: int = 1) -> None:
        self.times = times

    def __call__(self, output: surefoot.StepOutput) -> Verdict:
        """Judge by the attempt number alone."""
        return Verdict.failed("GOAL_DRIFT", "Try something else.") if output.attempt <= self.times else Verdict.passed()


def nested(plan: Any, tools: list[Any]) -> StateGraph[Any, Any, Any, Any]:
    """Return a graph whose one node is an agent loop: the step that a verifier rejects as a whole."""
    outer: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    outer.add_node("worker", react(plan, tools).compile())
    outer.add_edge(START, "worker")
    outer.add_edge("worker", END)
    return outer


class Allowing(Gate):
    """Lets everything run."""

    def check(self, call: Call) -> Allow:
        """Allow."""
        return Allow()


def drifting(*attempts: list[list[dict[str, Any]]]) -> Any:
    """Return a planner that follows another script each time it starts from the beginning."""
    started: list[int] = []

    def plan(state: Any) -> dict[str, Any]:
        given = sum(1 for m in state["messages"] if isinstance(m, AIMessage))
        if given == 0:
            started.append(1)
        script = attempts[min(len(started), len(attempts)) - 1]
        if given >= len(script):
            return {"messages": [AIMessage("done")]}
        return {"messages": [AIMessage("", tool_calls=[ask(c["name"], **c["args"]) for c in script[given]])]}

    return plan


def test_as_17_a_drifted_retry_of_an_unclassified_tool_is_told_and_goes_on(effects: Effects, store: str) -> None:
    """The retry asks for another amount: the model is given the earlier call and its result once, and the run goes on."""
    plan = drifting([[ask("pay", amount=5)]], [[ask("pay", amount=6)]])
    graph = surefoot.wrap(
        nested(plan, [effects.tool("pay")]).compile(checkpointer=InMemorySaver()),
        store=store,
        steps={"worker": StepRule(verifier=RejectOnce())},
    )
    told = answers(graph.invoke(hello(), config("t")))
    assert len(told) == 1
    assert "pay 5" in told[0]
    assert "earlier attempt" in told[0]
    assert effects.all() == [["pay", 5]]


@pytest.mark.parametrize("gates", [[], [Allowing()]], ids=["no gate", "a gate"])
def test_as_17_drift_is_evented_once(effects: Effects, store: str, gates: list[Gate]) -> None:
    """Asked for again after the notice, the other call runs; one event says that the model was told and one that it may, gates or not."""
    plan = drifting([[ask("pay", amount=5)]], [[ask("pay", amount=6)], [ask("pay", amount=6)]])
    seen: list[str] = []
    guard = Guard(store, steps={"worker": StepRule(verifier=RejectOnce())}, gates=gates, on_event=lambda event: seen.append(event.type))
    surefoot.wrap(nested(plan, [effects.tool("pay")]).compile(checkpointer=InMemorySaver()), guard=guard).invoke(hello(), config("t"))
    assert effects.all() == [["pay", 5], ["pay", 6]]
    assert [kind for kind in seen if kind.startswith("call.drift")] == ["call.drift_told", "call.drift_allowed"]


def test_as_17_a_drifted_retry_of_an_unsafe_tool_is_held(effects: Effects, store: str) -> None:
    """Declared unsafe, the drifted retry does not run and the run is held."""
    plan = drifting([[ask("pay", amount=5)]], [[ask("pay", amount=6)]])
    guard = Guard(store, tools={"pay": ToolRule(effect="unsafe")}, steps={"worker": StepRule(verifier=RejectOnce())})
    graph = surefoot.wrap(nested(plan, [effects.tool("pay")]).compile(checkpointer=InMemorySaver()), guard=guard)
    with pytest.raises(InDoubt, match="earlier attempt"):
        graph.invoke(hello(), config("t"))
    assert effects.all() == [["pay", 5]]
    assert guard.runs.list()[0].hold


def test_as_52_a_retry_that_asks_for_the_same_repeats_nothing(effects: Effects, store: str) -> None:
    """A rejected attempt's effects are not repeated by the next one, wherever in it they are asked for."""
    plan = drifting([[ask("look", amount=1)], [ask("pay", amount=5)]], [[ask("pay", amount=5)]])
    graph = surefoot.wrap(
        nested(plan, [effects.tool("pay"), effects.tool("look")]).compile(checkpointer=InMemorySaver()),
        store=store,
        tools={"pay": ToolRule(effect="unsafe")},
        steps={"worker": StepRule(verifier=RejectOnce())},
    )
    assert answers(graph.invoke(hello(), config("t"))) == ["pay 5"]
    assert effects.count("pay") == 1


def test_as_99_searching_for_other_things_needs_no_person(effects: Effects, store: str) -> None:
    """An unannotated search after two rejections: the run goes on, with at most one reminder per entry."""
    script = [[[ask("search", amount=10 * n)], [ask("search", amount=10 * n)], [ask("search", amount=10 * n + 1)]] for n in range(1, 4)]
    graph = surefoot.wrap(
        nested(drifting(*script), [effects.tool("search")]).compile(checkpointer=InMemorySaver()),
        store=store,
        steps={"worker": StepRule(verifier=RejectOnce(2))},
    )
    told = answers(graph.invoke(hello(), config("t")))
    assert told[1:] == ["search 30", "search 31"]
    assert "earlier attempt" in told[0]
    assert effects.count("search", 30) == 1


def test_as_29_a_malformed_call_does_not_take_the_others_along(effects: Effects, store: str) -> None:
    """Seven parallel calls with one malformed: six results and one error reach the model."""
    calls = [ask("pay", amount=n) for n in range(6)] + [ask("pay", amount="many")]
    graph = surefoot.wrap(react(planner(calls), [effects.tool("pay")]).compile(), store=store)
    told = answers(graph.invoke(hello(), config("t")))
    assert told[:6] == [f"pay {n}" for n in range(6)]
    assert "Error" in told[6]
    assert sorted(effects.all()) == [["pay", n] for n in range(6)]


@pytest.mark.parametrize("eaten_by", ["node", "handle_tool_errors"])
def test_as_91_a_hold_cannot_be_eaten(effects: Effects, store: str, eaten_by: str) -> None:
    """While a declared unsafe call is in doubt no second effect starts in the run, and InDoubt is raised at the entry point."""
    guard = Guard(store, tools={"charge*": ToolRule(effect="unsafe")})

    def stop(_amount: int) -> None:
        raise KeyboardInterrupt

    if eaten_by == "node":
        charge = guard.tool(effects.tool("charge", stop))
        other = guard.tool(effects.tool("charge_other"))

        def node(_state: MessagesState) -> dict[str, Any]:
            for attempt in (charge, charge, other):
                try:
                    attempt.invoke({"amount": 1})
                except (Exception, KeyboardInterrupt):  # noqa: BLE001, S112 - what a node must not be able to do
                    continue
            return {"messages": [AIMessage("all fine")]}

        builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
        builder.add_node("node", node)
        builder.add_edge(START, "node")
        graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), guard=guard)
    else:

        def raises(_amount: int) -> None:
            msg = "timeout"
            raise RuntimeError(msg)

        plan = planner([ask("charge", amount=1)], [ask("charge", amount=1)], [ask("charge_other", amount=1)])
        tools = [effects.tool("charge", raises), effects.tool("charge_other")]
        graph = surefoot.wrap(react(plan, tools, handle_tool_errors=True).compile(checkpointer=InMemorySaver()), guard=guard)
    with pytest.raises(InDoubt):
        graph.invoke(hello(), config("t"))
    with pytest.raises(InDoubt):
        graph.invoke(None, config("t"))
    assert effects.all() == [["charge", 1]]


def test_as_94_a_graph_in_a_tool_is_entered_again(effects: Effects, store: str) -> None:
    """A tool that runs a guarded graph is a composite: when that was interrupted it is entered again, and its inner calls replay."""
    guard = Guard(store, tools={"charge": ToolRule(effect="unsafe")})
    inner = surefoot.wrap(
        react(planner([ask("charge", amount=3), ask("ask_human", amount=1)]), [effects.tool("charge"), asker(effects)]).compile(),
        guard=guard,
    )

    @tool
    def delegate(task: str) -> str:
        """Delegate."""
        effects.add("delegate", task)
        return "|".join(answers(inner.invoke({"messages": [HumanMessage(task)]})))

    graph = surefoot.wrap(react(planner([ask("delegate", task="x")]), [delegate]).compile(checkpointer=InMemorySaver()), guard=guard)
    graph.invoke(hello(), config("t"))
    result = graph.invoke(Command(resume="yes"), config("t"))
    assert answers(result) == ["charge 3|ask_human 1: yes"]
    assert effects.count("delegate") == 2
    assert effects.count("charge") == 1
    assert effects.count("ask_human") == 1
    assert {str(c.effect) for c in guard.calls.list() if c.tool == "delegate"} == {"composite"}


@pytest.mark.parametrize("effect", ["read", "idempotent", "unsafe"])
def test_as_94_a_classified_tool_that_runs_a_graph_stays_what_it_is(effects: Effects, store: str, effect: Any) -> None:
    """What a tool's author declared is not overruled by a graph inside of it, whose calls are governed all the same."""
    guard = Guard(store, tools={"delegate": ToolRule(effect=effect)})
    inner = surefoot.wrap(react(planner([ask("charge", amount=3)]), [effects.tool("charge")]).compile(), guard=guard)

    @tool
    def delegate(task: str) -> str:
        """Delegate."""
        return "|".join(answers(inner.invoke({"messages": [HumanMessage(task)]})))

    graph = surefoot.wrap(react(planner([ask("delegate", task="x")]), [delegate]).compile(checkpointer=InMemorySaver()), guard=guard)
    assert answers(graph.invoke(hello(), config("t"))) == ["charge 3"]
    assert effects.count("charge") == 1
    guard.runs.list()  # what rides along is written
    assert {str(c.effect) for c in guard.calls.list() if c.tool == "delegate"} <= {effect}


@pytest.mark.parametrize("parallel", [True, False])
def test_as_94_graphs_in_tools_do_not_see_each_others_state(effects: Effects, store: str, parallel: bool) -> None:  # noqa: FBT001 - pytest
    """Two graphs that the tools of one reply run, or one tool one after the other: each starts from its own input, also on re-entry."""
    guard = Guard(store)
    inner = surefoot.wrap(react(planner([ask("pay", amount=1)]), [effects.tool("pay")]).compile(), guard=guard)
    first_ended, failed = threading.Event(), []

    def one(task: str) -> str:
        return f"{task}: " + ", ".join(str(m.content) for m in inner.invoke({"messages": [HumanMessage(task)]})["messages"])

    @tool
    def delegate(task: str) -> str:
        """Delegate a task, or two."""
        if task == "b":
            first_ended.wait(20)
        told = one(task) if parallel else one(f"{task}1") + " | " + one(f"{task}2")
        first_ended.set()
        if not failed and task != "a":
            failed.append(task)
            raise NotCommitted("not yet")
        return told

    asked = [ask("delegate", task="a"), ask("delegate", task="b")] if parallel else [ask("delegate", task="x")]
    graph = surefoot.wrap(react(planner(asked), [delegate]).compile(checkpointer=InMemorySaver()), guard=guard)
    with pytest.raises(NotCommitted):
        graph.invoke(hello(), config("t"))
    told = answers(graph.invoke(None, config("t")))
    assert told == (["a: a, , pay 1, done", "b: b, , pay 1, done"] if parallel else ["x1: x1, , pay 1, done | x2: x2, , pay 1, done"])
    assert effects.count("pay") == 2


def test_r10_a_cancelled_wait_does_not_repeat_the_effect(effects: Effects, store: str) -> None:
    """A caller that gives up on a slow sync tool and resumes waits for it and gets its result: one effect."""
    release = threading.Event()

    def slow(_amount: int) -> str:
        release.wait(20)
        return "slow done"

    graph = surefoot.wrap(
        react(planner([ask("pay", amount=1)]), [effects.tool("pay", slow)]).compile(checkpointer=InMemorySaver()), store=store
    )

    async def scenario() -> Any:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(graph.ainvoke(hello(), config("t")), 0.3)
        release.set()
        return await graph.ainvoke(None, config("t"))

    assert answers(asyncio.run(scenario())) == ["slow done"]
    assert effects.count("pay") == 1


def test_as_78_a_result_that_cannot_be_stored_is_committed(effects: Effects, store: str) -> None:
    """The tool's return names path and type in a warning, the run goes on, and the effect is committed."""

    class Odd:
        """Not data."""

        def __str__(self) -> str:
            return "odd"

    guard = Guard(store)
    graph = surefoot.wrap(
        react(planner([ask("pay", amount=1)]), [effects.tool("pay", lambda _amount: {"a": [1, {"b": Odd()}]})]).compile(), guard=guard
    )
    with pytest.warns(surefoot.SurefootWarning, match=r"\$\.a\[1\]\.b"):
        graph.invoke(hello())
    (call,) = guard.calls.list()
    assert call.state == "committed"
    assert "result_unserialisable" in call.reason
    assert "Odd" in call.reason


@pytest.mark.parametrize("effect", ["unclassified", "unsafe", "read"])
@pytest.mark.filterwarnings("error")
def test_as_78_where_warnings_are_errors_the_call_is_committed_too(effects: Effects, store: str, effect: Any) -> None:
    """A warning filter that raises takes neither the record nor the value away: the call is committed, and the model gets its answer."""
    guard = Guard(store, tools={"odd": ToolRule(effect)})
    odd = effects.tool("odd", lambda _amount: Effects)
    graph = surefoot.wrap(react(planner([ask("odd", amount=1)]), [odd]).compile(checkpointer=InMemorySaver()), guard=guard)
    assert answers(graph.invoke(hello(), config("t"))) == [str(Effects)]
    assert [(call.state, "result_unserialisable" in call.reason) for call in guard.calls.list()] == [("committed", True)]
    assert effects.count("odd") == 1
