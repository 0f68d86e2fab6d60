"""Fixtures of the Semantic Kernel tests, which are skipped where the framework is not installed: it has an environment of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

MISSING = importlib.util.find_spec("semantic_kernel") is None


class _Skipped(pytest.File):
    """A test module that is not imported."""

    def collect(self) -> Iterator[pytest.Item]:
        """Skip it, and say why."""
        pytest.skip("semantic-kernel is not installed; it conflicts with other frameworks: nox -s adapter")
        yield


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Skip a module instead of importing it where the framework is missing."""
    return _Skipped.from_parent(parent, path=module_path) if MISSING else None
