"""Input guardrails of OpenAI Agents: nothing that may have an effect runs before they have spoken."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from agents import Agent, GuardrailFunctionOutput, InputGuardrail, InputGuardrailTripwireTriggered, Runner, function_tool
from crash import Effects
from oai_support import FACES, Failing, asks, invoke, payer, says, script

import surefoot
from surefoot import Guard


def _guardrail(effects: Effects, *, trips: bool, error: Exception | None = None) -> Any:
    async def slow(_context: Any, _agent: Any, _given: Any) -> GuardrailFunctionOutput:
        await asyncio.sleep(0.3)
        effects.add("guardrail")
        if error is not None:
            raise error
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=trips)

    return InputGuardrail(guardrail_function=slow)


@pytest.mark.parametrize("where", ["agent", "config"])
@pytest.mark.parametrize("face", FACES)
def test_as_47_r11_unsafe_tools_wait_for_guardrails(guard: Guard, effects: Effects, face: str, where: str) -> None:
    """An input guardrail trips after 300 ms, with default settings: nothing was paid, and the tripwire is what the caller sees."""
    from agents import RunConfig

    rail = _guardrail(effects, trips=True)
    agent = Agent(name="a", model=script([asks("pay", order="1", amount=5)], [says("done")]), tools=[payer(effects)])
    options: dict[str, Any] = {}
    if where == "agent":
        agent.input_guardrails = [rail]
    else:
        options["run_config"] = RunConfig(input_guardrails=[rail])
    with surefoot.run("order-1"), pytest.raises(InputGuardrailTripwireTriggered):
        invoke(surefoot.wrap(agent, guard=guard), face=face, **options)
    assert (effects.count("guardrail"), effects.count("pay")) == (1, 0)
    assert guard.calls.list() == []


def test_as_47_negative_control_bare_the_tool_runs_before_the_tripwire(effects: Effects) -> None:
    """The same without surefoot pays before the tripwire."""
    agent: Any = Agent(name="a", model=script([asks("pay", order="1", amount=5)], [says("done")]), tools=[payer(effects)])
    agent.input_guardrails = [_guardrail(effects, trips=True)]
    with pytest.raises(InputGuardrailTripwireTriggered):
        invoke(agent)
    assert effects.count("pay") == 1


@pytest.mark.parametrize("face", FACES)
def test_as_47_a_guardrail_that_lets_through_costs_only_time(guard: Guard, effects: Effects, face: str) -> None:
    """After a guardrail that does not trip the tool runs; a declared read has not waited for it."""
    order: list[str] = []
    looked = threading.Event()

    @function_tool
    async def look() -> str:
        order.append("look")
        looked.set()
        return "5"

    async def slow(_context: Any, _agent: Any, _given: Any) -> GuardrailFunctionOutput:
        assert await asyncio.to_thread(looked.wait, 5)
        order.append("guardrail")
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

    guard = Guard(guard.store, reads=["look"])
    agent = Agent(name="a", model=script([asks("pay", order="1", amount=5), asks("look")], [says("done")]), tools=[payer(effects), look])
    agent.input_guardrails = [InputGuardrail(guardrail_function=slow)]
    with surefoot.run("order-1"):
        assert invoke(surefoot.wrap(agent, guard=guard), face=face).final_output == "done"
    assert order == ["look", "guardrail"]
    assert effects.count("pay") == 1


def test_as_47_a_guardrail_that_runs_an_agent_is_part_of_the_run(guard: Guard, effects: Effects) -> None:
    """A guardrail asks an agent of its own, which nobody wrapped: its reply is journalled and its tools are governed."""
    judge: Any = Agent(
        name="judge", model=script([asks("pay", order="fee", amount=1)], [says("fine")], effects=effects), tools=[payer(effects)]
    )

    async def judged(context: Any, _agent: Any, given: Any) -> GuardrailFunctionOutput:
        result = await Runner.run(judge, given, context=context.context)
        return GuardrailFunctionOutput(output_info=result.final_output, tripwire_triggered=False)

    model = Failing(1, [asks("pay", order="1", amount=5)], [says("done")])
    agent: Any = Agent(name="a", model=model, tools=[judge.tools[0]], input_guardrails=[InputGuardrail(guardrail_function=judged)])
    agent = surefoot.wrap(agent, guard=guard)
    with surefoot.run("order-1"):
        with pytest.raises(RuntimeError, match="HTTP 500"):
            invoke(agent)
        assert invoke(agent).final_output == "done"
    assert (effects.count("pay", "fee"), effects.count("pay", "1"), effects.count("model")) == (1, 1, 2)
