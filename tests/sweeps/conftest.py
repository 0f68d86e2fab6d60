"""Fixtures of the sweeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sweeps.support import memory_folder


@pytest.fixture
def say(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line: a sweep shows at once how far it is and what it counted, a short test only if it fails."""
    if request.node.get_closest_marker("sweep") is None:
        return print

    def show(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    show("")
    return show


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new folder (see :func:`sweeps.support.memory_folder`)."""
    with memory_folder() as made:
        yield made
