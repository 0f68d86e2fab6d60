"""Fixtures of the recovery tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from crash import Children, Effects


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    """An empty effects file."""
    return Effects(tmp_path / "effects")


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    """Processes that move money in a bank; none outlives the tests."""
    made = Children(Path(__file__).parent / "bank.py")
    yield made
    made.close()
