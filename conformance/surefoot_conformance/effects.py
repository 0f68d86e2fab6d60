"""What really happened: an append-only file that tools write to and checks count in, outside the process under test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["Effects"]


class Effects:
    """Effects in a file. Every line is the system's before :meth:`add` returns: it outlives its process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, *what: Any) -> None:
        """Append one effect."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")

    def all(self) -> list[list[Any]]:
        """Return every effect so far, oldest first."""
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()] if self._path.exists() else []

    def count(self, *what: Any) -> int:
        """Return how many effects start with ``what``."""
        return sum(1 for effect in self.all() if effect[: len(what)] == list(what))
