"""What becomes of calls: errors, retries, twins, middleware, approvals, cancellation, verdicts, offline replay, conversations."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from agent_framework import AgentSession, Content, FunctionInvocationContext, FunctionTool, Message
from crash import Effects
from maf_support import FACES, Again, NoSorry, ainvoke, asks, cashier, events, failing, invoke, model, payer, script
from pydantic import BaseModel

import surefoot
import surefoot_journal
from surefoot import Guard, InDoubt, StepRule, ToolRule, VerificationFailed

SHOP = Path(__file__).parent.parent / "surefoot_mcp_server" / "shop_server.py"


@pytest.mark.parametrize("session", [None, "customer-7"])
@pytest.mark.parametrize("face", FACES)
def test_as_04_the_model_fails_after_the_tool_and_the_caller_retries(
    guard: Guard, effects: Effects, face: str, session: str | None
) -> None:
    """AS-04: the tool succeeds, the model fails, the caller runs the agent again: one payment, said once in the session."""
    agent = surefoot.wrap(cashier(failing(effects), payer(effects)), guard=guard)
    kept = session and AgentSession(session_id=session)
    with surefoot.run(None if session else "order-7"):
        with pytest.raises(ConnectionError):
            invoke(agent, face=face, session=kept)
        assert invoke(agent, face=face, session=kept) == "paid 5"
    assert effects.count("pay") == 1
    if isinstance(kept, AgentSession):
        (state,) = kept.state.values()
        assert [message.role for message in state["messages"]] == ["user", "assistant", "tool", "assistant"]


def test_as_04_negative_control_bare_it_pays_twice(effects: Effects) -> None:
    """The same without surefoot pays twice."""
    agent = cashier(failing(effects), payer(effects))
    with pytest.raises(ConnectionError):
        invoke(agent)
    invoke(agent)
    assert effects.count("pay") == 2


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_i2_the_claim_is_made_inside_of_a_middleware_that_calls_again(
    guard: Guard, effects: Effects, *, wrapped: bool, plain: bool
) -> None:
    """I2: a middleware calls the tool twice for one request: one payment; bare, two."""

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    agent = cashier(script([asks("pay", amount=5)], "done"), pay if plain else payer(effects), middleware=[Again()])
    with surefoot.run("order-7"):
        invoke(surefoot.wrap(agent, guard=guard) if wrapped else agent)
    assert effects.count("pay") == (1 if wrapped else 2)


def test_twins_are_two_and_defaults_are_filled_in(guard: Guard, effects: Effects) -> None:
    """Two equal requests of one reply are two calls, also where one of them spells out a default; the context is no argument."""

    def pay(ctx: FunctionInvocationContext, amount: int, currency: str = "EUR", note: str | None = None) -> str:
        effects.add("pay", amount, currency, note, ctx.function.name)
        return f"paid {amount}"

    twins = [asks("pay", amount=5), asks("pay", amount="5", currency="EUR")]
    agent = surefoot.wrap(cashier(script(twins, "done"), pay), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent) == "done"
    assert effects.all() == [["pay", 5, "EUR", None, "pay"]] * 2
    rows = guard.calls.list()
    assert [json.loads(row.arguments or "") for row in rows] == [{"amount": 5, "currency": "EUR"}] * 2
    assert len({row.call_id for row in rows}) == 2


@pytest.mark.parametrize("plain", [True, False])
def test_what_a_body_calls_is_no_request_of_the_model(guard: Guard, effects: Effects, *, plain: bool) -> None:
    """A tool that calls itself, by what the framework hands it, is one call, and gets what it gets bare."""

    def count(ctx: FunctionInvocationContext, left: int) -> int:
        effects.add("count", left)
        return 1 + ctx.function(ctx=ctx, left=left - 1) if left else 0

    async def acount(ctx: FunctionInvocationContext, left: int) -> int:
        effects.add("count", left)
        return 1 + await ctx.function(ctx=ctx, left=left - 1) if left else 0

    tool = FunctionTool(name="count", func=count if plain else acount)
    agent = surefoot.wrap(cashier(model(lambda told, _: told[0] if told else [asks("count", left=2)]), tool), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent) == "2"
    assert effects.count("count") == 3
    assert [row.value for row in guard.calls.list()] == ["2"]


def test_a_call_that_no_tool_takes_is_no_call(guard: Guard, effects: Effects) -> None:
    """Arguments that the framework refuses come to no body and are not recorded; the model is told, and asks as it should."""

    def reply(answered: list[str], _messages: Any) -> Any:
        wrong = Content.from_function_call(call_id="call_1", name="pay", arguments="{")
        asked: list[Any] = [[wrong, asks("missing")], [], [asks("pay", amount="many")], [asks("pay", amount=5)]]
        return answered[-1] if "paid 5" in answered else asked[len(answered)]

    agent = surefoot.wrap(cashier(model(reply), payer(effects)), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent) == "paid 5"
    assert [(row.tool, str(row.state)) for row in guard.calls.list()] == [("pay", "committed")]


class Receipt(BaseModel):
    """A result that is no plain data."""

    amount: int


class Odd:
    """A result that is no data."""

    def __str__(self) -> str:
        """Return what the model is shown."""
        return "odd"


VALUES = [Receipt(amount=5), {"amount": 5}, [1, (2, 3)], None, Odd(), Content.from_text("five"), [Content.from_text("a"), "b"]]


@pytest.mark.parametrize("parser", [None, str, lambda value: [Content.from_text(f"parsed {value}")]])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_i5_a_replayed_result_is_shown_as_it_was(guard: Guard, effects: Effects, value: Any, parser: Any) -> None:
    """I5: whatever a tool returned, and its own parser made of it, a model that is given it from the record sees what it was shown."""
    seen: list[str] = []

    def pay(amount: int) -> Any:
        effects.add("pay", amount)
        return value

    def reply(answered: list[str], messages: Any) -> Any:
        if not answered:
            return [asks("pay", amount=5)]
        seen.append(repr([content.to_dict(exclude={"id"}) for content in messages[-1].contents]))
        if len(seen) == 1:
            raise ConnectionError("HTTP 500")
        return "done"

    agent = surefoot.wrap(cashier(model(reply), FunctionTool(name="pay", func=pay, result_parser=parser)), guard=guard)
    with surefoot.run("order-7"):
        with pytest.raises(ConnectionError):
            invoke(agent)
        invoke(agent)
    assert effects.count("pay") == 1
    assert seen[0] == seen[1]


def test_a_doubt_is_told_in_words_whatever_the_parser(guard: Guard, effects: Effects) -> None:
    """What is said in the place of a result is not parsed by the tool's own parser; asked again by the model, it is said again."""
    failed: list[bool] = []

    def pay(amount: int) -> dict[str, int]:
        effects.add("pay", amount)
        if not failed:
            failed.append(True)
            raise SystemExit
        return {"amount": amount}

    tool = FunctionTool(name="pay", func=pay, result_parser=lambda value: str(value["amount"]))
    agent = surefoot.wrap(cashier(model(lambda answered, _: answered[0] if answered else [asks("pay", amount=5)]), tool), guard=guard)
    with surefoot.run("order-7"):
        with pytest.raises(SystemExit):
            invoke(agent)
        assert "Outcome unknown" in invoke(agent)
    assert effects.count("pay") == 1


@pytest.mark.parametrize("face", FACES)
def test_i11_cancelled_in_a_body_the_call_is_in_doubt(guard: Guard, effects: Effects, face: str) -> None:
    """I11: cancelled while a tool is at work, the tool is cancelled, and nobody knows what it did."""

    async def whole() -> list[str]:
        begun = asyncio.Event()

        async def pay(amount: int) -> str:
            effects.add("pay", amount)
            begun.set()
            await asyncio.Event().wait()
            return "never"

        agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done"), pay), guard=guard)
        with surefoot.run("order-7"):
            task = asyncio.create_task(ainvoke(agent, face=face))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [str(row.state) for row in guard.calls.list()]

    assert asyncio.run(whole()) == ["in_doubt"]


def test_as_42_a_plain_tool_lands_late(guard: Guard, effects: Effects) -> None:
    """AS-42: a plain tool's thread goes on when its run is cancelled; asked for again it is waited for, and not run again."""
    entered, go = threading.Event(), threading.Event()

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        entered.set()
        go.wait(20)
        return f"paid {amount}"

    async def whole() -> str:
        agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done"), pay), guard=guard)
        with surefoot.run("order-7"):
            task = asyncio.create_task(ainvoke(agent))
            await asyncio.to_thread(entered.wait)
            task.cancel()
            await asyncio.wait([task])
            again = asyncio.create_task(ainvoke(agent))
        go.set()
        return (await again).text

    assert asyncio.run(whole()).endswith("done")
    assert effects.count("pay") == 1
    assert [str(row.state) for row in guard.calls.list()] == ["committed"]


def test_i9_a_stream_that_its_consumer_leaves_can_be_resumed(guard: Guard, effects: Effects) -> None:
    """A consumer leaves the stream after the payment: the run is open, and goes on from there under its name."""
    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done"), payer(effects)), guard=guard)

    async def part() -> str:
        stream = agent.run("order 7", stream=True)
        async for update in stream:
            if any(content.type == "function_result" for content in update.contents):
                break
        assert [str(run.status) for run in guard.runs.list()] == ["open"]
        return (await ainvoke(agent, face="stream")).text

    with surefoot.run("order-7"):
        assert asyncio.run(part()).endswith("done")
    assert [run.status for run in guard.runs.list()] == ["completed"]
    assert effects.count("pay") == 1


def judged(reply: Any, effects: Effects, folder: Any) -> tuple[Guard, Any]:
    """Return a guard with a verifier, and an agent of it."""
    guard = Guard(f"sqlite:///{folder}/surefoot.db", steps={"cashier": StepRule(verifier=NoSorry())})
    return guard, surefoot.wrap(cashier(model(reply), payer(effects)), guard=guard)


@pytest.mark.parametrize("session", [True, False])
@pytest.mark.parametrize("face", FACES)
def test_as_52_a_rejected_answer_is_tried_again_with_the_hint(tmp_path: Any, effects: Effects, face: str, *, session: bool) -> None:
    """AS-52: a rejected answer is tried again, the hint as the newest words: it is in no session, and no effect is repeated."""

    def reply(answered: list[str], messages: Any) -> Any:
        told = any("Say what was paid." in message.text for message in messages)
        return (answered[0] if told else "sorry") if answered else [asks("pay", amount=5)]

    guard, agent = judged(reply, effects, tmp_path)
    kept = AgentSession() if session else None
    with guard, surefoot.run("order-7"):
        assert invoke(agent, face=face, session=kept) == "paid 5"
    assert effects.count("pay") == 1
    if kept is not None:
        said = str(kept.to_dict())
        assert "sorry" not in said
        assert "paid 5" in said


def test_as_52_what_is_never_accepted_is_not_said(tmp_path: Any, effects: Effects) -> None:
    """Rejected to the end, an answer raises, and the session is what it was before."""
    guard, agent = judged(lambda *_: "sorry", effects, tmp_path)
    session = AgentSession()
    session.state["own"] = {"kept": 1}
    with guard, surefoot.run("order-7"), pytest.raises(VerificationFailed):
        invoke(agent, session=session)
    assert session.state == {"own": {"kept": 1}}


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("face", FACES)
def test_as_53_a_declared_unsafe_doubt_holds_the_run(tmp_path: Any, effects: Effects, face: str, *, nested: bool) -> None:
    """A declared unsafe tool that raised holds the run when it is asked for again, although the framework makes words of every error."""

    async def pay(amount: int) -> str:
        effects.add("pay", amount)
        raise RuntimeError("connection lost")

    def reply(answered: list[str], _messages: Any) -> Any:
        return "done" if len(answered) > 1 else [asks("pay", amount=5)]

    agent = cashier(model(reply), pay)
    if nested:
        agent = cashier(script([asks("cashier", task="go")], "all done"), agent.as_tool(), name="outer")
    with Guard(f"sqlite:///{tmp_path}/surefoot.db", tools={"pay": ToolRule(effect="unsafe")}) as guard, surefoot.run("order-7"):
        for _ in range(2):
            with pytest.raises(InDoubt):
                invoke(surefoot.wrap(agent, guard=guard), face=face)
    assert effects.count("pay") == 1


@pytest.mark.parametrize("session", [True, False])
def test_as_38_one_approval_is_one_execution(guard: Guard, effects: Effects, *, session: bool) -> None:
    """AS-38: the same approval given twice pays once; the run is suspended between. With a session, or the conversation handed back."""
    agent = cashier(script([asks("pay", amount=5)], "done", effects=effects), payer(effects, approval_mode="always_require"))
    wrapped = surefoot.wrap(agent, guard=guard)
    if not session:  # new releases want this then
        agent.client.function_invocation_configuration["disable_approval_response_binding"] = True  # type: ignore[attr-defined] # as above

    async def whole() -> list[str]:
        kept = AgentSession() if session else None
        said = Message("user", ["order 7"])
        waiting = await wrapped.run([said], session=kept)
        assert [run.status for run in guard.runs.list()] == ["suspended"]
        (asked,) = waiting.user_input_requests
        yes = Message("user", [asked.to_function_approval_response(approved=True)])
        state = kept.to_dict() if kept is not None else {}
        texts = []
        for _ in range(2):
            again = AgentSession.from_dict(state) if session else None
            response = await wrapped.run([yes] if session else [said, *waiting.messages, yes], session=again)
            texts.append(response.messages[-1].text)
        return texts

    with surefoot.run("order-7"):
        assert asyncio.run(whole()) == ["done", "done"]
    assert effects.count("pay") == 1


def test_a_refusal_runs_nothing(guard: Guard, effects: Effects) -> None:
    """What a person refuses is not run, and the run ends as it does bare."""
    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done"), payer(effects, approval_mode="always_require")), guard=guard)

    async def whole() -> str:
        session = AgentSession()
        waiting = await agent.run("order 7", session=session)
        no = [asked.to_function_approval_response(approved=False) for asked in waiting.user_input_requests]
        return (await agent.run(Message("user", no), session=session)).messages[-1].text

    with surefoot.run("order-7"):
        assert asyncio.run(whole()) == "done"
    assert (effects.all(), guard.calls.list()) == ([], [])
    assert {run.status for run in guard.runs.list()} == {"completed"}


@pytest.mark.parametrize("ended", [True, False])
def test_as_32_a_conversation_without_an_answer_is_made_whole(guard: Guard, effects: Effects, *, ended: bool) -> None:
    """AS-32, AS-33: what the ledger knows stands in the place of a missing answer; where it knows nothing, that it is unknown."""
    asked = asks("pay", amount=5)
    seen: list[str] = []

    def reply(answered: list[str], messages: Any) -> Any:
        seen[:] = [str(content.result) for one in messages for content in one.contents if content.type == "function_result"]
        return "done" if answered or len(messages) > 1 else [asked]

    agent = surefoot.wrap(cashier(model(reply), payer(effects)), guard=guard)
    with surefoot.run(thread="t"):
        if ended:
            invoke(agent)
        invoke(agent, [Message("user", ["order 7"]), Message("assistant", [asked]), Message("user", ["and now?"])])
    assert seen[0] == "paid 5" if ended else "Outcome unknown" in seen[0]
    assert effects.count("pay") == ended


def test_as_77_offline_replay(guard: Guard, effects: Effects) -> None:
    """AS-77: a recorded run is replayed with no model and no tool, as often as one likes, on either face."""
    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done", effects=effects), payer(effects)), guard=guard)
    with surefoot.run("order-7"):
        invoke(agent)
    before = effects.all()
    for face in FACES:
        with surefoot_journal.offline(guard, guard.runs.list()[0].run_id) as replay:
            assert invoke(agent, face=face) == "done"
        assert replay.calls == ["pay"]
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


def test_a_structured_reply_is_a_structure_again(guard: Guard, effects: Effects) -> None:
    """A recorded reply is parsed as the response format says."""

    def reply(answered: list[str], _messages: Any) -> Any:
        return '{"amount": 5}' if answered else [asks("pay", amount=5)]

    agent = surefoot.wrap(cashier(model(reply), payer(effects)), guard=guard)
    options: Any = {"response_format": Receipt}
    with surefoot.run("order-7"):
        first = asyncio.run(ainvoke(agent, options=options))
    with surefoot_journal.offline(guard, guard.runs.list()[0].run_id):
        again = asyncio.run(ainvoke(agent, options=options))
    assert first.value == again.value == Receipt(amount=5)
