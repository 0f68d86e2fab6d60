"""The job that shows which frameworks do not go into one environment."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
REFUSAL = """error: No solution found when resolving dependencies
  cause: Because a>=2 depends on c>=3 and b>=1 depends on c<3,
         we can conclude that a | b are incompatible.
"""


@pytest.fixture(scope="module")
def conflicts() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("conflicts", ROOT / "scripts" / "conflicts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_refusal_stands_on_the_page_in_the_resolvers_words(conflicts: ModuleType) -> None:
    """What the resolver says is one line of the table, and the pair is read back from the page whatever its releases."""
    why = conflicts.reason(REFUSAL)
    assert why == "Because a>=2 depends on c>=3 and b>=1 depends on c<3, we can conclude that a \\| b are incompatible."
    text = conflicts.page(["a==2", "b==1"], [("a==2", "b==1", why)])
    assert f"| a==2 | b==1 | {why} |" in text
    assert conflicts.pairs(text) == {("a", "b")}


def test_every_framework_with_an_adapter_is_asked_for(conflicts: ModuleType) -> None:
    """The job asks for what the extras of the adapters ask for, and for nothing else."""
    asked = " ".join(conflicts.frameworks())
    assert {"crewai", "langgraph", "openai-agents", "pydantic-ai-slim"} <= {part.partition(">=")[0] for part in asked.split()}
    assert "psycopg" not in asked


def test_the_page_names_the_pair_that_is_known(conflicts: ModuleType) -> None:
    """CrewAI and OpenAI Agents are on the page."""
    assert ("crewai", "openai-agents") in conflicts.pairs(conflicts.PAGE.read_text(encoding="utf-8"))


@pytest.mark.sweep
@pytest.mark.timeout(300)
def test_the_resolver_refuses_what_the_page_says_and_nothing_less(conflicts: ModuleType) -> None:
    """Asked again, the resolver refuses every pair of the page, each at its newest, and takes each framework alone."""
    pins = {pin.partition("==")[0]: pin for pin in map(conflicts.newest, conflicts.frameworks())}
    known = conflicts.pairs(conflicts.PAGE.read_text(encoding="utf-8"))
    assert known
    for one, other in known:
        assert conflicts.resolved(pins[one], pins[other])[1]
