"""The guard proves that it sits at the body, and says loudly where it cannot; the private names that it touches."""

from __future__ import annotations

import ast
import asyncio
import importlib.metadata
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from agent_framework import Agent, BaseChatClient, FunctionInvocationLayer, FunctionTool
from crash import Effects
from maf_support import asks, cashier, invoke, payer, script

import surefoot
import surefoot_agent_framework
from surefoot import AdapterUnavailable, Guard, SurefootWarning, UsageError
from surefoot_agent_framework import _support

PRIVATE = {"_inner_get_response"}


def test_as_60_private_names_are_listed_with_the_test_that_owns_them() -> None:
    """The adapter touches this underscore name of the framework and no other: who writes a client writes it; the next test owns it."""
    touched: set[str] = set()
    own: set[str] = set()
    for source in Path(surefoot_agent_framework.__file__).parent.glob("*.py"):
        text = source.read_text()
        nodes = list(ast.walk(ast.parse(text)))
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)}
        own |= defined - PRIVATE
        own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self"}
        touched |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)}
        touched |= set(re.findall(r"\"(_[a-z]\w+)\"", text)) | (defined & PRIVATE)
        own.add(source.stem)
    assert touched - own == PRIVATE


def test_as_60_a_client_is_written_by_its_inner_method() -> None:
    """The scripted client, of the canary and of the tests, overrides what the framework has its authors override."""
    assert "_inner_get_response" in BaseChatClient.__abstractmethods__


def test_as_60_the_function_of_as_tool_holds_its_agent() -> None:
    """An agent as a tool is found in the function's closure, by the name of a method's own object."""
    function: Any = cashier(script("done")).as_tool().func
    held = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))
    assert isinstance(held["self"].cell_contents, Agent)


def test_as_60_a_plain_tool_is_claimed_in_its_thread(guard: Guard) -> None:
    """The framework calls a plain tool in a thread of its own, and there the claim is made; what it returns to be awaited is awaited."""
    seen: list[tuple[int, Any]] = []

    def plain() -> str:
        seen.append((threading.get_ident(), surefoot.current_call()))
        return "plain"

    def later() -> Any:
        async def coro() -> str:
            seen.append((threading.get_ident(), surefoot.current_call()))
            return "later"

        return coro()

    agent = surefoot.wrap(cashier(script([asks("plain"), asks("later")], "done"), plain, later), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent) == "done"
    assert sorted(call.tool for _, call in seen) == ["later", "plain"]
    assert {call.tool: thread == threading.get_ident() for thread, call in seen} == {"plain": False, "later": True}
    assert sorted(row.value or "" for row in guard.calls.list()) == ['"later"', '"plain"']


def test_as_61_a_synthetic_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-61: before anything is wrapped a synthetic call is made, and the guard must see it."""
    monkeypatch.setattr(_support.framework, "proven", False)
    _support.framework.ready()
    assert _support.framework.proven


def test_as_59_tools_that_are_called_past_their_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-59: where a release keeps what a tool runs elsewhere, wrapping says that the guard is not installed."""

    async def invoke(self: Any, *, arguments: Any = None, context: Any = None, **_given: Any) -> Any:
        return self.parse_result(vars(self)["func"](**dict(arguments or context.arguments)))

    monkeypatch.setattr(FunctionTool, "invoke", invoke)
    monkeypatch.setattr(_support.framework, "proven", False)
    with pytest.raises(AdapterUnavailable, match="guard not installed"):
        surefoot.wrap(cashier(script("done")), store="memory://")


def test_as_57_a_release_below_the_floor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-57: a release older than the extra allows is refused with what to install."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "1.7.0")
    with pytest.raises(AdapterUnavailable, match="too old"):
        surefoot.wrap(cashier(script("done")), store="memory://")


def test_the_original_is_left_alone_and_a_wrapped_one_looks_like_it(guard: Guard, effects: Effects) -> None:
    """Wrapping copies: same class by name, ``isinstance``, tools and client; wrapped twice it is one; another guard is refused."""
    agent = cashier(script([asks("pay", amount=5)], "done"), payer(effects))
    client, tools = agent.client, agent.default_options["tools"]
    wrapped = surefoot.wrap(agent, guard=guard)
    for mine, other in ((wrapped, agent), (wrapped.client, client)):
        assert isinstance(mine, type(other))
        assert (type(mine).__module__, type(mine).__qualname__) == (type(other).__module__, type(other).__qualname__)
    assert (type(agent), agent.client, wrapped.default_options["tools"]) == (Agent, client, tools)
    assert wrapped.to_dict() == agent.to_dict()
    assert surefoot.wrap(wrapped, guard=guard) is wrapped
    with Guard("memory://") as other_guard, pytest.raises(UsageError, match="another guard"):
        surefoot.wrap(wrapped, guard=other_guard)
    assert invoke(agent) == "done"
    assert guard.calls.list() == []


class Bare(FunctionInvocationLayer[Any], BaseChatClient[Any]):
    """A client without chat middleware."""

    def _inner_get_response(self, **_given: Any) -> Any:
        raise NotImplementedError


def test_what_a_guard_cannot_see_is_warned_of_and_refused_by_strict(guard: Guard) -> None:
    """Tools that run at the provider, and clients whose replies cannot be kept, are named; a strict guard refuses them."""
    hosted = cashier(script("done"), {"type": "web_search"})
    with pytest.warns(SurefootWarning, match="run at the provider and cannot be guarded \\(web_search\\)"):
        surefoot.wrap(hosted, guard=guard)
    with pytest.warns(SurefootWarning, match="Bare has no ChatMiddlewareLayer"):
        surefoot.wrap(Agent(Bare(), name="bare"), guard=guard)
    with Guard("memory://", strict=True) as strict, pytest.raises(UsageError, match="run at the provider"):
        surefoot.wrap(hosted, guard=strict)


def test_an_unnamed_run_is_warned_of_and_refused_by_strict(caplog: pytest.LogCaptureFixture) -> None:
    """Without a name a run works and the log says that it cannot be resumed; a session is a name; strict refuses it."""
    agent = cashier(script("done"), name="nobody")
    with Guard("memory://") as guard:
        wrapped = surefoot.wrap(agent, guard=guard)
        invoke(wrapped, session=wrapped.create_session(session_id="customer-7"))
        assert [run.thread for run in guard.runs.list()] == ["customer-7"]
        assert "without a name" not in caplog.text
        assert invoke(wrapped) == "done"
        assert "without a name" in caplog.text
    with Guard("memory://", strict=True) as strict, pytest.raises(UsageError, match="needs a name"):
        invoke(surefoot.wrap(agent, guard=strict))


def test_a_stream_belongs_to_the_block_that_it_was_asked_for_in(guard: Guard) -> None:
    """A stream that is asked for in a named block and read behind it is that run; one that nobody reads is none."""

    async def whole() -> None:
        agent = surefoot.wrap(cashier(script("done")), guard=guard)
        with surefoot.run("order-7"):
            stream = agent.run("go", stream=True)
        assert guard.runs.list() == []
        await stream.get_final_response()

    asyncio.run(whole())
    assert [run.thread for run in guard.runs.list()] == ["run:order-7"]
