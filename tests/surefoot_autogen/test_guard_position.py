"""The guard proves that it sits at the body, and says loudly where it cannot."""

from __future__ import annotations

import ast
import asyncio
import importlib.metadata
import re
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, CodeExecutorAgent
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core.code_executor import CodeExecutor
from autogen_core.model_context import BufferedChatCompletionContext
from autogen_core.tools import FunctionTool
from autogen_support import asks, cashier, invoke, script
from crash import Effects

import surefoot
import surefoot_autogen
from surefoot import AdapterUnavailable, Effect, Guard, SurefootWarning, UsageError
from surefoot_autogen import _support


def test_as60_private_names_are_listed_with_the_test_that_owns_them() -> None:
    """Of the framework the adapter touches one private name, ``FunctionTool._func``, which the next test owns."""
    touched: set[str] = set()
    own: set[str] = set()
    for source in Path(surefoot_autogen.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(source.read_text())))
        own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)}
        own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self"}
        touched |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)}
        texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
        touched |= {text for text in texts if re.fullmatch(r"_[a-z][a-z_]*", text)}
        own.add(source.stem)
    assert touched - own == {"_func"}


def test_as60_a_function_tool_has_its_function_where_the_claim_is_made(guard: Guard) -> None:
    """``FunctionTool._func`` is what runs: of a plain function in a thread, where the call is known."""
    threads: list[int] = []

    def pay(amount: int) -> str:
        threads.append(threading.get_ident())
        return f"{amount} {surefoot.current_call() is not None}"

    tool = FunctionTool(pay, description="Pay.")
    assert vars(tool)["_func"] is pay
    agent = surefoot.wrap(cashier(script([asks("pay", amount=5)], "done"), tool), guard=guard)
    with surefoot.run("order-7"):
        invoke(agent)
    assert threads != [threading.get_ident()]
    assert "5 True" in str(asyncio.run(agent.save_state()))
    assert vars(tool)["_func"] is pay


def test_as61_a_synthetic_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-61: before anything is wrapped a synthetic call is made, and the guard must see it."""
    monkeypatch.setattr(_support.framework, "proven", False)
    _support.framework.ready()
    assert _support.framework.proven


def test_as59_a_tool_that_keeps_its_function_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-59: where a release calls functions past the hook point, wrapping says that the guard is not installed."""

    async def run(self: Any, args: Any, _token: Any) -> Any:
        return self._body(**args.model_dump())

    made = FunctionTool.__init__

    def keeps(self: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        made(self, func, *args, **kwargs)
        self._body = vars(self).pop("_func")

    monkeypatch.setattr(FunctionTool, "run", run)
    monkeypatch.setattr(FunctionTool, "__init__", keeps)
    monkeypatch.setattr(_support.framework, "proven", False)
    with pytest.raises(AdapterUnavailable, match="guard not installed"):
        surefoot.wrap(cashier(script("done")), store="memory://")


def test_as57_a_release_below_the_floor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-57: a release older than the extra allows is refused with what to install."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "0.6.3")
    with pytest.raises(AdapterUnavailable, match="too old"):
        surefoot.wrap(cashier(script("done")), store="memory://")


def test_wrapping_changes_in_place_and_once(guard: Guard) -> None:
    """``wrap`` returns what it was given, of the same class by name; wrapped twice it is one; another guard is refused."""
    agent = cashier(script("done"))
    assert surefoot.wrap(agent, guard=guard) is agent
    assert isinstance(agent, AssistantAgent)
    assert (type(agent).__module__, type(agent).__qualname__) == (AssistantAgent.__module__, AssistantAgent.__qualname__)
    kind = type(agent)
    assert type(surefoot.wrap(agent, guard=guard)) is kind
    with Guard("memory://") as other, pytest.raises(UsageError, match="another guard"):
        surefoot.wrap(RoundRobinGroupChat([agent]), guard=other)


def test_all_that_is_held_is_reached(guard: Guard) -> None:
    """Agents in teams, in AgentTool and TeamTool, their tools, and the models of all of them: what a wrapped team holds is guarded."""

    def pay(amount: int) -> str:
        """Pay."""
        return str(amount)

    models = [script("done") for _ in range(4)]
    deepest = cashier(models[0], pay, name="deepest")
    inner = RoundRobinGroupChat([deepest])
    by_tool = cashier(models[1], TeamTool(inner, name="team", description="Serve."), name="by_tool")
    first = cashier(models[2], AgentTool(by_tool), name="first", model_context=BufferedChatCompletionContext(5))
    surefoot.wrap(SelectorGroupChat([first, cashier(script("x"), name="second")], models[3]), guard=guard)
    adapter = surefoot_autogen.AutoGenAdapter()
    assert [adapter.guard_of(one) for one in (deepest, inner, by_tool, first)] == [guard] * 4
    assert all(getattr(type(model), "surefoot_kinds", None) is not None for model in models)
    assert guard.unclassified() == ["pay"]
    assert [guard.rule(name).effect for name in ("team", "by_tool")] == [Effect.COMPOSITE] * 2


def test_hand_offs_are_no_calls(guard: Guard) -> None:
    """The tools that hand over are the framework's own: nothing is recorded of them, and nobody is told to classify them."""
    agent = surefoot.wrap(cashier(script([asks("transfer_to_clerk")]), handoffs=["clerk"]), guard=guard)
    with surefoot.run("order-7"):
        invoke(agent)
    assert guard.calls.list() == []
    assert guard.unclassified() == []


class Executor(CodeExecutor):
    """Runs nothing."""

    component_type = "code_executor"

    async def execute_code_blocks(self, code_blocks: Any, cancellation_token: Any) -> Any:
        """Run nothing."""

    async def start(self) -> None:
        """Do nothing."""

    stop = restart = start


def test_code_that_an_agent_runs_is_warned_of(guard: Guard) -> None:
    """An agent that runs code by itself cannot be guarded in that: wrapping warns of it, and strict refuses it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the framework warns of it too
        agents = [CodeExecutorAgent("coder", Executor()) for _ in range(2)]
    with pytest.warns(SurefootWarning, match="coder: the code that its executor runs cannot be guarded"):
        surefoot.wrap(agents[0], guard=guard)
    with Guard("memory://", strict=True) as strict, pytest.raises(UsageError, match="cannot be guarded"):
        surefoot.wrap(agents[1], guard=strict)


def test_what_is_shared_with_a_bare_agent_is_itself_there(guard: Guard, effects: Effects) -> None:
    """A tool and a model that a wrapped and a bare agent share are, in the bare one, what they were: nothing is recorded."""

    async def pay(amount: int) -> str:
        effects.add("pay", amount)
        return "paid"

    tool, model = FunctionTool(pay, description="Pay."), script([asks("pay", amount=5)], "done")
    surefoot.wrap(cashier(model, tool), guard=guard)
    assert invoke(cashier(model, tool)) == "done"
    assert effects.count("pay") == 1
    assert (guard.calls.list(), guard.runs.list()) == ([], [])
