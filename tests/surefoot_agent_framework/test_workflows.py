"""Guarded agents that workflows run: resumed from checkpoints, at work at the same time, waiting for a person."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agent_framework import AgentExecutor, InMemoryCheckpointStorage, WorkflowBuilder
from crash import Effects
from maf_support import asks, cashier, failing, model, payer, script

import surefoot
from surefoot import Guard


async def finished(workflow: Any, given: Any = None, *, stream: bool = False, **options: Any) -> Any:
    """Run a workflow and return its result."""
    args = () if given is None else (given,)
    if not stream:
        return await workflow.run(*args, **options)
    events = workflow.run(*args, stream=True, **options)
    async for _event in events:
        pass
    return await events.get_final_response()


def desk(storage: Any, greeter: Any, clerk: Any) -> Any:
    """Return a workflow of two agents."""
    first, second = AgentExecutor(greeter, id="greeter"), AgentExecutor(clerk, id="clerk")
    builder = WorkflowBuilder(start_executor=first, checkpoint_storage=storage, name="desk", output_from=[second])
    return builder.add_edge(first, second).build()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_r13_the_model_fails_after_the_tool_in_a_super_step(guard: Guard, effects: Effects, *, wrapped: bool, stream: bool) -> None:
    """R13: the tool succeeds, the model fails, the workflow is resumed from its newest checkpoint: one payment; bare, two."""

    async def whole() -> None:
        storage = InMemoryCheckpointStorage()
        agents = cashier(script("charge it"), name="greeter"), cashier(failing(effects), payer(effects))
        first, second = (surefoot.wrap(agent, guard=guard) if wrapped else agent for agent in agents)
        with surefoot.run("order-7"):
            with pytest.raises(Exception, match="HTTP 500"):
                await finished(desk(storage, first, second), "hi", stream=stream)
            newest = max(await storage.list_checkpoints(workflow_name="desk"), key=lambda one: one.iteration_count)
            await finished(desk(storage, first, second), stream=stream, checkpoint_id=newest.checkpoint_id)

    asyncio.run(whole())
    assert effects.count("pay") == (1 if wrapped else 2)
    if wrapped:
        assert [run.status for run in guard.runs.list()] == ["completed", "completed"]


def test_agents_at_work_at_the_same_time_are_steps_of_one_run(guard: Guard, effects: Effects) -> None:
    """Two agents that are told the same pay once each, in one run around the workflow; run again after an error, nothing is repeated."""
    broken = [True]

    def reply(answered: list[str], _messages: Any) -> Any:
        if answered and broken:
            broken.clear()
            raise ConnectionError("HTTP 500")
        return answered[0] if answered else [asks("pay", amount=5)]

    async def main(words: str) -> str:
        start = AgentExecutor(surefoot.wrap(cashier(script("go"), name="greeter"), guard=guard), id="greeter")
        both = [
            AgentExecutor(surefoot.wrap(cashier(model(reply), payer(effects), name=name), guard=guard), id=name)
            for name in ("left", "right")
        ]
        workflow = WorkflowBuilder(start_executor=start, output_from=both).add_fan_out_edges(start, both).build()
        result = await finished(workflow, words)
        return " ".join(sorted(output.text for output in result.get_outputs()))

    run = surefoot.wrap(main, guard=guard)
    with surefoot.run("order-7"):
        with pytest.raises(Exception, match="HTTP 500"):
            asyncio.run(run("hi"))
        assert asyncio.run(run("hi")).count("paid 5") == 2
    assert effects.count("pay") == 2
    assert [run.status for run in guard.runs.list()] == ["completed"]


def test_as_38_a_workflow_waits_for_a_person(guard: Guard, effects: Effects) -> None:
    """AS-38: an agent of a workflow asks for approval; the workflow is told yes, from the same checkpoint twice, and it pays once."""

    async def whole() -> list[str]:
        storage = InMemoryCheckpointStorage()
        clerk = cashier(script([asks("pay", amount=5)], "done"), payer(effects, approval_mode="always_require"))
        agents = [surefoot.wrap(agent, guard=guard) for agent in (cashier(script("charge it"), name="greeter"), clerk)]
        waiting = await finished(desk(storage, *agents), "hi")
        assert [str(run.status) for run in guard.runs.list()] == ["suspended", "completed"]
        (asked,) = waiting.get_request_info_events()
        newest = max(await storage.list_checkpoints(workflow_name="desk"), key=lambda one: one.iteration_count)
        yes = {asked.request_id: asked.data.to_function_approval_response(approved=True)}
        found = []
        for _ in range(2):
            workflow = desk(storage, *agents)
            result = await finished(workflow, checkpoint_id=newest.checkpoint_id, responses=yes)
            found.append(result.get_outputs()[-1].messages[-1].text)
        return found

    with surefoot.run("order-7"):
        assert asyncio.run(whole()) == ["done", "done"]
    assert effects.count("pay") == 1
