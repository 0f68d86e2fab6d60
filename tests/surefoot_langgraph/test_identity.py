"""What counts as the same call on LangGraph: twins, loops, runs, branches, forks, tenants and business keys."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send
from support import Effects, answers, ask, asker, config, hello, planner, react

import surefoot
from surefoot import Guard, InDoubt, KeyConflict, ToolRule


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
