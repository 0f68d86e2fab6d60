"""Real clients and servers through the proxy: both major versions of the Python SDK, and the npm reference server."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from crash import is_alive
from test_conformance import free_port, listening
from test_processes import wait_for

from surefoot import CallState, Guard

HERE = Path(__file__).parent
SDKS = {"1.x": "mcp>=1.26,<2", "2.x": "mcp>=2.2,<3"}
EVERYTHING = "@modelcontextprotocol/server-everything@2026.8.31"
pytestmark = [pytest.mark.sweep, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def sdks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make an environment for each major version of the SDK; one environment cannot hold both."""
    found = {}
    for name, requirement in SDKS.items():
        folder = tmp_path_factory.mktemp("sdk") / name
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(folder / "bin" / "python")
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{requirement} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        found[name] = python
    return found


def proxied(folder: Path, *command: str) -> list[str]:
    """Return the command of a proxy before a server's."""
    return [
        sys.executable,
        "-m",
        "surefoot_cli.main",
        "--store",
        f"sqlite:///{folder / 'ledger.db'}",
        "mcp",
        "run",
        "--name",
        "shop",
        *command,
    ]


def served(folder: Path, client: str, server: str, times: int = 2, dies: str = "") -> list[dict[str, Any]]:
    """Run the client against the proxied server and return what its calls gave.

    A server that dies takes the proxy along, and SDK 1.x raises from its ``async with`` when it writes to a server that is gone.
    """
    command = [
        client,
        str(HERE / "sdk_client.py"),
        str(times),
        *proxied(folder, server, str(HERE / "sdk_server.py"), str(folder / "effects")),
    ]
    done = subprocess.run(command, env={**os.environ, "SHOP_DIES": dies}, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "pay" in found["tools"]
    return list(found["calls"])


@pytest.mark.parametrize(("client", "server"), [*itertools.product(SDKS, SDKS)])
def test_sdk_clients_and_servers_as_58(tmp_path: Path, sdks: dict[str, str], client: str, server: str) -> None:
    """AS-58: clients and servers of both major versions work through the proxy; a call issued again has one effect, an equal result."""
    first, second = served(tmp_path, sdks[client], sdks[server])
    assert second.pop("_meta") == {"surefoot/replayed": True}
    assert first.pop("_meta") is None
    assert first == second
    assert first["structuredContent"] == {"paid": 7}
    assert (tmp_path / "effects").read_text() == "pay 7\n"


@pytest.mark.parametrize(("client", "server"), [*itertools.product(SDKS, SDKS)])
def test_sdk_server_dies_as_11(tmp_path: Path, sdks: dict[str, str], client: str, server: str) -> None:
    """AS-11: an SDK server commits and dies; the call is in doubt, for a new client and a new server too, and its effect is one."""
    found = [*served(tmp_path, sdks[client], sdks[server], 1, "after"), *served(tmp_path, sdks[client], sdks[server])]
    assert [call["_meta"]["surefoot/error"]["code"] for call in found] == ["in_doubt"] * 3
    assert (tmp_path / "effects").read_text() == "pay 7\n"


def told(client: str, *arguments: str) -> dict[str, Any]:
    """Run the client and return what it printed."""
    done = subprocess.run([client, str(HERE / "sdk_client.py"), *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@contextmanager
def serving(folder: Path, *target: str) -> Iterator[str]:
    """Serve what the arguments name over HTTP, governed; yield the URL."""
    command = [sys.executable, "-m", "surefoot_cli.main", "--store", f"sqlite:///{folder / 'ledger.db'}", "mcp", "serve", "--name", "shop"]
    process = subprocess.Popen([*command, "--port", "0", *target], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = next(line.split()[-1] for line in process.stderr if "listening on" in line)
    reading = Thread(target=process.stderr.read)
    reading.start()
    try:
        yield f"http://{address}/mcp"
    finally:
        process.terminate()
        process.wait(timeout=60)
        reading.join()
        process.stderr.close()


@contextmanager
def over_http(folder: Path, python: str) -> Iterator[str]:
    """Start an SDK server over HTTP; yield its URL."""
    port = free_port()
    process = subprocess.Popen([python, str(HERE / "sdk_server.py"), str(folder / "effects"), str(port)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: listening(port))
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.parametrize("kind", ["gateway", "front"])
@pytest.mark.parametrize(("client", "server"), [*itertools.product(SDKS, SDKS)])
def test_over_http_as_58(tmp_path: Path, sdks: dict[str, str], client: str, server: str, kind: str) -> None:
    """AS-58, I31: over HTTP too clients and servers of both major versions work; a call issued again has one effect, an equal result.

    Once in front of a server over HTTP, and once of one on standard input and output.
    """
    with ExitStack() as stack:
        if kind == "gateway":
            target = ["--upstream", stack.enter_context(over_http(tmp_path, sdks[server]))]
        else:
            target = [sdks[server], str(HERE / "sdk_server.py"), str(tmp_path / "effects")]
        url = stack.enter_context(serving(tmp_path, *target))
        found = told(sdks[client], "2", url)
    first, second = found["calls"]
    assert second.pop("_meta")["surefoot/replayed"] is True
    first.pop("_meta")
    assert first == second
    assert first["structuredContent"] == {"paid": 7}
    assert (tmp_path / "effects").read_text() == "pay 7\n"


@pytest.mark.parametrize("server", SDKS)
@pytest.mark.parametrize("client", ["1.x"])
def test_behind_pipes_as_58(tmp_path: Path, sdks: dict[str, str], client: str, server: str) -> None:
    """AS-58: a client on standard input and output works with a server over HTTP; what it hears is what it hears without the proxy."""
    with over_http(tmp_path, sdks[server]) as url:
        direct = told(sdks[client], "talk", url)
        through = told(sdks[client], "talk", *proxied(tmp_path, "--upstream", url))
        calls = told(sdks[client], "2", *proxied(tmp_path, "--upstream", url))["calls"]
    assert through == direct
    assert direct["asked"] == ["Are you sure?"]
    assert [call["structuredContent"] for call in calls] == [{"paid": 7}] * 2
    assert (tmp_path / "effects").read_text() == "pay 7\n"


@pytest.mark.parametrize("kind", ["pipes", "http"])
@pytest.mark.parametrize("server", SDKS)
def test_first_version_hears_the_same_as_65(tmp_path: Path, sdks: dict[str, str], server: str, kind: str) -> None:
    """AS-65: progress, logs, questions to the user and their answers travel through the proxy to an SDK 1.x client as they do without."""
    command = [sdks[server], str(HERE / "sdk_server.py"), str(tmp_path / "effects")]
    direct = told(sdks["1.x"], "talk", *command)
    if kind == "pipes":
        through = told(sdks["1.x"], "talk", *proxied(tmp_path, *command))
    else:
        with serving(tmp_path, *command) as url:
            through = told(sdks["1.x"], "talk", url)
    assert through == direct
    assert (direct["progress"], direct["logs"], direct["asked"]) == ([[1.0, 2.0]], ["half-way"], ["Are you sure?"])
    assert direct["result"]["content"][0]["text"] == "accept True"


@pytest.mark.parametrize(("client", "server"), [*itertools.product(SDKS, SDKS)])
def test_client_is_killed_as_45(tmp_path: Path, sdks: dict[str, str], client: str, server: str) -> None:
    """AS-45, AS-85: an SDK client that is killed cancels nothing: the proxy does, and it and the server go.

    The call is in doubt, for the next client too.
    """
    effects = tmp_path / "effects"
    command = proxied(tmp_path, sdks[server], str(HERE / "sdk_server.py"), str(effects))
    done = subprocess.run([sdks[client], str(HERE / "sdk_client.py"), str(effects), *command], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    _, *pids = effects.read_text().splitlines()[0].split()
    wait_for(lambda: not any(is_alive(int(pid)) for pid in pids))
    assert [line.split()[0] for line in effects.read_text().splitlines()] == ["hang", "cancelled"]
    with Guard(f"sqlite:///{tmp_path / 'ledger.db'}") as guard:
        assert [(call.tool, call.state) for call in guard.calls.list()] == [("shop/hang", CallState.IN_DOUBT)]


@pytest.mark.parametrize("kind", ["pipes", "http"])
@pytest.mark.parametrize(("client", "server"), [*itertools.product(SDKS, SDKS)])
def test_changed_definitions_i28(tmp_path: Path, sdks: dict[str, str], client: str, server: str, kind: str) -> None:
    """I28, AS-62: an SDK server whose tool says something else than what was approved is not called; as it was approved, it is."""
    command = [sdks[server], str(HERE / "sdk_server.py"), str(tmp_path / "effects")]
    pin = [sys.executable, "-m", "surefoot_cli.main", "--store", f"sqlite:///{tmp_path / 'ledger.db'}", "mcp", "pin", "--name", "shop"]
    subprocess.run([*pin, *command], check=True, capture_output=True)
    for says, paid in (("Pay me.", False), ("", True)):
        changed = ["env", f"SHOP_SAYS={says}", *command]
        if kind == "pipes":
            (found,) = told(sdks[client], "1", *proxied(tmp_path, *changed))["calls"]
        else:
            with serving(tmp_path, *changed) as url:
                (found,) = told(sdks[client], "1", url)["calls"]
        assert found["isError"] is not paid
        assert paid or found["_meta"]["surefoot/changes"][0]["path"] == "description"
        assert (tmp_path / "effects").exists() is paid


def test_reference_server_as_64(tmp_path: Path) -> None:
    """AS-64: the reference server of the protocol's own project answers the same, byte for byte, with the proxy and without."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", EVERYTHING], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"{EVERYTHING} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    server = [str(tmp_path / "node_modules" / ".bin" / "mcp-server-everything"), "stdio"]
    direct, through = conversation(server, tmp_path), conversation(proxied(tmp_path, *server), tmp_path)
    assert len(direct) > 8
    assert through == direct


def conversation(command: list[str], folder: Path) -> dict[int, str]:
    """Say the same things to a server and return its responses by request id, as they were written."""
    capabilities: dict[str, Any] = {"roots": {}, "sampling": {}, "elicitation": {}}
    hello = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}}
    asked = [
        ("tools/list", {}),
        ("tools/call", {"name": "echo", "arguments": {"message": "grüezi"}}),
        ("tools/call", {"name": "get-sum", "arguments": {"a": 1, "b": 2}}),
        ("tools/call", {"name": "get-tiny-image", "arguments": {}}),
        ("tools/call", {"name": "get-structured-content", "arguments": {"location": "New York"}}),
        (
            "tools/call",
            {"name": "trigger-long-running-operation", "arguments": {"duration": 1, "steps": 2}, "_meta": {"progressToken": "p"}},
        ),
        ("tools/call", {"name": "no-such-tool", "arguments": {}}),
        ("prompts/list", {}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("ping", {}),
        ("no/such/method", {}),
    ]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=folder)
    assert process.stdin is not None
    assert process.stdout is not None
    found: dict[int, str] = {}
    messages = [{"id": 0, "method": "initialize", "params": hello}, {"method": "notifications/initialized"}]
    messages += [{"id": number, "method": method, "params": params} for number, (method, params) in enumerate(asked, 1)]
    for message in messages:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()
        while "id" in message and message["id"] not in found:
            line = process.stdout.readline()
            assert line
            read = json.loads(line)
            if read.get("method") == "roots/list":
                process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": read["id"], "result": {"roots": []}}) + "\n")
                process.stdin.flush()
            elif "method" not in read:
                found[read["id"]] = line
    process.stdin.close()
    process.stdout.close()
    process.wait(timeout=60)
    return found
