"""Clients that others wrote, through the proxy: the protocol's inspector and fastmcp, over standard input and output and over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp_support import HERE, SHOP

INSPECTOR = ["node@22", "@modelcontextprotocol/inspector@2.12.0"]
FASTMCP = "fastmcp>=4.1,<5"
KEY = "surefoot/idempotencyKey"
FAST_CLIENT = """
import asyncio, json, sys
from fastmcp import Client


async def main():
    target = sys.argv[1] if len(sys.argv) == 2 else {"mcpServers": {"shop": {"command": sys.argv[1], "args": sys.argv[2:]}}}
    async with Client(target) as client:
        found = [await client.call_tool_mcp("pay", {"amount": 7}, meta={"surefoot/idempotencyKey": "order-1"}) for _ in range(2)]
    print(json.dumps([result.model_dump(by_alias=True, mode="json") for result in found]))


asyncio.run(main())
"""
pytestmark = [pytest.mark.sweep, pytest.mark.timeout(600)]


def proxied(folder: Path, *command: str) -> list[str]:
    """Return the command of a proxy before a server's, or before ``serve`` and its options."""
    store = f"sqlite:///{folder / 'ledger.db'}"
    return [sys.executable, "-m", "surefoot_cli.main", "--store", store, "mcp", *command]


def over_stdio(folder: Path) -> list[str]:
    """Return the command of a proxied server of our own."""
    return proxied(folder, "run", "--name", "shop", sys.executable, "-S", "-E", SHOP, str(folder / "effects"))


@contextmanager
def over_http(folder: Path) -> Iterator[str]:
    """Serve a server of our own through the gateway; yield its URL."""
    shop = subprocess.Popen([sys.executable, str(HERE / "shop_http.py"), str(folder / "effects")], stdout=subprocess.PIPE, text=True)
    assert shop.stdout is not None
    upstream = f"http://127.0.0.1:{int(shop.stdout.readline())}/mcp"
    command = proxied(folder, "serve", "--upstream", upstream, "--port", "0")
    gateway = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert gateway.stderr is not None
    try:
        yield f"http://{gateway.stderr.readline().split()[-1]}/mcp"
    finally:
        for process in (gateway, shop):
            process.terminate()
            process.communicate(timeout=30)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """Return what a client printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Install the inspector and the Node that it needs; return its command."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("inspector")
    if npm is None:
        pytest.skip("npm is not installed")
    done = subprocess.run([npm, "install", "--no-audit", "--no-fund", *INSPECTOR], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the inspector cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    modules = folder / "node_modules"
    return [str(modules / ".bin" / "node"), str(modules / ".bin" / "mcp-inspector"), "--cli"]


@pytest.fixture(scope="module")
def fastmcp(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make an environment with fastmcp; return its interpreter."""
    folder = tmp_path_factory.mktemp("fastmcp") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", FASTMCP], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{FASTMCP} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    (folder / "client.py").write_text(FAST_CLIENT)
    return python


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_inspector_i31(tmp_path: Path, inspector: list[str], transport: str) -> None:
    """I31: the inspector calls a tool twice, each time in a process of its own; under one key it has one effect."""
    call = ["--method", "tools/call", "--tool-name", "pay", "--tool-arg", "amount=7", "--metadata", f"{KEY}=order-1"]
    environment = {**os.environ, "PATH": f"{Path(inspector[0]).parent}{os.pathsep}{os.environ['PATH']}"}

    def twice(target: list[str]) -> list[Any]:
        command = [*inspector, *target, *call]
        return [told(subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)) for _ in range(2)]

    if transport == "stdio":
        first, second = twice(over_stdio(tmp_path))
    else:
        with over_http(tmp_path) as url:
            first, second = twice([url, "--transport", "http"])
    assert first["content"] == second["content"]
    assert second["_meta"]["surefoot/replayed"] is True
    assert len((tmp_path / "effects").read_text().splitlines()) == 1


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_fastmcp_i31(tmp_path: Path, fastmcp: str, transport: str) -> None:
    """I31: fastmcp's client calls a tool twice under one key; it has one effect, and equal results."""
    client = [fastmcp, str(Path(fastmcp).parent.parent / "client.py")]

    def run(*target: str) -> Any:
        return told(subprocess.run([*client, *target], capture_output=True, text=True, check=False, timeout=120))

    if transport == "stdio":
        first, second = run(*over_stdio(tmp_path))
    else:
        with over_http(tmp_path) as url:
            first, second = run(url)
    assert first["content"] == second["content"]
    assert second["_meta"]["surefoot/replayed"] is True
    assert len((tmp_path / "effects").read_text().splitlines()) == 1
