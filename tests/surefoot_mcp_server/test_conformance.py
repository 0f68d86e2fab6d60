"""AS-64: the official conformance suite gives the same pass list with the gateway and without."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SUITE = ["node@22", "@modelcontextprotocol/conformance@0.2.0-alpha.12", "@modelcontextprotocol/server-everything@2026.8.31"]
PASSED = re.compile(r"^\S\s+([\w-]+): (\d+) passed, (\d+) failed", re.MULTILINE)
MODERN = """
import sys
from mcp.server.mcpserver import MCPServer

server = MCPServer("modern")


@server.tool()
def test_simple_text() -> str:
    return "This is a simple text response for testing."


@server.tool()
def test_error_handling() -> str:
    raise ValueError("This tool intentionally returns an error for testing")


server.run(transport="streamable-http", port=int(sys.argv[1]))
"""
pytestmark = [pytest.mark.sweep, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the suite, the Node that it needs, and the reference server."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("suite")
    if npm is None:
        pytest.skip("npm is not installed")
    done = subprocess.run([npm, "install", "--no-audit", "--no-fund", *SUITE], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the suite cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder / "node_modules" / ".bin"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listening(port: int) -> bool:
    """Return whether somebody listens on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], port: int, folder: Path, **environment: str) -> Iterator[None]:
    """Run a server until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env={**os.environ, **environment})
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None and not listening(port):
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def judged(suite: Path, port: int, revision: str) -> dict[str, tuple[str, str]]:
    """Return for each scenario how many checks passed and failed."""
    command = [
        suite / "node",
        suite / "conformance",
        "server",
        "--url",
        f"http://127.0.0.1:{port}/mcp",
        "--suite",
        "all",
        "--spec-version",
        revision,
    ]
    found = PASSED.findall(subprocess.run(command, capture_output=True, text=True, check=False, timeout=300).stdout)
    return {name: (passed, failed) for name, passed, failed in found}


def compare(suite: Path, folder: Path, server: list[str], revision: str) -> None:
    """Judge a server, and the gateway in front of it."""
    port, front = free_port(), free_port()
    store = f"sqlite:///{folder / 'ledger.db'}"
    gateway = [sys.executable, "-m", "surefoot_cli.main", "--store", store, "mcp", "serve"]
    gateway += ["--upstream", f"http://127.0.0.1:{port}/mcp", "--port", str(front)]
    with running([*server, str(port)], port, folder, PORT=str(port)), running(gateway, front, folder):
        direct, through = judged(suite, port, revision), judged(suite, front, revision)
    assert sum(int(passed) for passed, _ in direct.values()) > 20
    direct.pop("dns-rebinding-protection", None)  # the gateway sees to that itself, whatever the server does
    assert through.pop("dns-rebinding-protection", ("2", "0")) == ("2", "0")
    assert through == direct


def test_reference_server_as_64(tmp_path: Path, suite: Path) -> None:
    """AS-64: the reference server, revision 2025-11-25."""
    compare(suite, tmp_path, [str(suite / "mcp-server-everything"), "streamableHttp"], "2025-11-25")


def test_sdk_server_as_64(tmp_path: Path, suite: Path) -> None:
    """AS-64: a server of the SDK's second major version, revision 2026-07-28."""
    python = tmp_path / "sdk" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "sdk"], check=True)
    if subprocess.run([python, "-m", "pip", "install", "--quiet", "mcp>=2.2,<3"], check=False).returncode:
        pytest.skip("the SDK cannot be installed")
    (tmp_path / "modern.py").write_text(MODERN)
    compare(suite, tmp_path, [str(python), str(tmp_path / "modern.py")], "2026-07-28")
