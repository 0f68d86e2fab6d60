"""The n-th operation fails, for every n until a run ends without a fault (I33).

Twice: below SQLite, where each fault costs milliseconds and may also stay; and at the system calls of a real process.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from sweeps import vfs
from sweeps.faults import SHORT
from sweeps.support import SCRIPTS, Agent, violations

from surefoot import InDoubt, RunStatus, StoreUnavailable
from surefoot.engine import outcomes
from surefoot.engine.program import Tx
from surefoot_stores import sqlite

pytestmark = [pytest.mark.sweep, pytest.mark.timeout(600)]
TESTS = Path(__file__).parent.parent

BELOW: Final = {
    "disk full": (vfs.FULL, {"write"}),
    "write error": (vfs.IOERR_WRITE, {"write", "truncate"}),
    "sync error": (vfs.IOERR_FSYNC, {"sync"}),
    "log busy": (vfs.BUSY, {"writelock"}),
    "file busy": (vfs.BUSY, {"lock"}),
}
"""Faults below SQLite: result code, and the operations that fail with it."""

SLOW: Final = ("file busy", True)
"""SQLite tries for ten seconds each time."""
FIRST: Final = {("log busy", True): 2}
"""Where to begin: for the first lock, which opens the log, it does too."""

SYSCALLS: Final = [
    ("pwrite64", "ENOSPC"),
    ("fdatasync", "EIO"),
    ("ftruncate", "EIO"),
    ("openat", "EMFILE"),
    ("pread64", "EIO"),
    ("mmap", "ENOMEM"),
    ("unlink", "EIO"),
]


class Fault:
    """Fails the n-th operation of its kind, or every one from it on."""

    def __init__(self, kind: str, number: int, *, stays: bool) -> None:
        self._code, self._what = BELOW[kind]
        self._number, self._stays = number, stays
        self._count = itertools.count(1)
        self.hit = False

    def watch(self, op: vfs.Op, perform: Callable[[], int]) -> int:
        """Fail or perform an operation."""
        if op.what not in self._what:
            return perform()
        count = next(self._count)
        if count == self._number or (self._stays and count > self._number):
            self.hit = True
            return self._code
        return perform()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait for a fault that will not go away."""
    monkeypatch.setattr(outcomes, "_TRIES", (0.0, 0.0))
    monkeypatch.setattr(sqlite, "_PATIENCE", 0.01)


def attempt(agent: Agent) -> str:
    """Run the agent; return how that ended. Anything but a typed error comes out."""
    try:
        agent.run()
    except (InDoubt, StoreUnavailable) as exc:
        return type(exc).__name__
    return "completed"


def completed(agent: Agent) -> bool:
    """Return whether the run is at its end."""
    runs = agent.guard.runs.list()
    assert len(runs) <= 1
    return bool(runs) and runs[0].status is RunStatus.COMPLETED


def recover(agent: Agent, folder: Path) -> list[str]:
    """Let the run go on now that the fault is gone; return what is wrong."""
    for _ in range(5):
        if completed(agent):
            return violations(folder, agent.script, ended=True)
        if attempt(agent) == "StoreUnavailable":
            return ["the store does not work again"]
        agent.settle()
    return ["the run does not come to an end"]


def swept(folder: Path, name: str, kind: str, *, stays: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield how each run of a script ended whose n-th operation failed, and what is wrong after it, for each n."""
    for number in itertools.count(FIRST.get((kind, stays), 1)):
        place = folder / f"{name} {number}"
        place.mkdir()
        agent = Agent(place, SCRIPTS[name])
        fault = Fault(kind, number, stays=stays)
        with vfs.watching(fault.watch):
            how = attempt(agent)
            agent.guard.store.close()
        wrong = violations(place, agent.script, ended=False) + recover(agent, place)
        agent.guard.close()
        shutil.rmtree(place)
        if not fault.hit:
            assert (how, wrong) == ("completed", [])
            break
        yield how, [f"{name} {number}: {what}" for what in wrong]


needs_vfs = pytest.mark.skipif(not vfs.available(), reason="this interpreter has SQLite built in, where nothing can be put below it")


@needs_vfs
@pytest.mark.parametrize(("kind", "stays"), [(kind, stays) for kind in BELOW for stays in (False, True) if (kind, stays) != SLOW])
@pytest.mark.usefixtures("impatient")
def test_i33_every_operation_on_the_disk_fails_once(folder: Path, kind: str, stays: bool, say: Callable[[str], None]) -> None:  # noqa: FBT001 - pytest passes parameters by name
    """A fault below SQLite is a typed error before the effect, or a doubt or a kept outcome after it; when it clears, all works again."""
    ended = Counter[str]()
    for name in SCRIPTS:
        for how, wrong in swept(folder, name, kind, stays=stays):
            assert wrong == []
            ended[how] += 1
    say(f"{kind}, {'from then on' if stays else 'once'}: {ended.total():,} runs with a fault, of which {dict(ended)}")
    assert ended.total() > 0


@needs_vfs
@pytest.mark.usefixtures("impatient")
def test_i33_negative_control_an_outcome_that_was_not_stored_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None]
) -> None:
    """A guard that gives a result although its outcome could not be stored is found out by the same faults."""

    def forgetful(_record: Any, work: Any) -> Any:
        with suppress(StoreUnavailable):
            yield Tx(work)

    monkeypatch.setattr(outcomes, "_write", forgetful)
    found = [what for _, wrong in swept(folder, "unsafe", "disk full", stays=False) for what in wrong]
    say(f"forgetful: {len(found)} violations: {found[:1]}")
    assert any("was returned as" in what for what in found)


def faulted(folder: Path, call: str, error: str, number: int) -> tuple[int, str]:
    """Run an agent whose ``number``-th system call of a kind on the store's files fails; return exit code and what it said."""
    files = [option for name in ("s.db", "s.db-wal", "s.db-shm", "s.db-journal", "s.db.owners") for option in ("-P", str(folder / name))]
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}"]
    start = ["strace", "-f", "--seccomp-bpf", "-o", f"{folder}/strace", *files, *inject, sys.executable, "-m", "sweeps.faults", str(folder)]
    done = subprocess.run(start, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(TESTS)}, check=False)
    return done.returncode, done.stdout + done.stderr[-1500:]


def one(folder: Path, number: int, call: str, error: str) -> tuple[str, list[str]]:
    """Fault one system call; return how the process ended (``""``: there was no such call any more) and what is wrong."""
    place = folder / f"{call} {number}"
    place.mkdir()
    code, said = faulted(place, call, error, number)
    hit = "(INJECTED)" in (place / "strace").read_text()
    wrong = [] if code in {0, InDoubt.exit_code, StoreUnavailable.exit_code} else [f"exit {code}: {said}"]
    if (place / "s.db").exists():
        wrong += violations(place, SHORT, ended=False)
    agent = Agent(place, SHORT)
    wrong += recover(agent, place)
    agent.guard.close()
    shutil.rmtree(place)
    return (f"exit {code}" if hit else ""), [f"{call} {number} {error}: {what}" for what in wrong]


def waves(function: Callable[[int], Any]) -> Iterator[Any]:
    """Yield the results for 1, 2, 3, …; two at a time."""
    with ThreadPoolExecutor(2) as pool:
        for first in itertools.count(1, 8):
            yield from pool.map(function, range(first, first + 8))


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_i33_every_system_call_fails_once(folder: Path, say: Callable[[str], None]) -> None:
    """A system call that fails in a real process is a typed error or nothing, never a traceback; the file is sound and works again."""
    for call, error in SYSCALLS:
        ended = Counter[str]()
        for how, wrong in waves(partial(one, folder, call=call, error=error)):
            assert wrong == []
            if not how:
                break
            ended[how] += 1
        say(f"{call} fails with {error}: {ended.total()} processes, of which {dict(ended)}")
        assert ended.total() > 0
