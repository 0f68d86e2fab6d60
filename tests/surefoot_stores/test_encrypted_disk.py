"""What a process that was killed leaves of an encrypted store on the disk."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash import Effects, die

import surefoot
from surefoot import Guard, ToolRule
from surefoot_python import Pipeline, Task

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))

CANARY = "the-canary-sings"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment have a key."""
    monkeypatch.setenv("SUREFOOT_STORE_KEY", base64.b64encode(bytes(range(32))).decode())


def die_with_the_canary_everywhere(url: str, effects: Effects) -> None:
    """Be a process that has the canary in everything that it may store, and is killed with a call under way."""

    @surefoot.tool()
    def refuse(what: str) -> str:
        raise ValueError(f"no {what}")

    @surefoot.tool()
    def pay(what: str) -> str:
        effects.add("pay")
        return f"paid {what}"

    @surefoot.tool()
    def end(what: str) -> str:
        die()
        return what

    def first(_ctx: Any) -> str:
        try:
            refuse(CANARY)
        except ValueError as exc:
            return f"{pay(CANARY)}: {exc}"
        return ""

    def judge(output: Any) -> surefoot.Verdict:
        return surefoot.Verdict.failed("SCHEMA", f"say {CANARY}", reason=CANARY) if output.attempt == 1 else surefoot.Verdict.passed()

    def last(_ctx: Any) -> str:
        return str(end(CANARY))

    guard = Guard(url, tools={"pay": ToolRule("unsafe"), "end": ToolRule("unsafe")})
    surefoot.wrap(Pipeline([first, last], verifier=judge), guard=guard).run(Task(CANARY, id="r"))


def killed(url: str, effects: Effects) -> None:
    """Play that process; it must die of its own signal."""
    pid = os.fork()
    if pid == 0:
        try:
            die_with_the_canary_everywhere(url, effects)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def found_in(folder: Path) -> list[str]:
    """Return the names of the files that hold the canary."""
    forms = [CANARY.encode(), base64.b64encode(CANARY.encode())[:-4], CANARY.encode().hex().encode()]
    return sorted(file.name for file in folder.iterdir() if any(form in file.read_bytes() for form in forms))


def test_a_killed_process_leaves_nothing_plain_on_the_disk(tmp_path: Path, effects: Effects, monkeypatch: pytest.MonkeyPatch) -> None:
    """After SIGKILL with a call under way no file of the store holds the canary; without encryption the log does, and so a search works."""
    for folder in ("sealed", "plain"):
        (tmp_path / folder).mkdir()
    killed(f"encrypted+sqlite:///{tmp_path}/sealed/s.db", effects)
    with monkeypatch.context() as no_key:
        no_key.delenv("SUREFOOT_STORE_KEY")
        killed(f"sqlite:///{tmp_path}/plain/s.db", effects)
    assert found_in(tmp_path / "plain") == ["s.db-wal"]
    assert found_in(tmp_path / "sealed") == []
    assert not (tmp_path / "sealed" / "s.db.key").exists()
    with Guard(f"encrypted+sqlite:///{tmp_path}/sealed/s.db") as guard:
        shown = [(call.tool, call.arguments or "", call.value or call.error or "") for call in guard.calls.list()]
    assert [tool for tool, *texts in shown if CANARY in texts[0]] == ["refuse", "pay", "end"]
    assert [tool for tool, *texts in shown if CANARY in texts[1]] == ["refuse", "pay"]


def test_a_run_that_was_killed_goes_on_in_an_encrypted_store(tmp_path: Path) -> None:
    """What was committed before the kill is replayed from under its seal: the effect is there once, and its value is the same."""
    effects, url = Effects(tmp_path / "effects"), f"encrypted+sqlite:///{tmp_path}/s.db"

    def agent(last: Callable[[], None]) -> Callable[[str], str]:
        @surefoot.tool()
        def pay(what: str) -> str:
            effects.add("pay")
            return f"paid {what}, number {len(effects.all())}"

        def work(what: str) -> str:
            paid = pay(what)
            last()
            return paid

        return surefoot.wrap(work, guard=Guard(url, tools={"pay": ToolRule("unsafe")}))

    pid = os.fork()
    if pid == 0:
        with surefoot.run("r"):
            agent(die)("tea")
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    with surefoot.run("r"):
        assert agent(lambda: None)("tea") == "paid tea, number 1"
    assert effects.count("pay") == 1
