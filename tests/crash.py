"""What tests that kill processes share: effects counted outside of them, where a child dies, and the children."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from zygote import Done, Zygote

from surefoot import Allow, Call, Event, Gate, Guard

__all__ = ["Children", "Death", "Effects", "Ended", "at_most_one_effect", "die", "died", "killed_before", "look", "printed", "store_of"]


class Effects:
    """An append-only file that tools write to and tests count in: what really happened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, *what: Any) -> None:
        """Append one effect, durably."""
        with self._path.open("a") as file:
            file.write(json.dumps(what) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def all(self) -> list[list[Any]]:
        """Return every effect so far."""
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def count(self, *what: Any) -> int:
        """Return how many effects start with ``what``."""
        return sum(1 for effect in self.all() if effect[: len(what)] == list(what))


def die() -> None:
    """Die as in a power cut of the process: at once, with nothing run."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_before(statement: int, work: Callable[[Callable[[str], None]], object]) -> bool:
    """Run ``work`` in a child that is killed before its n-th SQL statement; return whether it came so far.

    ``work`` gets what SQLite is to call with each statement.
    """
    pid = os.fork()
    if pid == 0:
        left = [statement]

        def trace(_statement: str) -> None:
            left[0] -= 1
            if not left[0]:
                die()

        try:
            work(trace)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return os.WIFSIGNALED(status)


class Death(Gate):
    """Where a child dies: at the point that it was told, the n-th time that it comes there.

    Points are ``before intent``, the names of events, and whatever a scenario calls :meth:`at` with.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self.point = told.get("kill")
        self._left = int(told.get("nth", 1))

    def at(self, point: str) -> None:
        """Die here, if told so."""
        if self.point == point:
            self._left -= 1
            if not self._left:
                die()

    def check(self, call: Call) -> Allow:
        """Allow a call, or die before its intent is written."""
        if call.tool == "charge":
            self.at("before intent")
        return Allow()

    def event(self, event: Event) -> None:
        """Die right after something became durable."""
        if event.data.get("tool", "charge") == "charge":
            self.at(event.type)


def store_of(folder: Path | str) -> str:
    """Return the URL of the store that the children of a test share."""
    return f"sqlite:///{folder}/surefoot.db"


class Ended(Protocol):
    """A process that has ended."""

    @property
    def returncode(self) -> int:
        """Its exit code, or minus the number of the signal that killed it."""

    @property
    def stdout(self) -> str:
        """What it printed."""

    @property
    def stderr(self) -> str:
        """What it complained of."""


def died(done: Ended) -> None:
    """Check that a process died of SIGKILL."""
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]


def printed(done: Ended) -> Any:
    """Return what a process that must have ended well printed last as a line of JSON; a framework's threads may print after it."""
    assert done.returncode == 0, done.stderr[-2000:]
    for line in reversed(done.stdout.splitlines()):
        with suppress(ValueError):
            return json.loads(line)
    raise AssertionError(f"it printed no JSON: {done.stdout[-2000:]}")


def look(folder: Path) -> Guard:
    """Return a guard to look into the store of the children."""
    return Guard(store_of(folder))


def is_alive(pid: int) -> bool:
    """Return whether a process is there and no zombie (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return False


def children_of(pid: int) -> list[int]:
    """Return the processes that the threads of a process have started (Linux)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


class Children:
    """The processes of one module's tests, forked from one that has imported the framework; it starts with the first of them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._zygote: Zygote | None = None

    def process(self, folder: Path, **told: Any) -> Done:
        """Run one process to its end."""
        self._zygote = self._zygote or Zygote(self._file)
        return self._zygote.run({"folder": str(folder), **told})

    def killed(self, folder: Path, **told: Any) -> None:
        """Run a process that must die of SIGKILL."""
        died(self.process(folder, **told))

    def result(self, folder: Path, **told: Any) -> Any:
        """Run a process that must end well, and return what it printed."""
        return printed(self.process(folder, **told))

    def close(self) -> None:
        """End the process that they are forked from."""
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None


def at_most_one_effect(
    children: Children, folder: Path, point: str, *, unknown: Collection[str] = ("call.claimed", "effect"), effect: str, **told: Any
) -> None:
    """Kill an agent that looks up, charges and says so, run it again, and judge (AS-03): one charge at most, no question asked twice.

    ``unknown`` are the points after which nobody can know whether it charged.
    """
    children.killed(folder, kill=point, effect=effect, **told)
    again = children.process(folder, effect=effect, **told)
    effects = Effects(folder / "effects")
    if point in unknown:
        assert effects.count("charge") == (point == "effect")
        if effect == "unsafe":
            assert again.returncode == 1
            assert "InDoubt" in again.stderr
            return
        assert "Outcome unknown" in printed(again)
    else:
        assert printed(again) == "done: 7 costs 5, charged 5"
        assert effects.count("charge") == 1
    asked_again = point.startswith("model ")  # it had not answered yet
    assert effects.count("model") == 3 + asked_again
