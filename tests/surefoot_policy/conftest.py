"""Fixtures of the policy tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from crash import Effects

from surefoot import Guard


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    """An empty effects file."""
    return Effects(tmp_path / "effects")


@pytest.fixture
def policed(tmp_path: Path) -> Callable[..., Guard]:
    """Makes a guard over one SQLite store with the policy that a text says."""

    def make(text: str, **options: Any) -> Guard:
        path = tmp_path / "surefoot.yaml"
        path.write_text(text)
        return Guard(f"sqlite:///{tmp_path}/surefoot.db", policy=str(path), **options)

    return make
