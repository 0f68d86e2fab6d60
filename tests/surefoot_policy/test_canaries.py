"""AS-67, I23: a secret in forty encodings is in nothing that surefoot writes, also where its process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from canaries import SECRET, encodings, needles
from click.testing import CliRunner
from crash import Effects

import surefoot
import surefoot_policy
from surefoot import Guard, UsageError
from surefoot.plugins import Plugins
from surefoot_cli.main import cli
from surefoot_policy import redaction

POLICY = """
tools:
  - {tool: pay, decision: approve, reason: money leaves the house}
  - {tool: pay, arguments: {properties: {amount: {maximum: 5}}}}
  - {tool: erase, plan: {targets: "canaries:targets"}}
"""
OFF = POLICY
ON = POLICY + "redaction: [{name: key, env: CANARY}]\n"
STORE = {"surefoot.db", "surefoot.db-wal", "surefoot.db-shm"}
Policed = Callable[..., Guard]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget the secrets that a test registered."""
    yield
    redaction.forget()


def played(folder: Path, policy: str) -> dict[str, bytes]:
    """Run the process that has the secret everywhere and is killed; return what it left, by where it is."""
    (folder / "surefoot.yaml").write_text(policy)
    command = [sys.executable, str(Path(__file__).parent / "canaries.py"), str(folder), str(folder / "surefoot.yaml")]
    environment = {**os.environ, "CANARY": SECRET, "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    sinks = {"stdout": done.stdout, "stderr": done.stderr}
    sinks |= {file.name: file.read_bytes() for file in folder.iterdir() if file.name in STORE}
    assert set(sinks) >= STORE
    return {**sinks, **exports(folder)}


def exports(folder: Path) -> dict[str, bytes]:
    """Return what the command line says of a store, in a process that does not know the secret."""
    store = f"sqlite:///{folder}/surefoot.db"
    Plugins.default().cli(cli)

    def told(*args: str) -> bytes:
        done = CliRunner().invoke(cli, ["--store", store, *args])
        assert done.exit_code in {0, 5}, (args, done.output)
        return done.output.encode()

    found = {"surefoot calls list": told("calls", "list", "--json")}
    found["surefoot approvals list"] = told("approvals", "list", "--all", "--json")
    found["surefoot approvals grants"] = told("approvals", "grants", "--json")
    guard = Guard(store)
    calls, runs = guard.calls.list(limit=20), guard.runs.list(limit=50)
    assert calls
    found["surefoot calls show"] = b"".join(told("calls", "show", call.call_id, "--json") for call in calls)
    found["surefoot runs show"] = b"".join(told("runs", "show", run.run_id, "--json") for run in runs)
    found["surefoot runs cost"] = b"".join(told("runs", "cost", run.run_id, "--json") for run in runs)
    found["surefoot runs export"] = b"".join(told("runs", "export", run.run_id) for run in runs)
    found["surefoot approvals show"] = b"".join(told("approvals", "show", one.id) for one in guard.approvals.list(state=None)[:20])
    guard.close()
    return found


def leaks(sinks: dict[str, bytes]) -> set[tuple[str, str]]:
    """Return (encoding, sink) of each that is found: as it is, or as JSON or Python have it in a string of theirs."""
    found = set()
    for name, form in needles().items():
        once = json.dumps(form)[1:-1]
        spelled = {form, once, json.dumps(form, ensure_ascii=False)[1:-1], json.dumps(once)[1:-1], repr(form)[1:-1], ascii(form)[1:-1]}
        found |= {(name, sink) for sink, data in sinks.items() if any(one.encode() in data for one in spelled)}
    return found


def test_the_encodings_are_forty() -> None:
    """There are forty, and no two are the same text."""
    assert len(encodings()) == len(set(encodings().values())) == len(set(needles().values())) == 40


def test_as_67_forty_encodings_are_in_no_sink_after_sigkill(tmp_path: Path) -> None:
    """AS-67, I23: files of the store, standard output, logs, error texts, events, cards and exports have none of them."""
    assert leaks(played(tmp_path, ON)) == set()


def test_as_67_negative_control_without_redaction_all_are_found(tmp_path: Path) -> None:
    """The same process without ``redaction:`` leaves each of the forty in the store, and something in every sink but ``-shm``."""
    found = leaks(sinks := played(tmp_path, OFF))
    assert {name for name, sink in found if sink in {"surefoot.db", "surefoot.db-wal"}} == set(encodings())
    assert {sink for _, sink in found} >= set(sinks) - STORE


# --- the keys of redaction:

CARD = "tools: [{tool: pay, effect: unsafe, key: [note]}]\nredaction: [{name: card, pattern: '4111[0-9]{12}'}]\n"


def paying(effects: Effects, says: Callable[[str], str] = lambda _note: "paid") -> Any:
    """Return a tool."""

    @surefoot.tool()
    def pay(note: str) -> str:
        effects.add("pay")
        return says(note)

    pay.__qualname__ = pay.__name__ = "pay"
    return pay


def test_as_67_a_pattern_is_found_wherever_it_stands_and_dedup_works(policed: Policed, effects: Effects, tmp_path: Path) -> None:
    """``pattern:`` and ``name:`` act: what it matches is in no file; equal requests are one, those that differ in it alone are two."""
    pay = paying(effects)
    guard = policed(CARD)
    for run, card in (("a", "4111000000000001"), ("a", "4111000000000001"), ("b", "4111000000000002")):
        with surefoot.run(run):
            surefoot.wrap(lambda card=card: pay(f"of {card}."), guard=guard)()
    assert effects.count("pay") == 2
    assert [call.arguments for call in guard.calls.list()] == ['{"note":"of [redacted:card]."}'] * 2
    assert len({call.args_digest for call in guard.calls.list()}) == 2
    guard.close()
    assert [file.name for file in tmp_path.glob("surefoot.db*") if b"41110000" in file.read_bytes()] == []


def test_as_68_a_result_that_a_pattern_matches_is_withheld(policed: Policed, effects: Effects) -> None:
    """AS-68: a result with what must be redacted is given to who asked, and never replayed in part."""
    pay = paying(effects, lambda note: f"charged {note}")
    fails = [True]

    def program() -> str:
        paid: str = pay("4111000000000001")
        if fails:
            fails.clear()
            raise ConnectionError
        return paid

    wrapped = surefoot.wrap(program, guard=policed(CARD))
    with surefoot.run("r"):
        with pytest.warns(surefoot.SurefootWarning, match="cannot be replayed"), pytest.raises(ConnectionError):
            wrapped()
        with pytest.raises(surefoot.ResultUnavailable, match="must be redacted"):
            wrapped()
    assert effects.count("pay") == 1


def test_as_67_patterns_take_linear_time(policed: Policed, effects: Effects) -> None:
    """A pattern over which a backtracking engine would sit for longer than the universe is old is matched over a long text."""
    pay = paying(effects)
    guard = policed("redaction: [{pattern: '(a+)+(b+)+[$]'}]\n")
    assert surefoot.wrap(lambda: pay("ab" * 50_000), guard=guard)() == "paid"


MISTAKES = {
    "redaction: [{pattern: '(?=a)b'}]": "redaction[0]: '(?=a)b' is no RE2 pattern: invalid perl operator: (?=",
    "redaction: [{pattern: '['}]": "redaction[0]: '[' is no RE2 pattern: missing ]",
    "redaction: [{pattern: 'a*'}]": "redaction[0]: 'a*' matches an empty text",
    "redaction: [{env: SUREFOOT_TEST_NOT_THERE}]": "redaction[0]: there is no SUREFOOT_TEST_NOT_THERE in the environment",
    "redaction: [{name: both, pattern: a, env: B}]": "redaction[0]: give exactly one of pattern, env",
    "redaction: [{name: none}]": "redaction[0]: give exactly one of pattern, env",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_redaction_says_where_it_is(text: str, policed: Policed) -> None:
    """I26: what cannot be redacted wraps nothing, in one sentence that says where."""
    with pytest.raises(UsageError) as told:
        policed(text)
    assert MISTAKES[text] in str(told.value)


def test_without_re2_patterns_are_refused(policed: Policed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns need the extra, and say so; nothing falls back to an engine that backtracks."""
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(UsageError, match=r"pip install 'surefoot\[policy\]'"):
        policed(CARD)


def test_plugins_that_do_not_redact_are_refused(policed: Policed, effects: Effects, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard with plugins of its own runs nothing under a policy that names secrets until they redact too; patterns reach it."""
    monkeypatch.setenv("SUREFOOT_TEST_SECRET", "a secret of this test")
    pay = paying(effects)
    plugins = Plugins()
    plugins.load_installed()
    guard = policed("redaction: [{env: SUREFOOT_TEST_SECRET}]", plugins=plugins)
    with pytest.raises(surefoot.Denied, match="do not redact"):
        surefoot.wrap(lambda: pay("x"), guard=guard)()
    assert effects.count("pay") == 0
    plugins.register(redaction.plugin, "redaction")
    surefoot.wrap(lambda: pay("x"), guard=guard)()
    assert effects.count("pay") == 1
    other = Plugins()
    other.load_installed()
    assert policed(CARD, plugins=other).redact("4111000000000001") == "[redacted:card]"


def test_a_pattern_is_its_guards(policed: Policed, effects: Effects) -> None:
    """Patterns act on the guard that has the policy: what another one of the process writes, they neither change nor withhold."""
    text, pay = "only-in-this-test-1", paying(effects, lambda note: note)
    guard = policed("redaction: [{pattern: 'only-in-this-test-[0-9]'}]")
    other = Guard("memory://")
    assert (guard.redact(text), other.redact(text)) == ("[redacted:secret]", text)
    with pytest.warns(surefoot.SurefootWarning, match="cannot be replayed"):
        surefoot.wrap(lambda: pay(text), guard=guard)()
    surefoot.wrap(lambda: pay(text), guard=other)()
    assert [(call.arguments, call.value) for call in guard.calls.list()] == [('{"note":"[redacted:secret]"}', None)]
    assert [(call.arguments, call.value) for call in other.calls.list()] == [(f'{{"note":"{text}"}}', f'"{text}"')]


def test_register_secret_finds_what_the_policy_finds() -> None:
    """In code: ``surefoot_policy.register_secret`` keeps a secret out in all of its spellings."""
    surefoot_policy.register_secret(SECRET, name="mine")
    said = Guard("memory://").redact(" | ".join(encodings().values()))
    assert [name for name, needle in needles().items() if needle in said] == []
    assert "[redacted:mine]" in said


def test_as_67_a_secret_in_what_a_stop_or_a_grant_names_is_refused(policed: Policed, tmp_path: Path) -> None:
    """AS-67: names and conditions are stored as they are, so one with a secret in it is refused, and it is in no file."""
    surefoot_policy.register_secret("tenant-4711-secret")
    guard = policed("default: approve")
    with surefoot.run("r"):
        surefoot.wrap(lambda: None, guard=guard)()
    with pytest.raises(UsageError, match="tenant= contains a registered secret"):
        surefoot_policy.stop(guard, tenant="tenant-4711-secret", by="maria")
    grants: dict[str, dict[str, Any]] = {
        "tool": {"tool": "tenant-4711-secret*"},
        "when": {"tool": "pay", "when": "args.name == 'tenant-4711-secret'"},
        "tenant": {"tool": "pay", "tenant": "tenant-4711-secret"},
    }
    for name, given in grants.items():
        with pytest.raises(UsageError, match=f"{name}= contains a registered secret"):
            guard.approvals.grant(**given, by="maria", expires=60)
    assert guard.approvals.grants() == []
    guard.close()
    assert [file.name for file in tmp_path.glob("surefoot.db*") if b"tenant-4711" in file.read_bytes()] == []
