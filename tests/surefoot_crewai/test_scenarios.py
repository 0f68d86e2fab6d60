"""Crews, agents and flows in one process: the scenarios by name, each with what CrewAI alone does beside it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from crewai import Crew, Flow, Task
from crewai.events import event_context
from crewai.flow.flow import start
from crewai.hooks import clear_before_tool_call_hooks, register_before_tool_call_hook, unregister_before_tool_call_hook
from crewai.tools import BaseTool, tool
from crews import Effects, agent, ask, crew, text_ask

import surefoot
from surefoot import Allow, Call, Gate, Guard, InDoubt, NotCommitted, StepRule, SurefootWarning, ToolRule, UsageError, Verdict

FORMS = ["native", "text"]


def request(form: str, name: str, **arguments: Any) -> Any:
    """Return a model reply that asks for one call, in the way of the form."""
    return [ask(name, **arguments)] if form == "native" else text_ask(name, **arguments)


def boom(_amount: int) -> str:
    """Raise as a client does whose request may have arrived."""
    raise RuntimeError("timeout after commit")


@pytest.fixture
def hooks() -> Iterator[None]:
    """No hook of a test stays registered."""
    yield
    clear_before_tool_call_hooks()


def seen(made: Any) -> list[str]:
    """Return what tools answered to the model that was asked last."""
    return [message["content"] for message in made.agents[0].llm.asked[-1] if message["role"] == "tool"]


# --- R5, AS-20: one request of a tool that raises


@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
@pytest.mark.parametrize("form", FORMS)
def test_r5_as_20_one_request_of_a_raising_tool_runs_once(guard: Guard, effects: Effects, form: str, effect: str) -> None:
    """R5, AS-20: a tool has its effect and raises; the model asked once, so the body runs once; suppressed tries are evented."""
    guard = Guard(guard.store, tools={"pay": ToolRule(effect=effect)})  # type: ignore[arg-type]
    made = crew(agent(request(form, "pay", amount=5), "done", tools=[effects.tool("pay", boom)], native=form == "native"))
    assert surefoot.wrap(made, guard=guard).kickoff().raw == "done"
    assert effects.count("pay") == 1
    assert "timeout after commit" in str(made.agents[0].llm.asked[-1])
    (call,) = guard.calls.list()
    assert call.state == "raised"
    replays = [event for event in guard.runs.events(call.run_id) if event.type == "call.replayed"]
    assert len(replays) == (0 if form == "native" else 5)


def test_r5_negative_control_crewai_runs_it_six_times(effects: Effects) -> None:
    """CrewAI alone runs the body six times for one request that its model wrote as text."""
    crew(agent(text_ask("pay", amount=5), "done", tools=[effects.tool("pay", boom)], native=False)).kickoff()
    assert effects.count("pay") == 6


@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_saw_the_error_may_ask_again(guard: Guard, effects: Effects, form: str) -> None:
    """Asked for again by the model after it saw the error, an unclassified call is a new one and runs."""
    asks = [request(form, "pay", amount=5), request(form, "other", amount=1), request(form, "pay", amount=5)]
    tools = [effects.tool("pay", boom), effects.tool("other")]
    surefoot.wrap(crew(agent(*asks, "done", tools=tools, native=form == "native")), guard=guard).kickoff()
    assert effects.count("pay") == 2


@pytest.mark.parametrize("form", FORMS)
def test_an_unsafe_call_that_is_asked_for_again_holds_the_run(guard: Guard, effects: Effects, form: str) -> None:
    """A declared unsafe call that raised is in doubt when the model asks again; nobody on the way can eat the hold."""
    guard = Guard(guard.store, tools={"pay": ToolRule(effect="unsafe")})
    asks = [request(form, "pay", amount=5), request(form, "other", amount=1), request(form, "pay", amount=5)]
    made = crew(agent(*asks, "done", tools=[effects.tool("pay", boom), effects.tool("other")], native=form == "native"))
    with pytest.raises(InDoubt):
        surefoot.wrap(made, guard=guard).kickoff()
    assert effects.count("pay") == 1


@pytest.mark.parametrize(("effect", "times"), [("idempotent", 6), ("read", 6)])
def test_what_may_run_again_does(guard: Guard, effects: Effects, effect: str, times: int) -> None:
    """CrewAI's own retries run a tool that is declared harmless."""
    guard = Guard(guard.store, tools={"pay": ToolRule(effect=effect)})  # type: ignore[arg-type]
    surefoot.wrap(crew(agent(text_ask("pay", amount=5), "done", tools=[effects.tool("pay", boom)], native=False)), guard=guard).kickoff()
    assert effects.count("pay") == times


def test_a_retry_after_proof_that_nothing_happened_runs(guard: Guard, effects: Effects) -> None:
    """AS-22: a tool that raised NotCommitted is run again by CrewAI's own retry, declared unsafe or not."""
    guard = Guard(guard.store, tools={"pay": ToolRule(effect="unsafe")})

    def first_fails(_amount: int) -> str:
        if effects.count("pay") == 1:
            raise NotCommitted("nothing was sent")
        return "paid"

    surefoot.wrap(
        crew(agent(text_ask("pay", amount=5), "done", tools=[effects.tool("pay", first_fails)], native=False)), guard=guard
    ).kickoff()
    assert effects.count("pay") == 2


# --- R15: policy trouble, guardrail retries


def guarded_task(effects: Effects, form: str, amounts: list[int]) -> Any:
    """Return a crew whose guardrail rejects the first answer, and whose model then pays another amount."""
    asks = [item for n, amount in enumerate(amounts) for item in (request(form, "pay", amount=amount), "good" if n else "bad")]
    clerk = agent(*asks, tools=[effects.tool("pay")], native=form == "native")
    good = lambda output: (True, output) if "good" in output.raw else (False, "not good")  # noqa: E731 - a guardrail is a function
    return crew(clerk, tasks=[Task(description="pay", expected_output="x", agent=clerk, guardrail=good, guardrail_max_retries=2)])


@pytest.mark.usefixtures("hooks")
@pytest.mark.parametrize("form", FORMS)
def test_r15_a_hook_that_raises_blocks(guard: Guard, effects: Effects, form: str) -> None:
    """R15: a policy hook that cannot judge denies: the tool does not run, in any attempt."""

    def policy(_context: Any) -> None:
        raise RuntimeError("policy engine unreachable")

    register_before_tool_call_hook(policy)
    surefoot.wrap(guarded_task(effects, form, [5, 6]), guard=guard).kickoff()
    assert effects.all() == []
    assert guard.calls.list() == []
    assert unregister_before_tool_call_hook(policy)


@pytest.mark.usefixtures("hooks")
def test_r15_negative_control_crewai_goes_on_and_pays_twice(effects: Effects) -> None:
    """CrewAI alone swallows the hook's error, runs the tool, and pays another amount in the guardrail's retry."""

    def policy(_context: Any) -> None:
        raise RuntimeError("policy engine unreachable")

    register_before_tool_call_hook(policy)
    guarded_task(effects, "text", [5, 6]).kickoff()
    assert effects.all() == [["pay", 5], ["pay", 6]]


@pytest.mark.parametrize("form", FORMS)
def test_r15_a_guardrail_retry_that_pays_otherwise_is_held(guard: Guard, effects: Effects, form: str) -> None:
    """R15: the guardrail's retry asks for another amount: of a declared unsafe tool that holds the run; 5 was paid, 6 was not."""
    guard = Guard(guard.store, tools={"pay": ToolRule(effect="unsafe")})
    with pytest.raises(InDoubt, match="an earlier attempt"):
        surefoot.wrap(guarded_task(effects, form, [5, 6]), guard=guard).kickoff()
    assert effects.all() == [["pay", 5]]


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_is_stopped_leaves_no_event_of_crewai_open(guard: Guard, effects: Effects, form: str) -> None:
    """A worker may have any number of runs stopped: CrewAI, which refuses a hundred open events, finds those that were open before."""
    guard = Guard(guard.store, tools={"pay": ToolRule(effect="unsafe")})
    event_context.push_event_scope("mine", "flow_started")
    with pytest.raises(InDoubt):
        surefoot.wrap(guarded_task(effects, form, [5, 6]), guard=guard).kickoff()
    assert event_context.pop_event_scope() == ("mine", "flow_started")
    assert event_context.pop_event_scope() is None


@pytest.mark.parametrize("form", FORMS)
def test_as_17_an_unclassified_drift_is_told_once(guard: Guard, effects: Effects, form: str) -> None:
    """AS-17: an unclassified call that drifts is answered with what the earlier attempt did."""
    made = guarded_task(effects, form, [5, 6])
    surefoot.wrap(made, guard=guard).kickoff()
    assert effects.all() == [["pay", 5]]
    assert "earlier attempt" in str(made.agents[0].llm.asked[-1])


@pytest.mark.parametrize("form", FORMS)
def test_a_told_drift_that_is_meant_runs(guard: Guard, effects: Effects, form: str) -> None:
    """A model that was told and asks once more gets what it wants: the words are never cached as the tool's result."""
    pay6 = request(form, "pay", amount=6)
    clerk = agent(request(form, "pay", amount=5), "bad", pay6, request(form, "look", amount=1), pay6, "good",
                  tools=[effects.tool("pay"), effects.tool("look")], native=form == "native")  # fmt: skip
    good = lambda output: (True, output) if "good" in output.raw else (False, "not good")  # noqa: E731 - as above
    made = crew(clerk, tasks=[Task(description="pay", expected_output="x", agent=clerk, guardrail=good)])
    surefoot.wrap(made, guard=guard).kickoff()
    assert [effect for effect in effects.all() if effect[0] == "pay"] == [["pay", 5], ["pay", 6]]


@pytest.mark.parametrize("form", FORMS)
def test_a_guardrail_retry_repeats_no_effect(guard: Guard, effects: Effects, form: str) -> None:
    """AS-16: the next attempt asks for the same: it gets the recorded answer; attempts are evented."""
    surefoot.wrap(guarded_task(effects, form, [5, 5]), guard=guard).kickoff()
    assert effects.all() == [["pay", 5]]
    (call,) = guard.calls.list()
    assert [event.data["attempt"] for event in guard.runs.events(call.run_id) if event.type == "step.rejected"] == [1]


def test_an_agents_own_guardrail_repeats_no_effect(guard: Guard, effects: Effects) -> None:
    """The guardrail of an agent on its own is one too: its retry is the next attempt."""
    asks = ([ask("pay", amount=5)], "bad", [ask("pay", amount=6)], "good")
    verdicts = iter([(False, "not good"), (True, "good")])
    clerk = agent(*asks, tools=[effects.tool("pay")], guardrail=lambda _output: next(verdicts))
    surefoot.wrap(clerk, guard=guard).kickoff("pay")
    assert effects.all() == [["pay", 5]]


def test_as_52_a_verifiers_hint_reaches_the_next_attempt(guard: Guard, effects: Effects) -> None:
    """AS-52: a surefoot verifier judges a task by its name; the next attempt's model is told the hint, and no effect is repeated."""
    judged = iter([Verdict.failed("INCOMPLETE", "say it in French"), Verdict.passed()])
    guard = Guard(guard.store, steps={"bill": StepRule(verifier=lambda _output: next(judged))})
    clerk = agent([ask("pay", amount=5)], "paid", [ask("pay", amount=5)], "payé", tools=[effects.tool("pay")])
    made = crew(clerk, tasks=[Task(name="bill", description="pay", expected_output="x", agent=clerk)])
    assert surefoot.wrap(made, guard=guard).kickoff().raw == "payé"
    assert effects.count("pay") == 1
    assert "say it in French" not in str(clerk.llm.asked[0])
    assert "say it in French" in str(clerk.llm.asked[2])


# --- AS-29, AS-31, AS-47, AS-48


def test_as_29_one_malformed_request_takes_nothing_along(guard: Guard, effects: Effects) -> None:
    """AS-29: of seven parallel requests one has arguments that are none: six results reach the model, and one error."""
    calls = [ask("pay", amount=n) for n in range(6)] + [ask("pay", amount="much")]
    made = crew(agent(calls, "done", tools=[effects.tool("pay")]))
    surefoot.wrap(made, guard=guard).kickoff()
    assert sorted(effects.all()) == [["pay", n] for n in range(6)]
    assert seen(made)[:6] == [f"pay {n}" for n in range(6)]
    assert "validation" in seen(made)[6]


async def test_as_31_cancelled_in_its_body_an_unsafe_call_is_in_doubt(guard: Guard, effects: Effects) -> None:
    """AS-31: a flow is cancelled while a sibling's charge is in flight: the charge is in doubt, not cancelled, and runs no second time."""
    guard = Guard(guard.store, tools={"charge": ToolRule(effect="unsafe")})
    entered = asyncio.Event()

    @tool("charge")
    async def charge(amount: int) -> str:
        """Charge."""
        effects.add("charge", amount)
        entered.set()
        await asyncio.Event().wait()
        return "charged"

    guard.tool(charge)

    class Billing(Flow):
        """Charges beside a sibling that fails."""

        @start()
        async def bill(self) -> str:
            """Charge."""
            return str(await charge.arun(amount=5))

    with surefoot.run("r"):
        running = asyncio.create_task(surefoot.wrap(Billing(), guard=guard).kickoff_async())
        await entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        (call,) = guard.calls.list()
        assert call.state == "in_doubt"
        with pytest.raises(InDoubt):
            await surefoot.wrap(Billing(), guard=guard).kickoff_async()
    assert effects.count("charge") == 1


@pytest.mark.usefixtures("hooks")
@pytest.mark.parametrize("form", FORMS)
def test_as_47_an_unsafe_tool_waits_for_who_may_still_say_no(guard: Guard, effects: Effects, form: str) -> None:
    """AS-47: a hook that takes its time and then blocks is waited for: counter 0."""
    asked, answer = threading.Event(), threading.Event()

    def slow(_context: Any) -> bool:
        asked.set()
        answer.wait(20)
        return False

    register_before_tool_call_hook(slow)
    guard = Guard(guard.store, tools={"pay": ToolRule(effect="unsafe")})
    made = surefoot.wrap(
        crew(agent(request(form, "pay", amount=5), "done", tools=[effects.tool("pay")], native=form == "native")), guard=guard
    )
    running = threading.Thread(target=made.kickoff)
    running.start()
    assert asked.wait(20)
    assert effects.count("pay") == 0
    answer.set()
    running.join(20)
    assert effects.count("pay") == 0


class Counts(Gate):
    """Counts how often it is asked about each call."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self, call: Call) -> Allow:
        """Allow."""
        self.asked.append(call.call_id)
        return Allow()


CELLS = list(itertools.product(["parallel", "sequential"], ["sync", "async"], ["stream", "whole"], FORMS))


@pytest.mark.parametrize(("dispatch", "face", "delivery", "form"), CELLS)
async def test_as_48_a_gate_is_asked_exactly_once(
    guard: Guard, effects: Effects, dispatch: str, face: str, delivery: str, form: str
) -> None:
    """AS-48: parallel and one after the other, sync and async, streamed and not, native and written: each call is seen exactly once."""
    counts = Counts()
    guard = Guard(guard.store, gates=[counts])
    if dispatch == "parallel" and form == "native":
        workers = [agent([ask("pay", amount=1), ask("pay", amount=2)], "done", tools=[effects.tool("pay")])]
        tasks = None
    elif dispatch == "parallel":
        workers = [agent(text_ask("pay", amount=n), "done", tools=[effects.tool("pay")], role=f"clerk {n}", native=False) for n in (1, 2)]
        tasks = [Task(description=f"pay {n}", expected_output="x", agent=a, async_execution=n == 0) for n, a in enumerate(workers)]
    else:
        asks = [request(form, "pay", amount=n) for n in (1, 2)]
        workers, tasks = [agent(*asks, "done", tools=[effects.tool("pay")], native=form == "native")], None
    made = surefoot.wrap(crew(*workers, tasks=tasks, stream=delivery == "stream"), guard=guard)
    if face == "sync":
        result = await asyncio.to_thread(lambda: _whole(made.kickoff()))
    else:
        result = await made.akickoff()
        if delivery == "stream":
            [chunk async for chunk in result]
            result = result.result
    assert result.raw == "done"
    assert len(counts.asked) == len(set(counts.asked)) == 2
    assert sorted(effects.all()) == [["pay", 1], ["pay", 2]]


def _whole(result: Any) -> Any:
    if hasattr(type(result), "result"):
        list(result)
        return result.result
    return result


# --- tools, names, guards


class Pay(BaseTool):
    """A tool that is a class."""

    name: str = "pay"
    description: str = "Pay."
    effects: Any = None

    @surefoot.tool(effect="unsafe", key=["order"])
    def _run(self, order: str, amount: int = 1) -> str:
        self.effects.add("pay", order, amount)
        return f"paid {order}"


def test_a_declared_tool_that_is_a_class_has_its_key(guard: Guard, effects: Effects) -> None:
    """A rule on a tool's _run is found, its key is one effect over runs, and its key is given to the body."""
    for _ in range(2):
        surefoot.wrap(crew(agent([ask("pay", order="7")], "done", tools=[Pay(effects=effects)])), guard=guard).kickoff()
    assert effects.all() == [["pay", "7", 1]]
    assert [call.effect for call in guard.calls.list()] == ["unsafe"]


def test_equal_requests_of_one_reply_are_twins(guard: Guard, effects: Effects) -> None:
    """Two equal requests of one reply are two calls, and both run."""
    pay = effects.tool("pay")
    pay.cache_function = lambda *_: False
    surefoot.wrap(crew(agent([ask("pay", amount=5), ask("pay", amount=5)], "done", tools=[pay])), guard=guard).kickoff()
    assert effects.count("pay") == 2


def test_a_tool_outside_of_any_run_is_the_tool(guard: Guard, effects: Effects) -> None:
    """A tool that is guarded in place runs as it is where no run is; while one is open, a warning says that nothing guards it."""
    pay = effects.tool("pay")
    guard.tool(pay)
    assert pay.run(amount=1) == "pay 1"

    def elsewhere(_amount: int) -> str:
        thread = threading.Thread(target=pay.run, kwargs={"amount": 2})
        thread.start()
        thread.join()
        return "ok"

    made = crew(agent([ask("outer", amount=1)], "done", tools=[effects.tool("outer", elsewhere)]))
    with pytest.warns(SurefootWarning, match="outside of any run"):
        surefoot.wrap(made, guard=guard).kickoff()
    assert effects.count("pay", 2) == 1


def test_two_guards_on_one_object_are_refused(guard: Guard, effects: Effects) -> None:
    """A crew, or a tool in it, that another guard has is refused with what to do."""
    pay = effects.tool("pay")
    surefoot.wrap(crew(agent("done", tools=[pay])), guard=guard)
    with pytest.raises(UsageError, match="one guard"):
        surefoot.wrap(crew(agent("done", tools=[pay])), store="memory://")


def test_strict_refuses_a_run_without_a_name(guard: Guard) -> None:
    """strict=True refuses a kickoff that could not be resumed, and says how to name it."""
    made = surefoot.wrap(crew(agent("done")), guard=Guard(guard.store, strict=True))
    with pytest.raises(UsageError, match=r"surefoot\.run"):
        made.kickoff()
    with surefoot.run("r"):
        assert made.kickoff().raw == "done"


def test_a_run_without_a_name_warns_once(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    """Without a name the log says, once for each name of a crew, that a crash cannot be resumed."""
    made = surefoot.wrap(crew(agent("done")), guard=guard)
    for _ in range(2):
        made.kickoff()
    assert [record.message for record in caplog.records if "cannot be resumed" in record.message] == [
        "crew runs without a name: killed, it cannot be resumed; kick it off in 'with surefoot.run(name):'"
    ]


def test_a_streams_run_has_the_name_that_its_kickoff_was_in(guard: Guard, effects: Effects) -> None:
    """A stream that is read outside of the block that named it belongs to that name."""
    made = surefoot.wrap(crew(agent([ask("pay", amount=5)], "done", tools=[effects.tool("pay")]), stream=True), guard=guard)
    with surefoot.run("r"):
        streaming = made.kickoff()
    list(streaming)
    assert [run.thread for run in guard.runs.list()] == ["run:r"]


def test_a_manager_and_its_delegation_are_guarded(guard: Guard, effects: Effects) -> None:
    """Hierarchical: a manager that CrewAI makes while it runs delegates; the charge of the coworker is a call of the run."""
    clerk = agent([ask("pay", amount=5)], "paid", tools=[effects.tool("pay")])
    boss = agent([ask("delegate_work_to_coworker", task="pay", context="now", coworker="clerk")], "done", role="boss").llm
    made = Crew(agents=[clerk], tasks=[Task(description="see to it", expected_output="x")], process="hierarchical", manager_llm=boss)
    assert surefoot.wrap(made, guard=guard).kickoff().raw == "done"
    assert {(call.tool, str(call.effect)) for call in guard.calls.list()} == {
        ("pay", "unclassified"),
        ("Delegate work to coworker", "composite"),
    }
