"""The guard proves that it sits at the body, and says loudly where it cannot; wrapped and bare look alike."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from pai_support import FACES, asks, cashier, invoke, run_sync, says, script
from pydantic_ai import Agent, AgentRunResult
from pydantic_ai._agent_graph import GraphAgentState
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.toolsets import FunctionToolset

import surefoot
import surefoot_pydantic_ai
from surefoot import AdapterUnavailable, Guard, UsageError
from surefoot_pydantic_ai import _support


def test_as_60_private_names_are_listed_with_the_test_that_owns_them() -> None:
    """The adapter touches underscore names of a result and its state alone; the next tests look at these, and at ``call_func``."""
    touched: set[str] = set()
    own: set[str] = set()
    for source in Path(surefoot_pydantic_ai.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(source.read_text())))
        own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)}
        own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self"}
        found = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        found |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
        found |= {part for node in nodes if isinstance(node, ast.ImportFrom) for part in (node.module or "").split(".")}
        touched |= {name for name in found if re.match(r"_[a-z]", name)}
        own.add(source.stem)
    assert touched - own == {"_agent_graph", "_new_message_index", "_state"}


def test_as_60_a_function_tool_has_its_function_where_the_claim_is_made(guard: Guard, effects: Effects) -> None:
    """The claim is made in the function that ``call_func`` calls: of a plain tool in the thread that runs it."""
    import threading

    threads: list[int] = []

    def pay(amount: int) -> str:
        threads.append(threading.get_ident())
        effects.add("pay", amount)
        return str(surefoot.current_call() is not None)

    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], [says("done")]), pay), guard=guard)
    with surefoot.run("order-7"):
        result = run_sync(agent, "go")
    assert threads != [threading.get_ident()]
    assert "'content': 'True'" in str(result.all_messages()).replace("content='True'", "'content': 'True'")


def test_as_60_a_result_can_be_made_of_a_conversation() -> None:
    """AS-60: the framework's result is made of a state with the messages, and of where its own begin."""
    said = [ModelRequest([UserPromptPart("one")]), ModelResponse([TextPart("two")])]
    made = AgentRunResult("two", _state=GraphAgentState(message_history=said), _new_message_index=1)
    assert (made.output, made.all_messages(), made.new_messages()) == ("two", said, said[1:])


def test_as_61_a_synthetic_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-61: before anything is wrapped a synthetic call is made, and the guard must see it."""
    monkeypatch.setattr(_support.framework, "proven", False)
    _support.framework.ready()
    assert _support.framework.proven


def test_as_59_a_toolset_that_calls_past_what_it_is_handed(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-59: where a release calls functions past the hook point, wrapping says that the guard is not installed."""

    async def call_tool(self: Any, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        return await self.tools[name].function_schema.call(tool_args, ctx)

    monkeypatch.setattr(FunctionToolset, "call_tool", call_tool)
    monkeypatch.setattr(_support.framework, "proven", False)
    with pytest.raises(AdapterUnavailable, match="guard not installed"):
        surefoot.wrap(cashier(script([says("done")])), store="memory://")


def test_as_57_a_release_below_the_floor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-57: a release older than the extra allows is refused with what to install."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "2.61.0")
    with pytest.raises(AdapterUnavailable, match="too old"):
        surefoot.wrap(cashier(script([says("done")])), store="memory://")


def test_the_original_is_left_alone_and_a_wrapped_one_looks_like_it(guard: Guard, effects: Effects) -> None:
    """Wrapping copies: same class by name, ``isinstance``, tools and schemas; wrapped twice it is one; another guard is refused."""

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return "paid"

    agent = cashier(script([asks("pay", amount=5)], [says("done")]), pay)
    wrapped = surefoot.wrap(agent, guard=guard)
    assert isinstance(wrapped, Agent)
    assert (type(wrapped).__module__, type(wrapped).__qualname__) == (type(agent).__module__, type(agent).__qualname__)
    assert type(agent) is Agent
    assert surefoot.wrap(wrapped, guard=guard) is wrapped
    with Guard("memory://") as other, pytest.raises(UsageError, match="another guard"):
        surefoot.wrap(wrapped, guard=other)
    invoke(agent)
    assert guard.calls.list() == []


@pytest.mark.parametrize("face", FACES)
def test_overrides_and_options_of_a_run_are_the_frameworks(guard: Guard, effects: Effects, face: str) -> None:
    """``override`` of the original reaches the copy, and options of a run are passed on: toolsets of the run are guarded too."""

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return "paid"

    agent = cashier(script([says("never")]))
    wrapped = surefoot.wrap(agent, guard=guard)
    with surefoot.run("order-7"), agent.override(model=script([asks("pay", amount=5)], [says("done")])):
        assert invoke(wrapped, face=face, toolsets=[FunctionToolset([pay])]) == "done"
    assert [row.tool for row in guard.calls.list()] == ["pay"]


def test_an_unnamed_run_is_warned_of_and_refused_by_strict(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    """Without a name a run works and the log says that it cannot be resumed; a ``conversation_id`` is a name; strict refuses it."""
    agent = Agent(script([says("done")]), name="nobody")
    wrapped = surefoot.wrap(agent, guard=guard)
    invoke(wrapped, conversation_id="c1")
    assert "without a name" not in caplog.text
    assert invoke(wrapped) == "done"
    assert "without a name" in caplog.text
    with Guard("memory://", strict=True) as strict, pytest.raises(UsageError, match="needs a name"):
        invoke(surefoot.wrap(agent, guard=strict))
