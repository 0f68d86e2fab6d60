"""Servers made with the SDK, guarded in their own process; effects are counted in a file or a list outside of the guard."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client

import surefoot
from surefoot import CallState, Effect, Guard, UsageError
from surefoot_mcp import _support

HERE = Path(__file__).parent
KEY = "surefoot/idempotencyKey"
pytestmark = pytest.mark.filterwarnings("ignore:Field 'lifespan' has an incomplete definition")  # SDK 1.26 with a newer pydantic-settings


class Shop:
    """A server in this process, and what its tools did."""

    def __init__(self, guard: Guard) -> None:
        self.effects: list[str] = []
        self.server: Any = _support.server_class()("shop")
        self.server.add_tool(self.pay)
        self.server.add_tool(self.refuse)
        self.server.add_tool(self.search)
        surefoot.wrap(self.server, guard=guard)

    def pay(self, amount: int) -> dict[str, int]:
        """Pay an amount."""
        call = surefoot.current_call()
        self.effects.append(f"pay {amount} {call.tool if call else 'ungoverned'}")
        return {"paid": amount}

    def refuse(self) -> str:
        """Do something, and fail."""
        self.effects.append("refuse")
        raise ValueError("the card was declined")

    @surefoot.tool(effect="read")
    def search(self) -> str:
        """Look."""
        self.effects.append("search")
        return "found"

    async def ask(self, tool: str, arguments: dict[str, Any] | None = None, *, key: str | None = None) -> dict[str, Any]:
        """Call a tool as a client of this server."""
        async with _support.connected(self.server) as client:
            result = await client.call_tool(tool, arguments or {}, meta={KEY: key} if key else None)
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)


async def test_reissued_i31() -> None:
    """I31: sent again under its key, a call has one effect and an equal result, which says that it is a recorded one."""
    guard = Guard("memory://")
    shop = Shop(guard)
    first, second = [await shop.ask("pay", {"amount": 7}, key="order-1") for _ in range(2)]
    assert second.pop("_meta")["surefoot/replayed"] is True
    first.pop("_meta", None)
    assert first == second
    assert first["structuredContent"] == {"paid": 7}
    assert shop.effects == ["pay 7 pay"]
    assert [(row.tool, row.state) for row in guard.calls.list()] == [("pay", CallState.COMMITTED)]


async def test_without_a_key_equal_calls_are_two() -> None:
    """Where nobody says which operation a call is, an equal one after a delivered result is a second one, as without a guard."""
    shop = Shop(Guard("memory://"))
    for _ in range(2):
        await shop.ask("pay", {"amount": 7})
    assert len(shop.effects) == 2


async def test_business_keys() -> None:
    """Fields that are declared as a key are one, whatever the client sends."""
    shop = Shop(Guard("memory://", tools={"pay": surefoot.ToolRule(key=["amount"])}))
    for _ in range(2):
        await shop.ask("pay", {"amount": 7})
    assert len(shop.effects) == 1


async def test_error_results_are_answers() -> None:
    """What a tool raises reaches its client as it does without a guard; the same key gets it again, without running the tool."""
    shop = Shop(Guard("memory://"))
    first, second = [await shop.ask("refuse", key="k") for _ in range(2)]
    assert first["isError"]
    assert second["content"] == first["content"]
    assert shop.effects == ["refuse"]


async def test_declarations_of_the_author_count() -> None:
    """What ``@surefoot.tool`` says below the SDK's decorator is in force; the others are unclassified."""
    guard = Guard("memory://")
    shop = Shop(guard)
    assert guard.rule("search").effect is Effect.READ
    assert guard.unclassified() == ["pay", "refuse"]
    for _ in range(2):
        await shop.ask("search", key="k")
    assert shop.effects == ["search"] * 2


async def test_conflicts_as_87() -> None:
    """AS-87: a key that was used with other arguments is refused with the code of the Agentic Commerce Protocol."""
    shop = Shop(Guard("memory://"))
    await shop.ask("pay", {"amount": 7}, key="k")
    found = await shop.ask("pay", {"amount": 8}, key="k")
    assert found["_meta"]["surefoot/error"] == {"code": "idempotency_conflict", "status": 422}
    assert len(shop.effects) == 1


async def test_a_tool_that_comes_later_is_governed() -> None:
    """A tool that is added after wrapping is governed too, as its author declared it."""
    guard = Guard("memory://")
    shop = Shop(guard)
    shop.server.add_tool(surefoot.tool(effect="unsafe")(later), name="later")
    await shop.ask("later", key="k")
    assert [(row.tool, row.effect) for row in guard.calls.list()] == [("later", Effect.UNSAFE)]


def later() -> str:
    """Do something."""
    return "done"


def test_two_guards() -> None:
    """A server that has a guard keeps it; another one is refused."""
    shop = Shop(Guard("memory://"))
    with pytest.raises(UsageError, match="another guard"):
        surefoot.wrap(shop.server, guard=Guard("memory://"))


async def test_low_level_servers() -> None:
    """A low-level server is governed in the same way."""
    effects: list[str] = []
    guard = Guard("memory://")
    server = surefoot.wrap(low_level(effects), guard=guard)
    for _ in range(2):
        async with _support.connected(server) as client:
            result = await client.call_tool("pay", {"amount": 7}, meta={KEY: "k"})
        assert result.content[0].text == "paid"
    assert effects == ["pay"]


def low_level(effects: list[str]) -> Any:
    """Return a low-level server."""
    from mcp.server.lowlevel import Server

    schema = {"type": "object"}
    content = [types.TextContent(type="text", text="paid")]
    if _support.SECOND:

        async def listed(*_: Any) -> Any:
            return types.ListToolsResult(tools=[types.Tool(name="pay", input_schema=schema)])

        async def called(*_: Any) -> Any:
            effects.append("pay")
            return types.CallToolResult(content=content)

        return Server("shop", on_list_tools=listed, on_call_tool=called)
    server: Any = Server("shop")

    @server.list_tools()
    async def tools() -> Any:
        return [types.Tool(name="pay", inputSchema=schema)]

    @server.call_tool()
    async def call(*_: Any) -> Any:
        effects.append("pay")
        return content

    return server


@pytest.mark.skipif(_support.SECOND, reason="a low-level server of SDK 2.x is given its handlers when it is made")
def test_a_low_level_server_without_tools() -> None:
    """A low-level server that has no handler yet is refused with what to do."""
    from mcp.server.lowlevel import Server

    with pytest.raises(UsageError, match="below its @call_tool"):
        surefoot.wrap(Server("empty"), guard=Guard("memory://"))


@pytest.mark.timeout(60)
def test_server_dies_as_11(tmp_path: Path) -> None:
    """AS-11: a guarded server that dies after the effect: the call is in doubt in the next process, and its effect is one."""

    async def ask(dies: str) -> dict[str, Any] | None:
        arguments = [str(HERE / "sdk_guarded.py"), f"sqlite:///{tmp_path / 'ledger.db'}", str(tmp_path / "effects")]
        environment = {**os.environ, "SHOP_DIES": dies}
        parameters = StdioServerParameters(command=sys.executable, args=arguments, env=environment)
        async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
            await session.initialize()
            try:
                result = await session.call_tool("pay", {"amount": 7}, meta={KEY: "order-1"})
            except _support.error_class():
                return None
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)

    assert asyncio.run(ask("1")) is None
    found = asyncio.run(ask(""))
    assert found is not None
    assert found["_meta"]["surefoot/error"]["code"] == "in_doubt"
    assert (tmp_path / "effects").read_text() == "pay 7\n"


@pytest.mark.sweep
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["1.26.0", "1.30.0"])
def test_first_version_as_58(tmp_path: Path, version: str) -> None:
    """AS-58: the same tests hold with the oldest SDK that the extra allows, and with the last of its first version."""
    root = HERE.parent.parent
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "environment"], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", f"{root}[test]", f"mcp=={version}"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mcp {version} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    done = subprocess.run([python, "-m", "pytest", "-q", HERE, "-n", "0"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_private_names() -> None:
    """AS-60: what the adapter uses of the SDK's private names is there, and is what it takes it for."""
    server: Any = _support.server_class()("shop", tools=[])
    assert [tool.name for tool in server._tool_manager.list_tools()] == []
    low = server._lowlevel_server if _support.SECOND else server._mcp_server
    assert (type(low).__module__, type(low).__qualname__) == ("mcp.server.lowlevel.server", "Server")
