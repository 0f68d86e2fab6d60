"""Plugins: one test per hook, loading one by one, and errors that say what to do."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import surefoot
import surefoot_stores
from surefoot import (
    Adapter,
    AdapterUnavailable,
    Budget,
    Capabilities,
    Event,
    Guard,
    Policy,
    StepRule,
    Store,
    SurefootWarning,
    ToolRule,
    UsageError,
    Verdict,
    Verifier,
    hookimpl,
)
from surefoot.contracts import Deny, Gate
from surefoot.engine.events import verify
from surefoot.engine.program import Tx
from surefoot.plugins import Plugins
from surefoot_stores import MemoryStore


def plugins(**hooks: Any) -> Plugins:
    """Return a set with one plugin made of these hook functions, and the stores of surefoot."""
    made = Plugins()
    made.register(surefoot_stores)
    made.register(type("Plugin", (), {name: staticmethod(hookimpl(function)) for name, function in hooks.items()})(), "mine")
    return made


class Mine(Adapter):
    """An adapter for strings."""

    name = "mine"
    capabilities = Capabilities()

    def matches(self, target: object) -> bool:
        """Claim strings."""
        return isinstance(target, str)

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Shout."""
        return target.upper()


def test_hook_surefoot_adapter() -> None:
    """An adapter from a plugin wraps the objects that it matches."""
    guard = Guard("memory://", plugins=plugins(surefoot_adapter=Mine))
    assert surefoot.wrap("quiet", guard=guard) == "QUIET"


def test_hook_surefoot_store() -> None:
    """A store from a plugin opens the URLs that it answers for, once per URL and process."""

    def surefoot_store(url: str) -> Store | None:
        return MemoryStore(url) if url.startswith("mine://") else None

    made = plugins(surefoot_store=surefoot_store)
    assert Guard("mine://x", plugins=made).store is Guard("mine://x", plugins=made).store
    with pytest.raises(UsageError, match="no plugin opens"):
        Guard("other://x", plugins=made)


def test_hook_surefoot_ledger_and_hook_surefoot_checkpoints() -> None:
    """A ledger and a checkpoint store from plugins are used as a pair: each keeps what is its own."""
    ledger, kept = MemoryStore("l://"), MemoryStore("c://")

    def surefoot_ledger(url: str) -> Store | None:
        return ledger if url == "l://" else None

    def surefoot_checkpoints(url: str) -> Store | None:
        return kept if url == "c://" else None

    made = plugins(surefoot_ledger=surefoot_ledger, surefoot_checkpoints=surefoot_checkpoints)
    guard = Guard("l://", checkpoints="c://", plugins=made)
    guard.transact(
        Tx(lambda unit: (unit.emit("r", "t"), unit.checkpoints.append(surefoot.Checkpoint("r", "a#1", "", 1, 1, "", None, "null"))))
    )
    with ledger.transaction() as tx:
        assert len(tx.events.list("r")) == 1
        assert not tx.checkpoints.list("r")
    with kept.transaction() as tx:
        assert len(tx.checkpoints.list("r")) == 1
        assert not tx.events.list("r")
    with pytest.raises(ZeroDivisionError):
        guard.transact(Tx(lambda unit: (unit.emit("r", "t"), 1 / 0)))
    assert len(guard.runs.events("r")) == 1


test_hook_surefoot_ledger = test_hook_surefoot_checkpoints = test_hook_surefoot_ledger_and_hook_surefoot_checkpoints


def test_hook_surefoot_verifier() -> None:
    """A verifier from a plugin is made for the spec that a step names; an unknown spec is refused."""

    class No(Verifier):
        def verify(self, output: Any) -> Verdict:
            return Verdict.failed("NO")

    def surefoot_verifier(spec: str) -> Verifier | None:
        return No() if spec == "no" else None

    guard = Guard("memory://", plugins=plugins(surefoot_verifier=surefoot_verifier))
    assert isinstance(guard.verifier(StepRule(verifier="no")), No)
    with pytest.raises(UsageError, match="makes a verifier"):
        guard.verifier(StepRule(verifier="yes"))


def test_hook_surefoot_view() -> None:
    """What a plugin offers under a name is an attribute of the guard; without one, the guard says what is missing."""

    def surefoot_view(name: str, guard: Guard) -> str | None:
        return f"approvals of {guard.store.url}" if name == "approvals" else None

    assert Guard("memory://", plugins=plugins(surefoot_view=surefoot_view)).approvals.startswith("approvals of memory://")
    with pytest.raises(UsageError, match="no plugin offers 'budget'"):
        Guard("memory://", budget=Budget(calls=1), plugins=plugins(surefoot_view=surefoot_view))


def test_hook_surefoot_policy() -> None:
    """A policy from a plugin brings its gates, and tightens the rules of the code."""

    class Never(Gate):
        def check(self, call: Any) -> Deny:
            return Deny("never")

    class Strict(Policy):
        version = "1"

        def gates(self) -> list[Gate]:
            return [Never()]

        def rule(self, tool: str, declared: ToolRule) -> ToolRule:
            return ToolRule(effect="unsafe") if tool == "pay" else declared

    def surefoot_policy(spec: str) -> Policy | None:
        return Strict() if spec == "strict" else None

    guard = Guard("memory://", policy="strict", reads=["pay", "look"], plugins=plugins(surefoot_policy=surefoot_policy))
    assert [type(gate) for gate in guard.gates] == [Never]
    assert (guard.rule("pay").effect, guard.rule("look").effect) == ("unsafe", "read")
    with pytest.raises(UsageError, match="reads the policy"):
        Guard("memory://", policy="lax", plugins=plugins(surefoot_policy=surefoot_policy))


def test_hook_surefoot_event() -> None:
    """A plugin sees every event after it is stored, in order; one that raises stops nothing."""
    seen: list[Event] = []

    def surefoot_event(event: Event) -> None:
        seen.append(event)
        raise RuntimeError("a listener fails")

    guard = Guard("memory://", plugins=plugins(surefoot_event=surefoot_event))
    guard.transact(Tx(lambda unit: [unit.emit("r", f"t{n}") for n in range(3)]))
    assert [event.type for event in seen] == ["t0", "t1", "t2"]
    assert verify(seen) is None


def test_hook_surefoot_redact() -> None:
    """A redacting plugin keeps its text out of what is stored; a value that it would change is not stored at all."""

    def surefoot_redact(text: str) -> str | None:
        return text.replace("s3cret", "[redacted]") if "s3cret" in text else None

    guard = Guard("memory://", plugins=plugins(surefoot_redact=surefoot_redact))
    assert guard.codec.dumps({"token": ["s3cret"]}) == '{"token":["[redacted]"]}'
    assert guard.codec.digest("s3cret") != guard.codec.digest("[redacted]")
    with pytest.raises(surefoot.NotStorable):
        guard.codec.dumps("s3cret", whole=True)
    assert guard.codec.dumps("harmless", whole=True) == '"harmless"'


def test_hook_surefoot_cli() -> None:
    """A plugin is given the root group to add commands to."""
    seen: list[object] = []

    def surefoot_cli(group: object) -> None:
        seen.append(group)

    group = object()
    plugins(surefoot_cli=surefoot_cli).cli(group)
    assert seen == [group]


def test_every_hook_has_a_test_named_after_it() -> None:
    """No hook is without a test."""
    from surefoot import hookspecs

    hooks = {name for name in vars(hookspecs) if name.startswith("surefoot_")}
    assert hooks
    assert {f"test_hook_{name}" for name in hooks} <= set(globals())


def test_two_claimants_are_an_error() -> None:
    """Two adapters that match one object are refused by name."""
    made = plugins(surefoot_adapter=Mine)
    made.register(type("Other", (), {"surefoot_adapter": staticmethod(hookimpl(Mine))})(), "other")
    with pytest.raises(AdapterUnavailable, match="mine and mine both claim"):
        made.adapter_for("text")


@pytest.mark.parametrize("hook", ["surefoot_stoer", "surefoot_event"])
def test_a_misspelt_hook_or_argument_is_an_error(hook: str) -> None:
    """A hook that does not exist, or one with an argument that it does not have, is refused at registration."""

    def function(evnet: Any) -> None:
        """Be wrong."""

    with pytest.raises(UsageError):
        plugins(**{hook: function})


def test_plugins_load_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that cannot be imported is skipped with its reason and stops no other."""

    class Entry:
        def __init__(self, name: str, found: Any) -> None:
            self.name = name
            self._found = found

        def load(self) -> Any:
            if isinstance(self._found, Exception):
                raise self._found
            return self._found

    entries = [
        Entry("a", AdapterUnavailable("pip install a")),
        Entry("b", ImportError("no module b")),
        Entry("c", type("C", (), {"surefoot_adapter": staticmethod(hookimpl(Mine))})()),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)
    made = Plugins()
    made.load_installed()
    assert made.skipped == {"a": "pip install a", "b": "no module b"}
    assert made.adapter_for("x").name == "mine"
    with pytest.raises(AdapterUnavailable, match="pip install a"):
        made.adapter_for(3)


def test_a_first_guard_loads_what_it_uses() -> None:
    """The first guard of a process loads no verifier, no store but its own, and nothing that certifies."""
    program = "import sys, surefoot; surefoot.Guard('memory://'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"surefoot_stores.memory", "surefoot_verifiers"} <= loaded
    unused = ("surefoot_verifiers.", "surefoot_stores.postgres", "surefoot_stores.sqlite", "surefoot_conformance.harness")
    assert [name for name in loaded if name.startswith(unused)] == []


def test_the_development_store_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without store= and SUREFOOT_STORE a development store is made with a warning that names it; strict refuses it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUREFOOT_STORE", raising=False)
    with pytest.raises(UsageError, match="strict"):
        Plugins.default().open_store(None, strict=True)
    with pytest.warns(SurefootWarning, match=re.escape(str(tmp_path / ".surefoot" / "surefoot.db"))):
        store = Plugins.default().open_store(None)
    assert (tmp_path / ".surefoot" / ".gitignore").read_text() == "*\n"
    assert str(tmp_path) in store.url


def test_the_development_store_is_announced_in_a_program_that_configures_nothing(tmp_path: Path) -> None:
    """A user who has set up neither logging nor warnings reads the notice, at the line that made the guard."""
    program = tmp_path / "program.py"
    program.write_text("import surefoot\nsurefoot.wrap(object())\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SUREFOOT", "PYTHONWARN"))}
    done = subprocess.run([sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert f"program.py:2: SurefootWarning: using the development store {tmp_path}" in done.stderr
