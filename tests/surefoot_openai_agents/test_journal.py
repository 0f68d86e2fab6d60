"""What a model answered is not asked again, attempts of a step included; recorded runs replay offline."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, Runner, function_tool
from crash import Effects
from oai_support import FACES, Failing, Script, asks, events, invoke, payer, says, script

import surefoot
from surefoot import Guard, StepRule, Verdict, VerificationFailed
from surefoot_journal import ReplayDiffers, offline

# --- steps


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_rejected_answer_is_tried_again_with_the_hint(guard: Guard, effects: Effects, face: str) -> None:
    """A verifier rejects what the agent says: it is run again with the hint, asks the model anew, and does not pay again."""
    hints: list[str] = []

    def judge(output: Any) -> Verdict:
        return Verdict.passed() if "5" in output.output else Verdict.failed("INCOMPLETE", "Say how much.")

    def reply(answered: list[str], items: list[Any]) -> list[Any]:
        said = str(items[-1].get("content")) if items[-1].get("role") == "user" else ""
        hints.extend([said] if "how much" in said else [])
        return [says("paid 5" if hints else "paid")] if answered else [asks("pay", order="1", amount=5)]

    guard = Guard(guard.store, steps={"a": StepRule(verifier=judge)})
    agent = surefoot.wrap(Agent(name="a", model=Script(reply), tools=[payer(effects)]), guard=guard)
    with surefoot.run("order-1"):
        assert invoke(agent, face=face).final_output == "paid 5"
    assert hints == ["Say how much."]
    assert effects.count("pay") == 1


def test_a_stream_that_does_not_pass_says_so(guard: Guard, effects: Effects) -> None:
    """What a stream has given out cannot be tried again: the consumer gets the verdict at its end, and nothing is committed."""
    guard = Guard(guard.store, steps={"a": StepRule(verifier=lambda _output: False)})
    agent = surefoot.wrap(
        Agent(name="a", model=script([asks("pay", order="1", amount=5)], [says("done")]), tools=[payer(effects)]), guard=guard
    )
    with surefoot.run("order-1"), pytest.raises(VerificationFailed, match="tried again"):
        invoke(agent, face="stream")
    assert [run.status for run in guard.runs.list()] == ["open"]


# --- the journal


def test_a_changed_prompt_is_evented_and_replayed(guard: Guard, effects: Effects) -> None:
    """The instructions say another date when the run is resumed: the recorded reply is replayed, and the change is evented."""
    days = itertools.count(1)
    model = Failing(1, [asks("pay", order="1", amount=5)], [says("done")], effects=effects)
    agent: Any = Agent(name="a", model=model, tools=[payer(effects)], instructions=lambda _c, _a: f"Today is day {next(days)}.")
    agent = surefoot.wrap(agent, guard=guard)
    with surefoot.run("order-1"):
        with pytest.raises(RuntimeError, match="HTTP 500"):
            invoke(agent)
        assert invoke(agent).final_output == "done"
    assert (effects.count("model"), effects.count("pay")) == (2, 1)
    assert [event["ordinal"] for event in events(guard, "model.prompt_changed")] == [0]


def test_a_divergence_drops_the_rest_and_goes_on_live(guard: Guard, effects: Effects) -> None:
    """A read answers otherwise when the run is resumed: the replies after it are dropped and evented, and the payment is not repeated."""
    prices = iter(["5", "6"])

    @function_tool
    async def price() -> str:
        return next(prices)

    guard = Guard(guard.store, reads=["price"])
    model = Failing(2, [asks("price")], [asks("pay", order="1", amount=5)], [says("done")], effects=effects)
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[price, payer(effects)]), guard=guard)
    with surefoot.run("order-1"):
        with pytest.raises(RuntimeError, match="HTTP 500"):
            invoke(agent)
        assert invoke(agent).final_output == "done"
    assert [event["differs"] for event in events(guard, "model.diverged")] == ["results"]
    assert (effects.count("model"), effects.count("pay")) == (4, 1)


@pytest.mark.parametrize(("first", "second"), [("async", "stream"), ("stream", "async"), ("stream", "stream")])
def test_streams_replay_as_streams(guard: Guard, effects: Effects, first: str, second: str) -> None:
    """A run that was recorded on one face is resumed on another: every recorded event passes again, and usage is what it was."""
    model = Failing(1, [says("let me see"), asks("pay", order="1", amount=5)], [says("all done")], effects=effects)
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[payer(effects)]), guard=guard)
    with surefoot.run("order-1"), pytest.raises(RuntimeError, match="HTTP 500"):
        invoke(agent, face=first)
    deltas: list[str] = []

    async def again() -> Any:
        if second == "async":
            return await Runner.run(agent, "order 7")
        result = Runner.run_streamed(agent, "order 7")
        async for event in result.stream_events():
            text = getattr(getattr(event, "data", None), "delta", None)
            deltas.extend([text] if text else [])
        return result

    with surefoot.run("order-1"):
        result = asyncio.run(again())
    assert result.final_output == "all done"
    assert result.context_wrapper.usage.total_tokens == 20
    assert (effects.count("pay"), effects.count("model")) == (1, 2)
    if (first, second) == ("stream", "stream"):
        assert deltas == ["let", "me", "see", "all", "done"]


def test_as_68_a_reply_with_a_secret_is_not_recorded(guard: Guard, effects: Effects) -> None:
    """A reply that would have to be redacted is not kept, which is evented; the model is asked again, and the secret is nowhere."""
    surefoot.register_secret("sk-very-secret-77", name="key")
    model = Failing(1, [says("sk-very-secret-77"), asks("pay", order="1", amount=5)], [says("done")], effects=effects)
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[payer(effects)]), guard=guard)
    with surefoot.run("order-1"):
        with pytest.raises(RuntimeError, match="HTTP 500"):
            invoke(agent)
        assert invoke(agent).final_output == "done"
    assert (effects.count("model"), effects.count("pay")) == (3, 1)
    assert all("redacted" in event["unrecorded"] for event in events(guard, "model.replied") if "unrecorded" in event)
    with guard.store.transaction(write=False) as tx:
        assert "very-secret" not in str(tx.records.list("journal"))


def _recorded(guard: Guard, effects: Effects) -> tuple[Callable[..., Any], str]:
    def make(instructions: str = "Be brief.", limit: int = 9, *, model: Any = None) -> Any:
        @function_tool
        async def pay(order: str, amount: int = limit) -> str:
            effects.add("pay", order, amount)
            return f"paid {amount}"

        given = model or script([asks("pay", order="1", amount=5)], [asks("pay", order="2", amount=6)], [says("done")], effects=effects)
        return surefoot.wrap(Agent(name="a", instructions=instructions, model=given, tools=[pay]), guard=Guard(guard.store))

    with surefoot.run("order-1"):
        assert invoke(make()).final_output == "done"
    return make, guard.runs.list()[0].run_id


@pytest.mark.parametrize("face", FACES)
def test_as_77_offline_replay(guard: Guard, effects: Effects, face: str) -> None:
    """A recorded run is replayed with a model that cannot answer: same sequence of tools, same output, no effect, nothing written."""
    make, run_id = _recorded(guard, effects)
    before = len(guard.runs.events(run_id))
    with offline(guard, run_id) as replay:
        result = invoke(make(model=Script(lambda *_: pytest.fail("the model was asked"))), face=face)
    assert result.final_output == "done"
    assert (replay.calls, len(replay.replies)) == (["pay", "pay"], 3)
    assert (effects.count("pay"), effects.count("model")) == (2, 3)
    assert len(guard.runs.events(run_id)) == before
    assert len(guard.runs.list()) == 1


@pytest.mark.parametrize(("change", "says_what"), [({"instructions": "Be rude."}, "prompt"), ({"limit": 10}, "prompt")])
def test_as_77_a_changed_prompt_or_schema_misses_loudly(guard: Guard, effects: Effects, change: dict[str, Any], says_what: str) -> None:
    """Offline, another prompt or tool schema is the first thing that differs, and is named; nothing happens."""
    make, run_id = _recorded(guard, effects)
    with offline(guard, run_id), pytest.raises(ReplayDiffers, match=rf"model call 1 of a#1 asks otherwise \({says_what}\)"):
        invoke(make(**change))
    assert (effects.count("pay"), effects.count("model")) == (2, 3)
