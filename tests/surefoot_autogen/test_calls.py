"""What becomes of calls: errors, retries, twins, workbenches, cancellation, verdicts, offline replay."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken
from autogen_core.models import AssistantMessage, UserMessage
from autogen_core.tools import FunctionTool, StaticStreamWorkbench, TextResultContent, ToolResult, Workbench
from autogen_support import FACES, Model, ainvoke, asks, cashier, failing, invoke, payer, plan, script, text_of
from crash import Effects
from pydantic import BaseModel

import surefoot
import surefoot_journal
from surefoot import Guard, InDoubt, StepRule, ToolRule, UsageError, Verdict, Verifier


@pytest.mark.parametrize("reflects", [True, False])
@pytest.mark.parametrize("face", FACES)
def test_as04_r17_the_model_fails_after_the_tool_and_the_caller_retries(
    guard: Guard, effects: Effects, face: str, *, reflects: bool
) -> None:
    """AS-04, R17: the tool succeeds, the (reflecting) model fails, the caller runs the agent again: one payment, said once."""
    options = {"reflect_on_tool_use": True, "max_tool_iterations": 1} if reflects else {}
    agent = surefoot.wrap(cashier(failing(effects), payer(effects), **options), guard=guard)
    with surefoot.run("order-7"):
        with pytest.raises(ConnectionError):
            invoke(agent, face=face)
        assert invoke(agent, face=face) == "paid 5"
    assert effects.count("pay") == 1
    kinds = [type(message).__name__ for message in asyncio.run(agent.model_context.get_messages())]
    assert kinds == ["UserMessage", "AssistantMessage", "FunctionExecutionResultMessage", "AssistantMessage"]


def test_as04_r17_negative_control_bare_it_pays_twice(effects: Effects) -> None:
    """The same without surefoot pays twice."""
    agent = cashier(failing(effects), payer(effects), reflect_on_tool_use=True, max_tool_iterations=1)
    with pytest.raises(ConnectionError):
        invoke(agent)
    invoke(agent)
    assert effects.count("pay") == 2


@pytest.mark.parametrize("face", ["run", "stream"])
def test_as04_a_team_whose_model_fails_is_built_again(guard: Guard, effects: Effects, face: str) -> None:
    """AS-04: the same in a team, whose error is the one that it has bare. It cannot run again, bare or not: a new one goes on."""
    failing_, bare = failing(effects), failing(effects)

    def team(model: Model) -> Any:
        return RoundRobinGroupChat([cashier(model, payer(effects))], termination_condition=MaxMessageTermination(2))

    async def whole() -> str:
        with pytest.raises(RuntimeError, match="ConnectionError: HTTP 500"):
            await ainvoke(team(bare), face=face)
        first, again = (surefoot.wrap(team(failing_), guard=guard) for _ in range(2))
        before = await first.save_state()
        with surefoot.run("order-7"):
            with pytest.raises(RuntimeError, match="ConnectionError: HTTP 500"):
                await ainvoke(first, face=face)
            assert await first.save_state() == before
            await again.load_state(await first.save_state())
            return text_of(await ainvoke(again, face=face))

    assert asyncio.run(whole()) == "paid 5"
    assert effects.count("pay") == 1 + 1  # the bare one's


@pytest.mark.parametrize("face", ["run", "stream"])
def test_as52_a_rejected_run_of_a_team_is_tried_again(tmp_path: Any, effects: Effects, face: str) -> None:
    """AS-52: a team's run that is rejected is run again from the state before it, with the hint, and pays once."""

    def reply(answered: list[str], messages: Any) -> Any:
        if not answered:
            return [asks("pay", amount=5)]
        return answered[0] if any(one.content == "Say what was paid." for one in messages) else "sorry"

    team = RoundRobinGroupChat([cashier(Model(reply), payer(effects))], max_turns=1)
    with Guard(f"sqlite:///{tmp_path}/surefoot.db", steps={"RoundRobin*": StepRule(verifier=NoSorry())}) as guard, surefoot.run("order-7"):
        assert invoke(surefoot.wrap(team, guard=guard), face=face) == "paid 5"
    assert effects.count("pay") == 1
    assert "sorry" not in str(asyncio.run(team.save_state()))


class Again(StaticStreamWorkbench):
    """A user's workbench that calls each tool twice, as a retry would."""

    async def call_tool_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, and again."""
        async for _item in super().call_tool_stream(*args, **kwargs):
            pass
        async for item in super().call_tool_stream(*args, **kwargs):
            yield item


@pytest.mark.parametrize("wrapped", [True, False])
def test_i2_the_claim_is_made_inside_of_a_workbench_that_calls_again(guard: Guard, effects: Effects, *, wrapped: bool) -> None:
    """I2: a workbench calls the tool twice for one request: one payment; bare, two."""
    agent = cashier(script([asks("pay", amount=5)], "done"), workbench=Again([FunctionTool(payer(effects), description="Pay.")]))
    with surefoot.run("order-7"):
        invoke(surefoot.wrap(agent, guard=guard) if wrapped else agent)
    assert effects.count("pay") == (1 if wrapped else 2)


class Remote(Workbench):
    """A workbench whose tools run elsewhere, as those of an MCP server do."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def list_tools(self) -> Any:
        """Return the tools."""
        properties = {"amount": {"type": "integer"}, "currency": {"type": "string", "default": "EUR"}}
        return [{"name": name, "parameters": {"type": "object", "properties": properties}} for name in ("pay", "refuse")]

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any] | None = None, cancellation_token: Any = None, call_id: str | None = None
    ) -> ToolResult:
        """Run one."""
        self._effects.add(name, dict(arguments or {}))
        if name == "refuse":
            raise OSError("no connection")
        return ToolResult(name=name, result=[TextResultContent(content=f"paid {(arguments or {})['amount']}")])

    async def start(self) -> None:
        """Do nothing."""

    stop = reset = start

    async def save_state(self) -> Mapping[str, Any]:
        """Have none."""
        return {}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Have none."""


def test_a_workbench_of_somebodys_own_is_claimed_at_its_call(guard: Guard, effects: Effects) -> None:
    """Its tools are known by name with the defaults that they list, twins are two, an error is words; replayed, nothing runs again."""
    asked = [asks("pay", amount=5), asks("pay", amount=5, currency="EUR"), asks("refuse", amount=1)]
    agent = surefoot.wrap(cashier(script(asked, "done"), workbench=Remote(effects)), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent) == "done"
    rows = guard.calls.list()
    assert [(row.tool, json.loads(row.arguments).get("currency"), str(row.state)) for row in rows] == [
        ("pay", "EUR", "committed"),
        ("pay", "EUR", "committed"),
        ("refuse", "EUR", "raised"),
    ]
    assert len({row.call_id for row in rows}) == 3
    before = effects.all()
    asyncio.run(agent.on_reset(CancellationToken()))
    with surefoot_journal.offline(guard, guard.runs.list()[0].run_id) as replay:
        assert invoke(agent) == "done"
    assert (replay.calls, effects.all()) == (["pay", "pay", "refuse"], before)


def test_as53_a_hold_at_a_workbench_ends_the_turn(tmp_path: Any, effects: Effects) -> None:
    """A declared unsafe tool of such a workbench that raised holds the run when it is asked for again; the framework hangs there bare."""
    script_ = plan([asks("refuse", amount=5)], [asks("refuse", amount=5)], "done")
    with Guard(f"sqlite:///{tmp_path}/surefoot.db", tools={"refuse": ToolRule(effect="unsafe")}) as guard, surefoot.run("order-7"):
        agent = surefoot.wrap(cashier(Model(script_), workbench=Remote(effects)), guard=guard)
        with pytest.raises(InDoubt):
            invoke(agent)
    assert effects.count("refuse") == 1


class Receipt(BaseModel):
    """A result that is no plain data."""

    amount: int


@pytest.mark.parametrize("value", [Receipt(amount=5), {"amount": 5}, [1, (2, 3)], None, object])
def test_i5_a_replayed_result_is_shown_as_it_was(guard: Guard, effects: Effects, value: Any) -> None:
    """I5: whatever a tool returned, a model that is given it from the record sees what it was shown."""
    seen: list[str] = []

    def pay(amount: int) -> Any:
        effects.add("pay", amount)
        return value

    def reply(answered: list[str], _messages: Any) -> Any:
        if not answered:
            return [asks("pay", amount=5)]
        seen.append(answered[0])
        if len(seen) == 1:
            raise ConnectionError("HTTP 500")
        return "done"

    agent = surefoot.wrap(cashier(Model(reply), FunctionTool(pay, description="Pay.")), guard=guard)
    with surefoot.run("order-7"):
        with pytest.raises(ConnectionError):
            invoke(agent)
        invoke(agent)
    assert effects.count("pay") == 1
    assert seen[0] == seen[1] == (json.dumps({"amount": 5}) if isinstance(value, BaseModel) else str(value))


def test_a_call_that_no_tool_takes_is_no_call(guard: Guard, effects: Effects) -> None:
    """Arguments that the framework refuses come to no body and are not recorded; the model is told, and asks as it should."""

    def reply(answered: list[str], _messages: Any) -> Any:
        return answered[-1] if "paid 5" in answered else [asks("pay", amount=5 if answered else "many")]

    agent = surefoot.wrap(cashier(Model(reply), payer(effects)), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent) == "paid 5"
    assert [(row.tool, str(row.state)) for row in guard.calls.list()] == [("pay", "committed")]


@pytest.mark.parametrize("face", FACES)
def test_i11_cancelled_in_a_body_the_call_is_in_doubt(guard: Guard, effects: Effects, face: str) -> None:
    """I11: the framework leaves its tools behind when it is cancelled; guarded, they are cancelled, and nobody knows what they did."""

    async def whole() -> list[str]:
        begun = asyncio.Event()

        async def pay(amount: int) -> str:
            """Pay."""
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
        assert await agent.model_context.get_messages() == []
        return [str(row.state) for row in guard.calls.list()]

    assert asyncio.run(whole()) == ["in_doubt"]


def test_as42_a_plain_tool_lands_late(guard: Guard, effects: Effects) -> None:
    """AS-42: a plain tool's thread goes on when its turn is cancelled; asked for again it is waited for, and not run again."""
    entered, go = threading.Event(), threading.Event()

    def pay(amount: int) -> str:
        """Pay."""
        effects.add("pay", amount)
        entered.set()
        go.wait(20)
        return f"paid {amount}"

    async def whole() -> str:
        agent = surefoot.wrap(cashier(Model(plan([asks("pay", amount=5)], "done")), pay), guard=guard)
        with surefoot.run("order-7"):
            task = asyncio.create_task(ainvoke(agent))
            await asyncio.to_thread(entered.wait)
            task.cancel()
            await asyncio.wait([task])
            again = asyncio.create_task(ainvoke(agent))
        go.set()
        return text_of(await again)

    assert asyncio.run(whole()) == "done"
    assert effects.count("pay") == 1
    assert [str(row.state) for row in guard.calls.list()] == ["committed"]


def test_a_stream_that_its_consumer_leaves_can_be_resumed(guard: Guard, effects: Effects) -> None:
    """A consumer leaves the stream after the payment: the run is open, and goes on from there under its name."""
    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done"), payer(effects)), guard=guard)

    async def part() -> None:
        items = agent.run_stream(task="order 7")
        async for item in items:
            if type(item).__name__ == "ToolCallExecutionEvent":
                await items.aclose()

    with surefoot.run("order-7"):
        asyncio.run(part())
        assert [run.status for run in guard.runs.list()] == ["open"]
        assert invoke(agent, face="stream") == "done"
    assert [run.status for run in guard.runs.list()] == ["completed"]
    assert effects.count("pay") == 1


@pytest.mark.parametrize("target", ["agent", "team"])
def test_a_stream_belongs_to_the_block_that_it_was_asked_for_in(guard: Guard, target: str) -> None:
    """``run_stream`` in a named block and read behind it is that run."""
    agent = cashier(script("done"))
    wrapped = surefoot.wrap(agent if target == "agent" else RoundRobinGroupChat([agent], max_turns=1), guard=guard)

    async def whole() -> None:
        with surefoot.run("order-7"):
            items = wrapped.run_stream(task="go")
        async for _item in items:
            pass

    asyncio.run(whole())
    assert [run.thread for run in guard.runs.list()] == ["run:order-7"]


class NoSorry(Verifier):
    """Rejects an apology."""

    def verify(self, output: surefoot.StepOutput) -> Verdict:
        """Judge."""
        sorry = "sorry" in str(output.output)
        return Verdict.failed(surefoot.ErrorClass.INCOMPLETE, "Say what was paid.") if sorry else Verdict.passed()


@pytest.mark.parametrize("in_team", [True, False])
@pytest.mark.parametrize("face", ["run", "stream"])
def test_as52_a_rejected_turn_is_tried_again_with_the_hint(tmp_path: Any, effects: Effects, face: str, *, in_team: bool) -> None:
    """AS-52: a rejected turn is tried again from the state before it, the hint as the newest words; in a team nobody hears of it."""
    heard: list[str] = []

    def reply(answered: list[str], messages: Any) -> Any:
        said = [message.content for message in messages if isinstance(message, UserMessage)]
        if not answered:
            return [asks("pay", amount=5)]
        return answered[0] if "Say what was paid." in said else "sorry"

    def listens(_answered: list[str], messages: Any) -> str:
        heard.extend(str(message.content) for message in messages if isinstance(message, UserMessage))
        return "bye"

    clerk = cashier(Model(reply), payer(effects))
    other = cashier(Model(listens), name="other")
    target: Any = RoundRobinGroupChat([clerk, other], max_turns=2) if in_team else clerk
    with Guard(f"sqlite:///{tmp_path}/surefoot.db", steps={"cashier": StepRule(verifier=NoSorry())}) as guard, surefoot.run("order-7"):
        said = invoke(surefoot.wrap(target, guard=guard), face=face)
    assert said == ("bye" if in_team else "paid 5")
    assert effects.count("pay") == 1
    assert heard == (["order 7", "paid 5"] if in_team else [])
    context = asyncio.run(clerk.model_context.get_messages())
    assert "sorry" not in [message.content for message in context if isinstance(message, AssistantMessage)]


def test_a_declared_unsafe_doubt_holds_the_run(tmp_path: Any, effects: Effects) -> None:
    """A declared unsafe call that raised is in doubt when it is asked for again: the run says so, whatever was made of its error."""

    async def pay(amount: int) -> str:
        """Pay."""
        effects.add("pay", amount)
        raise RuntimeError("connection lost")

    asked = plan([asks("pay", amount=5)], [asks("pay", amount=5)], "done")
    with Guard(f"sqlite:///{tmp_path}/surefoot.db", tools={"pay": ToolRule(effect="unsafe")}) as guard, surefoot.run("order-7"):
        agent = surefoot.wrap(cashier(Model(asked), pay), guard=guard)
        with pytest.raises(InDoubt):
            invoke(agent)
        with pytest.raises(InDoubt):
            invoke(agent)
    assert effects.count("pay") == 1


def test_as77_offline_replay(guard: Guard, effects: Effects) -> None:
    """AS-77: a recorded run is replayed with no model and no tool, as often as one likes."""
    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done", effects=effects), payer(effects)), guard=guard)
    with surefoot.run("order-7"):
        invoke(agent)
    before = effects.all()
    for face in ("run", "stream"):
        asyncio.run(agent.on_reset(CancellationToken()))
        with surefoot_journal.offline(guard, guard.runs.list()[0].run_id) as replay:
            assert invoke(agent, face=face) == "done"
        assert len(replay.calls) == 1
    assert effects.all() == before


def test_a_tool_called_in_code_is_claimed_where_it_is_called(guard: Guard, effects: Effects) -> None:
    """A tool that another tool's code calls is a call inside of that call; outside of runs it is the tool itself."""
    pay = guard.tool(FunctionTool(payer(effects), name="pay", description="Pay."))

    async def serve(order: str) -> str:
        """Serve."""
        return str(await pay.run_json({"amount": int(order)}, CancellationToken()))

    agent = surefoot.wrap(cashier(script([asks("serve", order="7")], "done"), serve), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent) == "done"
    assert sorted(row.tool for row in guard.calls.list()) == ["pay", "serve"]
    assert effects.count("pay") == 1


def test_an_unnamed_run_is_warned_of_and_refused_by_strict(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    """Without a name a run works and the log says that it cannot be resumed; strict refuses it."""
    assert invoke(surefoot.wrap(cashier(script("done")), guard=guard)) == "done"
    assert "without a name" in caplog.text
    with Guard("memory://", strict=True) as strict, pytest.raises(UsageError, match="needs a name"):
        invoke(surefoot.wrap(cashier(script("done")), guard=strict))
