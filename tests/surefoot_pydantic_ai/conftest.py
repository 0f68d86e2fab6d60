"""Fixtures of the Pydantic AI tests, which are skipped where the framework is not installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

MISSING = importlib.util.find_spec("pydantic_ai") is None
collect_ignore_glob = ["test_*.py"] if MISSING else []

if not MISSING:
    from crash import Effects

    from surefoot import Guard

    @pytest.fixture
    def effects(tmp_path: Path) -> Effects:
        """An empty effects file."""
        return Effects(tmp_path / "effects")

    @pytest.fixture
    def guard(tmp_path: Path) -> Iterator[Guard]:
        """A guard over a new SQLite store."""
        with Guard(f"sqlite:///{tmp_path}/surefoot.db") as made:
            yield made
