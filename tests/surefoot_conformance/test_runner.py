"""A certificate says what ran, and nothing that did not run is ever a pass."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from surefoot import UsageError
from surefoot_cli.main import cli
from surefoot_conformance import Harness, StoreHarness, VerifierHarness, render
from surefoot_conformance.command import certify
from surefoot_conformance.report import Report
from surefoot_conformance.runner import STANDARD, run
from surefoot_conformance.table import LEVELS, standard, table

KINDS: Any = ("adapter", "store", "verifier")


def cell(level: str, status: str, name: str = "a") -> dict[str, Any]:
    """Return a cell of a report."""
    about = {"check": name, "capability": "", "face": "", "point": "", "variant": "", "reason": "why", "effects": {}, "seconds": 0.1}
    return {"cell": f"{name}[{level}]", "level": level, "status": status, **about}


def report(*cells: dict[str, Any], **options: Any) -> Report:
    """Return a report of these cells."""
    return Report("x", "adapter", cells, {"versions": {}, "digests": {}, "commit": ""}, **options)


def surefoot(*arguments: str) -> Result:
    """Run the command as the command line does."""
    if "certify" not in cli.commands:
        cli.add_command(certify)
    return CliRunner().invoke(cli, ["certify", *arguments])


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a harness module that is found in the current folder; return its name."""

    def write(source: str) -> str:
        (tmp_path / "mine.py").write_text(source)
        return "mine:Mine"

    monkeypatch.chdir(tmp_path)
    return write


def test_zero_tests_are_not_a_pass() -> None:
    """A report without cells, or whose cells were all skipped, has no level and is not ok."""
    assert (report().level, report().ok) == ("none", False)
    skipped = report(cell("L1", "skipped"))
    assert (skipped.level, skipped.ok) == ("none", False)


@pytest.mark.parametrize("status", ["failed", "fault", "not_run", "expected_failure", "unexpected_pass"])
def test_a_level_is_reached_only_when_all_of_it_passed(status: str) -> None:
    """Whatever did not pass, for whatever reason, ends the ladder below its level."""
    found = report(cell("L1", "passed"), cell("L2", "passed"), cell("L2", status, "b"), cell("L3", "passed"))
    assert found.level == "L1"
    assert report(cell("harness", status), cell("L1", "passed")).level == "none"


def test_a_skipped_level_is_not_reached() -> None:
    """Nothing passed at a level: it is not reached, and none above it."""
    assert report(cell("L1", "passed"), cell("L2", "skipped"), cell("L3", "passed")).level == "L1"


def test_what_was_not_tested_is_on_the_certificate() -> None:
    """Every skip stands there once, with its reason."""
    data = report(cell("L1", "passed"), cell("L2", "skipped", "b"), cell("L2", "skipped", "b")).data()
    assert data["not_tested"] == [{"check": "b", "reason": "why"}]
    assert {"name", "level", "passed", "failed", "skipped", "not_run", "cells"} <= set(data)


@pytest.mark.parametrize("kind", KINDS)
def test_the_standard_is_written_down(kind: Any) -> None:
    """The list of standard checks is the table: a check that was changed, added or removed is a change of that file."""
    assert standard(kind) == json.loads(STANDARD.read_text())[kind], "run scripts/standard.py"


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_says_what_must_hold(kind: Any) -> None:
    """Each check has a sentence and a level, and names a capability that its harness knows."""
    for entry in table(kind):
        assert entry.sentence.endswith("."), entry.name
        assert entry.level in {"harness", *LEVELS}
        known = {"adapter": Harness, "store": StoreHarness, "verifier": VerifierHarness}[kind]
        assert not entry.capability or hasattr(known, entry.capability), entry.name


def test_a_store_is_certified() -> None:
    """The memory store passes what it can, and the rest is skipped with the reason."""
    found = run("memory", seed=1)
    assert (found.level, found.ok) == ("L1", True)
    assert {gap["reason"].partition(" ")[0] for gap in found.not_tested()} == {
        "has_durability",
        "has_oracle",
        "has_migrations",
        "has_statements",
        "has_sync",
        "has_hosts",
    }


def test_a_broken_store_is_not_certified(harness: Any) -> None:
    """A store that forgets to undo is not certified, and the check that it fails is named."""
    source = """
from surefoot_conformance.keepers import MemoryHarness
from surefoot_stores import memory

class Mine(MemoryHarness):
    name = "forgetful"

memory._Journal.undo = lambda self: None
"""
    found = run(harness(source))
    assert (found.level, found.ok) == ("none", False)
    failed = {row["check"] for row in found.cells if row["status"] == "failed"}
    assert "a_transaction_that_raises_has_not_happened" in failed


def test_a_deleted_or_replaced_check_voids_the_run(harness: Any) -> None:
    """A harness that takes a standard check away, or puts another one in its place, gets no level."""
    source = """
import dataclasses
from surefoot_conformance import checks, table
from surefoot_conformance.keepers import MemoryHarness as Mine

def passes(bench):
    pass

entry = table._TABLE["a_record_is_compare_and_set"]
table._TABLE[entry.name] = dataclasses.replace(entry, run=passes)
del table._TABLE["every_update_is_compare_and_set"]
"""
    found = run(harness(source))
    assert found.level == "none"
    assert any("a_record_is_compare_and_set was replaced" in problem for problem in found.problems)
    assert any("every_update_is_compare_and_set is missing" in problem for problem in found.problems)


def test_a_fault_of_the_harness_is_kept_apart(harness: Any) -> None:
    """A harness that raises is at fault, not the implementation; it is never a pass."""
    source = """
from surefoot_conformance import StoreHarness

class Mine(StoreHarness):
    name = "faulty"

    def open(self, folder):
        raise LookupError("no such place")
"""
    found = run(harness(source))
    assert (found.level, found.ok) == ("none", False)
    assert found.count("failed", "passed") == 0
    assert found.count("fault") > 10


def test_an_expected_failure_is_no_pass_and_a_listed_pass_fails(tmp_path: Path, harness: Any) -> None:
    """A listed failure keeps its level from being reached; a listed cell that passes, or does not exist, fails the run."""
    source = """
from surefoot_conformance.keepers import MemoryHarness as Mine
from surefoot_stores import memory

memory._Leases.release = lambda self, lease: True
"""
    name = harness(source)
    lease = "a_lease_counts_its_epochs"
    known = run(name, expected={lease: "not built yet"})
    assert (known.count("expected_failure"), known.count("failed"), known.level) == (1, 0, "none")
    stale = run(name, expected={lease: "not built yet", "events_are_one_chain": "was broken once", "nobody": "gone"})
    assert stale.count("unexpected_pass") == 1
    assert any("nobody" in problem for problem in stale.problems)
    assert not stale.ok


def test_a_harness_that_does_not_load_is_one_sentence(harness: Any) -> None:
    """A harness that cannot be imported, or is none, is refused with its reason."""
    with pytest.raises(UsageError, match=r"cannot be certified .*nothing here"):
        run(harness("raise ImportError('nothing here')"))
    with pytest.raises(UsageError, match="no harness"):
        run(harness("class Mine: ..."))


def test_a_choice_of_what_is_not_there_is_refused() -> None:
    """A name that no check or cell has is named, also beside one that is there: nothing passes because nothing ran."""
    with pytest.raises(UsageError, match="no check or cell of a store is called 'nosuch'"):
        run("memory", only=["every_update_is_compare_and_set", "nosuch"])


def keys(folder: Path) -> tuple[Path, Path]:
    """Write a key pair as OpenSSL does; return the private and the public file."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_i22_a_signed_certificate_is_verified_offline(tmp_path: Path) -> None:
    """A signed certificate verifies with the public key alone; changed in any field, or with another key, it does not."""
    private, public = keys(tmp_path)
    made = surefoot("memory", "--sign", str(private), "--output", str(tmp_path / "out"))
    assert made.exit_code == 0, made.output
    file = tmp_path / "out" / "memory.json"
    assert surefoot("--verify", str(file), "--key", str(public)).exit_code == 0
    data = json.loads(file.read_text())
    for name, value in (("level", "L4"), ("failed", 7), ("commit", "0"), ("signature", None)):
        file.write_text(json.dumps(data | {name: value}))
        refused = surefoot("--verify", str(file), "--key", str(public))
        assert refused.exit_code == 8, name
    (tmp_path / "other").mkdir()
    file.write_text(json.dumps(data))
    assert surefoot("--verify", str(file), "--key", str(keys(tmp_path / "other")[1])).exit_code == 8
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".xml", ".svg", ".html"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say what to certify"),
        (["nobody"], "there is no harness"),
        (["memory", "--framework-version", "oldest"], "no extra"),
        (["--saboteurs", "--only", "nobody"], "there is no saboteur"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], says: str) -> None:
    """What cannot work is refused with what to do, and exit code 2."""
    told = surefoot(*arguments)
    assert (told.exit_code, says in told.output) == (2, True), told.output


def test_only_some_checks_are_no_certificate_above_what_they_show() -> None:
    """A run of chosen checks reports these and nothing else, and still fails when one of them fails."""
    told = surefoot("memory", "--only", "events_are_one_chain", "--json")
    data = json.loads(told.output)
    assert [row["check"] for row in data["cells"]] == ["events_are_one_chain"]


def test_the_pages_show_failures(tmp_path: Path) -> None:
    """JUnit counts failures and faults apart, the badge says failed, the page names what was not tested."""
    data: Mapping[str, Any] = report(cell("L1", "failed"), cell("L1", "fault", "b"), cell("L2", "skipped", "c<d>")).data()
    suite = ET.fromstring(render.as_junit(data))  # noqa: S314 - written a line above
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert "failed" in render.as_badge(data)
    assert "c&lt;d&gt;" in render.as_html(data)
    assert "failed: a[L1]: why" in render.as_text(data)


def test_the_command_is_there(tmp_path: Path) -> None:
    """``surefoot certify`` is added through the hook, and loads nothing of the suite before it is called."""
    program = "import sys; from surefoot.plugins import Plugins; Plugins.default(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"click", "surefoot_conformance.lab", "surefoot_conformance.runner"} & set(done.stdout.split())
    shown = subprocess.run([sys.executable, "-m", "surefoot_cli.main", "certify", "--help"], capture_output=True, text=True, check=True)
    assert "--saboteurs" in shown.stdout


FORGETFUL = "from surefoot_stores import memory\nmemory._Journal.undo = lambda self: None\n"


@pytest.mark.parametrize(
    ("trick", "told"),
    [
        ("from surefoot_conformance.checks import store\nstore.equal = lambda *_: None\n", "checks.store.equal of the suite was replaced"),
        ("from surefoot_conformance.keepers import StoreBench\nStoreBench.child = None\n", "StoreBench.child of the suite was replaced"),
        (
            """
import dataclasses
from surefoot_conformance import table
name = "a_transaction_that_raises_has_not_happened"
table._TABLE[name] = dataclasses.replace(table._TABLE[name], variants=())
""",
            "a_transaction_that_raises_has_not_happened has no cell",
        ),
        ("Mine.packages = ()\n", "names no packages"),
        ("Mine.packages = ('no_such_package.inner',)\n", "no_such_package.inner"),
    ],
)
def test_a_harness_that_changes_the_suite_gets_no_level(harness: Any, trick: str, told: str) -> None:
    """Whatever of the suite a harness replaces, empties or leaves unsaid voids the run, and is named."""
    found = run(harness(f"from surefoot_conformance.keepers import MemoryHarness as Mine\n{FORGETFUL}{trick}"), seed=1)
    assert (found.level, found.ok) == ("none", False)
    assert any(told in problem for problem in found.problems), found.problems


def test_only_a_check_says_that_it_is_skipped(harness: Any) -> None:
    """An implementation that raises the suite's own Skip where it would fail is at fault, not skipped."""
    source = """
from surefoot_conformance.keepers import MemoryHarness as Mine
from surefoot_conformance.table import Skip
from surefoot_stores import memory

def undo(self):
    raise Skip("left to the administrator")

memory._Journal.undo = undo
"""
    found = run(harness(source), only=["a_transaction_that_raises_has_not_happened"])
    assert found.count("skipped", "passed") == 0


def test_what_a_harness_prints_is_not_taken_for_a_result(harness: Any) -> None:
    """A harness may print, a lot and to both streams, or print what looks like results: none of it is read."""
    source = """
import json, sys
from surefoot_conformance.keepers import MemoryHarness as Mine
print("hello", "x" * 100_000)
print("x" * 100_000, file=sys.stderr)
print(json.dumps({"cell": "events_are_one_chain", "status": "failed"}))
"""
    assert run(harness(source), only=["events_are_one_chain"]).count("passed") == 1


def test_a_choice_of_checks_is_no_certificate(tmp_path: Path) -> None:
    """One passed cell of each level, chosen by hand, is no level; it is neither signed nor written."""
    chosen = [cell("L1", "passed"), cell("L2", "passed"), cell("L3", "passed")]
    assert (report(*chosen, only=("a",)).level, report(*chosen, only=("a",)).ok) == ("none", False)
    private, _ = keys(tmp_path)
    for option in (["--sign", str(private)], ["--output", str(tmp_path / "out")]):
        told = surefoot("memory", "--only", "events_are_one_chain", *option)
        assert (told.exit_code, "no certificate" in told.output) == (2, True)


def test_a_fault_that_is_listed_stays_a_fault(harness: Any) -> None:
    """A listed cell whose harness is at fault has not failed as expected; with chosen checks the rest of the list is left alone."""
    source = """
from surefoot_conformance import StoreHarness

class Mine(StoreHarness):
    packages = ("surefoot_stores",)
    name = "faulty"

    def open(self, folder):
        raise LookupError("no such place")
"""
    found = run(harness(source), only=["events_are_one_chain"], expected={"events_are_one_chain": "x", "a_lease_counts_its_epochs": "y"})
    assert (found.count("fault"), found.count("expected_failure", "unexpected_pass"), list(found.problems)) == (1, 0, [])


def test_a_check_without_variants_is_skipped_by_name() -> None:
    """A check for which a harness names nothing to vary stands on the certificate as not tested."""
    found = run("python", only=["a_call_happens_at_most_once_in_every_mode"])
    assert {row["status"] for row in found.cells} == {"skipped"}


def test_a_durable_store_is_certified_above_l1_only_with_an_oracle(harness: Any) -> None:
    """What nobody reads around the store, and what is not durable, reaches no L2, whatever else its harness implements."""
    source = """
from surefoot_conformance import StoreHarness
from surefoot_conformance.keepers import MemoryHarness, SqliteHarness

class Mine(MemoryHarness):
    def synced(self, folder):
        return True

class Blind(SqliteHarness):
    oracle = StoreHarness.oracle
"""
    assert run(harness(source)).level == "L1"
    assert run("mine:Blind").level == "L1"


def test_what_a_store_raises_is_its_own_failure(harness: Any) -> None:
    """An error that a store raises where none is expected fails the check; it is no fault of the harness."""
    source = """
from surefoot_conformance.keepers import MemoryHarness as Mine
from surefoot_stores import memory

memory._Journal.undo = None
"""
    found = run(harness(source), only=["a_transaction_that_raises_takes_no_other_along"])
    assert (found.count("failed"), found.count("fault")) == (2, 0)


def test_a_harness_that_eats_errors_is_at_fault(harness: Any) -> None:
    """A harness that answers in the place of an exception is found bare, before anything is concluded from what is not raised."""
    source = """
from surefoot_conformance.harnesses.python import PythonHarness

class Mine(PythonHarness):
    def invoke(self, target, turn):
        try:
            return super().invoke(target, turn)
        except Exception as exc:
            return str(exc)
"""
    found = run(harness(source), only=["the_harness_lets_errors_out[sync]"])
    assert found.count("fault") == 1


def test_a_harness_that_empties_its_folder_takes_no_effect_along(harness: Any) -> None:
    """Effects and ledger lie where the agent's folder is not: whoever empties that hides nothing."""
    source = """
import shutil
from surefoot_conformance.harnesses.python import PythonHarness

class Mine(PythonHarness):
    def build(self, agent, site):
        shutil.rmtree(site.folder)
        site.folder.mkdir()
        return super().build(agent, site)
"""
    found = run(harness(source), only=["the_bare_framework_repeats_the_effect[sync]"])
    assert found.count("passed") == 1


def test_an_oracle_that_asks_the_store_is_a_fault(harness: Any) -> None:
    """An oracle that runs the certified packages sees nothing that the store does not tell: the harness is at fault."""
    source = """
from surefoot_conformance.keepers import Oracle, SqliteHarness

class Api(Oracle):
    def __init__(self, store):
        self.store = store
    def calls(self):
        return self.store.run(lambda tx: {c.call_id: (str(c.state), c.version) for c in tx.calls.list()}, write=False)
    def events(self, run_id):
        return []
    def value(self, namespace, key):
        return None
    def counter(self, name):
        return 0
    def sound(self):
        return ""

class Mine(SqliteHarness):
    def oracle(self, folder):
        return Api(self.open(folder))
"""
    found = run(harness(source), only=["the_oracle_uses_no_code_of_the_store"])
    assert found.count("fault") == 1
