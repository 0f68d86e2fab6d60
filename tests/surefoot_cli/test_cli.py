"""The command line: what it prints, and one sentence with an exit code for every bad input."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import surefoot
from surefoot import CallRecord, CallState, Effect, Guard
from surefoot.engine import holds
from surefoot.engine.program import Do, Tx
from surefoot.engine.run import RunSpec, open_run
from surefoot.engine.transitions import CallEvent
from surefoot_cli.main import cli

AGENT = """
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

@tool
def send_mail(to: str) -> str:
    "Send."
    return to

@tool
def look_up(what: str) -> str:
    "Look."
    return what

builder = StateGraph(MessagesState)
builder.add_node("tools", ToolNode([send_mail, look_up]))
builder.add_edge(START, "tools")
graph = builder.compile()
nothing = 3
"""


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with one run that a call in doubt holds."""
    url = f"sqlite:///{tmp_path}/s.db"
    guard = Guard(url)
    spec = RunSpec("test", "default", "customer-7", "input", {}, "d", Do(lambda: None), Do(dict), lambda exc: exc)
    run = guard.drive(open_run(guard, spec)).run
    row = CallRecord(
        "call_1", "k", "default", "customer-7", run.record.run_id, run.record.run_id, "tools#1", "pay", "digest", '{"n":1}',
        Effect.UNSAFE, CallState.INTENT, run.next_entry(), 1, guard.store.owner(), created=guard.clock(),
    )  # fmt: skip

    def doubt(unit: Any) -> None:
        lost = unit.move(unit.add(row, CallEvent.CLAIMED), CallEvent.LOST, reason="its process ended")
        holds.place(unit, lost.run_id, lost.call_id, lost.reason)

    guard.transact(Tx(doubt))
    return url


@pytest.fixture
def run(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command on that store, in a directory with an agent."""
    (tmp_path / "my_agent.py").write_text(AGENT)
    (tmp_path / "my_script.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUREFOOT_STORE", raising=False)

    def command(*args: str) -> Result:
        return CliRunner().invoke(cli, ["--store", store, *args])

    return command


def data(result: Result) -> dict[str, Any]:
    """Return the JSON that a command printed."""
    assert result.exit_code == 0, result.output
    printed: dict[str, Any] = json.loads(result.output)
    assert printed["schema_version"] == 1
    return printed


def test_runs(run: Any) -> None:
    """Runs are listed, and one is shown with its timeline and what holds it."""
    (listed,) = data(run("runs", "list", "--json"))["runs"]
    assert (listed["thread"], listed["status"], listed["hold"]) == ("customer-7", "open", ["call_1"])
    assert "open, held" in run("runs", "list").output
    shown = run("runs", "show", listed["run_id"]).output
    assert [line.split()[2] for line in shown.splitlines()[1:-1]] == ["run.opened", "call.claimed", "call.lost", "run.held"]
    assert "held by call_1" in shown
    whole = data(run("runs", "show", listed["run_id"], "--json"))
    assert [event["seq"] for event in whole["events"]] == [1, 2, 3, 4]
    assert [call["call_id"] for call in whole["calls"]] == ["call_1"]


def test_a_table_has_a_line_for_each_row(run: Any, store: str) -> None:
    """Whatever a thread is called, it stays in its line and moves no cursor."""
    with Guard(store) as guard, surefoot.run(thread="a\nrun_0\x1b[2J é"):
        surefoot.wrap(lambda: None, guard=guard)()
    lines = run("runs", "list").output.splitlines()
    assert len(lines) == 3
    assert "a\\nrun_0\\x1b[2J é" in lines[1]


def test_calls_are_settled(run: Any) -> None:
    """A call in doubt is listed, shown with what to do, and settled by somebody; its run is free then."""
    assert [c["call_id"] for c in data(run("calls", "list", "--state", "in_doubt", "--json"))["calls"]] == ["call_1"]
    assert "surefoot calls settle call_1" in run("calls", "show", "call_1").output
    settled = data(run("calls", "settle", "call_1", "--committed", '{"receipt": 7}', "--by", "maria", "--json"))["call"]
    assert (settled["state"], settled["settled_by"], json.loads(settled["value"])) == ("committed", "maria", {"receipt": 7})
    assert data(run("runs", "list", "--json"))["runs"][0]["hold"] == []
    again = run("calls", "settle", "call_1", "--failed")
    assert again.exit_code == 8
    assert "nothing to settle" in again.output


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["runs", "show", "run_nobody"], 3),
        (["calls", "show", "nobody"], 3),
        (["calls", "settle", "nobody", "--failed"], 3),
        (["calls", "settle", "call_1"], 2),
        (["calls", "settle", "call_1", "--failed", "--committed", "1"], 2),
        (["calls", "settle", "call_1", "--committed", "charged"], 2),
        (["tools", "init", "my_agent"], 2),
        (["tools", "init", "my_agent:nobody"], 2),
        (["tools", "init", "no_module:graph"], 2),
        (["tools", "init", "my_script:graph"], 2),
        (["demo", "--dir", "my_agent.py/demo"], 2),
        (["tools", "init", "my_agent:nothing"], 1),
        (["tools", "init", "my_agent:graph", "--output", "my_agent.py"], 2),
        (["--store", "sqlite:///missing.db", "runs", "list"], 3),
        (["--store", "sqlite:///my_agent.py", "runs", "list"], 9),
        (["--store", "nobody://x", "runs", "list"], 2),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else str(v),
)
def test_bad_input_is_one_sentence(run: Any, args: list[str], code: int) -> None:
    """Bad input ends with the documented exit code and one line on standard error, never a traceback."""
    result = run(*args)
    assert result.exit_code == code, result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("surefoot: ")
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "args",
    [["runs", "fly"], ["calls", "list", "--state", "odd"], ["calls", "list", "--limit", "0"], ["nobody"]],
    ids=lambda v: " ".join(v) if isinstance(v, list) else str(v),
)
def test_usage_errors_exit_with_2(run: Any, args: list[str]) -> None:
    """What the options do not allow is a usage error."""
    assert run(*args).exit_code == 2


def test_looking_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that only looks does not make a store where there is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUREFOOT_STORE", raising=False)
    assert CliRunner().invoke(cli, ["runs", "list"]).exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_tools_init(run: Any, tmp_path: Path) -> None:
    """The declarations of a graph's unclassified tools are printed or written, and are Python that declares them."""
    assert data(run("tools", "init", "my_agent:graph", "--json"))["unclassified"] == ["look_up", "send_mail"]
    assert run("tools", "init", "my_agent:graph", "--output", "declared.py").exit_code == 0
    declared: dict[str, Any] = {}
    exec((tmp_path / "declared.py").read_text(), declared)  # noqa: S102 - what was just written
    assert declared["TOOLS"] == {name: surefoot.ToolRule() for name in ("look_up", "send_mail")}


def test_doctor(run: Any) -> None:
    """Doctor finds the plugins and the store, guards a graph, and fails on what cannot be guarded."""
    found = data(run("doctor", "my_agent:graph", "--json"))
    assert found["ok"]
    states = {(f["check"], f["state"]) for f in found["findings"]}
    assert {("python", "ok"), ("plugin", "ok"), ("store", "ok"), ("target", "ok")} <= states
    failed = run("doctor", "my_agent:nothing")
    assert failed.exit_code == 1
    assert "no adapter wraps builtins.int" in failed.output


def test_plugins_and_config(run: Any, store: str) -> None:
    """The loaded plugins, and the store in force with where it comes from, are shown."""
    assert {"langgraph", "stores"} <= set(data(run("plugins", "list", "--json"))["loaded"])
    shown = data(run("config", "show", "--json"))
    assert (shown["store"], shown["store_from"]) == (store, "--store")
    assert "langgraph" in run("plugins", "list").output
    assert store in run("config", "show").output


def test_demo(tmp_path: Path) -> None:
    """The demo's figures are those of the bank: 2 charges without surefoot, 1 with it, settled by the probe, and a rejected step."""
    done = subprocess.run(
        [sys.executable, "-m", "surefoot_cli.main", "demo", "--json", "--dir", str(tmp_path)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": "default"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    bank = sqlite3.connect(report["bank"])
    charges = dict(bank.execute("SELECT agent, count(*) FROM charges GROUP BY agent"))
    pids = {pid for (pid,) in bank.execute("SELECT pid FROM charges WHERE agent != 'verified'")}
    bank.close()
    assert report["schema_version"] == 1
    assert (charges["unprotected"], charges["protected"]) == (2, 1)
    assert (report["unprotected"]["charges"], report["protected"]["charges"]) == (2, 1)
    assert report["protected"]["settled_by"] == "probe"
    assert report["protected"]["run_status"] == "completed"
    assert pids <= set(report["pids"])
    assert report["verified_step"] == {"rejected": 1, "hint": "Name the amount that was charged.", "committed": True}
