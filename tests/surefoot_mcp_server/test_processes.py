"""The proxy as its users start it: ``surefoot mcp run``, killed clients, killed proxies, orphans. Every process is a real one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from crash import children_of, is_alive
from mcp_support import SHOP, call_params, code_of, words

from surefoot import CallState, Guard
from surefoot.plugins import Plugins
from surefoot_cli.main import cli

PATIENCE = 30.0


class Real:
    """A proxy in a process of its own, and its client's ends of the pipes."""

    def __init__(self, folder: Path, *options: str, command: list[str] | None = None, **environment: str) -> None:
        self.folder = folder
        self.store = f"sqlite:///{folder / 'ledger.db'}"
        server = command or [sys.executable, "-S", "-E", SHOP, str(folder / "effects")]
        arguments = [sys.executable, "-m", "surefoot_cli.main", "--store", self.store, "mcp", "run", "--name", "shop", *options, *server]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **environment}, cwd=folder)

    def send(self, method: str, params: Any, about: Any = 1) -> None:
        """Write a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": about, "method": method, "params": params}).encode() + b"\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """Read a message."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        return json.loads(line)

    def call(self, tool: str, arguments: dict[str, Any] | None = None, *, key: str | None = None) -> dict[str, Any]:
        """Call a tool."""
        self.send("tools/call", call_params(tool, arguments, key=key))
        return self.read()

    def end(self) -> tuple[int, str]:
        """Close the client's side; return the exit code and what stood on standard error."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors.decode()

    def effects(self) -> list[str]:
        """Return what the server did."""
        file = self.folder / "effects"
        return file.read_text().splitlines() if file.exists() else []


def wait_for(what: Any) -> None:
    """Wait until something is true."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_command_needs_no_separator(tmp_path: Path) -> None:
    """Whatever stands behind the command is the command's, options that look like ours included; the exit code is the server's."""
    script = "import sys; print(sys.argv[1:], file=sys.stderr); sys.exit(4)"
    code, errors = Real(tmp_path, command=[sys.executable, "-c", script, "--name", "other", "-h", "--store=x"]).end()
    assert (code, errors.strip()) == (4, "['--name', 'other', '-h', '--store=x']")


def test_unknown_command(tmp_path: Path) -> None:
    """A command that cannot be started is a usage error of one sentence."""
    code, errors = Real(tmp_path, command=["no-such-server"]).end()
    assert code == 2
    assert (
        errors.strip()
        == "surefoot: the server 'no-such-server' cannot be started (No such file or directory); give the command as you would type it"
    )


@pytest.mark.parametrize(
    ("options", "says"), [(["--once", "*"], "--scope"), (["--name", "a/b"], "letters, digits"), (["--probe", "pay"], "TOOL=READER")]
)
def test_bad_options(tmp_path: Path, options: list[str], says: str) -> None:
    """Options that cannot work are refused before the server starts."""
    Plugins.default().cli(cli)
    done = CliRunner().invoke(cli, ["--store", "memory://bad-options", "mcp", "run", *options, "touch", str(tmp_path / "effects")])
    assert done.exit_code == 2
    assert says in done.output
    assert not (tmp_path / "effects").exists()


@pytest.mark.sweep
def test_store_that_cannot_be_opened(tmp_path: Path) -> None:
    """Without its ledger the proxy does not start (I34, I37)."""
    (tmp_path / "ledger.db").write_text("this is no database" * 100)
    code, errors = Real(tmp_path).end()
    assert code == 9
    assert errors.startswith("surefoot: ")
    assert not (tmp_path / "effects").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc to see other processes")
@pytest.mark.parametrize("victim", ["client", "proxy"])
@pytest.mark.parametrize("stubborn", ["", pytest.param("1", marks=pytest.mark.sweep)], ids=["meek", "stubborn"])
def test_no_orphans_as_85(tmp_path: Path, victim: str, stubborn: str) -> None:
    """AS-85: five seconds after the client is killed, proxy and server are gone, and what was in flight is in doubt.

    A server that heeds neither the end of its input nor SIGTERM is killed by the proxy; the proxy's own death ends any other.
    """
    if victim == "proxy" and stubborn:
        pytest.skip("whoever could kill a server that ignores SIGTERM is dead itself")
    client = """
import os, subprocess, sys, json
proxy = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hang", "arguments": {}}}
proxy.stdin.write(json.dumps(call).encode() + b"\\n"); proxy.stdin.flush()
print(proxy.pid, flush=True)
proxy.wait()
"""
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    server = [sys.executable, "-S", "-E", SHOP, str(tmp_path / "effects")]
    command = [sys.executable, "-m", "surefoot_cli.main", "--store", store, "mcp", "run", "--name", "shop", *server]
    killed = subprocess.Popen(
        [sys.executable, "-c", client, *command], stdout=subprocess.PIPE, env={**os.environ, "SHOP_STUBBORN": stubborn}, text=True
    )
    assert killed.stdout is not None
    proxy = int(killed.stdout.readline())
    wait_for((tmp_path / "effects").exists)
    [server_pid] = children_of(proxy)
    os.kill(killed.pid if victim == "client" else proxy, signal.SIGKILL)
    begun = time.monotonic()
    wait_for(lambda: not is_alive(server_pid) and not is_alive(proxy))
    took = time.monotonic() - begun
    killed.wait()
    killed.stdout.close()
    assert took < 5
    following = Real(tmp_path)
    assert code_of(following.call("hang")) == "in_doubt"
    following.end()
    assert following.effects().count("hang") == 1
    with Guard(store) as guard:
        assert [call.tool for call in guard.calls.list(state=CallState.IN_DOUBT)] == ["shop/hang"]


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see another process's memory")
def test_memory_is_flat(tmp_path: Path) -> None:
    """After 100,000 calls, 100 at a time, the proxy has as much memory as after 10,000 of them, to a tenth."""
    script = """
import json, sys
for line in sys.stdin:
    about = json.loads(line)["id"]
    print(json.dumps({"jsonrpc": "2.0", "id": about, "result": {"content": [{"type": "text", "text": "paid"}]}}), flush=True)
"""
    wire = Real(tmp_path, command=[sys.executable, "-S", "-E", "-c", script])

    def memory_after(begin: int, end: int) -> int:
        for first in range(begin, end, 100):
            for about in range(first, first + 100):
                wire.send("tools/call", call_params("pay", {"number": about}, key=f"order-{about}"), about)
            assert {wire.read()["id"] for _ in range(100)} == set(range(first, first + 100))
        status = Path(f"/proc/{wire.process.pid}/status").read_text()
        return int(re.findall(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[0])

    early = memory_after(0, 10_000)
    assert memory_after(10_000, 100_000) <= early * 1.1
    wire.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.sweep)])
def test_asked_to_end(tmp_path: Path, number: signal.Signals) -> None:
    """A proxy that is asked to end does, and takes its server with it."""
    wire = Real(tmp_path)
    assert words(wire.call("pay", {"amount": 1})) == "paid 1"
    wire.process.send_signal(number)
    assert wire.process.wait(timeout=PATIENCE) == 0
    wire.end()


@pytest.mark.sweep
def test_input_and_output_may_be_files(tmp_path: Path) -> None:
    """Input from a file and output to a file work as pipes do."""
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("pay", {"amount": 1})})
    (tmp_path / "in").write_text(line + "\n")
    arguments = [sys.executable, "-m", "surefoot_cli.main", "--store", f"sqlite:///{tmp_path / 'l.db'}", "mcp", "run"]
    arguments += [sys.executable, "-S", "-E", SHOP, str(tmp_path / "effects")]
    with (tmp_path / "in").open() as given, (tmp_path / "out").open("w") as taken:
        assert subprocess.run(arguments, stdin=given, stdout=taken, check=False).returncode == 0
    assert words(json.loads((tmp_path / "out").read_text())) == "paid 1"
