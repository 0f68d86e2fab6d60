"""The kernel does not need this package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BLOCK = """
import sys

class Deleted:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "surefoot_policy":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Deleted())
"""


def without_policy(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python as if surefoot_policy were not there."""
    (folder / "sitecustomize.py").write_text(BLOCK)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)


def test_without_the_package_nothing_is_unlimited_in_silence(tmp_path: Path) -> None:
    """A guard works without the package, and refuses a budget or a policy that nobody would keep."""
    program = """
import surefoot
assert surefoot.wrap(lambda: 1, store="memory://")() == 1
for options in ({"budget": surefoot.Budget(calls=1)}, {"policy": "surefoot.yaml"}):
    try:
        surefoot.Guard("memory://", **options)
    except surefoot.UsageError as exc:
        print(exc)
"""
    done = without_policy(tmp_path, "-c", program)
    assert done.returncode == 0, done.stderr
    assert "no plugin offers 'budget'" in done.stdout
    assert "no plugin reads the policy 'surefoot.yaml'" in done.stdout


@pytest.mark.sweep
def test_the_tests_of_the_kernel_pass_without_the_package(tmp_path: Path) -> None:
    """Every test of the kernel passes with surefoot_policy deleted."""
    done = without_policy(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/surefoot")
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
