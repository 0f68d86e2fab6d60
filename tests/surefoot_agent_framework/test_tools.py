"""Tools are guarded wherever they come from: the agent, the run, context providers, MCP servers."""

from __future__ import annotations

import asyncio
import functools
import sys
from pathlib import Path
from typing import Any

import pytest
from agent_framework import Content, ContextProvider, FunctionInvocationContext, FunctionTool, MCPStdioTool
from crash import Effects
from maf_support import FACES, Again, ainvoke, asks, cashier, invoke, model, payer, script

import surefoot
from surefoot import Guard

SHOP = Path(__file__).parent.parent / "surefoot_mcp_server" / "shop_server.py"


class Lending(ContextProvider):
    """A context provider that brings a tool, and a middleware that calls tools twice."""

    def __init__(self, tool: FunctionTool) -> None:
        super().__init__("lending")
        self._tool = tool

    async def before_run(self, *, agent: Any, session: Any, context: Any, state: Any) -> None:
        """Bring them."""
        context.extend_tools("lending", [self._tool])
        context.extend_middleware("lending", [Again()])


class Own(FunctionTool):
    """A tool of somebody's own that comes to no function."""

    effects: Effects

    async def invoke(self, *, arguments: Any = None, context: Any = None, **_given: Any) -> Any:
        """Pay."""
        self.effects.add("pay", (arguments or context.arguments)["amount"])
        return [Content.from_text("paid 5")]


@pytest.mark.filterwarnings("ignore:.*experimental:FutureWarning")  # a tool that adds tools is that, to the framework
@pytest.mark.parametrize("source", ["run", "options", "provider", "added", "partial", "nested", "own"])
@pytest.mark.parametrize("face", FACES)
def test_a_tool_is_guarded_wherever_it_comes_from(guard: Guard, effects: Effects, source: str, face: str) -> None:
    """Tools of the run, of its options, of context providers, added by tools, made of partial functions, of other tools, or of none."""
    pay = payer(effects)
    asked: list[list[Content]] = [[asks("pay", amount=5)]]
    tools: list[Any] = []
    options: dict[str, Any] = {}
    if source in {"run", "options"}:
        options = {"tools": [pay]} if source == "run" else {"options": {"tools": [pay]}}
    elif source == "added":

        def load(ctx: FunctionInvocationContext) -> str:
            ctx.add_tools([pay])
            return "loaded"

        tools, asked = [load], [[asks("load")], *asked]
    elif source == "partial":
        tools = [FunctionTool(name="pay", func=functools.partial(pay.func, currency="USD"))]  # type: ignore[arg-type] # it has one
    elif source == "nested":
        tools = [FunctionTool(name="pay", func=pay)]
    elif source == "own":
        own = Own(name="pay", func=pay.func)
        own.effects = effects
        tools = [own]
    providers = [Lending(pay)] if source == "provider" else []
    agent = surefoot.wrap(cashier(script(*asked, "done"), *tools, context_providers=providers), guard=guard)
    with surefoot.run("order-7"):
        assert invoke(agent, face=face, **options) == "done"
    assert effects.count("pay") == 1
    assert [str(row.state) for row in guard.calls.list() if row.tool == "pay"] == ["committed"]


@pytest.mark.parametrize("of_run", [True, False])
@pytest.mark.parametrize("face", FACES)
def test_a_function_of_an_mcp_server_is_claimed_by_its_servers_name(tmp_path: Any, guard: Guard, face: str, *, of_run: bool) -> None:
    """A function of an MCP server, of the agent or of a run, is ``server/tool``, and is called once: the server counts."""
    shop = MCPStdioTool("shop", sys.executable, args=["-S", "-E", str(SHOP), str(tmp_path / "paid")], load_prompts=False)
    failed: list[bool] = []

    def reply(answered: list[str], _messages: Any) -> Any:
        if answered and not failed:
            failed.append(True)
            raise ConnectionError("HTTP 500")
        return answered[0] if answered else [asks("pay", amount=5)]

    async def whole() -> str:
        agent = surefoot.wrap(cashier(model(reply), *([] if of_run else [shop])), guard=guard)
        options = {"tools": [shop]} if of_run else {}
        async with shop:
            with surefoot.run("order-7"):
                with pytest.raises(ConnectionError):
                    await ainvoke(agent, face=face, **options)
                return (await ainvoke(agent, face=face, **options)).messages[-1].text

    told = asyncio.run(whole())
    assert (tmp_path / "paid").read_text().splitlines() == ["pay {}"]  # its schema names no argument, so the framework passes none on
    assert [(row.tool, str(row.state)) for row in guard.calls.list()] == [("shop/pay", "committed")]
    assert told == '{"paid": null}'
