"""The worker of the kill sweep: a warm process that forks agents, kills them, resumes them and asks the oracle.

Run as ``python -m sweeps.kill '{"seed": 1, ...}'``; answers in lines of JSON (see :class:`Tally`).
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import select
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from sweeps import vfs
from sweeps.support import SCRIPTS, Agent, memory_folder, opened_copy, violations

from surefoot import Guard, InDoubt, LeaseLost
from surefoot.engine import call, claims, step
from surefoot.engine.program import Tx

__all__ = ["SABOTAGES", "Tally"]

FACES: Final[dict[str, Callable[[Agent], None]]] = {
    "plain": Agent.run,
    "coroutines": lambda agent: asyncio.run(agent.arun()),
    "threads": Agent.run_in_threads,
}
_IN_DOUBT: Final = 7
_SUPERSEDED: Final = 9
_HUNG: Final = 60


@dataclass
class Tally:
    """What a worker has counted so far."""

    kills: int = 0
    """Processes whose wait status says SIGKILL."""
    moments: int = 0
    """Those of them that were killed at a random moment, from outside."""
    sites: dict[str, int] = field(default_factory=dict)
    """Kills at each named place in the code and in the files."""
    positions: int = 0
    """Distinct (workload, n-th operation) of a first process that were killed."""
    processes: int = 0
    runs: int = 0
    """Runs that came to their end."""
    doubts: int = 0
    """Calls that a kill left in doubt."""
    orphans: int = 0
    """Forked children of a killed process that wanted to go on, and were refused."""
    wrong: list[str] = field(default_factory=list)
    """What the oracle found."""


# --- sabotage ---------------------------------------------------------------------------------------


class _Undo(Exception):
    pass


def _late(guard: Guard, names: set[str]) -> None:
    """Have the named transactions become durable with the next one instead of at once."""
    real = guard.transact
    pending: list[Tx] = []

    def transact(tx: Tx) -> Any:
        answers = []

        def only_look(unit: Any) -> None:
            answers.append(tx.work(unit))
            raise _Undo

        if getattr(tx.work, "func", tx.work).__name__ in names:
            with suppress(_Undo):
                real(Tx(only_look))
            pending.append(tx)
            return answers[0]
        before, pending[:] = pending[:], []
        if not before:
            return real(tx)
        return real(Tx(lambda unit: [one.work(unit) for one in (*before, tx)][-1]))

    guard.transact = transact  # type: ignore[method-assign]


def _no_fence(_guard: Guard) -> None:
    for module in (call, claims, step):
        module.fence = lambda _unit, _frame: None


SABOTAGES: Final[dict[str, Callable[[Guard], None]]] = {
    "none": lambda _guard: None,
    "the intent is written after the effect": lambda guard: _late(guard, {"decide"}),
    "the outcome is not durable when it is returned": lambda guard: _late(guard, {"_land", "_end"}),
    "no entry token": _no_fence,
}
"""Broken guards that the oracle must find out."""


# --- the processes ----------------------------------------------------------------------------------


class _Sites:
    """Counts the places that a process passes and dies at the n-th."""

    def __init__(self, kill_at: int, tell: int) -> None:
        self._count = itertools.count(1)
        self._kill_at = kill_at
        self._tell = tell

    def hit(self, place: str) -> None:
        if next(self._count) == self._kill_at:
            os.write(self._tell, place.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, op: vfs.Op, perform: Callable[[], int]) -> int:
        self.hit(f"before {op.place}")
        code = perform()
        self.hit(f"after {op.place}")
        return code

    def connection(self) -> type[sqlite3.Connection]:
        hit = self.hit

        class Watched(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> Any:
                hit(f"before {sql[:200]}")
                result = super().execute(sql, *values)
                hit(f"after {sql[:200]}")
                return result

        return Watched


@dataclass(frozen=True, slots=True)
class _Told:
    """What one process shall do."""

    folder: Path
    script: str
    face: str
    kill_at: int = 0
    settle: bool = False
    sabotage: str = "none"


def _live(told: _Told, sites: _Sites) -> NoReturn:
    """Be the agent; ends the process."""
    signal.alarm(_HUNG)
    code = 1
    try:
        agent = Agent(told.folder, SCRIPTS[told.script], at=sites.hit)
        connect, watched = sqlite3.connect, sites.connection()
        sqlite3.connect = lambda *args, **kw: connect(*args, factory=watched, **kw)  # type: ignore[assignment,misc]
        with vfs.watching(sites.watch):
            SABOTAGES[told.sabotage](agent.guard)
            if told.settle:
                agent.settle()
            FACES[told.face](agent)
        code = 0
    except InDoubt:
        code = _IN_DOUBT
    except LeaseLost:
        code = _SUPERSEDED
    except BaseException:  # noqa: BLE001 - whatever it was, the parent reports it
        (told.folder / "error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


class Worker:
    """Runs chains of processes, one after the other."""

    def __init__(self, folder: Path, seed: int, sabotage: str) -> None:
        self.tally = Tally()
        self.random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.life = 0.01
        self._folder = folder
        self._numbers = itertools.count()
        self._sabotage = sabotage
        self._labels, self._label = os.pipe()
        os.set_blocking(self._labels, False)

    def chain(self, script: str, face: str, kills: Iterator[int]) -> bool:
        """Kill a run again and again, as ``kills`` says, until it has ended; return whether its first process died.

        Each number kills at that place, 0 not at all, -1 at a random moment.
        """
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        settle, first = False, None
        while True:
            kill_at = next(kills, 0)
            told = _Told(folder, script, face, max(0, kill_at), settle, self._sabotage)
            code = self._process(told, at_random=kill_at < 0)
            died = code == -signal.SIGKILL
            first = died if first is None else first
            ended = code == 0 or (died and _completed(folder))
            settle = code == _IN_DOUBT or (settle and died)
            wrong = [] if died or code in {0, _IN_DOUBT} else [f"exit {code}: {_error(folder)}"]
            thorough = ended or self.tally.kills % 10 == 0
            wrong += violations(folder, SCRIPTS[script], ended=ended or code == _IN_DOUBT, thorough=thorough)
            self.tally.wrong += [f"{script}, {face}, {folder.name}: {what}" for what in wrong]
            if ended or wrong:
                self._end(folder)
                return first

    def _end(self, folder: Path) -> None:
        self.tally.runs += 1
        with suppress(sqlite3.Error), closing(sqlite3.connect(folder / "s.db")) as db:
            self.tally.doubts += db.execute("SELECT count(*) FROM events WHERE type = 'call.lost'").fetchone()[0]
        shutil.rmtree(folder)

    def _process(self, told: _Told, *, at_random: bool) -> int:
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _live(told, _Sites(told.kill_at, self._label))
        if at_random:
            time.sleep(self.random.uniform(0, self.life * 1.2))
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.tally.processes += 1
        if code == -signal.SIGKILL:
            self.tally.kills += 1
            self.tally.moments += at_random
            if not at_random:
                place = os.read(self._labels, 4096).decode()
                self.tally.sites[place] = self.tally.sites.get(place, 0) + 1
        elif code == 0:
            self.life += (time.monotonic() - start - self.life) / 10
        return code

    def orphan(self, script: str, place: int) -> None:
        """Fork inside a run, kill the parent, let a successor finish the run, then let the forked child go on: it may not."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        go, start = os.pipe()
        end, done = os.pipe()
        told = _Told(folder, script, "plain", sabotage=self._sabotage)
        pid = os.fork()
        if pid == 0:
            os.close(start)
            os.close(end)
            _live(told, _Orphaned(place, go, done))
        os.close(go)
        os.close(done)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.tally.kills += code == -signal.SIGKILL
        for settle in (False, True):
            if self._process(_Told(folder, script, "plain", settle=settle, sabotage=self._sabotage), at_random=False) == 0:
                break
        os.close(start)
        select.select([end], [], [], _HUNG)
        os.read(end, 1)  # returns when the orphan has ended, which nobody can wait for
        os.close(end)
        wrong = violations(folder, SCRIPTS[script], ended=True)
        self.tally.wrong += [f"{script}, an orphan from place {place}: {what}" for what in wrong]
        self.tally.orphans += code == -signal.SIGKILL
        self._end(folder)


class _Orphaned(_Sites):
    """At the n-th place between its calls, leaves a child behind and dies; the child goes on when it is told to."""

    def __init__(self, place: int, go: int, done: int) -> None:
        super().__init__(0, done)
        self._place, self._go = place, go

    def hit(self, place: str) -> None:
        if place not in {"returned", "noted"} or next(self._count) != self._place:
            return
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        os.read(self._go, 1)


def _completed(folder: Path) -> bool:
    with opened_copy(folder) as db:
        try:
            found = db.execute("SELECT value FROM records WHERE namespace = 'runs'").fetchall()
        except sqlite3.OperationalError:  # killed before there were tables
            return False
        return bool(found) and json.loads(found[-1][0])["status"] == "completed"


def _error(folder: Path) -> str:
    path = folder / "error"
    return path.read_text()[-1500:] if path.exists() else "no traceback"


# --- the sweep --------------------------------------------------------------------------------------


def sweep(worker: Worker, *, share: int, of: int, kills: int, say: Callable[[], None]) -> None:
    """Kill at every place in turn (this worker's share of them), then at random places and moments, until there are enough kills."""
    pick = worker.random
    for script, face in itertools.product(SCRIPTS, ("plain", "coroutines")):
        for place in itertools.count(1 + share, of):
            later = (pick.randrange(1, 400) for _ in range(pick.randrange(3)))
            if worker.tally.wrong or not worker.chain(script, face, itertools.chain([place], later)):
                break
            worker.tally.positions += 1
            say()
    while worker.tally.kills < kills and not worker.tally.wrong:
        script, face = pick.choice(list(SCRIPTS)), pick.choice(list(FACES))
        worker.chain(script, face, iter([pick.choice([-1, pick.randrange(1, 400)]) for _ in range(pick.randrange(1, 8))]))
        say()


def _warm_up(folder: Path) -> None:
    """Import and load whatever a first run does, so that its successors are forked with it."""
    folder.mkdir()
    for name, face in FACES.items():
        agent = Agent(folder, SCRIPTS["unsafe"], name=name)
        face(agent)
        agent.guard.close()
    gc.collect()
    gc.freeze()


def main() -> None:
    """Do what the first argument says, and print a tally now and then, and at the end."""
    told = json.loads(sys.argv[1])
    vfs.install()
    with memory_folder() as folder:
        _warm_up(folder / "warm")
        worker = Worker(folder, told["seed"], told["sabotage"])
        shown = time.monotonic()

        def say() -> None:
            nonlocal shown
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                print(json.dumps(asdict(worker.tally)), flush=True)

        if told.get("orphans"):
            for script, place in itertools.product(SCRIPTS, range(1, 14)):
                worker.orphan(script, place)
        else:
            sweep(worker, share=told["share"], of=told["of"], kills=told["kills"], say=say)
        print(json.dumps(asdict(worker.tally)), flush=True)


if __name__ == "__main__":
    main()
