"""Servers on standard input and output behind HTTP, and servers over HTTP behind standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
from crash import children_of, is_alive
from mcp_support import SHOP, call_params, code_of, eventually, words
from test_http import ACCEPT, CONTRADICTIONS, DOOR, HEADERS, MODERN, Client, Shop, running, shop
from test_processes import wait_for
from test_several import HELLO, insisting, noting, two

from surefoot import CallState
from surefoot_mcp_server.child import Child
from surefoot_mcp_server.endpoint import Endpoint, guarding
from surefoot_mcp_server.front import Front, Session
from surefoot_mcp_server.headers import Door
from surefoot_mcp_server.pins import Pins
from surefoot_mcp_server.rules import Rules
from surefoot_mcp_server.servers import Server, read
from surefoot_mcp_server.wire import REPLAYED

__all__ = ["running", "shop"]

SESSION = "mcp-session-id"
NEW: dict[str, Any] = {"headers": {**HEADERS, "mcp-name": "pay"}, "_meta": MODERN}


class Fronted(Client):
    """A client of the front, and the processes behind it."""

    children: list[Child]
    effects_file: Path

    def effects(self) -> list[str]:
        """Return what the servers did, as the world sees it."""
        return self.effects_file.read_text().splitlines() if self.effects_file.exists() else []

    async def hello(self, **headers: str) -> dict[str, str]:
        """Begin a session; return the headers that name it."""
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
        found = await self.post("/mcp", json=body, headers=headers)
        assert found.json()["result"]["protocolVersion"] == "2025-11-25", found.text
        named = {SESSION: found.headers[SESSION], **headers}
        assert (await self.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=named)).status_code == 202
        return named

    async def tell(self, method: str, headers: dict[str, str], **params: Any) -> None:
        """Send a notification."""
        assert (await self.post("/mcp", json={"jsonrpc": "2.0", "method": method, "params": params}, headers=headers)).status_code == 202


@asynccontextmanager
async def front(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    servers: list[Server] | None = None,
    dies: str = "",
    limit: float | None = None,
    policy: str | None = None,
    door: Door | None = None,
    events: list[Any] | None = None,
    **rules: Any,
) -> AsyncIterator[Fronted]:
    """Serve our own server on standard input and output over HTTP, on a port of its own."""
    children: list[Child] = []
    monkeypatch.setattr(Child, "start", noting(children))
    command = [sys.executable, "-S", "-E", SHOP, str(folder / "effects")]
    given = servers or [Server(Rules("shop", **rules), command, environment={"SHOP_DIES": dies}, limit=limit)]
    listener = events.append if events is not None else None
    guard = guarding(given, f"sqlite:///{folder / 'ledger.db'}", wait=20.0, policy=policy, on_event=listener)
    endpoint = Endpoint(given, guard, 1.0)
    await endpoint.recover()
    served = Front(door or Door(), endpoint)
    server = uvicorn.Server(uvicorn.Config(served.app, port=0, http="h11", log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    serving = asyncio.ensure_future(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with Fronted(base_url=f"http://127.0.0.1:{port}", timeout=30, headers=ACCEPT, trust_env=False) as client:
            client.guard, client.children, client.effects_file = guard, children, folder / "effects"
            yield client
    finally:
        server.should_exit = True
        await serving
        await served.close()
        guard.close()
    assert [child.running for child in children] == [False] * len(children)


async def test_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each session of an old revision has a server of its own; it ends with the session, and without one nothing is answered."""
    async with front(tmp_path, monkeypatch) as client:
        one, other = await client.hello(), await client.hello()
        for headers in (one, other):
            assert words(await client.outcome("pay", arguments={"amount": 1}, headers=headers)) == "paid 1"
        assert len(client.children) == 2
        assert (await client.delete("/mcp", headers=one)).status_code == 204
        assert [child.running for child in client.children] == [False, True]
        assert (await client.call("pay", headers=one)).status_code == 404
        assert (await client.call("pay", headers={SESSION: "made-up"})).status_code == 404
        assert (await client.call("pay")).status_code == 400
        assert (await client.get("/mcp")).status_code == 405
        assert len(client.effects()) == 2


async def test_reissued_i31(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I31: behind HTTP too a call that is sent again under its key has one effect, whatever the session and the revision."""
    async with front(tmp_path, monkeypatch) as client:
        for more in ({"headers": await client.hello()}, {"headers": await client.hello()}, NEW):
            found = await client.outcome("pay", arguments={"amount": 7}, key="k", **more)
            assert words(found) == "paid 7"
            assert found["result"].get("resultType") == ("complete" if "_meta" in more else None)
        assert found["result"]["_meta"][REPLAYED] is True
        assert client.effects() == ['pay {"amount": 7}']


async def test_equal_ids_i31(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I31: clients of the new revision share a server; with equal request ids and progress tokens each gets its own (CVE-2026-25536)."""
    async with front(tmp_path, monkeypatch) as client:

        async def ask(number: int) -> tuple[str, list[str]]:
            meta = {**MODERN, "progressToken": "p"}
            given = {"headers": {**HEADERS, "mcp-name": "long"}, "_meta": meta, "arguments": {"number": number}}
            lines = (await client.call("long", about=1, **given)).text
            said = [json.loads(line.removeprefix("data: ")) for line in lines.splitlines() if line.startswith("data: ")]
            return words(said[-1]), [message["params"]["progressToken"] for message in said[:-1]]

        paid = [client.outcome("pay", arguments={"amount": number}, about=1, **NEW) for number in range(10)]
        found = await asyncio.gather(*paid, *(ask(number) for number in range(10)))
        assert [words(one) for one in found[:10]] == [f"paid {number}" for number in range(10)]
        assert found[10:] == [("done", ["p"])] * 10
        assert len(client.children) == 1


async def test_tenants_i27(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I27: another credential has neither the session of the first one, nor its server, nor its results."""
    async with front(tmp_path, monkeypatch) as client:
        mine = await client.hello(authorization="Bearer a")
        assert words(await client.outcome("pay", key="k", headers=mine)) == "paid None"
        assert (await client.call("pay", key="k", headers={**mine, "authorization": "Bearer b"})).status_code == 404
        assert (await client.delete("/mcp", headers={**mine, "authorization": "Bearer b"})).status_code == 404
        for who in ("a", "b"):
            found = await client.outcome("pay", key="k", **{**NEW, "headers": {**NEW["headers"], "authorization": f"Bearer {who}"}})
            assert (REPLAYED in found["result"].get("_meta", {})) is (who == "a")
        assert len(client.children) == 3
        assert len(client.effects()) == 2


async def test_hosts_and_origins_i30(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I30: in front of a server on standard input and output, a wrong Host or Origin is refused with 403, and starts nothing."""
    async with front(tmp_path, monkeypatch, door=Door(["mcp.example.com"], ["https://app.example.com"])) as client:
        for headers, status in DOOR:
            before = len(client.effects())
            assert (await client.call("pay", **{**NEW, "headers": {**NEW["headers"], **headers}})).status_code == status
            assert len(client.effects()) - before == (status == 200)
        assert len(client.children) == 1


async def test_headers_contradict_i30(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I30: headers that do not say what the body says are refused with -32020, and reach no server."""
    async with front(tmp_path, monkeypatch) as client:
        for headers in CONTRADICTIONS:
            found = await client.call("pay", headers=headers, _meta=MODERN)
            assert (found.status_code, found.json()["error"]["code"]) == (400, -32020)
        assert (client.effects(), client.children) == ([], [])


FOREIGN: list[Any] = [
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {**HELLO, "command": ["touch", "planted"], "env": {"PATH": "."}}},
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "command": "touch planted", "params": HELLO},
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("pay; touch planted", {"command": "$(touch planted)"})},
    {"jsonrpc": "2.0", "id": "`touch planted`", "method": "surefoot/start", "params": {"command": ["touch", "planted"]}},
    {"jsonrpc": "2.0", "method": "notifications/initialized", "params": {"servers": {"x": {"command": ["touch", "planted"]}}}},
    [{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}],
    {"servers": {"x": {"command": ["touch", "planted"]}}},
]
ODD = [
    {},
    {"x-command": "touch planted"},
    {SESSION: "; touch planted"},
    {SESSION: "../../x"},
    {"authorization": "Bearer $(touch planted)"},
    {"mcp-name": "touch planted"},
]


async def test_no_input_chooses_a_command_i32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I32: whatever comes over the network, only the command that the user gave is started, as it was given, and without a shell."""
    monkeypatch.chdir(tmp_path)
    started: list[tuple[Any, ...]] = []
    execute = asyncio.create_subprocess_exec

    async def noted(*command: Any, **more: Any) -> Any:
        started.append((command, more["env"] == {**os.environ, "SHOP_DIES": ""}))
        return await execute(*command, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    monkeypatch.setattr(asyncio, "create_subprocess_shell", None)
    async with front(tmp_path, monkeypatch) as client:
        named = await client.hello()
        for message in FOREIGN:
            for headers in (*ODD, named, HEADERS):
                assert (await client.post("/mcp", json=message, headers=headers)).status_code < 500
            for path in ("/mcp?command=touch+planted", "/mcp/touch planted", "/.well-known/x"):
                assert (await client.post(path, json=message, headers=named)).status_code < 500
        modern = call_params("pay", {"command": ["touch", "planted"]}, _meta={**MODERN, "command": "touch planted"})
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": modern}
        assert words((await client.post("/mcp", json=body, headers={**HEADERS, "mcp-name": "pay"})).json()) == "paid None"
    only = (sys.executable, "-S", "-E", SHOP, str(tmp_path / "effects"))
    assert len(started) > 3
    assert set(started) == {(only, True)}
    assert not (tmp_path / "planted").exists()


async def test_changed_definitions_i28(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I28: behind HTTP too, a tool that is not as it was approved is neither called nor answered from the ledger."""
    async with front(tmp_path, monkeypatch) as client:
        named = await client.hello()
        listed = (await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=named)).json()["result"]
        Pins(client.guard, "shop").approve({tool["name"]: tool for tool in listed["tools"]})
        assert words(await client.outcome("pay", key="k", headers=named)) == "paid None"
        changes = [({"description": "Pays me."}, "pin_mismatch"), (None, "pin_mismatch"), (listed["tools"][0], None)]
        for change, code in changes:
            await client.tell("notifications/change", named, pay=change)
            await client.post("/mcp", json={"jsonrpc": "2.0", "id": 2, "method": "ping"}, headers=named)
            assert code_of(await client.outcome("pay", key="k", headers=named)) == code
        assert len(client.effects()) == 1


@pytest.mark.parametrize("revision", ["old", "new"])
async def test_server_dies_as_11(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    """AS-11: a server that commits and dies leaves a doubt, for another session and another front too, and one effect."""
    for dies in ("after", ""):
        async with front(tmp_path, monkeypatch, dies=dies) as client:
            for _ in range(2):
                more = NEW if revision == "new" else {"headers": await client.hello()}
                ask = partial(client.outcome, "pay", arguments={"amount": 7}, key="k", **more)
                assert code_of(await insisting(ask)) == "in_doubt"
    assert client.effects() == ['pay {"amount": 7}']


async def test_annotations_as_13(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-13: over HTTP too a server's own hints loosen nothing; only a local declaration lets a call run again."""
    for reads, runs in (([], 1), (["pay"], 2)):
        folder = tmp_path / str(runs)
        folder.mkdir()
        for dies in ("after", ""):
            async with front(folder, monkeypatch, dies=dies, reads=reads) as client:
                named = await client.hello()
                listed = (await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=named)).json()
                assert listed["result"]["tools"][0]["annotations"] == {"readOnlyHint": True}
                await client.call("pay", arguments={"amount": 1}, headers=named)
        assert len(client.effects()) == runs


async def test_late_as_14(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-14: over HTTP a call whose time is up and that lands later is recorded as that, with an event; asked again it is answered."""
    events: list[Any] = []
    async with front(tmp_path, monkeypatch, limit=0.2, unsafe=["late"], events=events) as client:
        named = await client.hello()
        for _ in range(2):
            assert code_of(await client.outcome("late", key="k", headers=named)) == "in_doubt"
        await client.tell("notifications/land", named)
        await eventually(lambda: "call.landed_late" in [event.type for event in events])
        found = await client.outcome("late", key="k", headers=named)
        assert (words(found), found["result"]["_meta"][REPLAYED]) == ("landed", True)
        assert client.effects() == ["late"]


@pytest.mark.parametrize("unsafe", [[], ["late"]], ids=["unclassified", "unsafe"])
@pytest.mark.parametrize("revision", ["old", "new"])
async def test_client_leaves_as_45(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsafe: list[str], revision: str) -> None:
    """AS-45: a client that closes its connection and never cancels cancels upstream; an unsafe call is finished, the next one gets it."""
    async with front(tmp_path, monkeypatch, unsafe=unsafe) as client:
        more = NEW if revision == "new" else {"headers": await client.hello()}
        more = {**more, "headers": {**more["headers"], **({"mcp-name": "late"} if revision == "new" else {})}}
        asking = asyncio.ensure_future(client.call("late", **more))
        await eventually(lambda: "late" in client.effects())
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        if not unsafe:
            await eventually(lambda: any(line.startswith("cancelled") for line in client.effects()))
            await eventually(lambda: client.guard.calls.list(state=CallState.IN_DOUBT))
        else:
            again = asyncio.ensure_future(client.outcome("late", **more))
            land = {**more, "headers": {name: value for name, value in more["headers"].items() if not name.startswith("mcp-n")}}
            meta = {"_meta": MODERN} if revision == "new" else {}
            await client.tell("notifications/land", land["headers"], **meta)
            assert words(await again) == "landed"
            assert client.effects() == ["late"]


async def test_cancelled_as_65(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-65: a cancellation that a client of an old revision sends goes to the server, under the id that the call has there."""
    async with front(tmp_path, monkeypatch) as client:
        named = await client.hello()
        asking = asyncio.ensure_future(client.call("late", about="mine", headers=named))
        await eventually(client.effects)
        await client.tell("notifications/cancelled", named, requestId="mine")
        await eventually(lambda: len(client.effects()) == 2)
        assert client.effects()[1].startswith("cancelled")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_directions_as_65(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AS-65: what the server asks of its own accord comes on the stream that the client listens on, and its answer goes back."""
    async with front(tmp_path, monkeypatch) as client:
        named = await client.hello()
        await client.tell("notifications/ask", named)
        async with client.stream("GET", "/mcp", headers=named) as stream:
            heard = (json.loads(line.removeprefix("data: ")) async for line in stream.aiter_lines() if line.startswith("data: "))
            asked = await anext(heard)
            assert asked["method"] == "sampling/createMessage"
            reply = {"jsonrpc": "2.0", "id": asked["id"], "result": {"role": "user"}}
            assert (await client.post("/mcp", json=reply, headers=named)).status_code == 202
            assert (await anext(heard))["params"]["data"] == reply


async def test_the_client_s_user_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of an old revision is asked on the stream of its call, over HTTP too; its yes lets the call run."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[[tools]]\ntool = "*/pay"\ndecision = "approve"\nreason = "payments need a person"\n')
    async with front(tmp_path, monkeypatch, policy=str(policy)) as client:
        named = await client.hello()
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("pay", {"amount": 7})}
        async with client.stream("POST", "/mcp", json=body, headers=named) as stream:
            said = (json.loads(line.removeprefix("data: ")) async for line in stream.aiter_lines() if line.startswith("data: "))
            question = await anext(said)
            assert (question["method"], client.effects()) == ("elicitation/create", [])
            yes = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"approve": True}}}
            assert (await client.post("/mcp", json=yes, headers=named)).status_code == 202
            assert words(await anext(said)) == "paid 7"
        assert len(client.effects()) == 1


async def test_several_behind_http_as_63(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shop: Shop) -> None:
    """AS-63: several servers of either kind behind one HTTP endpoint, in both revisions."""
    file = tmp_path / "servers.toml"
    file.write_text("\n".join([*two(tmp_path), f'[servers.web]\nurl = "{shop.url}"\n']))
    async with front(tmp_path, monkeypatch, servers=read(file)) as client:
        named = await client.hello()
        for name in ("left__pay", "right__pay", "web__pay"):
            assert words(await client.outcome(name, key="k", headers=named)).startswith("paid")
            modern = {"headers": {**HEADERS, "mcp-name": name}, "_meta": MODERN}
            assert (await client.outcome(name, key="k", **modern))["result"]["_meta"][REPLAYED] is True
        assert [(tmp_path / side).read_text().count("pay") for side in ("left", "right")] == [1, 1]
        assert shop.effects() == ["pay k"]


async def test_killed_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is killed ends its session with a doubt about what it had; the next session has a new one."""
    async with front(tmp_path, monkeypatch) as client:
        named = await client.hello()
        asking = asyncio.ensure_future(client.outcome("hang", key="k", headers=named))
        await eventually(client.effects)
        os.kill(client.children[0]._process.pid, signal.SIGKILL)
        assert code_of(await asking) == "in_doubt"
        await eventually(lambda: not client.children[0].running)
        assert words(await client.outcome("pay", headers=await client.hello())) == "paid None"


async def test_asked_when_it_has_ended() -> None:
    """A request that comes when its session has ended is told so, and does not wait for ever."""
    session = Session("default", "s", shared=False)
    session.hose.close()
    waiting = await session.ask({"jsonrpc": "2.0", "method": "tools/list"}, 7)
    message, last = waiting.pieces.get_nowait()
    assert (message["id"], message["error"]["code"], last, session.waiting) == (7, -32000, True, {})


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc to see other processes")
def test_no_orphans_as_85(tmp_path: Path) -> None:
    """AS-85: when the proxy in front of a command is killed, the command goes too; what it had is in doubt."""
    effects, store = tmp_path / "effects", f"sqlite:///{tmp_path / 'ledger.db'}"
    command = [sys.executable, "-m", "surefoot_cli.main", "--store", store, "mcp", "serve", "--name", "shop", "--port", "0"]
    command += [sys.executable, "-S", "-E", SHOP, str(effects)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = f"http://{process.stderr.readline().split()[-1]}/mcp"
        headers = {**ACCEPT, **HEADERS, "mcp-name": "hang"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("hang", key="k", _meta=MODERN)}
        calling = Thread(target=_asked_in_vain, args=(url, headers, body))
        calling.start()
        wait_for(effects.exists)
        [server] = children_of(process.pid)
        process.kill()
        wait_for(lambda: not is_alive(server))
        calling.join()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as again:
        assert again.stderr is not None
        url = f"http://{again.stderr.readline().split()[-1]}/mcp"
        found = httpx.post(url, json=body, headers=headers, trust_env=False, timeout=30).json()
        again.terminate()
    assert code_of(found) == "in_doubt"
    assert effects.read_text() == "hang\n"


def _asked_in_vain(url: str, headers: dict[str, str], body: Any) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.post(url, json=body, headers=headers, trust_env=False, timeout=60)
