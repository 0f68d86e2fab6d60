"""Client sessions of the SDK, guarded where they are called; effects are counted in a file of the server's."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

import surefoot
from surefoot import CallState, Guard, InDoubt, UsageError
from surefoot_mcp import _support
from surefoot_mcp_server.wire import EFFECT, KEY
from surefoot_stores.retention import Retention, prune

SHOP = Path(__file__).parent.parent / "surefoot_mcp_server" / "shop_server.py"
pytestmark = pytest.mark.filterwarnings("ignore:Field 'lifespan' has an incomplete definition")  # SDK 1.26 with a newer pydantic-settings


def effects(folder: Path) -> list[str]:
    """Return what the server did."""
    file = folder / "effects"
    return file.read_text().splitlines() if file.exists() else []


def store(folder: Path) -> str:
    """Return the URL of the ledger."""
    return f"sqlite:///{folder / 'ledger.db'}"


@asynccontextmanager
async def session(folder: Path, guard: Guard, *, proxy: str | None = None, dies: str = "") -> AsyncIterator[Any]:
    """Connect a guarded session to a server without an SDK, through a proxy over the ledger ``proxy`` where one is named."""
    command = [sys.executable, "-S", "-E", str(SHOP), str(folder / "effects")]
    if proxy is not None:
        command = [sys.executable, "-m", "surefoot_cli.main", "--store", proxy, "mcp", "run", "--name", "shop", *command]
    parameters = StdioServerParameters(command=command[0], args=command[1:], env={**os.environ, "SHOP_DIES": dies})
    async with stdio_client(parameters) as streams, ClientSession(*streams) as made:
        await made.initialize()
        yield surefoot.wrap(made, guard=guard)


async def test_a_run_that_is_resumed_does_not_call_again(tmp_path: Path) -> None:
    """A run that raised after a call, started again under its name, gets the call's recorded result; the effect is one."""
    times: list[int] = []
    guard = Guard(store(tmp_path))
    async with session(tmp_path, guard) as client:

        async def agent(words: str) -> Any:
            result = await client.call_tool("pay", {"amount": 7})
            times.append(1)
            if len(times) == 1:
                raise ConnectionError
            return f"{words} {result.content[0].text}"

        wrapped = surefoot.wrap(agent, guard=guard)
        for error in (ConnectionError, None):
            with surefoot.run("invoice-7"):
                if error is not None:
                    with pytest.raises(error):
                        await wrapped("done:")
                else:
                    assert await wrapped("done:") == "done: paid 7"
    assert len(effects(tmp_path)) == 1
    guard.close()


@pytest.mark.parametrize("other", [False, True], ids=["one-ledger", "two-ledgers"])
async def test_a_call_counts_once(tmp_path: Path, *, other: bool) -> None:
    """A call that is guarded where it is made and by the proxy is one row of the ledger that both have; two ledgers have one each."""
    guard = Guard(store(tmp_path))
    theirs = f"sqlite:///{tmp_path / 'other.db'}" if other else store(tmp_path)
    async with session(tmp_path, guard, proxy=theirs) as client:

        async def agent() -> Any:
            return (await client.call_tool("pay", {"amount": 7})).content[0].text

        with surefoot.run("invoice-7"):
            assert await surefoot.wrap(agent, guard=guard)() == "paid 7"
    assert len(effects(tmp_path)) == 1
    assert [(row.tool, row.state) for row in guard.calls.list()] == [("pay", CallState.COMMITTED)]
    guard.close()
    if other:
        with Guard(theirs) as behind:
            assert [(row.tool, row.state) for row in behind.calls.list()] == [("shop/pay", CallState.COMMITTED)]


async def test_a_counted_request_passes_once_i31(tmp_path: Path) -> None:
    """I31: the request of a call that the client's guard has claimed, sent twice under other request ids, has one effect."""
    guard = Guard(store(tmp_path))
    async with session(tmp_path, guard, proxy=store(tmp_path)) as client:
        sent: list[dict[str, Any]] = []

        @surefoot.tool()
        async def pay(amount: int) -> list[Any]:
            active = surefoot.current_call()
            assert active is not None
            meta = {KEY: "k", EFFECT: active.call_id}
            found = [await ClientSession.call_tool(client, "pay", {"amount": amount}, meta=meta) for _ in range(2)]
            sent.extend(result.model_dump(by_alias=True, mode="json", exclude_none=True) for result in found)
            return ["paid"]

        async def twice() -> Any:
            return await pay(amount=7)

        with surefoot.run("invoice-7"):
            await surefoot.wrap(twice, guard=guard)()
    assert len(effects(tmp_path)) == 1
    assert [result.get("_meta", {}).get("surefoot/error", {}).get("code") for result in sent] == [None, "idempotency_in_flight"]
    guard.close()


async def test_what_has_passed_is_forgotten_with_its_run(tmp_path: Path) -> None:
    """What the proxy notes of a call that counts elsewhere lasts as long as the run's payloads, and no longer (AS-74)."""
    guard = Guard(store(tmp_path))
    async with session(tmp_path, guard, proxy=store(tmp_path)) as client:

        async def agent() -> Any:
            return (await client.call_tool("pay", {"amount": 7})).content[0].text

        with surefoot.run("invoice-7"):
            await surefoot.wrap(agent, guard=guard)()

    def noted() -> int:
        return len(guard.store.run(lambda tx: tx.records.list("mcp_passed"), write=False))

    ages, now = Retention(payload_ttl=10.0, dedup_ttl=1000.0, max_run_age=100.0), guard.clock()
    prune(guard.store, ages, now + 5)
    assert noted() == 1
    prune(guard.store, ages, now + 500)
    assert noted() == 0
    guard.close()


async def test_a_made_up_row_does_not_pass(tmp_path: Path) -> None:
    """A request that names a row that is not its own is governed as any other."""
    guard = Guard(store(tmp_path))
    async with session(tmp_path, guard, proxy=store(tmp_path)) as client:
        for _ in range(2):
            await ClientSession.call_tool(client, "pay", {"amount": 7}, meta={KEY: "k", EFFECT: "call_made_up"})
    assert len(effects(tmp_path)) == 1
    assert [row.tool for row in guard.calls.list()] == ["shop/pay"]
    guard.close()


async def test_inside_of_a_tool_the_tool_counts(tmp_path: Path) -> None:
    """A session that the body of a governed tool uses claims nothing of its own: the tool's key travels, one for each request."""
    guard = Guard(store(tmp_path))
    async with session(tmp_path, guard, proxy=f"sqlite:///{tmp_path / 'other.db'}") as client:

        @surefoot.tool(effect="unsafe")
        async def settle(amount: int) -> str:
            for given in (amount, amount, 1):
                await client.call_tool("pay", {"amount": given})
            return "settled"

        async def agent() -> str:
            return await settle(amount=7)

        with surefoot.run("invoice-7"):
            await surefoot.wrap(agent, guard=guard)()
    assert len(effects(tmp_path)) == 3
    assert [row.tool for row in guard.calls.list()] == ["settle"]
    guard.close()


async def test_server_dies_as_11(tmp_path: Path) -> None:
    """AS-11: behind the proxy a server commits and dies; the call is in doubt in the client's ledger too, and stays so."""
    guard = Guard(store(tmp_path), tools={"pay": surefoot.ToolRule(effect="unsafe")})
    for dies in ("after", ""):
        async with session(tmp_path, guard, proxy=f"sqlite:///{tmp_path / 'other.db'}", dies=dies) as client:

            async def agent(client: Any = client) -> Any:
                return await client.call_tool("pay", {"amount": 7})

            with surefoot.run("invoice-7"), pytest.raises(InDoubt):
                await surefoot.wrap(agent, guard=guard)()
    assert len(effects(tmp_path)) == 1
    assert [row.state for row in guard.calls.list()] == [CallState.IN_DOUBT]
    guard.close()


async def test_a_refusal_is_no_effect(tmp_path: Path) -> None:
    """What the proxy refuses did not happen: the caller gets the refusal, and may ask again."""
    guard = Guard(store(tmp_path))
    other = f"sqlite:///{tmp_path / 'other.db'}"
    async with session(tmp_path, guard, proxy=other) as client:
        with Guard(other) as behind:
            behind.transact(_pins())

        async def agent() -> Any:
            return await client.call_tool("pay", {"amount": 7})

        with surefoot.run("invoice-7"):
            result = await surefoot.wrap(agent, guard=guard)()
    found = result.model_dump(by_alias=True, mode="json")
    assert found["_meta"]["surefoot/error"]["code"] == "pin_mismatch"
    assert effects(tmp_path) == []
    assert [row.state for row in guard.calls.list()] == [CallState.FAILED]
    guard.close()


def _pins() -> Any:
    """Return a transaction that approves nothing of the server."""
    from surefoot.engine.program import Tx

    return Tx(lambda unit: unit.records.put("mcp_pins", "shop", {}))


async def test_error_results_are_answers(tmp_path: Path) -> None:
    """What a tool says instead of a result reaches the caller as a result with ``isError``, as without a guard."""
    guard = Guard(store(tmp_path))
    async with session(tmp_path, guard) as client:

        async def agent() -> Any:
            return await client.call_tool("refuse", {})

        with surefoot.run("invoice-7"):
            result = await surefoot.wrap(agent, guard=guard)()
    assert result.content[0].text == "the card was declined"
    assert effects(tmp_path) == ["refuse"]
    assert [row.state for row in guard.calls.list()] == [CallState.RAISED]
    guard.close()


async def test_outside_of_runs(tmp_path: Path) -> None:
    """A guarded session is for runs; outside of one a call is refused with what to do. A second guard is refused too."""
    guard = Guard(store(tmp_path))
    async with session(tmp_path, guard) as client:
        with pytest.raises(UsageError, match="outside of any run"):
            await client.call_tool("pay", {"amount": 7})
        with pytest.raises(UsageError, match="another guard"):
            surefoot.wrap(client, guard=Guard("memory://"))
    assert effects(tmp_path) == []
    guard.close()


@pytest.mark.skipif(not _support.SECOND, reason="SDK 1.x has no such client")
async def test_a_client_before_it_is_entered() -> None:
    """A ``Client`` has no session before it is entered, and is refused with what to do."""
    from mcp import Client

    server = _support.server_class()("shop")
    with pytest.raises(UsageError, match="async with"):
        surefoot.wrap(Client(server), guard=Guard("memory://"))
    async with Client(server) as client:
        assert surefoot.wrap(client, guard=Guard("memory://")) is client
