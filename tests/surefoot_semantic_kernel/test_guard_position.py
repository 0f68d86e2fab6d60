"""The guard proves that it sits at the body, and says loudly where it cannot; the private names that it touches."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from semantic_kernel import Kernel
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.agents.chat_completion.chat_completion_agent import ChatHistoryAgentThread
from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
from semantic_kernel.contents import ChatHistory
from semantic_kernel.filters.kernel_filters_extension import KernelFilterExtension
from sk_support import asks, cashier, invoke, kernel, script

import surefoot
import surefoot_semantic_kernel
from surefoot import AdapterUnavailable, Guard, UsageError
from surefoot_semantic_kernel import _support

PRIVATE = {"_chat_history", "_inner_get_chat_message_contents", "_inner_get_streaming_chat_message_contents"}


def test_as_60_private_names_are_listed_with_the_test_that_owns_them() -> None:
    """The adapter touches these underscore names of the framework and no other; the next test owns them."""
    touched: set[str] = set()
    own: set[str] = set()
    for source in Path(surefoot_semantic_kernel.__file__).parent.glob("*.py"):
        text = source.read_text()
        nodes = list(ast.walk(ast.parse(text)))
        own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)} - PRIVATE
        own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in {"self", "made"}}
        touched |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)}
        touched |= set(re.findall(r"getattr\(\w+, \"(_[a-z]\w+)\"", text))
        own.add(source.stem)
    assert touched - own == PRIVATE


def test_as_60_private_names_are_there() -> None:
    """A chat service is made by writing these two methods, by the framework's own word; a thread keeps its conversation here."""
    for name in ("_inner_get_chat_message_contents", "_inner_get_streaming_chat_message_contents"):
        assert list(inspect.signature(getattr(ChatCompletionClientBase, name)).parameters)[1:3] == ["chat_history", "settings"]
    history = ChatHistory()
    thread: Any = ChatHistoryAgentThread(chat_history=history)
    assert thread._chat_history is history


def test_as_61_a_synthetic_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-61: before anything is wrapped a synthetic call is made, and the guard must see it."""
    monkeypatch.setattr(_support.framework, "proven", False)
    _support.framework.ready()
    assert _support.framework.proven


def test_as_59_functions_that_are_called_past_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-59: where a release builds its stacks of filters elsewhere, wrapping says that the guard is not installed."""
    from semantic_kernel.filters.filter_types import FilterTypes
    from semantic_kernel.filters.functions.function_invocation_context import FunctionInvocationContext
    from semantic_kernel.functions.kernel_function import KernelFunction

    async def moved(self: Any, kernel: Any, arguments: Any = None, metadata: Any = None, **kwargs: Any) -> Any:
        context = FunctionInvocationContext(function=self, kernel=kernel, arguments=arguments)
        await KernelFilterExtension.construct_call_stack(kernel, FilterTypes.FUNCTION_INVOCATION, self._invoke_internal)(context)
        return context.result

    monkeypatch.setattr(KernelFunction, "invoke", moved)
    monkeypatch.setattr(_support.framework, "proven", False)
    with pytest.raises(AdapterUnavailable, match="guard not installed"):
        surefoot.wrap(Kernel(), store="memory://")


def test_as_57_a_release_below_the_floor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-57: a release older than the extra allows is refused with what to install."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "1.34.0")
    with pytest.raises(AdapterUnavailable, match="too old"):
        surefoot.wrap(Kernel(), store="memory://")


def test_the_original_is_left_alone_and_a_wrapped_one_looks_like_it(guard: Guard, effects: Effects) -> None:
    """Wrapping copies: same class by name, ``isinstance``, one guard when wrapped twice; another guard is refused."""

    async def pay(amount: int) -> str:
        effects.add("pay", amount)
        return "paid"

    agent = cashier(script([asks("pay", amount=5)], "done"), pay)
    for target in (agent, agent.kernel):
        wrapped = surefoot.wrap(target, guard=guard)
        assert isinstance(wrapped, type(target))
        assert (type(wrapped).__module__, type(wrapped).__qualname__) == (type(target).__module__, type(target).__qualname__)
        assert surefoot.wrap(wrapped, guard=guard) is wrapped
        with Guard("memory://") as other, pytest.raises(UsageError, match="another guard"):
            surefoot.wrap(wrapped, guard=other)
    assert type(agent) is ChatCompletionAgent
    assert type(agent.kernel) is Kernel
    invoke(agent)
    assert guard.calls.list() == []


def test_a_guarded_kernel_shares_its_plugins_and_its_clones_are_guarded(guard: Guard, effects: Effects) -> None:
    """What is added to either kernel both have; a clone, which orchestrations make, is guarded too."""

    async def pay(amount: int) -> str:
        effects.add("pay", amount)
        return "paid"

    bare = kernel(script([asks("pay", amount=5)], "done"))
    wrapped = surefoot.wrap(bare, guard=guard)
    from semantic_kernel.functions import kernel_function

    bare.add_function("bank", kernel_function(pay))
    clone = wrapped.clone()
    with surefoot.run("order-7"):
        assert invoke(ChatCompletionAgent(kernel=clone, name="cashier")) == "done"
    assert [row.tool for row in guard.calls.list()] == ["bank-pay"]
    assert surefoot.wrap(clone, guard=guard) is clone


def test_an_unnamed_run_is_warned_of_and_refused_by_strict(caplog: pytest.LogCaptureFixture) -> None:
    """Without a name a run works and the log says that it cannot be resumed; a thread is a name; strict refuses it."""
    agent = ChatCompletionAgent(kernel=kernel(script("done")), name="nobody")
    with Guard("memory://") as guard:
        wrapped = surefoot.wrap(agent, guard=guard)
        invoke(wrapped, thread=ChatHistoryAgentThread(thread_id="t"))
        assert "without a name" not in caplog.text
        assert invoke(wrapped) == "done"
        assert "without a name" in caplog.text
    with Guard("memory://", strict=True) as strict, pytest.raises(UsageError, match="needs a name"):
        invoke(surefoot.wrap(agent, guard=strict))


def test_as_60_a_plain_function_runs_in_its_call(guard: Guard) -> None:
    """A plain function is claimed where it runs: it sees its call, and one that returns something to await has that awaited."""
    seen: list[Any] = []

    def plain() -> str:
        seen.append(surefoot.current_call())
        return "plain"

    def later() -> Any:
        async def coro() -> str:
            return "later"

        seen.append(surefoot.current_call())
        return coro()

    said = script([asks("plain"), asks("later")], "done")
    with surefoot.run("order-7"):
        assert invoke(surefoot.wrap(cashier(said, plain, later), guard=guard)) == "done"
    assert [call.tool for call in seen] == ["bank-plain", "bank-later"]
    assert sorted(row.value or "" for row in guard.calls.list()) == ['"later"', '"plain"']
