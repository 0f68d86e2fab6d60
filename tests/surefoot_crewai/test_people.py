"""Crews that wait for a person, and work that has to have been done."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from crash import Effects
from crews import agent, ask, crew

import surefoot
from surefoot import Allow, Call, CallState, Gate, Guard, Hold, InDoubt, RunStatus, StepOutput, StepRule, Verdict, VerificationFailed


class Asks(Gate):
    """Has a person decide about calls; about several when they are all asked for: the requests of one reply come in threads."""

    def __init__(self, *tools: str) -> None:
        self._tools = tools
        self._all = threading.Barrier(len(tools), timeout=20)
        self._approved: set[str] = set()

    def check(self, call: Call) -> Allow | Hold:
        """Hold what nobody has approved."""
        if call.tool not in self._tools or call.call_id in self._approved:
            return Allow()
        self._all.wait()
        return Hold("a person decides")

    def approve(self, guard: Guard) -> None:
        """Approve whatever waits."""
        for call in guard.calls.list(state="in_doubt"):
            self._approved.add(call.call_id)
            guard.calls.settle(call.call_id, failed=True, by="maria")


def kicked_off(made: Any) -> Any:
    """Return the output of a kickoff in the run of these tests."""
    with surefoot.run("r"):
        return made.kickoff().raw


def test_as_38_one_approval_is_one_execution(guard: Guard, effects: Effects) -> None:
    """AS-38: a held call waits; approved it runs, once; kicked off again the run answers what it was approved for."""
    person = Asks("pay")
    guard = Guard(guard.store, gates=[person])
    failing = [True]

    def down(_messages: Any) -> str:
        if failing:
            failing.pop()
            raise RuntimeError("the model is down")
        return "done"

    def said(messages: Any) -> Any:
        return down(messages) if any(message["role"] == "tool" for message in messages) else [ask("pay", amount=5)]

    def make() -> Any:
        return crew(agent(said, tools=[effects.tool("pay")], max_retry_limit=0))

    with pytest.raises(InDoubt, match="a person decides"):
        kicked_off(surefoot.wrap(make(), guard=guard))
    assert effects.count("pay") == 0
    with pytest.raises(InDoubt):
        kicked_off(surefoot.wrap(make(), guard=guard))
    person.approve(guard)
    with pytest.raises(RuntimeError, match="model is down"):
        kicked_off(surefoot.wrap(make(), guard=guard))
    assert kicked_off(surefoot.wrap(make(), guard=guard)) == "done"
    assert effects.all() == [["pay", 5]]


def test_as_28_the_approval_of_a_tool_that_was_removed_is_void(guard: Guard, effects: Effects) -> None:
    """AS-28: between pause and resume one of two approved tools is taken away: it does not run, and the other one runs, once."""
    person = Asks("pay", "refund")
    guard = Guard(guard.store, gates=[person])
    tools = [effects.tool("refund"), effects.tool("pay")]

    def make() -> Any:
        return crew(agent([ask("refund", amount=1), ask("pay", amount=5)], "done", tools=tools))

    with pytest.raises(InDoubt):
        kicked_off(surefoot.wrap(make(), guard=guard))
    person.approve(guard)
    del tools[0]
    assert kicked_off(surefoot.wrap(make(), guard=guard)) == "done"
    assert effects.all() == [["pay", 5]]
    assert [call.state for call in guard.calls.list() if call.tool == "refund"] == [CallState.FAILED]


def paid(output: StepOutput) -> Verdict:
    """Require a payment that was made."""
    made = any(call.tool == "pay" and call.state is CallState.COMMITTED for call in output.receipts)
    return Verdict.passed() if made else Verdict.failed("INCOMPLETE", "The payment was not made.")


def test_as_30_a_required_call_that_failed_is_no_success(guard: Guard, effects: Effects) -> None:
    """AS-30: a required call fails beside one that succeeds, and the agent says done: the run does not end completed."""

    def boom(_amount: int) -> str:
        raise RuntimeError("refused")

    def make(rule: StepRule) -> Any:
        clerk = agent([ask("pay", amount=5), ask("look", amount=1)], "all done", tools=[effects.tool("pay", boom), effects.tool("look")])
        made = crew(clerk)
        made.tasks[0].name = "bill"
        return surefoot.wrap(made, guard=Guard(guard.store, steps={"bill": rule}))

    with pytest.raises(VerificationFailed, match="did not pass its verifier"):
        kicked_off(make(StepRule(verifier=paid)))
    assert [run.status for run in guard.runs.list()] == [RunStatus.OPEN]
    assert (effects.count("pay"), effects.count("look")) == (1, 1)
    with surefoot.run("without the rule"):
        assert make(StepRule()).kickoff().raw == "all done"  # the negative control
