"""Acceptance scenarios on LangGraph that need no dying process. Effects are counted in a file."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send, interrupt
from support import Effects, ask, config, planner, react

import surefoot
from surefoot import Allow, Call, Gate, Guard, InDoubt, KeyConflict, NotCommitted, StepRule, ToolRule, Verdict


def answers(result: Any) -> list[str]:
    """Return the texts of the tool messages, in order."""
    return [str(m.content) for m in result["messages"] if isinstance(m, ToolMessage)]


def hello() -> dict[str, Any]:
    """Return an ordinary input."""
    return {"messages": [HumanMessage("go")]}


def asker(effects: Effects, name: str = "ask_human") -> Any:
    """Return a tool that asks a person and has an effect when the answer is yes."""

    def body(amount: int = 0) -> str:
        answer = interrupt({"name": name, "amount": amount})
        if answer == "yes":
            effects.add(name, amount)
        return f"{name} {amount}: {answer}"

    body.__doc__, body.__name__, body.__qualname__ = "Ask a person.", name, name
    return tool(body)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_as_01_as_08_a_sibling_of_an_interrupted_tool_runs_once(effects: Effects, store: str, mode: str) -> None:
    """R1: when one of two parallel tools interrupts and the run is resumed, the other has run once and its answer is the first one."""
    plan = planner([ask("charge", amount=5), ask("ask_human", amount=1)])
    graph = surefoot.wrap(react(plan, [effects.tool("charge"), asker(effects)]).compile(checkpointer=InMemorySaver()), store=store)
    first = _run(graph, hello(), "t", mode)
    assert first["__interrupt__"][0].value == {"name": "ask_human", "amount": 1}
    result = _run(graph, Command(resume="yes"), "t", mode)
    assert answers(result) == ["charge 5", "ask_human 1: yes"]
    assert Counter(e[0] for e in effects.all()) == {"charge": 1, "ask_human": 1}


def _run(graph: Any, given: Any, thread: str, mode: str) -> Any:
    if mode == "sync":
        return graph.invoke(given, config(thread))
    return asyncio.run(graph.ainvoke(given, config(thread)))


@pytest.mark.parametrize("again", ["at the head", "where it was asked for", "at both"])
def test_as_08_an_answer_that_is_given_again_pays_nothing(effects: Effects, store: str, again: str) -> None:
    """An approval that was given and carried out is given again: the stored result returns, and there is one effect."""
    builder = react(planner([ask("pay", amount=1)]), [asker(effects, "pay")])
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), store=store)
    graph.invoke(hello(), config("t"))
    asked = graph.get_state(config("t")).config
    places = {"at the head": [config("t")], "where it was asked for": [asked], "at both": [config("t"), asked]}
    for given in (config("t"), *places[again]):
        assert answers(graph.invoke(Command(resume="yes"), given)) == ["pay 1: yes"]
        assert effects.count("pay") == 1


@pytest.mark.parametrize("later", [0, 1, 2])
def test_as_81_a_fork_belongs_to_the_run_that_wrote_its_checkpoint(effects: Effects, store: str, later: int) -> None:
    """Gone back to before a payment, however many runs ago, the payment is replayed: no effect, no drift, and a branch of that run."""

    def plan(state: Any) -> Any:
        paid = isinstance(state["messages"][-1], ToolMessage)
        amount = len([m for m in state["messages"] if m.type == "human"])
        return {"messages": [AIMessage("done") if paid else AIMessage("", tool_calls=[ask("pay", amount=amount)])]}

    guard = Guard(store)
    graph = surefoot.wrap(react(plan, [effects.tool("pay")]).compile(checkpointer=InMemorySaver()), guard=guard)
    graph.invoke(hello(), config("t"))
    before = next(s for s in graph.get_state_history(config("t")) if s.next == ("tools",)).config
    for _ in range(later):
        graph.invoke(hello(), config("t"))
    for _ in range(2):
        assert answers(graph.invoke(None, before)) == ["pay 1"]
    changed = graph.update_state(before, {"messages": []})
    assert answers(graph.invoke(None, graph.update_state(changed, {"messages": []}))) == ["pay 1"]
    assert effects.count("pay") == 1 + later
    runs = sorted(guard.runs.list(), key=lambda run: run.ordinal)
    assert [run.origin for run in runs] == [""] * (1 + later) + [runs[0].run_id] * 3


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_r2_two_parallel_interrupts_get_their_own_answers(effects: Effects, store: str, mode: str) -> None:
    """Two parallel calls of an asking tool each run once, each with the answer that was given to its own question."""
    plan = planner([ask("ask_human", amount=1), ask("ask_human", amount=2)])
    graph = surefoot.wrap(react(plan, [asker(effects)]).compile(checkpointer=InMemorySaver()), store=store)
    asked = []
    result = _run(graph, hello(), "t", mode)
    for reply in ("yes", "no"):
        question = result["__interrupt__"][0].value["amount"]
        asked.append((question, reply))
        result = _run(graph, Command(resume=reply), "t", mode)
    assert sorted(answers(result)) == sorted(f"ask_human {amount}: {reply}" for amount, reply in asked)
    assert effects.all() == [["ask_human", amount] for amount, reply in asked if reply == "yes"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_as_95_a_denial_is_given_to_its_own_call(effects: Effects, store: str, mode: str) -> None:
    """A approved and committed, B denied: on re-entry A replays and B gets its own no."""
    plan = planner([ask("pay_a", amount=1), ask("pay_b", amount=2)])
    tools = [asker(effects, "pay_a"), asker(effects, "pay_b")]
    graph = surefoot.wrap(react(plan, tools).compile(checkpointer=InMemorySaver()), store=store)
    result = _run(graph, hello(), "t", mode)
    for _ in range(2):
        name = result["__interrupt__"][0].value["name"]
        result = _run(graph, Command(resume="yes" if name == "pay_a" else "no"), "t", mode)
    assert answers(result) == ["pay_a 1: yes", "pay_b 2: no"]
    assert effects.all() == [["pay_a", 1]]


@pytest.mark.parametrize("reads", [[], ["twice"]])
@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_as_95_tools_that_ask_twice_each_get_their_own_answers(store: str, mode: str, by_id: bool, reads: list[str]) -> None:  # noqa: FBT001 - pytest
    """Three parallel calls that ask two questions each: every question surfaces once, and each answer reaches the call that asked."""

    @tool
    def twice(amount: int) -> str:
        """Ask twice."""
        first = interrupt(f"{amount} first")
        second = interrupt(f"{amount} second")
        return f"{amount}: {first}, {second}"

    plan = planner([ask("twice", amount=n) for n in range(3)])
    graph = surefoot.wrap(react(plan, [twice]).compile(checkpointer=InMemorySaver()), store=store, reads=reads)
    result = _run(graph, hello(), "t", mode)
    asked = []
    while "__interrupt__" in result:
        (question,) = result["__interrupt__"]
        asked.append(question.value)
        answer = f"re {question.value}"
        result = _run(graph, Command(resume={question.id: answer} if by_id else answer), "t", mode)
    assert sorted(asked) == sorted(f"{n} {which}" for n in range(3) for which in ("first", "second"))
    assert answers(result) == [f"{n}: re {n} first, re {n} second" for n in range(3)]


def test_as_95_in_node_code_the_answers_stay_in_step(effects: Effects, store: str) -> None:
    """A guarded tool that asks, called in a node that asks as well: when it replays, the node's next question is still the next one."""
    guard = Guard(store)
    pay = guard.tool(asker(effects, "pay"))

    def node(_state: MessagesState) -> dict[str, Any]:
        before = interrupt("before")
        paid = pay.invoke({"amount": 5})
        after = interrupt("after")
        return {"messages": [AIMessage(f"{before} | {paid} | {after}")]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), guard=guard)
    result = graph.invoke(hello(), config("t"))
    for answer in ("a", "yes", "c"):
        result = graph.invoke(Command(resume=answer), config("t"))
    assert result["messages"][-1].content == "a | pay 5: yes | c"
    assert effects.count("pay") == 1


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


def test_as_15_as_19_a_business_key_is_the_operation(effects: Effects, store: str) -> None:
    """The same order asked for again, in another thread by another agent with another call id, is answered from the ledger."""
    charge = surefoot.tool(effect="unsafe", key=["amount"])(effects.tool("charge"))
    for thread in ("a", "b"):
        graph = surefoot.wrap(react(planner([ask("charge", amount=5)]), [charge]).compile(checkpointer=InMemorySaver()), store=store)
        assert answers(graph.invoke(hello(), config(thread))) == ["charge 5"]
    assert effects.count("charge") == 1


def test_as_18_tenants_do_not_meet(effects: Effects, store: str) -> None:
    """Two tenants with the same business key, thread and arguments each get their own effect and their own answer."""
    charge = surefoot.tool(key=["amount"])(effects.tool("charge", lambda _amount: f"for {effects.count('charge')}"))
    graph = surefoot.wrap(react(planner([ask("charge", amount=5)]), [charge]).compile(), store=store)
    for number, tenant in enumerate(("acme", "evil-corp"), start=1):
        for _ in range(2):
            with surefoot.run(tenant=tenant):
                assert answers(graph.invoke(hello(), config("t"))) == [f"for {number}"]
    assert effects.count("charge") == 2


def _order(effects: Effects) -> Any:
    @tool
    def order(order_id: str, amount: int) -> str:
        """Order."""
        effects.add("order", order_id, amount)
        return f"ordered {amount}"

    return order


def test_as_16_a_key_with_other_arguments_is_a_conflict(effects: Effects, store: str) -> None:
    """Same business key, other amount: nothing runs, both digests are named; declared unsafe the run is held and a person decides."""
    for effect, error in (("unclassified", KeyConflict), ("unsafe", InDoubt)):
        rule = {"order": ToolRule(effect=effect, key=["order_id"])}  # type: ignore[arg-type]
        guard = Guard(store, tools=rule)
        plan = planner([ask("order", order_id=effect, amount=5)], [ask("order", order_id=effect, amount=6)])
        graph = surefoot.wrap(react(plan, [_order(effects)]).compile(checkpointer=InMemorySaver()), guard=guard)
        with pytest.raises(error) as caught:
            graph.invoke(hello(), config(effect))
        first = guard.calls.list()[-1 if effect == "unclassified" else -2]
        other = guard.codec.digest({"order_id": effect, "amount": 6})
        assert first.args_digest[:12] in str(caught.value)
        assert other[:12] in str(caught.value)
        assert effects.count("order", effect) == 1
    held = guard.runs.list()[0].hold
    guard.calls.settle(held[0], failed=True, by="maria")
    assert answers(graph.invoke(None, config("unsafe"))) == ["ordered 5", "ordered 6"]
    assert effects.count("order", "unsafe") == 2


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


def test_twins_in_one_reply_both_run(effects: Effects, store: str) -> None:
    """Two equal calls in one reply are two requests."""
    graph = surefoot.wrap(react(planner([ask("pay", amount=1), ask("pay", amount=1)]), [effects.tool("pay")]).compile(), store=store)
    assert answers(graph.invoke(hello())) == ["pay 1", "pay 1"]
    assert effects.count("pay") == 2


def test_twins_in_one_reply_both_run_when_one_of_them_has_run_before(effects: Effects, store: str) -> None:
    """Of two equal calls in one reply one has run; on re-entry the other one, asking first, is not given its sibling's answer."""
    ended, entries = threading.Event(), []

    def wrapper(request: Any, execute: Any) -> Any:
        last = request.tool_call["id"] == "last"
        if last is (len(entries) == 1):
            ended.wait(20)
        if last and len(entries) == 1:
            raise RuntimeError("before its tool")
        result = execute(request)
        ended.set()
        return result

    def plan(state: MessagesState) -> dict[str, Any]:
        if len(state["messages"]) > 1:
            return {"messages": [AIMessage("done")]}
        return {"messages": [AIMessage("", tool_calls=[ask("pay", "first", amount=1), ask("pay", "last", amount=1)])]}

    pay = effects.tool("pay", lambda _amount: f"number {effects.count('pay')}")
    builder = react(plan, [pay], wrap_tool_call=wrapper, handle_tool_errors=False)
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), store=store)
    entries.append(1)
    with pytest.raises(RuntimeError, match="before its tool"):
        graph.invoke(hello(), config("t"))
    entries.append(2)
    ended.clear()
    assert answers(graph.invoke(None, config("t"))) == ["number 1", "number 2"]
    assert effects.count("pay") == 2


@pytest.mark.parametrize("saver", [None, InMemorySaver])
def test_as_88_two_runs_of_a_thread_are_two_requests(effects: Effects, store: str, saver: Any) -> None:
    """The same call with the same arguments in two runs of one thread runs twice."""
    plan = lambda state: planner([ask("pay", amount=1)])({"messages": state["messages"][-1:] if _human(state) else state["messages"][-2:]})  # noqa: E731 - short
    graph = surefoot.wrap(react(plan, [effects.tool("pay")]).compile(checkpointer=saver() if saver else None), store=store)
    for expected in (1, 2):
        graph.invoke(hello(), config("t"))
        assert effects.count("pay") == expected


def _human(state: Any) -> bool:
    return isinstance(state["messages"][-1], HumanMessage)


def test_as_90_iterations_of_a_loop_are_two_requests(effects: Effects, store: str) -> None:
    """The same call in two iterations of one run runs twice."""
    graph = surefoot.wrap(
        react(planner([ask("pay", amount=1)], [ask("pay", amount=1)]), [effects.tool("pay")]).compile(checkpointer=InMemorySaver()),
        store=store,
    )
    assert answers(graph.invoke(hello(), config("t"))) == ["pay 1", "pay 1"]
    assert effects.count("pay") == 2


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_as_90_update_state_between_interrupt_and_resume_repeats_nothing(effects: Effects, store: str, durability: Any) -> None:
    """A loop's second iteration is interrupted, the state is updated, the run resumed: each iteration's call ran once."""
    plan = planner([ask("pay", amount=1)], [ask("pay", amount=1), ask("ask_human", amount=2)])
    graph = surefoot.wrap(react(plan, [effects.tool("pay"), asker(effects)]).compile(checkpointer=InMemorySaver()), store=store)
    graph.invoke(hello(), config("t"), durability=durability)
    assert effects.count("pay") == 2
    graph.update_state(config("t"), {"messages": []}, as_node="agent")
    result = graph.invoke(None, config("t"), durability=durability)
    if "__interrupt__" in result:
        graph.invoke(Command(resume="yes"), config("t"), durability=durability)
    assert effects.count("pay") == 2
    assert effects.count("ask_human") == 1


def test_as_90_resumed_from_a_change_of_the_head_it_is_the_same_run(effects: Effects, store: str) -> None:
    """What update_state returned names the head that it changed: a run that waits goes on from there, and is no branch."""
    guard = Guard(store)
    builder = react(planner([ask("pay", amount=1), ask("ask_human", amount=2)]), [effects.tool("pay"), asker(effects)])
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), guard=guard)
    graph.invoke(hello(), config("t"))
    changed = graph.update_state(config("t"), {"messages": []}, as_node="agent")
    if "__interrupt__" in graph.invoke(None, changed):
        graph.invoke(Command(resume="yes"), config("t"))
    assert effects.all() == [["pay", 1], ["ask_human", 2]]
    assert [(run.status, run.origin) for run in guard.runs.list()] == [("completed", "")]


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


def test_as_96_equal_branches_of_a_fan_out_are_two(effects: Effects, store: str) -> None:
    """Two Send branches with equal inputs: one committed, one failed; resumed, the failed one runs, not the other's record."""
    guard = Guard(store)
    pay = guard.tool(effects.tool("pay"))
    failed: list[int] = []

    def branch(state: dict[str, Any]) -> dict[str, Any]:
        with lock:
            first = not failed
            failed.append(1)
        if first:
            msg = "first branch fails before it pays"
            raise RuntimeError(msg)
        return {"messages": [AIMessage(pay.invoke({"amount": state["n"]}))]}

    lock = threading.Lock()
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("branch", branch)
    builder.add_conditional_edges(START, lambda _state: [Send("branch", {"n": 1}), Send("branch", {"n": 1})], ["branch"])
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), guard=guard)
    with pytest.raises(RuntimeError, match="first branch"):
        graph.invoke(hello(), config("t"))
    result = graph.invoke(None, config("t"))
    assert [m.content for m in result["messages"][1:]] == ["pay 1", "pay 1"]
    assert effects.count("pay") == 2


def test_as_97_a_swarm_may_charge_on_both_visits(effects: Effects, store: str) -> None:
    """A → B → A by hand-off commands to the parent: the same charge on both visits runs twice."""

    def agent(name: str, other: str, visits: list[int]) -> Any:
        def plan(_state: Any) -> Any:
            visits.append(1)
            if name == "b":
                return Command(graph=Command.PARENT, goto="a", update={"messages": [AIMessage("back")]})
            return {"messages": [AIMessage("", tool_calls=[ask("pay", amount=1)])]}

        def hand_off(_state: Any) -> Any:
            return Command(graph=Command.PARENT, goto=other if len(visits) == 1 else END, update={"messages": [AIMessage("over")]})

        builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
        builder.add_node("plan", plan)
        builder.add_edge(START, "plan")
        if name == "a":
            builder.add_node("tools", ToolNode([effects.tool("pay")]))
            builder.add_node("hand_off", hand_off)
            builder.add_edge("plan", "tools")
            builder.add_edge("tools", "hand_off")
        return builder.compile()

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("a", agent("a", "b", []), destinations=("b", END))
    builder.add_node("b", agent("b", "a", []), destinations=("a",))
    builder.add_edge(START, "a")
    graph = surefoot.wrap(builder.compile(checkpointer=InMemorySaver()), store=store)
    graph.invoke(hello(), config("t"))
    assert effects.count("pay") == 2


def test_as_98_an_abandoned_result_is_delivered_once(effects: Effects, store: str) -> None:
    """The run dies after a payment, the user asks to try again: the first equal request gets the recorded value, the next one runs."""
    boom: list[int] = []

    def fail(_amount: int) -> str:
        boom.append(1)
        msg = "sibling"
        raise RuntimeError(msg)

    plan = lambda state: planner(  # noqa: E731 - short
        [ask("pay", amount=5), *([ask("fail", amount=1)] if not boom else [])], [ask("pay", amount=5)]
    )({"messages": _since_human(state)})
    graph = surefoot.wrap(react(plan, [effects.tool("pay"), effects.tool("fail", fail)]).compile(checkpointer=InMemorySaver()), store=store)
    with pytest.raises(RuntimeError, match="sibling"):
        graph.invoke(hello(), config("t"))
    result = graph.invoke({"messages": [HumanMessage("did it work? try again")]}, config("t"))
    assert answers(result)[-2:] == ["pay 5", "pay 5"]
    assert effects.count("pay") == 2


def _since_human(state: Any) -> list[Any]:
    messages = state["messages"]
    last = max(i for i, m in enumerate(messages) if isinstance(m, HumanMessage))
    return list(messages[last:])


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
