"""What becomes of calls: errors, retries, timeouts, approvals, conversations that lack answers."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from crash import Effects
from pai_support import FACES, asks, cashier, events, invoke, model, run_sync, says, script
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ModelRetry
from pydantic_ai.messages import ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.toolsets import FunctionToolset, WrapperToolset

import surefoot
from surefoot import Guard, InDoubt, StepRule, UsageError, Verdict, VerificationFailed, Verifier


def payer(effects: Effects) -> Any:
    """Return a tool that pays."""

    async def pay(amount: int, currency: str = "EUR") -> str:
        effects.add("pay", amount, currency)
        return f"paid {amount}"

    return pay


def failing(effects: Effects) -> Any:
    """Return a model that asks for a payment and fails, once, when it is told of it."""
    failed: list[bool] = []

    def reply(answered: list[str], _messages: Any) -> list[Any]:
        if not answered:
            return [asks("pay", amount=5)]
        if not failed:
            failed.append(True)
            raise ConnectionError("HTTP 500")
        return [says(answered[0])]

    return model(reply, effects)


@pytest.mark.parametrize("face", FACES)
def test_as_04_the_model_fails_after_the_tool_and_the_caller_retries(guard: Guard, effects: Effects, face: str) -> None:
    """AS-04: the tool succeeds, the model fails, the caller runs the agent again: one payment."""
    agent = surefoot.wrap(cashier(failing(effects), payer(effects)), guard=guard)
    with surefoot.run("order-7"), pytest.raises(ConnectionError):
        invoke(agent, face=face)
    with surefoot.run("order-7"):
        assert invoke(agent, face=face) == "paid 5"
    assert effects.count("pay") == 1


def test_as_04_negative_control_bare_it_pays_twice(effects: Effects) -> None:
    """The same without surefoot pays twice."""
    agent = cashier(failing(effects), payer(effects))
    with pytest.raises(ConnectionError):
        invoke(agent)
    invoke(agent)
    assert effects.count("pay") == 2


class Again(WrapperToolset[Any]):
    """A user's toolset that calls each tool twice, as a retry would."""

    async def call_tool(self, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        """Call it, and again."""
        await super().call_tool(name, tool_args, ctx, tool)
        return await super().call_tool(name, tool_args, ctx, tool)


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_claim_is_made_inside_of_a_toolset_that_calls_again(guard: Guard, effects: Effects, wrapped: bool) -> None:  # noqa: FBT001 - a parameter
    """I2: a toolset around the tool's own calls it twice for one request: one payment; bare, two."""
    agent = cashier(script([asks("pay", amount=5)], [says("done")]), toolsets=[Again(FunctionToolset([payer(effects)]))])
    with surefoot.run("order-7"):
        invoke(surefoot.wrap(agent, guard=guard) if wrapped else agent)
    assert effects.count("pay") == (1 if wrapped else 2)


def test_a_prefixed_tool_is_claimed_once_by_its_own_name(guard: Guard, effects: Effects) -> None:
    """A toolset with a prefix asks for the tool by another name than the ledger has; defaults are filled in, twins are two."""
    bank = FunctionToolset([payer(effects)]).prefixed("bank")
    twins = [asks("bank_pay", amount=5), asks("bank_pay", amount=5, currency="EUR")]
    agent = surefoot.wrap(cashier(script(twins, [says("done")]), toolsets=[bank]), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent) == "done"
    assert effects.all() == [["pay", 5, "EUR"]] * 2
    rows = guard.calls.list()
    assert [(row.tool, json.loads(row.arguments)["currency"]) for row in rows] == [("pay", "EUR")] * 2
    assert len({row.call_id for row in rows}) == 2


def test_a_tool_that_asks_for_a_retry_is_asked_again(guard: Guard, effects: Effects) -> None:
    """``ModelRetry`` is an answer: the model is told, and what it asks for then is a new call; bare it is the same."""

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        if effects.count("pay") == 1:
            raise ModelRetry("the bank is busy")
        return f"paid {amount}"

    def reply(answered: list[str], _messages: Any) -> list[Any]:
        return [says(answered[-1])] if "paid 5" in answered else [asks("pay", amount=5)]

    with surefoot.run("order-7"):
        assert invoke(surefoot.wrap(cashier(model(reply), pay), guard=guard)) == "paid 5"
    assert effects.count("pay") == 2
    assert sorted(row.state for row in guard.calls.list()) == ["committed", "raised"]


def test_as_42_a_plain_tool_that_times_out_lands_late(guard: Guard, effects: Effects) -> None:
    """AS-42: a plain tool is left at the framework's timeout; asked for again, it is not run again, and what it returns settles it."""
    go = threading.Event()

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        go.wait(20)
        return f"paid {amount}"

    def reply(answered: list[str], messages: Any) -> list[Any]:
        if len(messages) > 1:
            go.set()
        return [says(answered[0])] if answered else [asks("pay", amount=5)]

    agent = cashier(model(reply), toolsets=[FunctionToolset([pay], timeout=0.2)], retries=3)
    with surefoot.run("order-7"):
        invoke(surefoot.wrap(agent, guard=guard))
    assert effects.count("pay") == 1
    assert next(row.state for row in guard.calls.list() if row.tool == "pay") == "committed"


def test_as_31_a_cancelled_sibling_is_in_doubt(guard: Guard, effects: Effects) -> None:
    """AS-31: a tool fails while another is at work: the framework cancels that one, and nobody knows what it did."""
    begun = asyncio.Event()

    async def pay(amount: int) -> str:
        effects.add("pay", amount)
        begun.set()
        await asyncio.Event().wait()
        return "never"

    async def fail() -> str:
        await begun.wait()
        raise RuntimeError("down")

    agent = surefoot.wrap(cashier(script([asks("pay", amount=5), asks("fail")], [says("done")]), pay, fail), guard=guard)
    with surefoot.run("order-7"), pytest.raises(RuntimeError, match="down"):
        invoke(agent)
    assert {row.tool: str(row.state) for row in guard.calls.list()} == {"pay": "in_doubt", "fail": "raised"}


def test_as_38_one_approval_is_one_execution(guard: Guard, effects: Effects) -> None:
    """AS-38: the same approved conversation resumed twice pays once; the run is suspended between."""
    agent = cashier(script([asks("pay", amount=5)], [says("done")], effects=effects), output_type=[str, DeferredToolRequests])
    agent.tool_plain(requires_approval=True)(payer(effects))
    wrapped = surefoot.wrap(agent, guard=guard)
    with surefoot.run("order-7"):
        waiting = run_sync(wrapped, "order 7")
        assert [run.status for run in guard.runs.list()] == ["suspended"]
        (asked,) = waiting.output.approvals
        for _ in range(2):
            approved = DeferredToolResults(approvals={asked.tool_call_id: True})
            again = run_sync(wrapped, message_history=waiting.all_messages(), deferred_tool_results=approved)
            assert again.output == "done"
    assert effects.count("pay") == 1


@pytest.mark.parametrize("ended", [True, False])
def test_as_32_a_conversation_without_an_answer_is_made_whole(guard: Guard, effects: Effects, ended: bool) -> None:  # noqa: FBT001 - a parameter
    """AS-32, AS-33: what the ledger knows stands in the place of a missing answer; where it knows nothing, that it is unknown."""
    asked = asks("pay", amount=5)
    seen: list[Any] = []

    def reply(answered: list[str], messages: Any) -> list[Any]:
        seen[:] = [str(part.content) for message in messages for part in message.parts if part.part_kind == "tool-return"]
        return [says("done")] if answered or len(messages) > 2 else [asked]

    agent = surefoot.wrap(cashier(model(reply), payer(effects)), guard=guard)
    if ended:
        with surefoot.run(thread="t"):
            invoke(agent)
    history = [ModelRequest([UserPromptPart("order 7")]), ModelResponse([asked])]
    with surefoot.run(thread="t"):
        invoke(agent, "and now?", message_history=history)
    assert seen[0] == "paid 5" if ended else "Outcome unknown" in seen[0]
    assert effects.count("pay") == ended


class NoSorry(Verifier):
    """Rejects an apology."""

    def verify(self, output: surefoot.StepOutput) -> Verdict:
        """Judge."""
        sorry = "sorry" in str(output.output)
        return Verdict.failed(surefoot.ErrorClass.INCOMPLETE, "Say what was paid.") if sorry else Verdict.passed()


@pytest.mark.parametrize("face", FACES)
def test_a_rejected_answer_is_tried_again_with_the_hint(tmp_path: Any, effects: Effects, face: str) -> None:
    """A rejected answer is tried again with the hint as the newest words, no effect twice; what was given out cannot be tried again."""

    def reply(answered: list[str], messages: Any) -> list[Any]:
        told = "Say what was paid." in str(messages[0])
        return [says(answered[0] if told else "sorry")] if answered else [asks("pay", amount=5)]

    with Guard(f"sqlite:///{tmp_path}/surefoot.db", steps={"cashier": StepRule(verifier=NoSorry())}) as guard, surefoot.run("order-7"):
        agent = surefoot.wrap(cashier(model(reply), payer(effects)), guard=guard)
        if face in {"stream", "iter"}:
            with pytest.raises(VerificationFailed):
                invoke(agent, face=face)
        else:
            assert invoke(agent, face=face) == "paid 5"
    assert effects.count("pay") == 1


def test_a_declared_unsafe_doubt_holds_the_run(tmp_path: Any, effects: Effects) -> None:
    """A declared unsafe call in doubt holds the run: asked again, it says so, and nothing is repeated."""

    async def pay(amount: int) -> str:
        effects.add("pay", amount)
        raise RuntimeError("connection lost")

    with Guard(f"sqlite:///{tmp_path}/surefoot.db", tools={"pay": surefoot.ToolRule(effect="unsafe")}) as guard, surefoot.run("order-7"):
        agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], [says("done")]), pay), guard=guard)
        with pytest.raises(RuntimeError, match="connection lost"):
            invoke(agent)
        with pytest.raises(InDoubt):
            invoke(agent)
    assert effects.count("pay") == 1


def test_as_77_offline_replay(guard: Guard, effects: Effects) -> None:
    """AS-77: a recorded run is replayed with no model and no tool, as often as one likes."""
    import surefoot_journal

    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], [says("done")], effects=effects), payer(effects)), guard=guard)
    with surefoot.run("order-7"):
        invoke(agent)
    before = effects.all()
    for face in ("async", "events"):
        with surefoot_journal.offline(guard, guard.runs.list()[0].run_id) as replay:
            assert invoke(agent, face=face) == "done"
        assert len(replay.calls) == 1
    assert effects.all() == before


def test_a_changed_prompt_is_evented_and_replayed(guard: Guard, effects: Effects) -> None:
    """Other instructions than before the crash are evented; the recorded reply is given."""
    said = failing(effects)
    with surefoot.run("order-7"), pytest.raises(ConnectionError):
        invoke(surefoot.wrap(cashier(said, payer(effects), instructions="Today is Monday."), guard=guard))
    with surefoot.run("order-7"):
        again = surefoot.wrap(cashier(said, payer(effects), instructions="Today is Tuesday."), guard=guard)
        assert invoke(again) == "paid 5"
    assert len(events(guard, "model.prompt_changed")) == 1
    assert effects.count("pay") == 1


def test_realtime_sessions_are_refused(guard: Guard, effects: Effects) -> None:
    """What no guard can see is refused in a sentence."""
    agent = surefoot.wrap(cashier(script([says("done")]), payer(effects)), guard=guard)
    with pytest.raises(UsageError, match="realtime"):
        agent.realtime("model")
