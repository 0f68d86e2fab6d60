"""Fixtures of the policy tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from surefoot import Guard


@pytest.fixture
def policed(tmp_path: Path) -> Callable[..., Guard]:
    """Makes a guard over one SQLite store with the policy that a text says."""

    def make(text: str, **options: Any) -> Guard:
        path = tmp_path / "surefoot.yaml"
        path.write_text(text)
        return Guard(f"sqlite:///{tmp_path}/surefoot.db", policy=str(path), **options)

    return make
