"""Everything that comes with surefoot is certified, and the certificate is worth something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from surefoot import UsageError
from surefoot_conformance import hosts
from surefoot_conformance.runner import run
from surefoot_conformance.saboteurs import PLANTED, Patch, copied

LEAST = 30


def test_every_saboteur_still_has_something_to_break(tmp_path: Path) -> None:
    """The words that each saboteur changes stand in the shipped source exactly once, and the changed file is still Python."""
    assert len(PLANTED) >= LEAST
    assert len({saboteur.name for saboteur in PLANTED}) == len(PLANTED)
    stale = {}
    with copied() as source:
        for saboteur in PLANTED:
            try:
                for patch in saboteur.patches:
                    target = tmp_path / patch.file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text((source / patch.file).read_text())
                for patch in saboteur.patches:
                    patch.apply(tmp_path)
                    compile((tmp_path / patch.file).read_text(), patch.file, "exec")
            except (UsageError, SyntaxError) as exc:
                stale[saboteur.name] = str(exc)
    assert stale == {}


def test_a_saboteur_whose_words_are_gone_says_so(tmp_path: Path) -> None:
    """A patch that does not fit exactly once is an error, never a saboteur that was not found."""
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    for old in ("x = 1", "y = 2"):
        with pytest.raises(UsageError, match="rewrite the saboteur"):
            Patch("a.py", old, "z").apply(tmp_path)


def test_as_76_an_adapter_without_dedup_is_not_certified() -> None:
    """The saboteur that takes the deduplication out of a copy is found by the kill matrix, and its unpatched twin passes."""
    command = [sys.executable, "-m", "surefoot_cli.main", "certify", "--saboteurs", "--json", "--only", "a committed call runs again"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (told["planted"], told["found"]) == (1, 1)
    assert list(told["by"]) == ["a committed call runs again"]


@pytest.mark.sweep
@pytest.mark.timeout(300)
def test_a_toy_frameworks_adapter_is_certified_l3() -> None:
    """An adapter written from the documentation alone is certified with the same suite."""
    example = Path(__file__).parent.parent.parent / "examples" / "toy_adapter.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"toy: {'L3' if hosts.missing() else 'L4'}, "), done.stdout + done.stderr


@pytest.mark.parametrize(("name", "level"), [("sqlite", "L3"), ("function", "L1")])
def test_what_comes_with_surefoot_is_certified(name: str, level: str) -> None:
    """The SQLite store and a plain function as a verifier pass their suites."""
    found = run(name)
    assert (found.level, found.ok) == (level, True), [row for row in found.cells if row["status"] in {"failed", "fault"}]
