"""``surefoot mcp wrap``: the configurations of clients, and back again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mcp_support import SHOP, call_params, words

from surefoot.plugins import Plugins
from surefoot_cli.main import cli

SERVER: dict[str, Any] = {"command": "npx", "args": ["-y", "some-server", "--name", "x", "mcp", "run"], "env": {"TOKEN": "1"}}
CONFIGS: dict[str, Any] = {
    "claude": {"globalShortcut": "ü", "mcpServers": {"shop": SERVER, "my shop": {"command": "uvx"}, "web": {"url": "https://example.com"}}},
    "vscode": {"inputs": [], "servers": {"shop": {"type": "stdio", **SERVER}}},
    "settings": {"editor.tabSize": 4, "mcp": {"servers": {"shop": SERVER}}},
}


def surefoot(folder: Path, *arguments: str) -> Result:
    """Run the command line."""
    Plugins.default().cli(cli)
    return CliRunner().invoke(cli, ["--store", f"sqlite:///{folder / 'ledger.db'}", "mcp", *arguments])


@pytest.mark.parametrize("client", CONFIGS)
def test_wrapped_and_back(tmp_path: Path, client: str) -> None:
    """Every server that has a command gets the proxy, once; unwrap gives the entries back, and each change leaves a copy."""
    file = tmp_path / "config.json"
    before = json.dumps(CONFIGS[client], indent=2, ensure_ascii=False) + "\n"
    file.write_text(before)
    assert surefoot(tmp_path, "wrap", "--dry-run", str(file)).exit_code == 0
    assert file.read_text() == before
    assert surefoot(tmp_path, "wrap", str(file)).exit_code == 0
    found = json.loads(file.read_text())
    servers = found.get("mcpServers") or found.get("servers") or found["mcp"]["servers"]
    command = [servers["shop"]["command"], *servers["shop"]["args"]]
    assert command[1:3] == ["-m", "surefoot_cli.main"]
    assert command[-7:] == ["npx", *SERVER["args"]]
    assert servers["shop"]["env"] == SERVER["env"]
    assert (tmp_path / "config.json.before-surefoot").read_text() == before
    after = file.read_text()
    assert "is wrapped already" in surefoot(tmp_path, "wrap", str(file)).output
    assert file.read_text() == after
    assert surefoot(tmp_path, "unwrap", str(file)).exit_code == 0
    assert json.loads(file.read_text()) == {**CONFIGS[client], **({} if client != "claude" else {"mcpServers": with_args(CONFIGS[client])})}
    assert (tmp_path / "config.json.before-surefoot-2").read_text() == after


def with_args(config: dict[str, Any]) -> dict[str, Any]:
    """Return the servers as unwrap leaves them: one that had no arguments has none, in a list."""
    return {name: {**entry, "args": entry.get("args", [])} if "command" in entry else entry for name, entry in config["mcpServers"].items()}


def test_options_are_taken_away_too(tmp_path: Path) -> None:
    """Options that somebody added to the proxy go with it; the server's own stay."""
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps({"mcpServers": {"shop": {"command": "surefoot", "args": ["mcp", "run", "--unsafe", "pay*", "npx", "--read", "x"]}}})
    )
    assert surefoot(tmp_path, "unwrap", str(file)).exit_code == 0
    assert json.loads(file.read_text()) == {"mcpServers": {"shop": {"command": "npx", "args": ["--read", "x"]}}}


def test_names_do_not_collide_as_63(tmp_path: Path) -> None:
    """AS-63: two servers never share a name in the ledger, whatever characters tell theirs apart; the names are the same each time."""
    file, names = tmp_path / "config.json", []
    for _ in range(2):
        file.write_text(json.dumps({"mcpServers": {name: {"command": "npx"} for name in ("a b", "a-b", "a/b", "a_b", "ä", "")}}))
        report = json.loads(surefoot(tmp_path, "wrap", "--json", str(file)).output)
        names.append([server["after"][server["after"].index("--name") + 1] for server in report["servers"]])
    assert names[0] == names[1]
    assert len(set(names[0])) == 6


def test_a_wrapped_server_works(tmp_path: Path) -> None:
    """What wrap writes can be started as a client does, from another folder."""
    file = tmp_path / "config.json"
    server = {"command": sys.executable, "args": ["-S", "-E", SHOP, str(tmp_path / "effects")]}
    file.write_text(json.dumps({"mcpServers": {"shop": server}}))
    surefoot(tmp_path, "wrap", str(file))
    entry = json.loads(file.read_text())["mcpServers"]["shop"]
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("pay", {"amount": 1})}) + "\n"
    command = [entry["command"], *entry["args"]]
    done = subprocess.run(command, input=line, capture_output=True, text=True, check=True, cwd="/", env={"PATH": os.environ["PATH"]})
    assert words(json.loads(done.stdout)) == "paid 1"


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [(None, 3, "there is no file"), ("{ // x\n}", 2, "remove comments"), ("{}", 2, "has no servers"), ("[]", 2, "has no servers")],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: str | None, code: int, says: str) -> None:
    """A file without servers is refused with one sentence, and nothing is written."""
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    done = surefoot(tmp_path, "wrap", str(file))
    assert (done.exit_code, says in done.output) == (code, True)
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else ["config.json"])


def test_a_store_from_here_is_refused(tmp_path: Path) -> None:
    """A store that is a path from the current folder would be another one for each client."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIGS["claude"]))
    done = CliRunner().invoke(cli, ["--store", "sqlite:///here.db", "mcp", "wrap", str(file)])
    assert (done.exit_code, "whole path" in done.output) == (2, True)
