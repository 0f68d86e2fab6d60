"""The examples run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from surefoot_conformance import hosts

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
TOY = next(path for path in EXAMPLES if path.stem == "toy_adapter")
ELSEWHERE = {"crewai_agent": "crewai", "semantic_kernel_agent": "semantic_kernel"}
"""Examples of frameworks that conflict with others, and what has to be installed."""


@pytest.mark.parametrize("example", [path for path in EXAMPLES if path != TOY], ids=lambda path: path.stem)
def test_example_runs(example: Path) -> None:
    """An example runs to its end and shows something."""
    if example.stem in ELSEWHERE and find_spec(ELSEWHERE[example.stem]) is None:
        pytest.skip(f"{ELSEWHERE[example.stem]} is not installed; it conflicts with other frameworks and has an environment of its own")
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_there_are_examples() -> None:
    """There is at least one."""
    assert EXAMPLES


@pytest.fixture(scope="module")
def page() -> str:
    """The page that says how an adapter is written."""
    return (TOY.parent.parent / "docs" / "how-to" / "certify.md").read_text(encoding="utf-8")


def test_the_toy_is_certified() -> None:
    """The adapter that the docs explain reaches L3, or L4 where there is a database that hosts share, and nothing of it failed."""
    done = subprocess.run([sys.executable, TOY], capture_output=True, text=True, check=False)
    level = "L3" if hosts.missing() else "L4"
    assert re.fullmatch(rf"toy: {level}, [1-9]\d+ passed, 0 failed\n", done.stdout), done.stdout + done.stderr


def test_the_toy_stands_on_the_page(page: str) -> None:
    """Adapter and harness stand on the page word for word, and are about a hundred lines."""
    source = TOY.read_text(encoding="utf-8")
    adapter, harness = (source.partition(f"# --- the {part}\n\n\n")[2].partition("\n\n\n# ---")[0] for part in ("adapter", "harness"))
    harness = harness.partition("\n\n\nif __name__")[0]
    assert f"```python\n{adapter}\n```" in page
    assert f"```python\n{harness}\n```" in page
    assert 50 < len(f"{adapter}\n{harness}".splitlines()) <= 100


def test_the_page_explains_what_the_toy_uses(page: str) -> None:
    """Every name of surefoot that the toy imports is explained on the page, outside of the code that it stands in."""
    said = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    names = {
        alias.name
        for node in ast.walk(ast.parse(TOY.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("surefoot")
        for alias in node.names
    }
    assert {"step", "Request", "Harness"} <= names
    code = " ".join(re.findall(r"`([^`]+)`", said))
    assert {name for name in names if not re.search(rf"\b{name}\b", code)} == set()
