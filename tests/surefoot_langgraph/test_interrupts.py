"""Interrupts on LangGraph: each question is answered once, each answer goes to its own call."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from support import Effects, answers, ask, asker, config, hello, planner, react

import surefoot
from surefoot import Guard


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
