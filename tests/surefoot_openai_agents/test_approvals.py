"""Approvals of OpenAI Agents: a run that waits, is stored as a RunState, and goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, RunState, function_tool
from agents.exceptions import ModelBehaviorError
from crash import Effects
from oai_support import FACES, Failing, Script, asks, events, invoke, payer, says, script

import surefoot
from surefoot import Guard


def _approved(effects: Effects) -> Any:
    pay = payer(effects, needs_approval=True)

    @function_tool
    async def note(text: str) -> str:
        effects.add("note", text)
        return "noted"

    model = script(
        [asks("note", text="x"), asks("pay", order="1", amount=5)], [asks("pay", order="2", amount=6)], [says("done")], effects=effects
    )
    return Agent(name="a", model=model, tools=[note, pay])


@pytest.mark.parametrize("face", FACES)
def test_as_38_one_approval_is_one_execution(guard: Guard, effects: Effects, face: str) -> None:
    """A run waits for approvals, is stored as a RunState, and goes on from there, as one run: each payment once, no question twice."""
    agent = surefoot.wrap(_approved(effects), guard=guard)
    given: Any = "order 7"
    waits = []
    for _ in range(3):
        with surefoot.run("order-1"):
            result = invoke(agent, given, face=face)
        waits.append(len(result.interruptions))
        if not result.interruptions:
            break
        assert [run.status for run in guard.runs.list()] == ["suspended"]
        text = result.to_state().to_string()
        given = asyncio.run(RunState.from_string(agent, text))
        for item in given.get_interruptions():
            given.approve(item)
    assert waits == [1, 1, 0]
    assert result.final_output == "done"
    assert [effects.count("pay", order) for order in ("1", "2")] == [1, 1]
    assert (effects.count("note"), effects.count("model")) == (1, 3)
    assert [run.status for run in guard.runs.list()] == ["completed"]
    assert events(guard, "call.drift_told") == []


def test_as_38_the_same_state_resumed_twice_pays_once(guard: Guard, effects: Effects) -> None:
    """A host dies after the approved payment; another one resumes from the same stored state: one approval, one execution."""
    model = Failing(1, [asks("pay", order="1", amount=5)], [says("done")])
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[payer(effects, needs_approval=True)]), guard=guard)
    with surefoot.run("order-1"):
        text = invoke(agent).to_state().to_string()
    for attempt in range(3):
        state = asyncio.run(RunState.from_string(agent, text))
        state.approve(state.get_interruptions()[0])
        with surefoot.run("order-1"):
            if attempt == 0:
                with pytest.raises(RuntimeError, match="HTTP 500"):
                    invoke(agent, state)
            else:
                assert invoke(agent, state).final_output == "done"
    assert effects.count("pay") == 1


@pytest.mark.parametrize("face", FACES)
def test_as_94_an_approval_inside_an_agent_as_tool(guard: Guard, effects: Effects, face: str) -> None:
    """An agent that is a tool waits for an approval: its call is suspended, not committed, and entered again with the answer."""
    inner: Any = Agent(
        name="inner", model=script([asks("pay", order="1", amount=5)], [says("inner done")]), tools=[payer(effects, needs_approval=True)]
    )
    outer = Agent(
        name="outer", model=script([asks("ask_inner", input="pay")], [says("outer done")]), tools=[inner.as_tool("ask_inner", "Pays.")]
    )
    agent = surefoot.wrap(outer, guard=guard)
    with surefoot.run("order-1"):
        result = invoke(agent, face=face)
    assert [(row.tool, row.state) for row in guard.calls.list()] == [("ask_inner", "suspended")]
    state = asyncio.run(RunState.from_string(agent, result.to_state().to_string()))
    for item in state.get_interruptions():
        state.approve(item)
    with surefoot.run("order-1"):
        assert invoke(agent, state, face=face).final_output == "outer done"
    assert effects.count("pay") == 1
    assert sorted((row.tool, str(row.state)) for row in guard.calls.list()) == [("ask_inner", "committed"), ("pay", "committed")]


def test_as_29_one_malformed_call_leaves_an_approval_to_escape(guard: Guard, effects: Effects) -> None:
    """AS-29: beside one malformed call and five that run, one waits for approval: it surfaces, and approved it is the sixth result."""
    told: list[str] = []

    @function_tool(needs_approval=True)
    async def refund(order: str) -> str:
        effects.add("refund", order)
        return f"refunded {order}"

    calls = [*(asks("pay", order=str(n), amount=n) for n in range(5)), asks("pay", "{not json"), asks("refund", order="1")]
    model = Script(lambda answered, _items: [says(told.extend(answered) or "done")] if answered else calls)
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[payer(effects), refund]), guard=guard)
    with surefoot.run("order-1"):
        result = invoke(agent)
    assert ([item.raw_item.name for item in result.interruptions], effects.count("refund")) == (["refund"], 0)
    state = asyncio.run(RunState.from_string(agent, result.to_state().to_string()))
    state.approve(state.get_interruptions()[0])
    with surefoot.run("order-1"):
        assert invoke(agent, state).final_output == "done"
    assert (effects.count("pay"), effects.count("refund")) == (5, 1)
    assert sum("error" in text for text in told) == 1


@pytest.mark.parametrize("face", FACES)
def test_as_28_the_approval_of_a_tool_that_was_removed_is_void(guard: Guard, effects: Effects, face: str) -> None:
    """AS-28: a tool is taken away while its approval is pending: its approval is void, and the other one's is still the other one's."""

    @function_tool(needs_approval=True)
    async def refund(order: str) -> str:
        effects.add("refund", order)
        return f"refunded {order}"

    pay = payer(effects, needs_approval=True)

    def make(*tools: Any) -> Any:
        model = script([asks("refund", order="9"), asks("pay", order="1", amount=5)], [says("done")])
        return surefoot.wrap(Agent(name="a", model=model, tools=list(tools)), guard=guard)

    with surefoot.run("order-1"):
        text = invoke(make(refund, pay), face=face).to_state().to_string()
    later = make(pay)
    state = asyncio.run(RunState.from_string(later, text))
    for item in state.get_interruptions():
        state.approve(item)
    with (
        surefoot.run("order-1"),
        pytest.raises(ModelBehaviorError, match="refund"),
    ):  # the framework takes no state with a tool that is gone
        invoke(later, state, face=face)
    assert (effects.count("refund"), effects.count("pay")) == (0, 0)
    again = make(pay, refund)
    state = asyncio.run(RunState.from_string(again, text))
    for item in state.get_interruptions():
        if item.raw_item.name == "pay":
            state.approve(item)
    with surefoot.run("order-1"):
        result = invoke(again, state, face=face)
    assert [item.raw_item.name for item in result.interruptions] == ["refund"]
    assert (effects.count("refund"), effects.count("pay", "1", 5), effects.count("pay")) == (0, 1, 1)
