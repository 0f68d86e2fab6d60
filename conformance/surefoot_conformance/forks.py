"""Children: work in a process of its own, forked from one that has started nothing, and what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["Child", "Ended", "die", "fork"]

PATIENCE: Final = 40.0
"""Seconds that a child may take."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    killed: bool = False
    """It died of SIGKILL."""
    hung: bool = False
    """It did not end in time, and was killed from outside."""
    value: Any = None
    """What the work returned, as JSON data."""
    error: str = ""
    """Name of the class of what it raised; ``""``: nothing."""
    kinds: list[str] = field(default_factory=list)
    """Names of that class and its bases."""
    message: str = ""
    where: str = ""
    """File in which it was raised."""
    trace: str = ""

    def raised(self, *kinds: str) -> bool:
        """Return whether it raised one of these, or a subclass."""
        return any(kind in self.kinds for kind in kinds)


def die() -> None:
    """Die as in a power cut of the process: at once, with nothing run."""
    os.kill(os.getpid(), signal.SIGKILL)


class Child:
    """A running child."""

    def __init__(self, pid: int, answer: int) -> None:
        self.pid = pid
        self.answer = answer
        """Readable when it has ended."""
        self._ended: Ended | None = None

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """Wait for its end; a child that takes longer than ``seconds`` is killed."""
        if self._ended is None:
            text, hung = self._read(seconds)
            if hung:
                self.kill()
            os.close(self.answer)
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            known = json.loads(text) if text and not hung else {}
            self._ended = Ended(killed=status == -signal.SIGKILL and not hung, hung=hung, **known)
        return self._ended

    def _read(self, seconds: float) -> tuple[bytes, bool]:
        text = b""
        while select.select([self.answer], [], [], seconds)[0]:
            part = os.read(self.answer, 65536)
            if not part:
                return text, False
            text += part
        return text, True

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def pause(self) -> None:
        """Stop it: it is alive, and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a stopped one run again."""
        os.kill(self.pid, signal.SIGCONT)


def fork(work: Callable[[], Any], log: Path) -> Child:
    """Run ``work`` in a forked child that writes what it prints to ``log``; what it returns must be JSON data."""
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(write)
        return Child(pid, read)
    os.close(read)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        answer = _told(work)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _told(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": work()}
    except BaseException as exc:  # noqa: BLE001 - the parent judges it
        frames = traceback.extract_tb(exc.__traceback__)
        return {
            "error": type(exc).__name__,
            "kinds": [kind.__name__ for kind in type(exc).__mro__],
            "message": str(exc),
            "where": frames[-1].filename if frames else "",
            "trace": "".join(traceback.format_exception(exc))[-4000:],
        }
