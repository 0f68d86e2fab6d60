"""The relay on the wire: what passes, what it is asked for, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from mcp_support import code_of, proxy, words

PASSING = [
    {"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": {"protocolVersion": "2024-11-05"}},
    {"jsonrpc": "2.0", "id": 7, "method": "resources/read", "params": {"uri": "file:///ü", "n": 1e3}},
    {"jsonrpc": "2.0", "id": 8, "method": "prompts/get", "params": {"name": "tools/call"}},
    {"jsonrpc": "2.0", "id": 9, "method": "completion/complete"},
    {
        "jsonrpc": "2.0",
        "id": 10,
        "method": "server/discover",
        "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}},
    },
    {"jsonrpc": "2.0", "id": 11, "method": "tools/list"},
    {"jsonrpc": "2.0", "id": 12, "method": "tasks/get", "params": {"taskId": "t"}},
]


AMBIGUOUS = [
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping","params":{"name":"pay"}}', -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","m\\u0065thod":"tools/call","params":{"name":"pay"}}', -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{"a":1,"a":2}}}', -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}', -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\xff"}}', -32700),
    (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}', -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":[1]}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","_meta":{"surefoot/idempotencyKey":""}}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","idempotencyKey":"a","_meta":{"idempotencyKey":"b"}}}', -32602),
]


async def test_requests_pass_as_65(tmp_path: Path) -> None:
    """AS-65: every request that is no tool call reaches the server, and its answer comes back as the server wrote it."""
    async with proxy(tmp_path) as wire:
        for message in PASSING:
            await wire.send(message)
            found = await wire.answer(message["id"])
            assert "result" in found
            if message["method"] not in {"initialize", "tools/list"}:
                assert found["result"] == {"echo": message["method"], "params": message.get("params")}


async def test_bytes_as_65(tmp_path: Path) -> None:
    """AS-65: what passes is the same bytes, odd spacing and escapes included, in both directions; also while a call is in flight."""
    script = "import sys\nfor line in sys.stdin.buffer: sys.stdout.buffer.write(line); sys.stdout.buffer.flush()"
    odd = [
        b'{ "jsonrpc":"2.0",\t"method": "notifications/\\u0061", "params":{"x":1.50, "y":"\\u00fc \xc3\xbc"}}\r\n',
        b"\n",
        b'[{"jsonrpc":"2.0","id":4,"result":1e5}]\n',
    ]
    async with proxy(tmp_path, command=["python3", "-c", script]) as wire:
        await wire.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "arguments": {}}})
        assert json.loads(await wire.line())["method"] == "tools/call"  # this server sends everything back
        for line in odd:
            await wire.raw(line)
            assert await wire.line() == line
        await wire.raw(b'{"id":1,"result":{"content":[]}}\n')
        assert json.loads(await wire.line()) == {"id": 1, "result": {"content": []}}


async def test_directions_as_65(tmp_path: Path) -> None:
    """AS-65: progress comes before its result, the server may ask the client, and the client's answer reaches the server."""
    async with proxy(tmp_path) as wire:
        await wire.call("long", _meta={"progressToken": "p"})
        assert [message["params"]["progressToken"] for message in wire.seen] == ["p"]
        await wire.send({"jsonrpc": "2.0", "method": "notifications/ask"})
        assert (await wire.read())["method"] == "sampling/createMessage"
        await wire.send({"jsonrpc": "2.0", "id": "from-server", "result": {"role": "user"}})
        assert (await wire.read())["params"]["data"] == {"jsonrpc": "2.0", "id": "from-server", "result": {"role": "user"}}


async def test_batches(tmp_path: Path) -> None:
    """Tool calls in an array (revision 2025-03-26) are governed one by one; an array without any passes as it is."""
    ping = {"jsonrpc": "2.0", "id": "p", "method": "ping"}
    pay = {"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": {"name": "pay", "arguments": {"amount": 1}}}
    async with proxy(tmp_path) as wire:
        await wire.send([ping, {**ping, "id": "q"}])
        assert {(await wire.read())["id"] for _ in range(2)} == {"p", "q"}
        await wire.send([ping, pay])
        assert {(await wire.read())["id"] for _ in range(2)} == {"p", "c"}
        assert [call.tool for call in wire.guard.calls.list()] == ["shop/pay"]


async def test_ambiguous_messages_do_not_pass(tmp_path: Path) -> None:
    """What a server might read in another way than the proxy does reaches no server: no tool call slips by ungoverned."""
    async with proxy(tmp_path) as wire:
        for line, code in AMBIGUOUS:
            await wire.raw(line + b"\n")
            assert (await wire.read())["error"]["code"] == code
        await wire.ask("ping")
        assert wire.effects() == []


async def test_escaped_method_is_governed(tmp_path: Path) -> None:
    """A tool call is one however its name is spelt in JSON."""
    async with proxy(tmp_path) as wire:
        await wire.raw(b'{"jsonrpc":"2.0","id":1,"method":"tools\\u002fcall","params":{"name":"pay","arguments":{"amount":1}}}\n')
        assert words(await wire.answer(1)) == "paid 1"
        assert [call.tool for call in wire.guard.calls.list()] == ["shop/pay"]


async def test_calls_without_an_id_do_not_pass(tmp_path: Path) -> None:
    """A tool call that could not be answered is not passed on."""
    async with proxy(tmp_path) as wire:
        await wire.send({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "pay", "arguments": {}}})
        await wire.send({"jsonrpc": "2.0", "id": None, "method": "tools/call", "params": {"name": "pay", "arguments": {}}})
        await wire.ask("ping")
        assert wire.effects() == []


async def test_equal_ids_i31(tmp_path: Path) -> None:
    """I31: a request under the id of a call in flight is refused, so that no response is taken for another's."""
    pay = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "hang", "arguments": {}}}
    async with proxy(tmp_path, limit=0.5) as wire:
        await wire.send(pay)
        await wire.send({"jsonrpc": "2.0", "id": 5, "method": "ping"})
        assert (await wire.read())["error"]["code"] == -32600
        await wire.send(pay)
        assert (await wire.read())["error"]["code"] == -32600
        assert code_of(await wire.read()) == "in_doubt"
        assert wire.effects() == ["hang"]


@pytest.mark.parametrize("mega", [2, pytest.param(60, marks=pytest.mark.sweep)])
async def test_large_messages(tmp_path: Path, mega: int) -> None:
    """A message of 60 MiB passes in both directions."""
    size = mega * 2**20
    async with proxy(tmp_path, reads=["huge"]) as wire:
        found = await wire.call("huge", {"size": size, "padding": "y" * size})
        assert len(words(found)) == size


@pytest.mark.sweep
async def test_overlong_messages_end_the_connection(tmp_path: Path) -> None:
    """A message of more than 64 MiB ends the connection with an exit code, whoever sent it."""
    async with proxy(tmp_path, reads=["huge"]) as wire:
        await wire.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "huge", "arguments": {"size": 70 * 2**20}}})
        assert await wire.line() != b""
        assert await wire.relay == 1


@pytest.mark.parametrize("code", [0, 3])
async def test_exit_code(tmp_path: Path, code: int) -> None:
    """The relay ends with its server's own exit code."""
    async with proxy(tmp_path, code=code) as wire:
        await wire.ask("ping")
        assert await wire.end() == code


async def test_exit_code_of_a_killed_server(tmp_path: Path) -> None:
    """A server that a signal killed is 128 and the signal's number."""
    async with proxy(tmp_path) as wire:
        await wire.ask("ping")
        os.kill(wire.child._process.pid, signal.SIGKILL)
        assert await wire.relay == 128 + signal.SIGKILL


async def test_answers_after_the_end_of_the_input(tmp_path: Path) -> None:
    """A client that has only said that there is no more still gets the answers to what it asked."""
    async with proxy(tmp_path) as wire:
        await wire.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay", "arguments": {"amount": 1}}})
        await wire.send({"jsonrpc": "2.0", "id": 2, "method": "ping"})
        wire.close()
        assert {(await wire.read())["id"] for _ in range(2)} == {1, 2}
        assert await wire.relay == 0
