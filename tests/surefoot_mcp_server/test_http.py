"""The gateway over streamable HTTP, with a real server behind it in a process of its own; effects are counted in its file."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from click.testing import CliRunner
from mcp_support import HERE, call_params, code_of, eventually, words

from surefoot import CallState, Guard
from surefoot.plugins import Plugins
from surefoot_cli.main import cli
from surefoot_mcp_server import serving
from surefoot_mcp_server.governor import Governor
from surefoot_mcp_server.headers import Door
from surefoot_mcp_server.http import Gateway, Options
from surefoot_mcp_server.pins import Pins
from surefoot_mcp_server.probe import Prober
from surefoot_mcp_server.rules import Rules, named_after
from surefoot_mcp_server.upstream import Upstream
from surefoot_mcp_server.wire import REPLAYED

VERSION = "io.modelcontextprotocol/protocolVersion"
MODERN: dict[str, Any] = {VERSION: "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
HEADERS = {"mcp-method": "tools/call", "mcp-protocol-version": "2026-07-28"}
PAY = {"name": "pay", "description": "Pays.", "inputSchema": {"type": "object"}}
ACCEPT = {"accept": "application/json, text/event-stream"}


class Shop:
    """The server's process."""

    def __init__(self, effects: Path) -> None:
        self._effects = effects
        command = [sys.executable, str(HERE / "shop_http.py"), str(effects)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/mcp"

    def effects(self) -> list[str]:
        """Return what it did."""
        return self._effects.read_text().splitlines() if self._effects.exists() else []

    def forget(self) -> None:
        """Forget what it did."""
        self._effects.unlink(missing_ok=True)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Start the server once."""
    shop = Shop(tmp_path_factory.mktemp("shop") / "effects")
    yield shop
    shop.close()


@pytest.fixture
def shop(running: Shop) -> Shop:
    """Return the server, with nothing done."""
    running.forget()
    return running


class Client(httpx.AsyncClient):
    """A client of the gateway."""

    guard: Guard

    async def call(
        self, tool: str, *, key: str | None = None, about: Any = 1, headers: dict[str, str] | None = None, **params: Any
    ) -> httpx.Response:
        """Send a tool call."""
        body = {"jsonrpc": "2.0", "id": about, "method": "tools/call", "params": call_params(tool, key=key, **params)}
        return await self.post("/mcp", json=body, headers=headers or {})

    async def outcome(self, tool: str, **more: Any) -> dict[str, Any]:
        """Send a tool call and return the response's message."""
        return message_of(await self.call(tool, **more))


def message_of(response: httpx.Response) -> dict[str, Any]:
    """Return the response's message, from JSON or from the last event."""
    if response.headers["content-type"].startswith("text/event-stream"):
        return json.loads(response.text.strip().rpartition("data: ")[2])
    return response.json()


@asynccontextmanager
async def gateway(
    folder: Path, upstream: str, *, options: dict[str, Any] | None = None, policy: str | None = None, **rules: Any
) -> AsyncIterator[Client]:
    """Run a gateway in this process, on a port of its own."""
    declared, prober = Rules("shop", **rules), Prober()
    guard = Guard(f"sqlite:///{folder / 'ledger.db'}", tools=declared.tools(prober), wait=20.0, policy=policy)
    async with Upstream() as upstream_side:
        await Governor(guard, declared).recover()
        given = Options(upstream, **{"door": Door(), **(options or {})})
        prober.ask = serving.asking(given, upstream_side)
        served = Gateway(given, lambda tenant: Governor(guard, declared, tenant), upstream_side)
        server = uvicorn.Server(
            uvicorn.Config(served.app, port=0, http="h11", log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        )
        listening = asyncio.ensure_future(server.serve())
        await eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            async with Client(base_url=f"http://127.0.0.1:{port}", timeout=30, headers=ACCEPT, trust_env=False) as client:
                client.guard = guard
                yield client
        finally:
            server.should_exit = True
            await listening
            await served.close()
            guard.close()


async def test_reissued_i31(tmp_path: Path, shop: Shop) -> None:
    """I31: over HTTP, a call issued again under a new id has one effect, whether the answer comes as JSON or as a stream."""
    async with gateway(tmp_path, shop.url) as client:
        for tool, said in (("pay", "paid"), ("stream", "stream done")):
            first = await client.call(tool, key=tool, about=1)
            second = await client.outcome(tool, key=tool, about="again")
            assert words(message_of(first)) == words(second) == said
            assert second["id"] == "again"
            assert second["result"]["_meta"] == {REPLAYED: True}
        assert (await client.call("pay", key="other")).headers["x-shop"] == "1"
        assert shop.effects() == ["pay pay", "stream", "pay other"]


async def test_idempotency_key_header_as_87(tmp_path: Path, shop: Shop) -> None:
    """AS-87: the server gets the key as an Idempotency-Key header: the client's, or the ledger's own."""
    async with gateway(tmp_path, shop.url) as client:
        await client.call("pay", key="mine")
        await client.call("pay")
        [first, second] = shop.effects()
        assert first == "pay mine"
        assert second.startswith("pay surefoot-")


@pytest.mark.parametrize("tool", ["broken", "failing"])
async def test_dropped_as_11(tmp_path: Path, shop: Shop, tool: str) -> None:
    """AS-11: a server commits and drops the connection, or fails; the call is in doubt and stays so, with one effect."""
    for _ in range(2):
        async with gateway(tmp_path, shop.url) as client:
            assert code_of(await client.outcome(tool, key="k")) == "in_doubt"
            assert code_of(await client.outcome(tool)) == "in_doubt"
    assert shop.effects() == [tool]


BECAME = [("happened", "found it", 1), ("will_not_happen", "first done", 2), ("not_seen", None, 1), ("junk", None, 1)]


@pytest.mark.parametrize(("became", "said", "effects"), BECAME)
async def test_reconciled_as_12(tmp_path: Path, shop: Shop, became: str, said: str | None, effects: int) -> None:
    """AS-12: over HTTP too a declared read tool settles a doubt: the recorded result, or one dispatch, or it stays a doubt."""
    async with gateway(tmp_path, shop.url, unsafe=["first"], reads=["find"], probes={"first": "find"}) as client:
        assert code_of(await client.outcome("first", key="k", arguments={"became": became})) == "in_doubt"
    async with gateway(tmp_path, shop.url, unsafe=["first"], reads=["find"], probes={"first": "find"}) as client:
        for _ in range(2):
            found = await client.outcome("first", key="k", arguments={"became": became})
            assert (words(found) == said) if said else code_of(found) == "in_doubt"
    assert shop.effects() == ["first"] * effects


@pytest.mark.sweep
async def test_refused_is_not_in_doubt(tmp_path: Path, shop: Shop) -> None:
    """What the server refuses before it is read as a call passes as it came, and may be asked again."""
    async with gateway(tmp_path, shop.url) as client:
        for _ in range(2):
            found = await client.call("forbidden", key="k")
            assert (found.status_code, found.json(), found.headers["www-authenticate"]) == (403, {"error": "no"}, "Bearer")
    async with gateway(tmp_path, "http://127.0.0.1:9/mcp") as client:
        assert code_of(await client.outcome("pay", key="l")) == "not_executed"
    async with gateway(tmp_path, shop.url) as client:
        assert words(await client.outcome("pay", key="l")) == "paid"


async def test_result_on_another_stream(tmp_path: Path, shop: Shop) -> None:
    """A server of an old revision may close the stream and give the result on another one: it is recorded there, before it passes."""
    async with gateway(tmp_path, shop.url) as client:
        first = await client.call("elsewhere", key="k", about=5)
        assert "progress" in first.text
        assert "in_doubt" not in first.text
        assert code_of(await client.outcome("elsewhere", key="k")) == "in_doubt"
        assert "elsewhere done" in (await client.get("/mcp", headers={"last-event-id": "1"})).text
        assert words(await client.outcome("elsewhere", key="k")) == "elsewhere done"
        assert shop.effects() == ["elsewhere"]


@pytest.mark.parametrize("unsafe", [[], ["slow"]], ids=["unclassified", "unsafe"])
async def test_client_leaves_as_45(tmp_path: Path, shop: Shop, unsafe: list[str]) -> None:
    """AS-45: a client that leaves in the middle of a stream cancels upstream; an unsafe call is finished, the next equal one gets it."""
    async with gateway(tmp_path, shop.url, unsafe=unsafe) as client:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("slow")}
        async with client.stream("POST", "/mcp", json=body) as response:
            await anext(response.aiter_raw())
        settled = CallState.COMMITTED if unsafe else CallState.IN_DOUBT
        await eventually(lambda: [call.sticky for call in client.guard.calls.list(state=settled)] == [True])
        if unsafe:
            assert words(await client.outcome("slow")) == "slow done"
            assert shop.effects() == ["slow"]
        else:
            await eventually(lambda: shop.effects() == ["slow", "cancelled"])


async def test_calls_that_break_the_connection_are_set_aside(tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP too: a read that breaks the connection each time is not sent a third time."""
    monkeypatch.setenv("SUREFOOT_POISON_CRASHES", "2")
    async with gateway(tmp_path, shop.url, reads=["broken"]) as client:
        assert [code_of(await client.outcome("broken")) for _ in range(3)] == ["no_answer", "no_answer", "run_stopped"]
    assert shop.effects() == ["broken"] * 2


@pytest.mark.sweep
async def test_too_late(tmp_path: Path, shop: Shop) -> None:
    """A call that has no answer in time is in doubt; a stream that has begun says so at its end."""
    async with gateway(tmp_path, shop.url, options={"limit": 0.3}) as client:
        found = await client.call("hang", key="k")
        assert "still here" in found.text
        assert code_of(message_of(found)) == "in_doubt"


async def test_equal_ids_i31(tmp_path: Path, shop: Shop) -> None:
    """I31: concurrent clients with equal request ids each get their own answer (CVE-2026-25536)."""
    async with gateway(tmp_path, shop.url) as client:
        found = await asyncio.gather(*(client.outcome(tool, about=1) for tool in ("pay", "stream", "slow", "pay")))
    assert [words(message) for message in found] == ["paid", "stream done", "slow done", "paid"]


@pytest.mark.sweep
async def test_tenants_i27(tmp_path: Path, shop: Shop) -> None:
    """I27: what one credential's calls left is no answer to another's, whatever the key."""
    async with gateway(tmp_path, shop.url) as client:
        for who, replayed in (("a", False), ("b", False), ("a", True), ("", False)):
            found = await client.outcome("pay", key="k", headers={"authorization": f"Bearer {who}"} if who else {})
            assert (REPLAYED in found["result"].get("_meta", {})) is replayed
        assert shop.effects().count("pay k") == 3


@pytest.mark.parametrize("forward", [False, True])
async def test_credentials_i29(tmp_path: Path, shop: Shop, *, forward: bool) -> None:
    """I29: the client's credentials do not reach the server, nor the server's the client, unless that was asked for."""
    async with gateway(tmp_path, shop.url, options={"forward_authorization": forward}) as client:
        sent = {"authorization": "Bearer secret", "cookie": "c=1", "x-other": "yes", "mcp-session-id": "s"}
        found = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=sent)
    headers = found.json()["result"]["headers"]
    assert (headers["x-other"], headers["mcp-session-id"], found.headers["mcp-session-id"]) == ("yes", "s", "s")
    assert ("authorization" in headers, "cookie" in headers, "set-cookie" in found.headers) == (forward,) * 3


async def test_headers_pass_as_65(tmp_path: Path, shop: Shop) -> None:
    """AS-65: a header's text reaches the server as it was given, whatever language it is in; one that is no text is refused."""
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with gateway(tmp_path, shop.url) as client:
        found = await client.post("/mcp", json=ping, headers={"x-other": "grüezi".encode()})
        assert found.json()["result"]["headers"]["x-other"].encode("latin-1").decode() == "grüezi"
        refused = await client.post("/mcp", json=ping, headers={"x-other": b"\xff"})
    assert (refused.status_code, refused.text) == (400, "the header x-other is not UTF-8")


@pytest.mark.sweep
async def test_own_credential_i29(tmp_path: Path, shop: Shop) -> None:
    """I29: the gateway's own credential is the one that the server sees."""
    async with gateway(tmp_path, shop.url, options={"authorization": "Bearer own", "forward_authorization": True}) as client:
        found = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers={"authorization": "Bearer mine"})
    assert found.json()["result"]["headers"]["authorization"] == "Bearer own"


DOOR = [
    ({}, 200),
    ({"host": "localhost:1"}, 200),
    ({"host": "[::1]:8765"}, 200),
    ({"origin": "http://localhost:3000"}, 200),
    ({"host": "mcp.example.com"}, 200),
    ({"origin": "https://app.example.com"}, 200),
    ({"host": "evil.example.com"}, 403),
    ({"host": "127.0.0.1.evil.example.com"}, 403),
    ({"host": "127.0.0.1@evil.example.com"}, 403),
    ({"origin": "https://evil.example.com"}, 403),
    ({"origin": "http://app.example.com"}, 403),
    ({"origin": "null"}, 403),
]


async def test_hosts_and_origins_i30(tmp_path: Path, shop: Shop) -> None:
    """I30: a wrong Host or Origin is refused with 403 before anything is read."""
    door = Door(["mcp.example.com"], ["https://app.example.com"])
    async with gateway(tmp_path, shop.url, options={"door": door}) as client:
        for headers, status in DOOR:
            shop.forget()
            assert (headers, (await client.call("pay", headers=headers)).status_code) == (headers, status)
            assert len(shop.effects()) == (status == 200)


CONTRADICTIONS = [
    {},
    {**HEADERS},
    {**HEADERS, "mcp-name": "other"},
    {**HEADERS, "mcp-name": "=?base64?cGF5??="},
    {**HEADERS, "mcp-name": "pay", "mcp-method": "ping"},
    {**HEADERS, "mcp-name": "pay", "mcp-protocol-version": "2025-11-25"},
]


async def test_headers_contradict_i30(tmp_path: Path, shop: Shop) -> None:
    """I30: headers that do not say what the body says are refused with -32020; nothing is answered from the ledger under them."""
    async with gateway(tmp_path, shop.url) as client:
        right = {**HEADERS, "mcp-name": "=?base64?cGF5?="}
        assert words(await client.outcome("pay", key="k", headers=right, _meta=MODERN)) == "paid"
        for headers in CONTRADICTIONS:
            found = await client.call("pay", key="k", headers=headers, _meta=MODERN)
            assert (found.status_code, found.json()["error"]["code"], found.json()["id"]) == (400, -32020, 1)
        assert len(shop.effects()) == 1


async def test_changed_definitions_i28(tmp_path: Path, shop: Shop) -> None:
    """I28: over HTTP too, a tool that is not as it was approved is neither called nor answered from the ledger."""
    with Guard(f"sqlite:///{tmp_path / 'ledger.db'}") as guard:
        Pins(guard, "shop").approve({"pay": PAY})
    async with gateway(tmp_path, shop.url) as client:
        new = {"headers": {**HEADERS, "mcp-name": "pay"}, "_meta": MODERN}
        assert words(await client.outcome("pay", key="k")) == "paid"
        for said, code in (("Pays me.", "pin_mismatch"), ("Pays.", None)):
            await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "test/describe", "params": {"description": said}})
            assert code_of(await client.outcome("pay", key="k")) == code
            assert code_of(await client.outcome("pay", key="k", **new)) == code
        assert len(shop.effects()) == 1


async def test_mirrored_arguments_are_part_of_the_call(tmp_path: Path, shop: Shop) -> None:
    """Under other Mcp-Param headers than it was recorded with, a call is not answered from the ledger."""
    async with gateway(tmp_path, shop.url) as client:
        await client.call("pay", key="k", headers={"mcp-param-region": "eu"})
        assert words(await client.outcome("pay", key="k", headers={"Mcp-Param-Region": "eu"})) == "paid"
        assert code_of(await client.outcome("pay", key="k", headers={"mcp-param-region": "us"})) == "idempotency_conflict"
        assert len(shop.effects()) == 1


@pytest.mark.sweep
async def test_arrays_and_other_paths(tmp_path: Path, shop: Shop) -> None:
    """A tool call in an array, an unreadable body and a path that is not the server's reach no server."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("pay")}
    async with gateway(tmp_path, shop.url) as client:
        assert (await client.post("/mcp", json=[call])).json()["error"]["code"] == -32600
        assert (await client.post("/mcp", content=b"{")).json()["error"]["code"] == -32700
        assert (await client.post("/other", json=call)).status_code == 404
        assert (await client.post("/.well-known/x", json={**call, "method": "ping"})).status_code == 404  # the server's own answer
        assert shop.effects() == []


def test_pin_of_an_http_server(tmp_path: Path, shop: Shop) -> None:
    """``surefoot mcp pin --upstream URL`` approves what a server lists over HTTP, under the name that serving it has."""
    Plugins.default().cli(cli)
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    done = CliRunner().invoke(cli, ["--store", store, "mcp", "pin", "--upstream", shop.url])
    assert (done.exit_code, done.output.splitlines()[0]) == (0, "pay was not approved")
    with Guard(store) as guard:
        assert Pins(guard, named_after([shop.url])).approved() == {"pay": PAY}
    assert CliRunner().invoke(cli, ["mcp", "pin"]).exit_code == 2


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """An address that another process has, and a URL that is none, are refused with one sentence."""
    Plugins.default().cli(cli)
    serve = ["--store", f"sqlite:///{tmp_path / 'ledger.db'}", "mcp", "serve", "--upstream"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = CliRunner().invoke(cli, [*serve, "http://127.0.0.1:9/mcp", "--port", str(taken.getsockname()[1])])
    assert (done.exit_code, "cannot be listened on" in done.output) == (2, True)
    done = CliRunner().invoke(cli, [*serve, "127.0.0.1:9"])
    assert (done.exit_code, "http://host:port/path" in done.output) == (2, True)


@pytest.mark.sweep
def test_served_from_the_command_line(tmp_path: Path, shop: Shop) -> None:
    """``surefoot mcp serve`` listens on the loopback, says where, governs, and ends when it is asked to."""
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    command = [sys.executable, "-m", "surefoot_cli.main", "--store", store, "mcp", "serve", "--upstream", shop.url, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = process.stderr.readline().split()[-1]
    assert address.startswith("127.0.0.1:")
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("pay", key="k")}
    for _ in range(2):
        assert words(httpx.post(f"http://{address}/mcp", json=body, trust_env=False).json()) == "paid"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert shop.effects() == ["pay k"]


@pytest.mark.sweep
def test_spaces_around_a_header_are_none_of_it_i30(tmp_path: Path, shop: Shop) -> None:
    """I30: served from the command line, spaces around a header's value are not part of it, as in HTTP: they contradict nothing."""
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    command = [sys.executable, "-m", "surefoot_cli.main", "--store", store, "mcp", "serve", "--upstream", shop.url, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    host, port = process.stderr.readline().split()[-1].split(":")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("pay", key="k", _meta=MODERN)})
    headers = "".join(f"{name}:  {value} \t\r\n" for name, value in {**HEADERS, "mcp-name": "pay", "host": "127.0.0.1"}.items())
    with socket.create_connection((host, int(port))) as client:
        request = f"POST /mcp HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        client.sendall(request.encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    process.terminate()
    process.communicate(timeout=30)
    assert b"paid" in answer
    assert shop.effects() == ["pay k"]
