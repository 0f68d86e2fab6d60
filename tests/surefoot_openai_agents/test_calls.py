"""Calls of OpenAI Agents, run in this process: what fails beside them, after them and in them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.exceptions import ToolTimeoutError, UserError
from crash import Effects
from oai_support import FACES, Failing, Script, asks, events, invoke, payer, says, script

import surefoot
from surefoot import CallState, Guard, InDoubt, StepOutput, StepRule, ToolRule, Verdict, VerificationFailed

# --- R11, AS-04


@pytest.mark.parametrize("face", FACES)
def test_r11_as_04_the_model_fails_after_the_tool_and_the_caller_retries(guard: Guard, effects: Effects, face: str) -> None:
    """The run is retried under its name after the model failed: the payment is made once, and its request is not asked for again."""
    model = Failing(1, [asks("pay", order="1", amount=5)], [says("done")], effects=effects)
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[payer(effects)]), guard=guard)
    with surefoot.run("order-1"), pytest.raises(RuntimeError, match="HTTP 500"):
        invoke(agent, face=face)
    with surefoot.run("order-1"):
        assert invoke(agent, face=face).final_output == "done"
    assert effects.count("pay") == 1
    assert effects.count("model") == 2


@pytest.mark.parametrize("face", FACES)
def test_r11_negative_control_bare_it_pays_twice(effects: Effects, face: str) -> None:
    """The same without surefoot pays twice."""
    model = Failing(1, [asks("pay", order="1", amount=5)], [says("done")])
    agent: Any = Agent(name="a", model=model, tools=[payer(effects)])
    with pytest.raises(RuntimeError, match="HTTP 500"):
        invoke(agent, face=face)
    assert invoke(agent, face=face).final_output == "done"
    assert effects.count("pay") == 2


@pytest.mark.parametrize("declared", [True, False])
def test_r11_a_sibling_crashes_and_the_caller_retries(guard: Guard, effects: Effects, declared: bool) -> None:  # noqa: FBT001 - a case
    """A tool beside the payment raises out of the run: retried, the payment is made once; the other runs again where it is declared."""
    failing = [True]

    @function_tool(failure_error_function=None)
    async def flaky() -> str:
        await asyncio.sleep(0.05)
        if failing:
            failing.pop()
            raise RuntimeError("boom")
        return "fine"

    model = script([asks("pay", order="1", amount=5), asks("flaky")], [says("done")])
    if declared:
        guard = Guard(guard.store, reads=["flaky"])
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[payer(effects), flaky]), guard=guard)
    with surefoot.run("order-1"), pytest.raises(UserError, match="boom"):
        invoke(agent)
    with surefoot.run("order-1"):
        if declared:
            assert invoke(agent).final_output == "done"
        else:
            with pytest.raises(UserError, match="boom"):
                invoke(agent)
    assert effects.count("pay") == 1


# --- AS-20, AS-30


def test_as_20_one_request_of_a_raising_tool_runs_once(guard: Guard, effects: Effects) -> None:
    """AS-20: a tool has its effect and raises; the model asked once: run again, the agent runs no body again, which is evented."""

    @function_tool
    async def pay(order: str) -> str:
        effects.add("pay", order)
        raise RuntimeError("timeout after commit")

    failing = [True, True]

    def reply(answered: list[str], _items: list[Any]) -> list[Any]:
        if answered and failing:
            failing.pop()
            raise RuntimeError("HTTP 500")
        return [says(answered[0])] if answered else [asks("pay", order="1")]

    agent = surefoot.wrap(Agent(name="a", model=Script(reply), tools=[pay]), guard=guard)
    with surefoot.run("order-1"):
        for _ in range(2):
            with pytest.raises(RuntimeError, match="HTTP 500"):
                invoke(agent)
        assert "error occurred" in invoke(agent).final_output
    assert effects.count("pay") == 1
    assert [row.state for row in guard.calls.list()] == ["raised"]
    assert len(events(guard, "call.replayed")) == 2


def test_as_20_negative_control_bare_each_run_executes_it(effects: Effects) -> None:
    """The same without surefoot has the effect in every run."""
    model = Failing(1, [asks("pay", order="1", amount=5)], [says("done")])
    agent: Any = Agent(name="a", model=model, tools=[payer(effects)])
    with pytest.raises(RuntimeError, match="HTTP 500"):
        invoke(agent)
    invoke(agent)
    assert effects.count("pay") == 2


def _paid(output: StepOutput) -> Verdict:
    """Require a payment that was made."""
    made = any(call.tool == "pay" and call.state is CallState.COMMITTED for call in output.receipts)
    return Verdict.passed() if made else Verdict.failed("INCOMPLETE", "The payment was not made.")


@pytest.mark.parametrize("required", [True, False])
def test_as_30_a_required_call_that_failed_is_no_success(guard: Guard, effects: Effects, required: bool) -> None:  # noqa: FBT001 - a case
    """AS-30: a required call fails beside one that succeeds, and the agent says done: the run does not end completed."""

    @function_tool
    async def pay(order: str) -> str:
        effects.add("pay", order)
        raise RuntimeError("refused")

    @function_tool
    async def look() -> str:
        return "fine"

    guard = Guard(guard.store, steps={"a": StepRule(verifier=_paid)} if required else {})
    model = Script(lambda answered, _items: [says("all done")] if answered else [asks("pay", order="1"), asks("look")])
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[pay, look]), guard=guard)
    with surefoot.run("order-1"):
        if required:
            with pytest.raises(VerificationFailed, match="did not pass its verifier"):
                invoke(agent)
        else:
            assert invoke(agent).final_output == "all done"  # the negative control
    assert [run.status for run in guard.runs.list()] == ["open" if required else "completed"]
    assert effects.count("pay") == 1


# --- R12, AS-31


def _threaded(effects: Effects, **options: Any) -> tuple[Any, threading.Event]:
    landed = threading.Event()

    def work() -> None:
        time.sleep(0.5)  # the work itself, which nobody can stop
        effects.add("slow")
        landed.set()

    @function_tool(timeout=0.1, **options)
    async def slow() -> str:
        await asyncio.to_thread(work)
        return "ok"

    return slow, landed


def test_r12_a_timeout_is_unknown_not_failed(guard: Guard, effects: Effects) -> None:
    """A tool times out over work in a thread: the model is told that it may have happened, and the effect is in doubt."""
    slow, landed = _threaded(effects)
    told: list[str] = []
    model = Script(lambda answered, _items: [says(told.extend(answered) or "done")] if answered else [asks("slow")])
    with surefoot.run("order-1"):
        invoke(surefoot.wrap(Agent(name="a", model=model, tools=[slow]), guard=guard))
    assert "timed out" in told[0]
    assert "Outcome unknown" in told[0]
    assert [row.state for row in guard.calls.list()] == ["in_doubt"]
    assert landed.wait(5)
    assert effects.count("slow") == 1


def test_r12_a_declared_unsafe_tool_that_times_out_holds_the_run(guard: Guard, effects: Effects) -> None:
    """The same with a declared unsafe tool stops the run, at once and when it is asked for again."""
    slow, landed = _threaded(effects)
    guard = Guard(guard.store, tools={"slow": ToolRule(effect="unsafe")})
    agent = surefoot.wrap(Agent(name="a", model=script([asks("slow")], [says("done")]), tools=[slow]), guard=guard)
    for _ in range(2):
        with surefoot.run("order-1"), pytest.raises(InDoubt, match="settle"):
            invoke(agent)
    assert landed.wait(5)
    assert effects.count("slow") == 1


def test_r12_a_read_that_times_out_just_timed_out(guard: Guard, effects: Effects) -> None:
    """A declared read that times out has the framework's own words, and a raised timeout is the framework's own."""
    slow, landed = _threaded(effects)
    told: list[str] = []
    model = Script(lambda answered, _items: [says(told.extend(answered) or "done")] if answered else [asks("slow")])
    guard = Guard(guard.store, reads=["slow"])
    with surefoot.run("order-1"):
        invoke(surefoot.wrap(Agent(name="a", model=model, tools=[slow]), guard=guard))
    assert told == ["Tool 'slow' timed out after 0.1 seconds."]
    assert landed.wait(5)
    raising, landed = _threaded(effects, timeout_behavior="raise_exception")
    with surefoot.run("order-2"), pytest.raises(ToolTimeoutError):
        invoke(surefoot.wrap(Agent(name="a", model=script([asks("slow")], [says("done")]), tools=[raising]), guard=Guard("memory://")))
    assert landed.wait(5)


def test_as_31_a_cancelled_sibling_is_in_doubt(guard: Guard, effects: Effects) -> None:
    """A tool raises while an unsafe one beside it is in its body and cannot be waited for: that one ends in doubt, not cancelled."""
    entered = asyncio.Event()

    @function_tool(failure_error_function=None)
    async def pay(order: str) -> str:
        effects.add("pay", order)
        entered.set()
        await asyncio.sleep(60)
        return "paid"

    @function_tool(failure_error_function=None)
    async def flaky() -> str:
        await entered.wait()
        raise RuntimeError("boom")

    guard = Guard(guard.store, tools={"pay": ToolRule(effect="unsafe")}, reads=["flaky"])
    agent = surefoot.wrap(
        Agent(name="a", model=script([asks("pay", order="1"), asks("flaky")], [says("done")]), tools=[pay, flaky]), guard=guard
    )
    with surefoot.run("order-1"), pytest.raises(UserError, match="boom"):
        invoke(agent)
    assert [(row.tool, row.state) for row in guard.calls.list(state="in_doubt")] == [("pay", "in_doubt")]
    with surefoot.run("order-1"), pytest.raises(InDoubt):
        invoke(agent)
    assert effects.count("pay") == 1


# --- errors


@pytest.mark.parametrize("face", FACES)
def test_as_29_one_malformed_call_beside_six(guard: Guard, effects: Effects, face: str) -> None:
    """Seven parallel calls, one malformed: six results reach the model and one error; the malformed one is no effect."""
    told: list[str] = []
    six = [asks("pay", order=str(n), amount=n) for n in range(6)]
    model = Script(
        lambda answered, _items: [says(told.extend(answered) or "done")] if answered else [*six[:3], asks("pay", "{not json"), *six[3:]]
    )
    with surefoot.run("order-1"):
        assert invoke(surefoot.wrap(Agent(name="a", model=model, tools=[payer(effects)]), guard=guard), face=face).final_output == "done"
    assert [text for text in told if text.startswith("paid")] == [f"paid {n}" for n in range(6)]
    assert len(told) == 7
    assert "error" in told[3]
    assert effects.count("pay") == 6
    assert [row.state for row in guard.calls.list()] == ["committed"] * 6


def test_as_29_arguments_that_do_not_fit_are_no_call(guard: Guard, effects: Effects) -> None:
    """Arguments that the schema refuses never reach the function: there is no call, nothing is held, and another may follow."""
    guard = Guard(guard.store, tools={"pay": ToolRule(effect="unsafe")})
    model = script([asks("pay", order="1", amount="many")], [asks("pay", order="1", amount=5)], [says("done")])
    with surefoot.run("order-1"):
        assert invoke(surefoot.wrap(Agent(name="a", model=model, tools=[payer(effects)]), guard=guard)).final_output == "done"
    assert [row.state for row in guard.calls.list()] == ["committed"]
    assert effects.count("pay") == 1


@pytest.mark.parametrize("policy", ["default", "custom", "none"])
def test_what_a_tool_raises_is_classified_whatever_the_model_is_told(guard: Guard, policy: str) -> None:
    """An error that the framework turns into words is recorded as raised, not as a result; replayed, the model is told the same."""
    bodies: list[int] = []
    told: list[str] = []
    options: dict[str, Any] = {
        "default": {},
        "custom": {"failure_error_function": lambda _c, e: f"sorry: {e}"},
        "none": {"failure_error_function": None},
    }

    @function_tool(**options[policy])
    def send(letter: str) -> str:
        bodies.append(1)
        raise ConnectionError("no route")

    plan = script([asks("send", letter="a")], [says("done")])
    model = Failing(1, [asks("send", letter="a")], [says("done")])
    model._reply = lambda answered, items: [*plan._reply(answered, items)] if not told.extend(answered) else []
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[send]), guard=guard)
    for _ in range(2):
        with surefoot.run("order-1"):
            if policy == "none":
                with pytest.raises(UserError, match="no route"):
                    invoke(agent)
            else:
                try:
                    invoke(agent)
                except RuntimeError:
                    continue
    assert [row.state for row in guard.calls.list()] == ["raised"]
    assert len(bodies) == 1
    if policy != "none":
        words = "sorry: no route" if policy == "custom" else "An error occurred while running the tool. Please try again."
        assert [text.startswith(words) for text in told] == [True]  # older releases add the error


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_r06_a_timeout_that_a_tool_raises_proves_nothing(guard: Guard, effects: Effects, kind: str) -> None:
    """A declared unsafe tool raises TimeoutError out of the run, from a thread or not: resumed, it is in doubt and did not run again."""

    def plain(amount: int) -> str:
        effects.add("charge", amount)
        raise TimeoutError("the bank did not answer")

    async def coroutine(amount: int) -> str:
        return plain(amount)

    tool = function_tool({"plain": plain, "coroutine": coroutine}[kind], name_override="charge", failure_error_function=None)
    guard = Guard(guard.store, tools={"charge": ToolRule(effect="unsafe")})
    agent = surefoot.wrap(Agent(name="a", model=script([asks("charge", amount=5)], [says("done")]), tools=[tool]), guard=guard)
    with surefoot.run("order-1"):
        with pytest.raises(UserError, match="did not answer"):
            invoke(agent)
        with pytest.raises(InDoubt):
            invoke(agent)
    assert effects.count("charge") == 1


def test_as_42_a_plain_tool_that_is_overdue_lands_late(guard: Guard, effects: Effects) -> None:
    """A plain function outlives its timeout= in its thread: the model is told that it is unknown, and what it returns settles its call."""
    landed = threading.Event()
    told: list[str] = []

    @function_tool
    def charge(amount: int) -> str:
        time.sleep(0.3)  # the work itself
        effects.add("charge", amount)
        return f"charged {amount}"

    def event(seen: Any) -> None:
        if seen.type == "call.landed_late":
            landed.set()

    guard = Guard(guard.store, tools={"charge": ToolRule(timeout=0.1)}, on_event=event)
    model = Script(lambda answered, _items: [says(told.extend(answered) or "done")] if answered else [asks("charge", amount=5)])
    with surefoot.run("order-1"):
        invoke(surefoot.wrap(Agent(name="a", model=model, tools=[charge]), guard=guard), face="sync")
    assert "Outcome unknown" in told[0]
    assert landed.wait(5)
    assert [(row.state, row.settled_by) for row in guard.calls.list()] == [("committed", "late")]
    assert effects.count("charge") == 1


# --- AS-48


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@pytest.mark.parametrize("dispatch", ["parallel", "sequential"])
def test_as_48_each_request_is_seen_once(guard: Guard, effects: Effects, face: str, kind: str, dispatch: str) -> None:
    """Parallel and sequential, sync and async tools, streaming and not: one claim and one effect for each request, twins included."""

    def plain(amount: int) -> str:
        effects.add("charge", amount)
        return f"charged {amount}"

    async def coroutine(amount: int) -> str:
        return plain(amount)

    tool = function_tool({"plain": plain, "coroutine": coroutine}[kind], name_override="charge")
    calls = [asks("charge", amount=5), asks("charge", amount=5), asks("charge", amount=6)]
    replies = [calls] if dispatch == "parallel" else [[call] for call in calls]
    agent = surefoot.wrap(Agent(name="a", model=script(*replies, [says("done")]), tools=[tool]), guard=guard)
    with surefoot.run("order-1"):
        invoke(agent, face=face)
    assert effects.count("charge") == 3
    assert len(events(guard, "call.claimed")) == len(events(guard, "call.committed")) == 3
    assert sorted((row.occurrence, row.arguments) for row in guard.calls.list()) == [
        ("0", '{"amount":5}'),
        ("0", '{"amount":6}'),
        ("1", '{"amount":5}'),
    ]
