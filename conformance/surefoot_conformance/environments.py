"""An environment with one end of a framework's supported range, which is read from its extra and written nowhere else."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from surefoot.errors import UsageError

__all__ = ["environment", "floor"]

_PATIENCE: Final = 900
"""Seconds that an installation may take."""


def floor(framework: str) -> tuple[str, str]:
    """Return the requirement of a framework's extra and the oldest version that it allows."""
    for line in importlib.metadata.requires("surefoot") or []:
        spec, _, marker = line.partition(";")
        if marker.strip().replace('"', "'") == f"extra == '{framework}'":
            oldest = [
                part.strip().removeprefix(">=") for part in spec.replace(framework, "", 1).split(",") if part.strip().startswith(">=")
            ]
            if oldest:
                return spec.strip(), oldest[0]
    raise UsageError(f"surefoot has no extra {framework!r}, so it has no oldest and latest; leave --framework-version out")


@contextlib.contextmanager
def environment(framework: str, end: Literal["oldest", "latest"], *extras: str) -> Iterator[str]:
    """Make an environment with surefoot and one end of the framework's range; yield its interpreter, and remove it.

    ``extras`` of surefoot are installed beside. Raises :class:`~surefoot.UsageError` where it cannot be made.
    """
    spec, oldest = floor(framework)
    folder = Path(tempfile.mkdtemp(prefix="surefoot-env-"))
    try:
        python = folder / "bin" / "python"
        ours = [*_surefoot(",".join([framework, "conformance", *extras])), f"{framework}=={oldest}" if end == "oldest" else spec]
        if uv := shutil.which("uv", path=f"{Path(sys.executable).parent}:{_path()}"):
            _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder), "--allow-existing"])
            _run([uv, "pip", "install", "--quiet", "--python", str(python), *(["--upgrade"] if end == "latest" else []), *ours])
        else:
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *ours])
        yield str(python)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _path() -> str:
    import os

    return os.environ.get("PATH", "")


def _surefoot(extras: str) -> list[str]:
    """Return what installs this very surefoot: the source tree it is installed from, or the same release."""
    found = importlib.metadata.distribution("surefoot")
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if origin.get("url", "").startswith("file://"):
        return ["-e", f"{origin['url'].removeprefix('file://')}[{extras}]"]
    return [f"surefoot[{extras}]=={found.version}"]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        msg = f"the environment cannot be made: {' '.join(command[-2:])} takes longer than {_PATIENCE} s; is the package index reachable?"
        raise UsageError(msg) from None
    if done.returncode:
        why = " ".join(done.stderr.split())[-400:] or f"exit code {done.returncode}"
        raise UsageError(f"the environment cannot be made ({' '.join(command[-2:])} does not install): {why}")
