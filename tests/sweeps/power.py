"""What a store's files may look like after a power cut, made of what the shipped store wrote.

SIGKILL never loses what the operating system holds, so no kill sweep can see a missing ``fsync``. Here every write of the
shipped store is recorded, and the files are rebuilt as a cut at any moment may leave them: what was synced is there,
what was not is there, or not, or in part, in any order. The model takes creating and deleting files as durable at once.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from sweeps import vfs
from sweeps.support import SCRIPTS, Agent, Ask, Lines, violations

__all__ = ["Judged", "sweep"]

SECTOR = 512
_ALL: Final = -1
Choice: TypeAlias = tuple[int, ...]
"""For each waiting operation: all of it (-1), or which of its sectors, as bits."""


@dataclass(frozen=True, slots=True)
class Said:
    """A line that went out into the world: an effect, or a result that was returned."""

    file: str
    words: tuple[str, ...]


class Heard(Lines):
    """Records lines among the operations on the files, instead of writing them."""

    def __init__(self, path: Path, log: list[vfs.Op | Said]) -> None:
        super().__init__(path)
        self._log = log

    def add(self, *words: str) -> None:
        """Record one line."""
        self._log.append(Said(self.path.name, words))


@contextmanager
def connections(synchronous: str, checkpoint: int) -> Iterator[list[str]]:
    """Have every connection checkpoint each so many pages, and be as synchronous as said; yields the statements so changed."""
    changed: list[str] = []
    real = sqlite3.connect

    class Changed(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> Any:
            new, found = re.subn(r"(synchronous\s*=\s*)\w+", rf"\g<1>{synchronous}", sql, flags=re.IGNORECASE)
            if found:
                changed.append(new)
            return super().execute(new, *values)

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = real(*args, factory=Changed, **options)
        db.execute(f"PRAGMA wal_autocheckpoint = {checkpoint}")
        return db

    sqlite3.connect = connect  # type: ignore[assignment]
    try:
        yield changed
    finally:
        sqlite3.connect = real


def record(folder: Path, script: Sequence[Sequence[Ask]]) -> list[vfs.Op | Said]:
    """Run an agent and return every operation on the store's files, and every line, in order."""
    log: list[vfs.Op | Said] = []

    def watch(op: vfs.Op, perform: Callable[[], int]) -> int:
        code = perform()
        assert code == 0 or op.what in {"lock", "writelock"}
        if op.what in {"write", "truncate", "sync", "delete"}:
            log.append(op)
        return code

    agent = Agent(folder, script)
    agent.effects, agent.results = Heard(folder / "effects", log), Heard(folder / "results", log)
    with vfs.watching(watch):
        agent.run()
        agent.guard.close()
    return log


class Disk:
    """The files as far as a recording was played: what is durable, and what waits for a sync."""

    def __init__(self) -> None:
        self.durable: dict[str, bytearray] = {}
        self._waiting: dict[str, list[vfs.Op]] = {}
        self.lines: dict[str, list[str]] = {"effects": [], "results": []}

    def play(self, entry: vfs.Op | Said) -> None:
        """Take in one entry of a recording."""
        if isinstance(entry, Said):
            self.lines[entry.file].append("\t".join(entry.words) + "\n")
            return
        name = Path(entry.path).name
        if entry.what == "delete":
            self.durable.pop(name, None)
            self._waiting.pop(name, None)
        elif entry.what == "sync":
            content = self.durable.setdefault(name, bytearray())
            for op in self._waiting.pop(name, ()):
                _apply(content, op)
        else:
            self.durable.setdefault(name, bytearray())
            self._waiting.setdefault(name, []).append(entry)

    def chosen(self, pick: random.Random) -> Choice:
        """Return which of the waiting operations a power cut at this moment lets through: all of each, none, or some sectors."""
        mood = pick.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        return tuple(self._part(op, pick, mood) for waiting in self._waiting.values() for op in waiting)

    @staticmethod
    def _part(op: vfs.Op, pick: random.Random, mood: float) -> int:
        if pick.random() < mood:
            return _ALL
        return pick.getrandbits(-(-len(op.data) // SECTOR)) if op.what == "write" and pick.random() < 0.3 else 0

    def cut(self, folder: Path, choice: Choice) -> None:
        """Write the files as they are after that cut."""
        parts = iter(choice)
        for name in {**self.durable, **self._waiting}:
            content = bytearray(self.durable.get(name, b""))
            for op in self._waiting.get(name, ()):
                _apply_part(content, op, next(parts))
            (folder / name).write_bytes(content)
        for name, lines in self.lines.items():
            (folder / name).write_text("".join(lines))


def _apply(content: bytearray, op: vfs.Op) -> None:
    if op.what == "truncate":
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))
        return
    content.extend(bytes(max(0, op.offset - len(content))))
    content[op.offset : op.offset + len(op.data)] = op.data


def _apply_part(content: bytearray, op: vfs.Op, part: int) -> None:
    if part == _ALL:
        _apply(content, op)
        return
    for number in range(part.bit_length()):
        if part >> number & 1:
            at = number * SECTOR
            _apply(content, vfs.Op("write", op.path, op.offset + at, op.data[at : at + SECTOR]))


def states(log: Sequence[vfs.Op | Said], folder: Path, script: Sequence[Sequence[Ask]], rounds: int, seed: int) -> Iterator[list[str]]:
    """Yield what is wrong in each state, after every entry of the recording: as many different ones as ``rounds`` draws find."""
    pick = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    disk = Disk()
    for entry in log:
        disk.play(entry)
        for choice in {disk.chosen(pick) for _ in range(rounds if "s.db" in disk.durable else 0)}:
            folder.mkdir()
            disk.cut(folder, choice)
            try:
                yield violations(folder, script, ended=False, copied=False)
            except sqlite3.DatabaseError as exc:
                yield [f"the database is damaged: {exc}"]
            shutil.rmtree(folder)


@dataclass(slots=True)
class Judged:
    """What a sweep found."""

    states: int = 0
    bad: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, other: Judged) -> None:
        """Take in what another process found."""
        self.states += other.states
        self.bad += other.bad
        self.wrong += other.wrong


def _recorded(folder: Path, synchronous: str, name: str, checkpoint: int) -> list[vfs.Op | Said]:
    with connections(synchronous, checkpoint) as changed:
        log = record(folder, SCRIPTS[name])
    assert changed, "the store does not set PRAGMA synchronous: the comparison compares nothing"
    return log


def _judge(log: Sequence[vfs.Op | Said], folder: Path, name: str, rounds: int, seed: int) -> Judged:
    found = Judged()
    for wrong in states(log, folder, SCRIPTS[name], rounds, seed):
        found.states += 1
        found.bad += bool(wrong)
        found.wrong.update(wrong)
    return found


def sweep(folder: Path, synchronous: str, rounds: int) -> Judged:
    """Record every script, checkpointing seldom and often, and judge the states that a power cut may leave.

    Recording and judging have processes of their own, so that nothing watches the files of those who judge.
    """
    cases = [(name, checkpoint) for name in SCRIPTS for checkpoint in (1000, 10)]
    found = Judged()
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1) as pool:
        logs = [pool.apply(_recorded, (_made(folder / f"real{case}"), synchronous, *cases[case])) for case in range(len(cases))]
    with fork.Pool(os.cpu_count()) as pool:
        jobs = [(log, folder / f"state{case}", cases[case][0], rounds, case) for case, log in enumerate(logs)]
        for judged in pool.starmap(_judge, jobs, chunksize=1):
            found.add(judged)
    return found


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
