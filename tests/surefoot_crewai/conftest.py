"""Fixtures of the CrewAI tests, which are skipped where the framework is not installed: it has an environment of its own."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

MISSING = importlib.util.find_spec("crewai") is None
os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false", "CREWAI_TESTING": "true"}
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="surefoot-crewai-")


class _Skipped(pytest.File):
    """A test module that is not imported."""

    def collect(self) -> Iterator[pytest.Item]:
        """Skip it, and say why."""
        pytest.skip("crewai is not installed; it conflicts with other frameworks: nox -s adapter")
        yield


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Skip a module instead of importing it where the framework is missing."""
    return _Skipped.from_parent(parent, path=module_path) if MISSING else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let CrewAI warn of itself; of surefoot's own warnings every one is an error still."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error::surefoot.SurefootWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore"), append=False)


if not MISSING:
    with warnings.catch_warnings():  # CrewAI's own, while it is imported
        warnings.simplefilter("ignore")
        from crews import Effects

    @pytest.fixture
    def effects(tmp_path: Path) -> Effects:
        """An empty effects file."""
        return Effects(tmp_path / "effects")
