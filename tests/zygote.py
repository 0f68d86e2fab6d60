"""Forks each process of a crash test from one that has imported the framework and started nothing."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Done", "Zygote"]


@dataclass(frozen=True, slots=True)
class Done:
    """How a process ended."""

    returncode: int
    """Negative: the number of the signal that killed it."""
    stdout: str
    stderr: str


class Zygote:
    """A process that forks children on demand, each of which runs ``main(told)`` of a module."""

    def __init__(self, child: Path) -> None:
        command = [sys.executable, __file__, str(child)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=child.parent)

    def run(self, told: dict[str, Any]) -> Done:
        """Run one child to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        folder = Path(told["folder"])
        return Done(code, (folder / "stdout").read_text(), (folder / "stderr").read_text())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(path: Path) -> None:
    """Fork a child for each line of standard input and answer with how it ended."""
    sys.path.insert(0, str(path.parent))
    child = importlib.import_module(path.stem)

    for line in sys.stdin:
        told = json.loads(line)
        pid = os.fork()
        if pid == 0:
            for name, number in (("stdout", 1), ("stderr", 2)):
                os.dup2(os.open(Path(told["folder"]) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            code = 1
            try:
                child.main(told)
                code = 0
            except BaseException:  # noqa: BLE001 - printed, and the exit code tells
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
