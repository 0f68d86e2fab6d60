"""Sides that run in a process of their own: under another interpreter, or with a library loaded before it starts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self

from surefoot import SurefootError
from surefoot_bench.plan import Side

__all__ = ["Worker", "failure", "serve"]


class Worker:
    """A process that answers ``side number`` with the cost of one operation, line by line. A context manager."""

    def __init__(self, command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile("w+", dir=folder)  # noqa: SIM115 - lives as long as the worker
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def __enter__(self) -> Self:
        """Return the worker."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Let the process end: it does when there is nothing more to answer."""
        self._process.communicate()
        self._errors.close()

    def side(self, name: str) -> Side:
        """Return one of its sides. Measuring it raises :class:`~surefoot.SurefootError` when the process has failed."""

        def measure(number: int) -> float:
            assert self._process.stdin is not None  # noqa: S101 - opened above
            assert self._process.stdout is not None  # noqa: S101 - opened above
            with suppress(BrokenPipeError):
                self._process.stdin.write(f"{name} {number}\n")
                self._process.stdin.flush()
            answer = self._process.stdout.readline()
            return float(answer) if answer else self._failed()

        return measure

    def _failed(self) -> NoReturn:
        code = self._process.wait()
        self._errors.seek(0)
        raise failure(code, self._errors.read())


def failure(code: int, errors: str) -> SurefootError:
    """Return the error for a benchmark's process that failed: what it said last."""
    last = errors.strip().splitlines()[-1:] or [f"exit code {code}"]
    return SurefootError(f"a process of the benchmark failed: {last[0]}")


def serve(sides: Mapping[str, Side]) -> None:
    """Answer what a :class:`Worker` asks until it asks no more."""
    for line in sys.stdin:
        name, number = line.split()
        print(sides[name](int(number)), flush=True)
