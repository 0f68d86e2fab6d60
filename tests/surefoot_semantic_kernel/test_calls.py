"""What becomes of calls: errors, filters, approvals, verifiers, kernels without agents, orchestrations, conversations that lack answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from crash import Effects
from semantic_kernel.agents import ConcurrentOrchestration, HandoffOrchestration, OrchestrationHandoffs, SequentialOrchestration
from semantic_kernel.agents.chat_completion.chat_completion_agent import ChatHistoryAgentThread
from semantic_kernel.agents.runtime import InProcessRuntime
from semantic_kernel.contents import ChatHistory, ChatMessageContent, FunctionCallContent
from semantic_kernel.exceptions import KernelInvokeException
from semantic_kernel.filters.filter_types import FilterTypes
from semantic_kernel.functions import kernel_function
from sk_support import FACES, ainvoke, asks, cashier, chat, events, invoke, kernel, model, script

import surefoot
from surefoot import Guard, InDoubt, NotCommitted, StepRule, ToolRule, Verdict, VerificationFailed, Verifier


def payer(effects: Effects) -> Any:
    """Return a function that pays."""

    @kernel_function
    async def pay(amount: int, currency: str = "EUR") -> str:
        effects.add("pay", amount, currency)
        return f"paid {amount}"

    return pay


def failing(effects: Effects) -> Any:
    """Return a service that asks for a payment and fails, once, when it is told of it."""
    failed: list[bool] = []

    def reply(answered: list[str], _messages: Any) -> Any:
        if not answered:
            return [asks("pay", amount=5)]
        if not failed:
            failed.append(True)
            raise ConnectionError("HTTP 500")
        return answered[0]

    return model(reply, effects)


@pytest.mark.parametrize("face", FACES)
def test_as_04_the_model_fails_after_the_function_and_the_caller_retries(guard: Guard, effects: Effects, face: str) -> None:
    """AS-04: the function succeeds, the model fails, the caller runs the agent again: one payment."""
    agent = surefoot.wrap(cashier(failing(effects), payer(effects)), guard=guard)
    with surefoot.run("order-7"):
        with pytest.raises(ConnectionError):
            invoke(agent, face=face)
        assert invoke(agent, face=face) == "paid 5"
    assert effects.count("pay") == 1


@pytest.mark.parametrize("face", FACES)
def test_as_04_a_thread_is_a_name(guard: Guard, effects: Effects, face: str) -> None:
    """The same on a thread of the framework's, without any other name: one payment, whether the caller's thread is new or not."""
    agent = surefoot.wrap(cashier(failing(effects), payer(effects)), guard=guard)
    with pytest.raises(ConnectionError):
        invoke(agent, face=face, thread=ChatHistoryAgentThread(thread_id="customer-7"))
    assert invoke(agent, face=face, thread=ChatHistoryAgentThread(thread_id="customer-7")) == "paid 5"
    assert effects.count("pay") == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_as_04_a_chat_that_is_tried_again_goes_on(guard: Guard, effects: Effects, streamed: bool) -> None:  # noqa: FBT001 - a parameter
    """A chat history that the framework has written into is asked about again: what is behind in it is not asked for again."""
    made = surefoot.wrap(kernel(failing(effects), payer(effects)), guard=guard)
    history = ChatHistory()
    with surefoot.run("order-7"):
        with pytest.raises(ConnectionError):
            chat(made, history=history, streamed=streamed)
        assert [message.role.value for message in history.messages] == ["user", "assistant", "tool"]
        assert chat(made, "", history=history, streamed=streamed) == "paid 5"
    assert effects.count("pay") == 1
    assert len(guard.runs.list()) == 1


def test_as_04_negative_control_bare_it_pays_twice(effects: Effects) -> None:
    """The same without surefoot pays twice."""
    agent = cashier(failing(effects), payer(effects))
    with pytest.raises(ConnectionError):
        invoke(agent)
    invoke(agent)
    assert effects.count("pay") == 2


@pytest.mark.parametrize("kind", [FilterTypes.FUNCTION_INVOCATION, FilterTypes.AUTO_FUNCTION_INVOCATION])
@pytest.mark.parametrize("wrapped", [True, False])
def test_the_claim_is_made_inside_of_a_filter_that_calls_again(guard: Guard, effects: Effects, kind: FilterTypes, wrapped: bool) -> None:  # noqa: FBT001 - a parameter
    """I2, AS-59: a user's filter, added before or after, calls a function twice for one request: one payment; bare, two."""
    agent = cashier(script([asks("pay", amount=5)], "done"), payer(effects))
    target = surefoot.wrap(agent, guard=guard) if wrapped else agent

    @agent.kernel.filter(kind)
    async def again(context: Any, next: Any) -> None:  # noqa: A002 - the framework's name
        await next(context)
        await next(context)

    with surefoot.run("order-7"):
        assert invoke(target) == "done"
    assert effects.count("pay") == (1 if wrapped else 2)


def test_twins_in_one_reply_are_two(guard: Guard, effects: Effects) -> None:
    """Two equal requests of one reply are two payments, defaults filled in or not; one qualified name stands in the ledger."""
    agent = surefoot.wrap(
        cashier(script([asks("pay", amount=5), asks("pay", amount=5, currency="EUR")], "done"), payer(effects)), guard=guard
    )
    with surefoot.run("order-7"):
        assert invoke(agent) == "done"
    assert effects.all() == [["pay", 5, "EUR"]] * 2
    rows = guard.calls.list()
    assert [(row.tool, json.loads(row.arguments)["currency"]) for row in rows] == [("bank-pay", "EUR")] * 2
    assert len({row.call_id for row in rows}) == 2


def test_one_name_in_two_plugins_is_two_functions(guard: Guard, effects: Effects) -> None:
    """Functions of one name in two plugins are told apart by the name that the model calls."""
    made = kernel(
        script([asks("pay", amount=5), FunctionCallContent(id="b", name="shop-pay", arguments={"amount": 5})], "done"), payer(effects)
    )

    @kernel_function(name="pay")
    async def other(amount: int) -> str:
        effects.add("shop", amount)
        return "paid the shop"

    made.add_function("shop", other)
    with surefoot.run("order-7"):
        assert chat(surefoot.wrap(made, guard=guard)) == "done"
    assert sorted(row.tool for row in guard.calls.list()) == ["bank-pay", "shop-pay"]
    assert (effects.count("pay"), effects.count("shop")) == (1, 1)


def test_what_a_function_raises_is_told_to_the_model(guard: Guard, effects: Effects) -> None:
    """An ordinary error is the framework's words for the model; what did not happen runs again when it is asked for."""

    @kernel_function
    async def pay(amount: int) -> str:
        effects.add("pay", amount)
        if effects.count("pay") == 1:
            raise NotCommitted("the bank is closed")
        return "paid"

    told: list[str] = []

    def reply(answered: list[str], _messages: Any) -> Any:
        told[:] = answered
        return "done" if "paid" in answered else [asks("pay", amount=5)]

    agent = surefoot.wrap(cashier(model(reply), pay), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent) == "done"
    assert told == ["An error occurred while invoking the function bank-pay: the bank is closed", "paid"]


@pytest.mark.parametrize("how", ["agent", "invoke", "prompt"])
def test_as_91_a_hold_reaches_the_caller(guard: Guard, effects: Effects, how: str) -> None:
    """A declared unsafe call in doubt holds the run: no layer of the framework makes words or another error of it."""

    @kernel_function
    @surefoot.tool(effect="unsafe")
    async def pay(amount: int) -> str:
        effects.add("pay", amount)
        raise ConnectionError("connection lost")

    made = kernel(script([asks("pay", amount=5)], [asks("pay", amount=5)], "done"), pay)

    def run() -> Any:
        if how == "agent":
            return invoke(surefoot.wrap(cashier(made.get_service(), pay), guard=guard))
        wrapped = surefoot.wrap(made, guard=guard)
        if how == "prompt":
            return asyncio.run(_prompted(wrapped))
        return asyncio.run(wrapped.invoke(plugin_name="bank", function_name="pay", amount=5))

    with surefoot.run("order-7"):
        if how == "invoke":
            with pytest.raises(KernelInvokeException) as told:
                run()
            assert isinstance(told.value.__cause__, ConnectionError)
        with pytest.raises(InDoubt):
            run()
    assert effects.count("pay") == 1


async def _prompted(made: Any) -> Any:
    from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
    from semantic_kernel.connectors.ai.prompt_execution_settings import PromptExecutionSettings
    from semantic_kernel.functions import KernelArguments

    settings = PromptExecutionSettings(function_choice_behavior=FunctionChoiceBehavior.Auto())
    return await made.invoke_prompt("Charge {{$what}}.", arguments=KernelArguments(settings=settings, what="order 7"))


def test_a_prompt_function_is_a_run_and_its_calls_are_claimed(guard: Guard, effects: Effects) -> None:
    """A prompt that code invokes is a run of its own; killed in words only, and asked again, it pays once."""
    made = surefoot.wrap(kernel(failing(effects), payer(effects)), guard=guard)
    with surefoot.run("order-7"):
        with pytest.raises(KernelInvokeException):
            asyncio.run(_prompted(made))
        assert str(asyncio.run(_prompted(made))) == "paid 5"
    assert effects.count("pay") == 1
    assert effects.count("model") == 3


def test_a_kernel_covers_the_agents_that_are_made_with_it(guard: Guard, effects: Effects) -> None:
    """An agent that has a guarded kernel is covered without being wrapped: its turn is a run, by the name of its instructions' author."""
    from semantic_kernel.agents import ChatCompletionAgent

    made = surefoot.wrap(kernel(failing(effects), payer(effects)), guard=guard)
    agent = ChatCompletionAgent(kernel=made, name="cashier", instructions="Pay.")
    with surefoot.run("order-7"):
        with pytest.raises(ConnectionError):
            invoke(agent)
        assert invoke(agent) == "paid 5"
    assert effects.count("pay") == 1
    assert {row.path for row in guard.calls.list()} == {"cashier#1"}


@pytest.mark.parametrize("shape", ["sequential", "concurrent", "handoff"])
def test_as_04_an_orchestration_in_a_run_repeats_nothing(guard: Guard, effects: Effects, shape: str) -> None:
    """Agents that an orchestration runs are steps of the run around it: failed after one has paid and run again, one payment each."""
    failed: list[bool] = []

    def fails(answered: list[str], _messages: Any) -> Any:
        if not answered:
            return [asks("pay", amount=7)]
        if not failed:
            failed.append(True)
            raise ConnectionError("HTTP 500")
        return "second done"

    a = surefoot.wrap(cashier(script([asks("pay", amount=5)], "first done"), payer(effects)), guard=guard)
    b = cashier(model(fails), payer(effects))
    b.name = "clerk"
    b = surefoot.wrap(b, guard=guard)

    async def main(task: str) -> str:
        runtime = InProcessRuntime()
        runtime.start()
        try:
            if shape == "sequential":
                made: Any = SequentialOrchestration(members=[a, b])
            elif shape == "concurrent":
                made = ConcurrentOrchestration(members=[a, b])
            else:
                made = HandoffOrchestration(members=[b, a], handoffs=OrchestrationHandoffs().add(b.name, a.name))
            result = await made.invoke(task=task, runtime=runtime)
            return str(await result.get(timeout=20))
        finally:
            await runtime.stop()

    whole = surefoot.wrap(main, guard=guard)
    with surefoot.run("order-7"):
        if shape == "handoff":
            failed.append(True)
        else:
            with pytest.raises(ConnectionError):
                asyncio.run(whole("order 7"))
        asyncio.run(whole("order 7"))
    assert sorted(effects.all()) == ([["pay", 7, "EUR"]] if shape == "handoff" else [["pay", 5, "EUR"], ["pay", 7, "EUR"]])


class NoSorry(Verifier):
    """Rejects an answer that says sorry."""

    def verify(self, output: surefoot.StepOutput) -> Verdict:
        """Judge."""
        return Verdict.failed("INCOMPLETE", "Say what was paid.") if "sorry" in str(output.output) else Verdict.passed()


@pytest.mark.parametrize("face", [*FACES, "chat"])
def test_a_rejected_answer_is_tried_again_with_the_hint(tmp_path: Any, effects: Effects, face: str) -> None:
    """A verifier's hint is the newest words of the user, what was rejected is taken back, the payment is not repeated."""

    def reply(answered: list[str], messages: Any) -> Any:
        told = any("Say what was paid." in str(message) for message in messages)
        return (answered[0] if told else "sorry") if answered else [asks("pay", amount=5)]

    thread, history = ChatHistoryAgentThread(thread_id="t"), ChatHistory()
    rules = {name: StepRule(verifier=NoSorry()) for name in ("cashier", "chat")}
    with Guard(f"sqlite:///{tmp_path}/surefoot.db", steps=rules) as guard, surefoot.run("order-7"):
        if face == "chat":
            assert chat(surefoot.wrap(kernel(model(reply), payer(effects)), guard=guard), history=history) == "paid 5"
            said = [str(message) for message in history.messages if message.role == "user"]
            assert said == ["order 7", "Say what was paid."]
        else:
            agent = surefoot.wrap(cashier(model(reply), payer(effects)), guard=guard)
            if face == "stream":
                with pytest.raises(VerificationFailed):
                    invoke(agent, face=face, thread=thread)
            else:
                assert invoke(agent, face=face, thread=thread) == "paid 5"
                assert "sorry" not in [str(message) for message in asyncio.run(_messages(thread))]
    assert effects.count("pay") == 1


async def _messages(thread: Any) -> list[Any]:
    return [message async for message in thread.get_messages()]


def test_as_32_a_conversation_that_lacks_an_answer_is_made_whole(guard: Guard, effects: Effects) -> None:
    """A history in which a crash left a request without its answer is given one, from the ledger, where the user says something new."""
    asked = asks("pay", amount=5)
    made = surefoot.wrap(kernel(script([asked], "done"), payer(effects)), guard=guard)
    with surefoot.run("first", thread="customer-7"):
        chat(made)
    seen: list[Any] = []

    def reply(_answered: list[str], messages: Any) -> str:
        seen[:] = [[message.role.value, str(message.items[0].result) if message.role == "tool" else ""] for message in messages]
        return "well"

    history = ChatHistory()
    history.add_user_message("order 7")
    unknown = asks("pay", amount=9)
    history.add_message(ChatMessageContent(role="assistant", items=[asked, unknown]))
    again = surefoot.wrap(kernel(model(reply), payer(effects)), guard=guard)
    with surefoot.run("second", thread="customer-7"):
        assert chat(again, "And?", history=history) == "well"
    assert [role for role, _ in seen] == ["user", "assistant", "tool", "tool", "user"]
    assert seen[2][1] == "paid 5"
    assert seen[3][1].startswith("Outcome unknown")
    assert effects.count("pay") == 1


def test_as_77_offline_replay(guard: Guard, effects: Effects) -> None:
    """AS-77: a recorded run is replayed with no model and no function, as often as one likes, on either face."""
    import surefoot_journal

    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done well", effects=effects), payer(effects)), guard=guard)
    with surefoot.run("order-7"):
        invoke(agent, face="stream")
    before = effects.all()
    for face in FACES:
        with surefoot_journal.offline(guard, guard.runs.list()[0].run_id) as replay:
            assert invoke(agent, face=face) == "done well"
        assert len(replay.calls) == 1
    assert effects.all() == before


def test_a_changed_prompt_is_evented_and_replayed(guard: Guard, effects: Effects) -> None:
    """Other instructions than before the crash are evented; the recorded reply is given."""
    said = failing(effects)
    with surefoot.run("order-7"):
        with pytest.raises(ConnectionError):
            invoke(surefoot.wrap(cashier(said, payer(effects), instructions="Today is Monday."), guard=guard))
        assert invoke(surefoot.wrap(cashier(said, payer(effects), instructions="Today is Tuesday."), guard=guard)) == "paid 5"
    assert len(events(guard, "model.prompt_changed")) == 1
    assert effects.count("pay") == 1


def test_agents_at_the_same_time_are_told_apart(guard: Guard, effects: Effects) -> None:
    """Two invocations of one agent in one loop, under two names, have two payments of two runs."""
    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done"), payer(effects)), guard=guard)

    async def one(name: str) -> str:
        with surefoot.run(name):
            return await ainvoke(agent, "order", "stream")

    async def both() -> list[str]:
        return await asyncio.gather(one("a"), one("b"))

    assert asyncio.run(both()) == ["done", "done"]
    assert len({row.run_id for row in guard.calls.list()}) == 2
    assert effects.count("pay") == 2


def test_a_function_that_yields_is_recorded(guard: Guard, effects: Effects) -> None:
    """A function that code invokes as a stream yields as it goes, and is recorded as one call."""

    @kernel_function
    async def count(to: int) -> Any:
        for number in range(to):
            effects.add("count", number)
            yield number

    made = surefoot.wrap(kernel(script("never"), count), guard=guard)

    async def items() -> list[Any]:
        return [item async for item in made.invoke_stream(plugin_name="bank", function_name="count", to=3)]

    with surefoot.run("order-7"):
        assert asyncio.run(items()) == [0, 1, 2]
    assert [(row.tool, row.state) for row in guard.calls.list()] == [("bank-count", "committed")]


def test_a_declared_rule_is_found_on_the_method(guard: Guard, effects: Effects) -> None:
    """``@surefoot.tool`` on the method of a plugin's object is its rule, by the name that the model calls."""

    class Bank:
        @kernel_function
        @surefoot.tool(effect="unsafe", key=["order"])
        async def pay(self, order: str) -> str:
            effects.add("pay", order)
            return "paid"

    made = kernel(script([asks("pay", order="7")], "done"))
    made.add_plugin(Bank(), "bank")
    agent = surefoot.wrap(made, guard=guard)
    for name in ("one", "two"):
        with surefoot.run(name):
            assert chat(agent) == "done"
    assert guard.rule("bank-pay") == ToolRule(effect="unsafe", key=["order"])
    assert effects.count("pay") == 1
