"""What goes on: conversations that lack answers, states that were saved, teams that are run without a task."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import FunctionExecutionResultMessage
from autogen_support import Model, ainvoke, asks, cashier, failing, invoke, payer, script, text_of
from crash import Effects

import surefoot
from surefoot import Guard


def test_as32_a_conversation_that_lacks_an_answer_is_made_whole(guard: Guard, effects: Effects) -> None:
    """AS-32: a context that was saved between a call and its answer is given the recorded answer before a model sees it."""
    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done"), payer(effects)), guard=guard)
    with surefoot.run("order-7", thread="t"):
        invoke(agent)
    state = asyncio.run(agent.save_state())
    kept = state["llm_context"]["messages"]
    state["llm_context"]["messages"] = [one for one in kept if one["type"] != "FunctionExecutionResultMessage"][:2]
    seen: list[str] = []

    def reply(_answered: list[str], messages: Any) -> str:
        seen.extend(result.content for one in messages if isinstance(one, FunctionExecutionResultMessage) for result in one.content)
        return "it worked"

    later = surefoot.wrap(cashier(Model(reply), payer(effects)), guard=guard)
    asyncio.run(later.load_state(state))
    with surefoot.run("order-7b", thread="t"):
        assert invoke(later, "did it work?") == "it worked"
    assert seen == ["paid 5"]
    assert effects.count("pay") == 1


@pytest.mark.parametrize("kind", ["agent", "team"])
def test_as88_a_saved_state_goes_on_as_another_run(guard: Guard, effects: Effects, kind: str) -> None:
    """AS-88: saved, loaded into new objects and asked again, a conversation goes on, and a second payment in it is another one."""

    def made() -> Any:
        agent = cashier(Model(lambda answered, _messages: answered[0] if answered else [asks("pay", amount=5)]), payer(effects))
        return surefoot.wrap(RoundRobinGroupChat([agent], max_turns=1) if kind == "team" else agent, guard=guard)

    with surefoot.run("first", thread="t"):
        first = made()
        invoke(first)
    state = json.loads(json.dumps(asyncio.run(first.save_state()), default=str))
    with surefoot.run("second", thread="t"):
        second = made()
        asyncio.run(second.load_state(state))
        invoke(second, "once more")
    assert effects.count("pay") == 2
    assert len(str(asyncio.run(second.save_state()))) > len(str(state))


def test_a_state_saved_in_a_run_is_the_one_before_it(guard: Guard, effects: Effects) -> None:
    """While a run goes on ``save_state`` gives the state that the run is resumed from: loaded elsewhere, the same input replays."""
    states: list[Any] = []

    def made(*, fails: bool) -> Any:
        def reply(answered: list[str], _messages: Any) -> Any:
            if answered and fails:
                raise ConnectionError("HTTP 500")
            return answered[0] if answered else [asks("pay", amount=5)]

        agent = cashier(Model(reply), payer(effects))
        return surefoot.wrap(RoundRobinGroupChat([agent], max_turns=1), guard=guard)

    async def saving() -> None:
        team = made(fails=True)
        states.append(await team.save_state())
        async for _item in team.run_stream(task="order 7"):
            states[:] += [await team.save_state()]

    with surefoot.run("order-7"):
        with pytest.raises(RuntimeError, match="HTTP 500"):
            asyncio.run(saving())
        again = made(fails=False)
        asyncio.run(again.load_state(states[-1]))
        assert invoke(again) == "paid 5"
    assert len(states) > 2
    assert all(state == states[0] for state in states)
    assert effects.count("pay") == 1


def test_without_a_task_a_team_goes_on_with_what_is_open(guard: Guard, effects: Effects) -> None:
    """``run()`` without a task goes on: of a run that failed with its stored input, else it is the next run of the conversation."""

    def made(model: Any) -> Any:
        return surefoot.wrap(RoundRobinGroupChat([cashier(model, payer(effects))], max_turns=1), guard=guard)

    async def whole() -> list[str]:
        with surefoot.run("order-7"):
            with pytest.raises(RuntimeError, match="HTTP 500"):
                await ainvoke(made(failing(effects)))
            team = made(Model(lambda answered, _messages: answered[0] if answered else [asks("pay", amount=5)]))
            return [text_of(await ainvoke(team, None)), text_of(await ainvoke(team, None))]

    assert asyncio.run(whole()) == ["paid 5", "paid 5"]
    assert effects.count("pay") == 1
    assert [run.status for run in guard.runs.list()] == ["completed", "completed"]
