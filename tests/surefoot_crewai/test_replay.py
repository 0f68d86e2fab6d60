"""Recorded crews and flows, replayed with models that cannot answer and tools that must not run (AS-77)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from crewai import Flow, Task
from crewai.flow.flow import listen, start
from crews import Effects, agent, ask, crew, text_ask

import surefoot
from surefoot import Guard, StepRule, Verdict
from surefoot_journal import ReplayDiffers, offline

FORMS = ["native", "text"]


def request(form: str, name: str, **arguments: Any) -> Any:
    """Return a model reply that asks for one call, in the way of the form."""
    return [ask(name, **arguments)] if form == "native" else text_ask(name, **arguments)


def no_answer(_messages: Any) -> Any:
    """Be a model that was asked offline."""
    pytest.fail("the model was asked")


def billing(effects: Effects, form: str, *replies: Any, goal: str = "pay {amount}", **options: Any) -> Any:
    """Return a crew that pays and then reports; its guardrail rejects the first answer."""
    native = form == "native"
    said = replies or (request(form, "pay", amount=5), "bad", request(form, "pay", amount=5), "good")
    clerk = agent(*said, tools=[effects.tool("pay")], native=native, effects=effects)
    other = agent(*(replies or ("reported",)), role="reporter", native=native, effects=effects)
    good = lambda output: (True, output) if "good" in output.raw else (False, "not good")  # noqa: E731 - a guardrail is a function
    tasks = [
        Task(name="bill", description=goal, expected_output="x", agent=clerk, guardrail=good, guardrail_max_retries=2),
        Task(name="report", description="report", expected_output="y", agent=other),
    ]
    return crew(clerk, other, tasks=tasks, **options)


def recorded(guard: Guard, effects: Effects, form: str) -> tuple[str, list[Any], int]:
    """Run the crew; return its run, what happened, and how many events that made."""
    with surefoot.run("invoice-7"):
        surefoot.wrap(billing(effects, form), guard=guard).kickoff(inputs={"amount": 5})
    (run,) = guard.runs.list()
    return run.run_id, effects.all(), len(guard.runs.events(run.run_id))


@pytest.mark.parametrize("face", ["sync", "async", "stream"])
@pytest.mark.parametrize("form", FORMS)
def test_as_77_offline_replay(guard: Guard, effects: Effects, form: str, face: str) -> None:
    """A crew is replayed, its guardrail's rejected answer included: same calls and replies, no model, no tool, nothing written."""
    run_id, before, events = recorded(guard, effects, form)
    made = surefoot.wrap(billing(effects, form, no_answer, stream=face == "stream"), guard=guard)
    with offline(guard, run_id) as replay:
        if face == "async":
            result = asyncio.run(made.akickoff(inputs={"amount": 5}))
        else:
            result = made.kickoff(inputs={"amount": 5})
            if face == "stream":
                list(result)
                result = result.result
    assert result.raw == "reported"
    assert (replay.calls, len(replay.replies), replay.steps) == (["pay"] * 2, 5, ["bill#1", "report#1"])
    assert (replay.first, replay.left()) == (None, [])
    assert (effects.all(), len(guard.runs.events(run_id)), len(guard.runs.list())) == (before, events, 1)


@pytest.mark.parametrize("form", FORMS)
def test_as_77_another_task_misses_loudly(guard: Guard, effects: Effects, form: str) -> None:
    """A task with another description is the first thing that differs, and is named; nothing happens."""
    run_id, before, _ = recorded(guard, effects, form)
    made = surefoot.wrap(billing(effects, form, no_answer, goal="pay twice {amount}"), guard=guard)
    with offline(guard, run_id) as replay, pytest.raises(ReplayDiffers, match="step bill#1 is given another input"):
        made.kickoff(inputs={"amount": 5})
    assert replay.first is not None
    assert effects.all() == before


def test_as_77_a_model_that_is_not_journalled_is_not_asked(guard: Guard, effects: Effects) -> None:
    """A model call whose replies are not recorded is refused offline: a crew that plans."""
    run_id, before, _ = recorded(guard, effects, "native")
    made = billing(effects, "native", no_answer)
    surefoot.wrap(made, guard=guard)
    with offline(guard, run_id), pytest.raises(ReplayDiffers, match="asked in a place whose replies are not recorded"):
        made.agents[0].llm.call("plan this")
    assert effects.all() == before


def test_as_77_attempts_that_a_verifier_rejected(guard: Guard, effects: Effects) -> None:
    """Offline the attempts of a step are those that were made, with their hints, and the verifier is not asked."""
    judged: list[str] = []

    def judge(output: Any) -> Verdict:
        judged.append(output.output.raw)
        return Verdict.passed() if len(judged) > 1 else Verdict.failed("INCOMPLETE", "Say more.")

    guard = Guard(guard.store, steps={"report": StepRule(verifier=judge)})
    run_id, before, _ = recorded(guard, effects, "native")
    with offline(guard, run_id) as replay:
        surefoot.wrap(billing(effects, "native", no_answer), guard=guard).kickoff(inputs={"amount": 5})
    assert (len(judged), len(replay.replies), replay.left()) == (2, 6, [])
    assert effects.all() == before


def test_as_77_a_flow(guard: Guard, effects: Effects) -> None:
    """A flow's methods run again offline and leave the state as they left it; its tools do not run."""
    pay = surefoot.tool(effect="unsafe")(lambda amount: effects.add("pay", amount) or f"paid {amount}")

    class Billing(Flow[dict[str, Any]]):
        @start()
        def charge(self) -> str:
            self.state["told"] = pay(5)
            return str(self.state["told"])

        @listen(charge)
        def report(self, told: str) -> str:
            return f"{told}, {self.state['told']}"

    with surefoot.run("invoice-7"):
        assert surefoot.wrap(Billing(), guard=guard).kickoff() == "paid 5, paid 5"
    (run,) = guard.runs.list()
    with offline(guard, run.run_id) as replay:
        assert surefoot.wrap(Billing(), guard=guard).kickoff() == "paid 5, paid 5"
    assert (len(replay.calls), len(replay.steps), replay.left()) == (1, 2, [])
    assert effects.count("pay") == 1
