"""Starts :mod:`worker` processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["finish", "start", "work"]


def start(folder: Path, **told: Any) -> subprocess.Popen[str]:
    """Start a worker."""
    command = [sys.executable, str(Path(__file__).parent / "worker.py"), json.dumps({"folder": str(folder), **told})]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a worker and return what it said last; ``{"killed": True}`` for one that was killed."""
    out, err = process.communicate(timeout=60)
    if process.returncode < 0:
        return {"killed": True}
    assert process.returncode == 0, err
    said: dict[str, Any] = json.loads(out.splitlines()[-1])
    return said


def work(folder: Path, **told: Any) -> dict[str, Any]:
    """Run a worker to its end."""
    return finish(start(folder, **told))
