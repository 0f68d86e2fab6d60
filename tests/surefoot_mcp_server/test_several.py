"""Several servers behind one endpoint: names that never meet, and each server governed as it is alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mcp_support import SHOP, Wire, call_params, code_of, eventually, words
from test_http import Shop, running, shop

from surefoot import CallState, Guard, NotFound, UsageError
from surefoot.plugins import Plugins
from surefoot_cli.main import cli
from surefoot_mcp_server.child import Child
from surefoot_mcp_server.endpoint import Endpoint, guarding
from surefoot_mcp_server.lines import sink_of, source_of
from surefoot_mcp_server.pins import Pins
from surefoot_mcp_server.servers import read
from surefoot_mcp_server.switch import shown, told

__all__ = ["running", "shop"]

HELLO: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}
MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


class Hub(Wire):
    """A client of several servers, and what each of these did."""

    def __init__(self, folder: Path, guard: Guard, write: int, read: int) -> None:
        super().__init__(write, read)
        self.guard = guard
        self._folder = folder
        self.children: list[Child] = []

    def effects(self, server: str) -> list[str]:
        """Return what a server did, as the world sees it."""
        file = self._folder / server
        return file.read_text().splitlines() if file.exists() else []


def till(folder: Path, name: str, **more: Any) -> str:
    """Return the table of a server of our own on standard input and output."""
    about = {"command": [sys.executable, "-S", "-E", SHOP, str(folder / name)], **more}
    return f"[servers.{name}]\n" + "".join(f"{key} = {written(value)}\n" for key, value in about.items())


def written(value: Any) -> str:
    """Return a value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {written(one)}" for key, one in value.items()) + "}"
    return repr(value) if not isinstance(value, list) else "[" + ", ".join(map(written, value)) + "]"


@asynccontextmanager
async def hub(folder: Path, *tables: str, monkeypatch: pytest.MonkeyPatch | None = None, **options: Any) -> AsyncIterator[Hub]:
    """Connect a client to the servers that a file describes."""
    file = folder / "servers.toml"
    file.write_text("\n".join(tables))
    servers = read(file)
    guard = guarding(servers, f"sqlite:///{folder / 'ledger.db'}", **{"wait": 20.0, **options})
    endpoint = Endpoint(servers, guard, 2.0)
    await endpoint.recover()
    (inner_in, outer_out), (outer_in, inner_out) = os.pipe(), os.pipe()
    found = Hub(folder, guard, outer_out, outer_in)
    if monkeypatch is not None:
        monkeypatch.setattr(Child, "start", noting(found.children))
    source, sink = await source_of(inner_in), await sink_of(inner_out)
    try:
        relaying = asyncio.ensure_future((await endpoint.connect(source, sink)).run())
        try:
            yield found
        finally:
            found.close()
            await asyncio.wait_for(relaying, 30)
    finally:
        for side in (found, source, sink):
            side.close()
        found.done()
        guard.close()


def noting(children: list[Child]) -> Callable[..., Any]:
    """Return what starts a child and notes it."""
    start = Child.start

    async def started(*what: Any) -> Child:
        children.append(await start(*what))
        return children[-1]

    return started


async def insisting(ask: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Ask again for as long as a server that is ending has not answered."""
    async with asyncio.timeout(30):
        while (found := await ask()).get("error", {}).get("code") == -32000:
            pass
    return found


def two(folder: Path, **more: Any) -> list[str]:
    """Return two servers that have the same tools."""
    return [till(folder, "left", **more), till(folder, "right", **more)]


async def test_equal_names_as_63(tmp_path: Path) -> None:
    """AS-63: two servers with equal tools are both callable, under names that do not depend on their order; the ledger has each apart."""
    for tables in (two(tmp_path), two(tmp_path)[::-1]):
        async with hub(tmp_path, *tables) as client:
            names = [tool["name"] for tool in (await client.ask("tools/list"))["result"]["tools"]]
            assert len(names) == len(set(names)) == 16
            assert {"left__pay", "right__pay"} < set(names)
            assert words(await client.call("left__pay", {"amount": 1}, key="k")) == "paid 1"
            assert words(await client.call("right__pay", {"amount": 2}, key="k")) == "paid 2"
            assert client.effects("left") == ['pay {"amount": 1}']
            assert client.effects("right") == ['pay {"amount": 2}']
            assert sorted(call.tool for call in client.guard.calls.list()) == ["left/pay", "right/pay"]


async def test_no_server_takes_a_name_over_as_63(tmp_path: Path) -> None:
    """AS-63: a server whose tool is called as another server's is shown stays what it is; calls of that name go to the other one."""
    async with hub(tmp_path, *two(tmp_path)) as client:
        await client.send({"jsonrpc": "2.0", "method": "notifications/change", "params": {"left__pay": {"name": "left__pay"}}})
        names = [tool["name"] for tool in (await client.ask("tools/list"))["result"]["tools"]]
        assert [name for name in names if name.endswith("left__pay")] == ["left__pay", "left__left__pay", "right__left__pay"]
        await client.call("left__pay", {"amount": 1})
        assert (len(client.effects("left")), client.effects("right")) == (1, [])


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "_b"), ("a-", "b")), (("a", "b__c"), ("a-b", "c")), (("a", "__b"), ("a", "_b")), (("a", "b"), ("A", "b"))]
)
def test_names_do_not_collide_as_63(one: tuple[str, str], other: tuple[str, str]) -> None:
    """AS-63: server and tool can be told from a name again, whatever the tool is called; so no two have one."""
    assert (told(shown(*one)), told(shown(*other))) == (one, other)
    assert shown(*one) != shown(*other)


async def test_governed_as_alone(tmp_path: Path) -> None:
    """A server's declarations, keys and doubts are its own: those that it has alone, whoever stands beside it."""
    tables = [till(tmp_path, "left", unsafe=["pay"], environment={"SHOP_DIES": "after"}), till(tmp_path, "right", require_key=["pay"])]
    async with hub(tmp_path, *tables) as client:
        assert code_of(await client.call("left__pay", {"amount": 1}, key="k")) == "in_doubt"
        assert code_of(await client.call("right__pay", {"amount": 1})) == "idempotency_key_required"
        assert words(await client.call("right__pay", {"amount": 1}, key="k")) == "paid 1"
        assert code_of(await insisting(lambda: client.call("left__pay", {"amount": 2}, key="l"))) == "not_executed"
        assert (await client.ask("tools/list"))["result"]["tools"][0]["name"] == "right__pay"
        assert [call.tool for call in client.guard.calls.list(state=CallState.IN_DOUBT)] == ["left/pay"]
    assert (client.effects("left"), client.effects("right")) == (['pay {"amount": 1}'],) * 2
    assert "notifications/tools/list_changed" in [message.get("method") for message in client.seen]


async def test_one_greeting_as_65(tmp_path: Path) -> None:
    """AS-65: what is advertised is what is relayed: tools, in a revision that all speak; anything else is refused with a reason."""
    async with hub(tmp_path, *two(tmp_path)) as client:
        found = (await client.ask("initialize", HELLO))["result"]
        assert (found["protocolVersion"], found["capabilities"]) == ("2025-11-25", {"tools": {"listChanged": True}})
        assert found["serverInfo"]["name"] == "surefoot"
        assert (await client.ask("ping"))["result"] == {}
        refused = (await client.ask("resources/list"))["error"]
        assert (refused["code"], "only tools are offered" in refused["message"]) == (-32601, True)
        for name, says in (("nobody__pay", "left, right"), ("pay", "left, right")):
            refused = (await client.call(name))["error"]
            assert (refused["code"], says in refused["message"]) == (-32602, True)
        await client.raw(b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]\n')
        assert (await client.read())["error"]["code"] == -32600
        assert (client.effects("left"), client.effects("right")) == ([], [])


async def test_directions_as_65(tmp_path: Path) -> None:
    """AS-65: what two servers ask under one id are two questions; each gets its own answer, and progress comes before its result."""
    async with hub(tmp_path, *two(tmp_path)) as client:
        await client.send({"jsonrpc": "2.0", "method": "notifications/ask"})
        questions = [await client.read() for _ in range(2)]
        assert {question["method"] for question in questions} == {"sampling/createMessage"}
        assert len({question["id"] for question in questions}) == 2
        for question in questions:
            await client.send({"jsonrpc": "2.0", "id": question["id"], "result": {"for": question["id"]}})
        told_back = [(await client.read())["params"]["data"] for _ in range(2)]
        assert [one["id"] for one in told_back] == ["from-server"] * 2
        assert {one["result"]["for"] for one in told_back} == {question["id"] for question in questions}
        await client.call("left__long", _meta={"progressToken": "p"})
        assert [message["params"]["progressToken"] for message in client.seen] == ["p"]


@pytest.mark.parametrize("unsafe", [[], ["late"]], ids=["unclassified", "unsafe"])
async def test_cancelled_as_65(tmp_path: Path, unsafe: list[str]) -> None:
    """AS-65: a cancellation goes to the server that has the call, and to no other; that of an unsafe call goes to none."""
    async with hub(tmp_path, *two(tmp_path, unsafe=unsafe)) as client:
        await client.send({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": call_params("left__late")})
        await eventually(lambda: client.effects("left"))
        await client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}})
        await client.ask("tools/list")  # both have read everything before it
        assert client.effects("left") == (["late"] if unsafe else ["late", "cancelled 9"])
        assert client.effects("right") == []


async def test_equal_ids_i31(tmp_path: Path) -> None:
    """I31: a tool call under the id of one that has no answer yet is refused, also where another server would have it."""
    async with hub(tmp_path, *two(tmp_path)) as client:
        for name in ("left__late", "right__pay"):
            await client.send({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": call_params(name)})
        assert (await client.read())["error"]["code"] == -32600
        await eventually(lambda: client.effects("left"))
        await client.send({"jsonrpc": "2.0", "method": "notifications/land"})
        assert words(await client.read()) == "landed"
        assert client.effects("right") == []


async def test_a_person_is_asked(tmp_path: Path) -> None:
    """A call that a policy has a person decide about is asked about through the switch, and runs after a yes."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[[tools]]\ntool = "left/pay"\ndecision = "approve"\nreason = "payments need a person"\n')
    async with hub(tmp_path, *two(tmp_path), policy=str(policy)) as client:
        await client.ask("initialize", HELLO)
        call = asyncio.ensure_future(client.call("left__pay", {"amount": 7}))
        await eventually(lambda: client.seen)
        question = client.seen.pop()
        assert "payments need a person" in question["params"]["message"]
        await client.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"approve": True}}})
        assert words(await call) == "paid 7"
        assert words(await client.call("right__pay", {"amount": 7})) == "paid 7"


async def test_pinned_as_62(tmp_path: Path) -> None:
    """AS-62: tools that were approved for a server alone are approved behind the endpoint, and no others of that server."""
    file = tmp_path / "servers.toml"
    Plugins.default().cli(cli)
    async with hub(tmp_path, *two(tmp_path)) as client:
        store = f"sqlite:///{tmp_path / 'ledger.db'}"
        done = await asyncio.to_thread(CliRunner().invoke, cli, ["--store", store, "mcp", "pin", "--servers", str(file), "--name", "left"])
        assert (done.exit_code, "left: 8 tools" in done.output) == (0, True), done.output
        assert len(Pins(client.guard, "left").approved() or {}) == 8
        change = {"pay": {"description": "Pays me."}}
        await client.send({"jsonrpc": "2.0", "method": "notifications/change", "params": change})
        await client.ask("tools/list")
        assert code_of(await client.call("left__pay", {"amount": 1})) == "pin_mismatch"
        assert words(await client.call("right__pay", {"amount": 1})) == "paid 1"
        assert client.effects("left") == []


async def test_one_server_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is killed with a call takes that call into doubt, and nothing of the others with it."""
    async with hub(tmp_path, *two(tmp_path), monkeypatch=monkeypatch) as client:
        for about, name in (("l", "left__late"), ("r", "right__late")):
            await client.send({"jsonrpc": "2.0", "id": about, "method": "tools/call", "params": call_params(name)})
        await eventually(lambda: client.effects("left") and client.effects("right"))
        os.kill(client.children[0]._process.pid, signal.SIGKILL)
        assert code_of(await client.answer("l")) == "in_doubt"
        await client.send({"jsonrpc": "2.0", "method": "notifications/land"})
        assert words(await client.answer("r")) == "landed"


async def test_over_both_wires_as_63(tmp_path: Path, shop: Shop) -> None:
    """AS-63: a server over HTTP and one on standard input and output stand behind one endpoint."""
    web = f'[servers.web]\nurl = "{shop.url}"\n'
    async with hub(tmp_path, till(tmp_path, "left"), web) as client:
        await client.ask("initialize", HELLO)
        assert [tool["name"] for tool in (await client.ask("tools/list"))["result"]["tools"]][-2:] == ["left__huge", "web__pay"]
        assert words(await client.call("web__pay", key="k")) == "paid"
        assert words(await client.call("left__pay", {"amount": 1}, key="k")) == "paid 1"
    assert (shop.effects(), client.effects("left")) == (["pay k"], ['pay {"amount": 1}'])


WRONG = [
    ("", "[servers.NAME]"),
    ("[other]", "[servers.NAME]"),
    ("servers = 1", "[servers.NAME]"),
    ("[servers.a_b]\ncommand = ['x']", "letters, digits and '-'"),
    ("[servers.a]", "'command' or a 'url'"),
    ("[servers.a]\ncommand = ['x']\nurl = 'http://x/mcp'", "not both"),
    ("[servers.a]\nurl = 'x'", "http://host:port/path"),
    ("[servers.a]\ncommand = 'x'", "'command' that is no list of texts"),
    ("[servers.a]\ncommand = ['x']\nreads = ['y']", "'reads', which is none of"),
    ("[servers.a]\ncommand = ['x']\ntimeout = 0", "seconds above 0"),
    ("[servers.a]\ncommand = ['x']\nonce = ['y']", "scope"),
    ("[servers.a]\ncommand = ['x']\nprobe = {pay = 1}", "'probe' that is no table of texts"),
    ("[servers.a]\nurl = 'http://x/mcp'\nauthorization_from = 'NOT_SET_ANYWHERE'", "not set"),
    ("[servers.a]\ncommand = ['x']\nauthorization_from = 'PATH'", "is for a 'url'"),
    ("[servers.a]\ncommand = ['x']\n[servers.A]\ncommand = ['x']", "capital letters"),
    ("servers = 1 1", "is not TOML"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_files_that_cannot_be_meant(tmp_path: Path, text: str, says: str) -> None:
    """A file that describes no servers, or two whose names could be taken for one, is refused with one sentence."""
    file = tmp_path / "servers.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as found:
        read(file)
    assert says in str(found.value)
    with pytest.raises(NotFound):
        read(tmp_path / "nothing.toml")


def test_options_beside_a_file(tmp_path: Path) -> None:
    """What a file says of its servers is not said again in options."""
    Plugins.default().cli(cli)
    (tmp_path / "servers.toml").write_text("".join(two(tmp_path)))
    for verb, more in (("run", ["--read", "*"]), ("serve", ["--name", "x"]), ("run", ["cat"]), ("serve", ["--upstream", "http://x/mcp"])):
        done = CliRunner().invoke(cli, ["--store", "memory://beside", "mcp", verb, "--servers", str(tmp_path / "servers.toml"), *more])
        assert (done.exit_code, "say in" in done.output) == (2, True), done.output
    done = CliRunner().invoke(cli, ["--store", "memory://beside", "mcp", "run"])
    assert (done.exit_code, "give one of these" in done.output) == (2, True)


async def test_a_server_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of several cannot be started nothing is served, and those that were started are ended."""
    children: list[Child] = []
    monkeypatch.setattr(Child, "start", noting(children))
    with pytest.raises(UsageError, match="no-such-server"):
        async with hub(tmp_path, till(tmp_path, "left"), "[servers.b]\ncommand = ['no-such-server']\n"):
            pass
    assert [child.running for child in children] == [False]
