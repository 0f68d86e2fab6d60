"""A server over HTTP behind standard input and output."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp_support import Wire, call_params, code_of, eventually, words
from test_http import MODERN, Shop, running, shop
from test_several import HELLO

from surefoot import CallState, Guard
from surefoot_mcp_server.endpoint import Endpoint, guarding
from surefoot_mcp_server.lines import sink_of, source_of
from surefoot_mcp_server.rules import Rules
from surefoot_mcp_server.servers import Server

__all__ = ["running", "shop"]


class Piped(Wire):
    """A client on pipes of a server over HTTP."""

    guard: Guard


@asynccontextmanager
async def piped(
    folder: Path, url: str, *, limit: float | None = None, authorization: str | None = None, **rules: Any
) -> AsyncIterator[Piped]:
    """Connect pipes to a server over HTTP."""
    servers = [Server(Rules("shop", **rules), url=url, limit=limit, authorization=authorization)]
    guard = guarding(servers, f"sqlite:///{folder / 'ledger.db'}", wait=20.0)
    endpoint = Endpoint(servers, guard, 1.0)
    await endpoint.recover()
    (inner_in, outer_out), (outer_in, inner_out) = os.pipe(), os.pipe()
    found = Piped(outer_out, outer_in)
    found.guard = guard
    connection = await endpoint.connect(await source_of(inner_in), await sink_of(inner_out))
    relaying = asyncio.ensure_future(connection.run())
    try:
        yield found
    finally:
        found.close()
        await asyncio.wait_for(relaying, 30)
        found.done()
        guard.close()


async def test_behind_pipes(tmp_path: Path, shop: Shop) -> None:
    """A server over HTTP is greeted, listed and called from pipes; a call sent again has one effect, and the key reaches the server."""
    async with piped(tmp_path, shop.url) as client:
        assert (await client.ask("initialize", HELLO))["result"]["serverInfo"]["name"] == "shop"
        await client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert [tool["name"] for tool in (await client.ask("tools/list"))["result"]["tools"]] == ["pay"]
        for _ in range(2):
            assert words(await client.call("pay", key="k")) == "paid"
        assert words(await client.call("stream")) == "stream done"
        assert [message["method"] for message in client.seen] == ["notifications/progress"]
    assert shop.effects() == ["pay k", "stream"]


async def test_new_revision_behind_pipes(tmp_path: Path, shop: Shop) -> None:
    """What a request of the new revision says of itself is in its headers; a session that the server began, and our own credential, too."""
    async with piped(tmp_path, shop.url, authorization="Bearer own") as client:
        meta = {"_meta": MODERN}
        first = (await client.ask("test/headers", meta))["result"]["headers"]
        assert (first["mcp-method"], first["mcp-protocol-version"], first["authorization"]) == ("test/headers", "2026-07-28", "Bearer own")
        assert (await client.ask("prompts/get", {**meta, "name": "grüezi"}))["result"]["headers"]["mcp-name"] == "=?base64?Z3LDvGV6aQ==?="
        assert (await client.ask("test/headers", meta))["result"]["headers"]["mcp-session-id"] == "s"


@pytest.mark.parametrize("tool", ["broken", "failing", "elsewhere"])
async def test_dropped_behind_pipes_as_11(tmp_path: Path, shop: Shop, tool: str) -> None:
    """AS-11: a server over HTTP that commits and drops the connection, or fails, leaves a doubt and one effect; the rest goes on."""
    async with piped(tmp_path, shop.url) as client:
        for key in ("k", "k", None):
            assert code_of(await client.call(tool, key=key)) == "in_doubt"
        assert words(await client.call("pay", key="l")) == "paid"
    assert shop.effects() == [tool, "pay l"]


async def test_refused_behind_pipes(tmp_path: Path, shop: Shop) -> None:
    """What the server refuses before it is read as a call, and what cannot reach it, did not happen and may be asked again."""
    async with piped(tmp_path, shop.url) as client:
        for _ in range(2):
            found = await client.call("forbidden", key="k")
            assert (code_of(found), "403" in words(found)) == ("not_executed", True)
    async with piped(tmp_path, "http://127.0.0.1:9/mcp") as client:
        assert code_of(await client.call("pay", key="l")) == "not_executed"
        assert (await client.ask("ping"))["error"]["code"] == -32000
    assert shop.effects() == []


@pytest.mark.parametrize("unsafe", [[], ["slow"]], ids=["unclassified", "unsafe"])
async def test_cancelled_behind_pipes_as_65(tmp_path: Path, shop: Shop, unsafe: list[str]) -> None:
    """AS-65: a cancellation reaches a server over HTTP as its revision has it; an unsafe call is finished instead."""
    async with piped(tmp_path, shop.url, unsafe=unsafe) as client:
        await client.send({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": call_params("slow", _meta=MODERN)})
        await eventually(lambda: "slow" in shop.effects())
        await client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}})
        if unsafe:
            assert words(await client.call("slow", _meta=MODERN)) == "slow done"
            assert shop.effects() == ["slow"]
        else:
            await eventually(lambda: shop.effects() == ["slow", "cancelled"])


async def test_stays_in_doubt_behind_pipes_as_12(tmp_path: Path, shop: Shop) -> None:
    """AS-12: the read tool that is to say whether a call happened and says nothing of use settles nothing, over HTTP too."""
    async with piped(tmp_path, shop.url, unsafe=["broken"], reads=["pay"], probes={"broken": "pay"}) as client:
        for _ in range(2):
            assert code_of(await client.call("broken", key="k")) == "in_doubt"
        assert len(client.guard.calls.list(state=CallState.IN_DOUBT)) == 1
    assert shop.effects().count("broken") == 1
    assert len(shop.effects()) > 1
