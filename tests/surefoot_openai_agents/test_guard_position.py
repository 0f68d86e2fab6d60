"""The guard proves that it sits at the body, and says loudly where it cannot."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, FunctionTool, Runner, function_tool
from agents import run as framework_run
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner
from crash import Effects
from oai_support import Script, asks, says

import surefoot
import surefoot_openai_agents
from surefoot import AdapterUnavailable, Guard, UsageError
from surefoot_openai_agents import _support, _tools

HERE = "tests/surefoot_openai_agents"
PRIVATE = {
    # name the adapter touches: the test that owns it
    "_invoke_tool_impl": f"{HERE}/test_guard_position.py::test_as_59_a_tool_that_keeps_its_body_elsewhere",
    "__agents_bind_function_tool__": f"{HERE}/test_guard_position.py::test_a_copy_of_a_guarded_tool_is_guarded",
    "the_func": f"{HERE}/test_unguarded.py::test_a_declared_function_keeps_its_rule",
    "_get_function_tool_invoke_context": f"{HERE}/test_guard_position.py::test_a_tool_without_a_decorator_gets_the_context_it_asks_for",
    "_agent_instance": f"{HERE}/test_approvals.py::test_as_94_an_approval_inside_an_agent_as_tool",
    "_tool_origin": f"{HERE}/test_guard_position.py::test_tools_of_an_mcp_server_are_guarded",
    "_agent_ref": f"{HERE}/test_unguarded.py::test_hosted_tools_are_warned_of_and_refused_by_strict",
    "_model_responses": f"{HERE}/test_approvals.py::test_as_38_one_approval_is_one_execution",
    "_original_input": f"{HERE}/test_policy.py::test_as_94_an_approval_inside_an_agent_that_is_a_tool",
    "_find_nested_approval_state": f"{HERE}/test_policy.py::test_as_06_a_rejected_call_is_not_executed",
    "_context": f"{HERE}/test_policy.py::test_as_06_a_rejected_call_is_not_executed",
    "_cancel_mode": f"{HERE}/test_transparent.py::test_a_stream_that_its_consumer_ends_can_be_resumed",
}
"""Beside these it uses two names that the framework documents as experimental: ``set_default_agent_runner`` and ``run_loop_task``."""


def test_as_60_private_names_are_listed_with_the_test_that_owns_them() -> None:
    """Every underscore name of the framework that the adapter touches is in the list above, and nothing else is; each test exists."""
    touched: set[str] = set()
    own: set[str] = set()
    for source in Path(surefoot_openai_agents.__file__).parent.glob("*.py"):
        tree = ast.parse(source.read_text())
        nodes = list(ast.walk(tree))
        own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)}
        own |= {
            node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        touched |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)}
        strings = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
        touched |= {text for text in strings if re.fullmatch(r"_[a-z]\w+|__agents_\w+|the_func", text)}
    modules = {path.stem for path in Path(surefoot_openai_agents.__file__).parent.glob("_*.py")}
    own -= PRIVATE.keys()
    assert touched - own - modules == set(PRIVATE)
    tests = {
        f"{HERE}/{path.name}::{name}"
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert set(PRIVATE.values()) <= tests


def test_as_61_a_synthetic_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first agent is wrapped, one synthetic call goes through the framework, and the guard sees exactly that one."""
    monkeypatch.setattr(_support.framework, "proven", False)
    _support.framework.prove()
    assert _support.framework.proven


def test_as_59_a_tool_that_keeps_its_body_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release whose tools have no body where the guard looks is refused at wrap, with what to do."""
    monkeypatch.setattr(_tools, "_IMPL", "_invoke_elsewhere")
    monkeypatch.setattr(_support.framework, "proven", False)
    with pytest.raises(AdapterUnavailable, match="keep their body elsewhere"):
        surefoot.wrap(Agent(name="a"), store="memory://")
    monkeypatch.setattr(_support.framework, "proven", True)
    with pytest.raises(AdapterUnavailable, match="keep their body elsewhere"):
        surefoot.wrap(Agent(name="a", tools=[function_tool(lambda: "x", name_override="x")]), store="memory://")


def test_as_59_a_runner_that_asks_another_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release whose Runner does not go through the default runner is refused at wrap: the synthetic call was not seen."""
    monkeypatch.setattr(_support.framework, "proven", False)
    monkeypatch.setattr(framework_run, "DEFAULT_AGENT_RUNNER", AgentRunner())
    monkeypatch.setattr("surefoot_openai_agents._runner.install", lambda: None)
    with pytest.raises(AdapterUnavailable, match="guard not installed"):
        surefoot.wrap(Agent(name="a"), store="memory://")


def test_as_57_a_release_below_the_floor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that is too old is refused with the command that mends it."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "0.9.0")
    with pytest.raises(AdapterUnavailable, match=r"0\.9\.0 is too old .*pip install 'openai-agents>=0\.20'"):
        surefoot.wrap(Agent(name="a"), store="memory://")


async def test_a_runner_that_was_set_later_fails_closed(effects: Effects) -> None:
    """Somebody sets another default runner after wrapping: the guarded tool does not run, rather than run unguarded."""

    @function_tool(failure_error_function=None)
    async def pay() -> str:
        effects.add("pay")
        return "paid"

    agent = surefoot.wrap(
        Agent(name="a", model=Script(lambda answered, _i: [says("x")] if answered else [asks("pay")]), tools=[pay]), store="memory://"
    )
    front = get_default_agent_runner()
    set_default_agent_runner(None)
    try:
        with pytest.raises(UsageError, match="outside of a run"):
            await Runner.run(agent, "go")
    finally:
        set_default_agent_runner(front)
    assert effects.count("pay") == 0


async def test_a_copy_of_a_guarded_tool_is_guarded(guard: Guard, effects: Effects) -> None:
    """The framework and its users copy tools: a copy of a guarded one is claimed once, and what stops the run still does."""
    import copy

    @function_tool
    async def pay() -> str:
        effects.add("pay")
        return "paid"

    guard = Guard(guard.store, budget=surefoot.Budget(calls=1))
    wrapped = surefoot.wrap(Agent(name="a", tools=[pay]), guard=guard)
    replies = iter([[asks("pay")], [asks("pay")]])
    agent = wrapped.clone(tools=[copy.copy(wrapped.tools[0])], model=Script(lambda *_: next(replies)))
    with surefoot.run("order-1"), pytest.raises(surefoot.BudgetExceeded):
        await Runner.run(agent, "go")
    assert effects.count("pay") == 1


async def test_a_tool_without_a_decorator_gets_the_context_it_asks_for(guard: Guard) -> None:
    """A tool made by hand is governed at its callable, and gets the context that its annotation asks the framework for."""
    from agents import RunContextWrapper
    from agents.tool_context import ToolContext

    got: list[type] = []

    async def narrow(context: RunContextWrapper[Any], text: str) -> str:
        got.append(type(context))
        return "narrow"

    async def wide(context: ToolContext[Any], text: str) -> str:
        got.append(type(context))
        return "wide"

    schema: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False, "required": []}
    tools = [FunctionTool(f.__name__, "", schema, f) for f in (narrow, wide)]

    def make() -> Agent[Any]:
        model = Script(lambda answered, _i: [says("x")] if answered else [asks("narrow"), asks("wide")])
        return Agent(name="a", model=model, tools=[*tools])

    await Runner.run(make(), "go")
    bare = got[:]
    with surefoot.run("order-1"):
        await Runner.run(surefoot.wrap(make(), guard=guard), "go")
    assert got == bare * 2
    assert sorted((row.tool, str(row.state)) for row in guard.calls.list()) == [("narrow", "committed"), ("wide", "committed")]


async def test_tools_of_an_mcp_server_are_guarded(guard: Guard, effects: Effects) -> None:
    """Tools that an MCP server lists are claimed under the server's name, also when it lists them anew in each turn."""
    from agents.mcp import MCPServer
    from mcp.types import CallToolResult, TextContent
    from mcp.types import Tool as MCPTool

    field = "input_schema" if "input_schema" in MCPTool.model_fields else "inputSchema"

    class Server(MCPServer):
        """A server in this process."""

        @property
        def name(self) -> str:
            return "shop"

        async def connect(self) -> None:
            pass

        async def cleanup(self) -> None:
            pass

        async def list_tools(self, *_args: Any, **_kwargs: Any) -> list[Any]:
            return [MCPTool(**{"name": "pay", field: {"type": "object", "properties": {"order": {"type": "string"}}}})]

        async def call_tool(self, tool_name: str, arguments: Any, *_args: Any, **_kwargs: Any) -> Any:
            effects.add(tool_name, arguments["order"])
            return CallToolResult(content=[TextContent(type="text", text="paid")])

        async def list_prompts(self) -> Any:
            raise NotImplementedError

        async def get_prompt(self, *_args: Any, **_kwargs: Any) -> Any:
            raise NotImplementedError

    failing = [True]

    def reply(answered: list[str], _items: list[Any]) -> Any:
        if answered and failing:
            failing.pop()
            raise RuntimeError("HTTP 500")
        return [says("done")] if answered else [asks("pay", order="1")]

    agent = surefoot.wrap(Agent(name="a", model=Script(reply), mcp_servers=[Server()]), guard=guard)
    with surefoot.run("order-1"):
        with pytest.raises(RuntimeError, match="HTTP 500"):
            await Runner.run(agent, "go")
        assert (await Runner.run(agent, "go")).final_output == "done"
    assert effects.count("pay") == 1
    assert [(row.tool, str(row.state)) for row in guard.calls.list()] == [("shop/pay", "committed")]
