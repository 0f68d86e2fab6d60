"""Fixtures of the LlamaIndex tests, which are skipped where the framework is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

MISSING = importlib.util.find_spec("workflows") is None
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let LlamaIndex warn of itself; of surefoot's own warnings every one is an error still."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error::surefoot.SurefootWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore"), append=False)
