"""Every adapter replays the run that was recorded with it; one that names its steps or requests otherwise does not."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from surefoot import Guard
from surefoot_conformance import golden
from surefoot_conformance.harnesses import KNOWN
from surefoot_conformance.lab import Lab
from surefoot_conformance.table import Broken, Cell, table
from surefoot_journal import Recorded

FRAMEWORKS = {
    "agent-framework-core": "agent_framework",
    "autogen-agentchat": "autogen_agentchat",
    "crewai": "crewai",
    "langchain": "langchain",
    "langgraph": "langgraph",
    "llama-index-core": "workflows",
    "openai-agents": "agents",
    "pydantic-ai-slim": "pydantic_ai",
    "python": "surefoot",
    "semantic-kernel": "semantic_kernel",
}
NOISY = {"crewai": [pytest.mark.filterwarnings("ignore")]}
"""CrewAI warns of itself while it is imported."""
INSTALLED = [
    pytest.param(name, marks=NOISY.get(name, ())) for name, module in FRAMEWORKS.items() if importlib.util.find_spec(module) is not None
]


def run(check: str, name: str, folder: Path, face: str = "sync") -> None:
    """Run one check on an adapter."""
    module, _, kind = KNOWN[name].partition(":")
    (entry,) = [entry for entry in table("adapter") if entry.name == check]
    cell = Cell(entry, face, "", "")
    entry.run(Lab(getattr(importlib.import_module(module), kind)(), folder, cell))


def test_every_adapter_has_a_recorded_run() -> None:
    """There is a recorded run of each adapter, in the format of this release, with what it was recorded for."""
    for name in FRAMEWORKS:
        found = Recorded.parse(golden.recording(name).read_text().splitlines())
        assert (found.run.adapter, found.run.status) == (name, "completed")
        assert sorted(row.tool for row in found.calls) == ["charge", "charge", "charge", "look", "mail"]


@pytest.mark.parametrize("name", INSTALLED)
def test_as_77_the_golden_run_is_replayed(name: str, tmp_path: Path) -> None:
    """A run that an earlier release recorded is replayed: every step, request and answer is recognised."""
    run("the_golden_run_is_replayed", name, tmp_path)


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("name", INSTALLED)
def test_as_77_a_recorded_run_is_replayed_offline(name: str, face: str, tmp_path: Path) -> None:
    """Recorded, exported and replayed here, a run gives the same answers in order; no model, no tool, nothing written."""
    run("a_recorded_run_is_replayed_offline", name, tmp_path, face)


def renamed(original: Callable[..., str]) -> Callable[..., str]:
    """Return a function that names steps otherwise."""
    return lambda name, *rest: original(f"{name}!", *rest)


@pytest.mark.parametrize("name", INSTALLED)
def test_negative_control_steps_that_are_named_otherwise(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that names its steps otherwise does not replay the golden run."""
    module: Any = importlib.import_module(
        {
            "agent-framework-core": "surefoot_agent_framework._runs",
            "autogen-agentchat": "surefoot_autogen._doors",
            "crewai": "surefoot_crewai._intercept",
            "langchain": "surefoot_langgraph._steps",
            "langgraph": "surefoot_langgraph._steps",
            "llama-index-core": "surefoot_llama_index._door",
            "openai-agents": "surefoot_openai_agents._runner",
            "pydantic-ai-slim": "surefoot_pydantic_ai._runs",
            "python": "surefoot_python._steps",
            "semantic-kernel": "surefoot_semantic_kernel._runs",
        }[name]
    )
    monkeypatch.setattr(module, "element", renamed(module.element))
    with pytest.raises(Broken, match="what differs"):
        run("the_golden_run_is_replayed", name, tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("agents") is None, reason="openai-agents is not installed")
def test_negative_control_requests_that_are_numbered_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that takes the model's own id of a call into its identity does not replay the golden run."""
    from surefoot_openai_agents import _tools

    original = _tools.Request
    monkeypatch.setattr(_tools, "Request", lambda tool, arguments, *rest: original(tool, {**arguments, "id": rest[1]}, *rest))
    with pytest.raises(Broken, match="has no recorded answer"):
        run("the_golden_run_is_replayed", "openai-agents", tmp_path)


def test_another_digest_key_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was recorded with another digest key is refused in one sentence: nothing in it could be recognised."""
    monkeypatch.setattr(golden, "KEY", "another")
    with pytest.raises(Broken, match="set SUREFOOT_DIGEST_KEY"):
        run("the_golden_run_is_replayed", "python", tmp_path)


def test_what_is_exported_is_redacted(tmp_path: Path) -> None:
    """A secret that was registered after the run was recorded is not in its export (AS-68)."""
    import surefoot

    def main(words: str) -> str:
        return words

    guard = Guard("memory://")
    with surefoot.run("r"):
        surefoot.wrap(main, guard=guard)("the password is tr0ub4dor-3")
    (record,) = guard.runs.list()
    assert any("tr0ub4dor-3" in line for line in Recorded.of(guard, record.run_id).lines(guard.redact))
    surefoot.register_secret("tr0ub4dor-3", name="password")
    lines = list(Recorded.of(guard, record.run_id).lines(guard.redact))
    assert not any("tr0ub4dor-3" in line for line in lines)
    assert Recorded.parse(lines).run.run_id == record.run_id
