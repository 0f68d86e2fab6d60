"""Fixtures of the LangGraph tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Effects


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    """An empty effects file."""
    return Effects(tmp_path / "effects")


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a new SQLite store."""
    return f"sqlite:///{tmp_path}/surefoot.db"
