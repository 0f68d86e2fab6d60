"""Power cuts: what the store's files could look like after one, and whether what was promised is in them.

SIGKILL never loses what the operating system holds, so no kill sweep can see a missing ``fsync``. Here every write of the
shipped store is recorded, and the files are rebuilt as a cut at any moment may leave them: what was synced is there,
what was not is there, or not, or in part, in any order. The model takes creating and deleting files as durable at once.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sweeps import vfs
from sweeps.support import SCRIPTS, Agent, Ask, Lines, violations

pytestmark = [
    pytest.mark.sweep,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not vfs.available(), reason="this interpreter has SQLite built in, where nothing can be put below it"),
]

SECTOR = 512


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

    def cut(self, folder: Path, pick: random.Random) -> None:
        """Write the files as a power cut at this moment may leave them."""
        mood = pick.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        for name, durable in self.durable.items():
            content = bytearray(durable)
            for op in self._waiting.get(name, ()):
                if pick.random() < mood:
                    _apply(content, op)
                elif op.what == "write" and pick.random() < 0.3:
                    for at in range(0, len(op.data), SECTOR):
                        if pick.random() < 0.5:
                            _apply(content, vfs.Op("write", op.path, op.offset + at, op.data[at : at + SECTOR]))
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


def states(log: Sequence[vfs.Op | Said], folder: Path, script: Sequence[Sequence[Ask]], rounds: int) -> Iterator[list[str]]:
    """Yield what is wrong in each state: after every entry of the recording, as often as ``rounds`` says."""
    pick = random.Random(7)  # noqa: S311 - to be repeated, not to be secret
    disk = Disk()
    for entry in log:
        disk.play(entry)
        for _ in range(rounds if "s.db" in disk.durable else 0):
            folder.mkdir()
            disk.cut(folder, pick)
            try:
                yield violations(folder, script, ended=False)
            except sqlite3.DatabaseError as exc:
                yield [f"the database is damaged: {exc}"]
            shutil.rmtree(folder)


def sweep(folder: Path, synchronous: str, rounds: int) -> tuple[int, int, list[str]]:
    """Return how many states were looked at, how many were wrong, and what was wrong in them."""
    count, bad, wrong = 0, 0, list[str]()
    for script in SCRIPTS.values():
        for checkpoint in (1000, 10):
            with connections(synchronous, checkpoint) as changed:
                (folder / "real").mkdir()
                log = record(folder / "real", script)
                shutil.rmtree(folder / "real")
            assert changed, "the store does not set PRAGMA synchronous: the comparison compares nothing"
            for found in states(log, folder / "state", script, rounds):
                count, bad = count + 1, bad + bool(found)
                wrong += found
    return count, bad, wrong


def test_i2_i3_a_power_cut_loses_no_intent_and_no_returned_result(folder: Path, say: Callable[[str], None]) -> None:
    """In every state that a power cut may leave, the intent of every effect and every returned result is there, and the file is sound."""
    start = time.monotonic()
    count, bad, wrong = sweep(folder, "FULL", rounds=10)
    say(f"{count:,} states after a power cut in {time.monotonic() - start:.0f} s: {bad} unsafe")
    assert wrong == []
    assert count >= 10_000


def test_i2_negative_control_normal_loses_intents(folder: Path, say: Callable[[str], None]) -> None:
    """With synchronous=NORMAL the same oracle finds effects without a durable intent."""
    count, bad, wrong = sweep(folder, "NORMAL", rounds=2)
    lost = sum("the ledger does not know it" in what for what in wrong)
    say(f"synchronous=NORMAL: {bad:,} of {count:,} states are unsafe, {lost:,} effects without an intent")
    assert lost > 0
