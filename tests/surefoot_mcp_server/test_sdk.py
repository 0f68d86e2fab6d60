"""Real clients and servers through the proxy: both major versions of the Python SDK, and the npm reference server."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
    assert found["tools"] == ["pay"]
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
