"""``surefoot runs rollback`` and ``surefoot runs fork``, and ``compensate:`` in a policy file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from crash import Effects, store_of

import surefoot
from surefoot import Call, Guard, UsageError
from surefoot_cli.main import cli
from surefoot_recovery import surefoot_cli

AGENT = """
from pathlib import Path
import surefoot

here = Path(__file__).parent

def log(line):
    with (here / "effects").open("a") as file:
        file.write(line + chr(10))

def refund(call, value):
    log('["refund"]')

@surefoot.tool(effect="unsafe", compensate=refund)
def charge(amount: int) -> str:
    log('["charge"]')
    return "charged"

def mail(to: str) -> str:
    log('["mail"]')
    return "sent"

mail = surefoot.tool(effect="unsafe")(mail)

def pay(amount: int) -> str:
    return charge(amount)

def tell(to: str) -> str:
    return mail(to)

guard = surefoot.Guard(f"sqlite:///{here}/surefoot.db")
pay, tell = (surefoot.wrap(step, guard=guard) for step in (pay, tell))

def main(order: int) -> list:
    return [pay(5), tell("bob")] if order == 7 else [pay(5)]

app = surefoot.wrap(main, guard=guard)
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Run a command in a directory with an agent."""
    surefoot_cli(cli)
    (tmp_path / "undo_agent.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda *args: CliRunner().invoke(cli, ["--store", store_of(tmp_path), *args])
    sys.modules.pop("undo_agent", None)


def ran(order: int) -> str:
    """Run the agent in a run of that name; return the run's id."""
    import undo_agent  # type: ignore[import-not-found]

    with surefoot.run(f"order-{order}"):
        undo_agent.app(order)
    return str(undo_agent.guard.runs.list()[0].run_id)


def test_as_71_as_72_the_command_plans_refuses_and_undoes(command: Callable[..., Result], effects: Effects) -> None:
    """The plan is shown, a rollback that cannot be completed is refused with what is left, and ``--partial`` undoes the rest."""
    run = ran(7)
    app = ("--app", "undo_agent:app")
    plan = json.loads(command("runs", "rollback", run, "--plan", "--json", *app).output)["plan"]
    assert [(item["tool"], item["fate"]) for item in plan["items"]] == [("mail", "irreversible"), ("charge", "compensable")]
    refused = command("runs", "rollback", run, *app)
    assert (refused.exit_code, "mail declares no compensate=" in refused.output) == (1, True)
    assert effects.all() == [["charge"], ["mail"]]
    shown = command("runs", "rollback", run, "--partial", *app)
    assert (shown.exit_code, "1 undone, 0 failed, 1 left" in shown.output) == (0, True)
    assert effects.all() == [["charge"], ["mail"], ["refund"]]


def test_the_command_forks(command: Callable[..., Result], effects: Effects) -> None:
    """A branch is made and says how to run it; run under its name it replays."""
    run = ran(8)
    forked = json.loads(command("runs", "fork", run, "--at", "pay", "--name", "order-8b", "--json").output)["fork"]
    assert forked["name"] == "order-8b"
    with surefoot.run("order-8b"):
        assert sys.modules["undo_agent"].app(8) == ["charged"]
    assert effects.all() == [["charge"]]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["rollback", "run_nobody"], 3),
        (["fork", "run_nobody", "--at", "x"], 3),
        (["rollback"], 2),
        (["fork", "x"], 2),
        (["rollback", "x", "--app", "no"], 2),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(command: Callable[..., Result], args: list[str], code: int) -> None:
    """What is not there, or not enough, is said in a sentence."""
    ran(8)
    result = command("runs", *args)
    assert result.exit_code == code
    assert "Traceback" not in result.output


def undo_in_the_file(call: Call, value: Any) -> None:
    """Undo what the test's tool did."""
    _undone.append((call.arguments["amount"], value))


_undone: list[tuple[int, Any]] = []


def test_a_policy_file_says_how_a_tool_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``compensate: module:function`` in the policy file undoes what the code declares nothing about; a wrong name is refused at once."""
    module = sys.modules[undo_in_the_file.__module__]
    monkeypatch.setitem(sys.modules, "undoing_file", module)
    _undone.clear()

    @surefoot.tool(effect="unsafe")
    def charge(amount: int) -> str:
        return f"charged {amount}"

    (tmp_path / "policy.yaml").write_text("tools:\n  - tool: charge*\n    compensate: undoing_file:undo_in_the_file\n")
    guard = Guard(store_of(tmp_path), policy=str(tmp_path / "policy.yaml"))

    def main() -> str:
        return str(charge(5))

    with surefoot.run("o"):
        surefoot.wrap(main, guard=guard)()
    assert guard.runs.rollback(guard.runs.list()[0].run_id, by="tester").status == "compensated"
    assert _undone == [(5, "charged 5")]
    (tmp_path / "policy.yaml").write_text("tools:\n  - tool: charge*\n    compensate: undoing_file:nothing\n")
    with pytest.raises(UsageError, match="cannot be loaded"):
        Guard(store_of(tmp_path), policy=str(tmp_path / "policy.yaml"))
