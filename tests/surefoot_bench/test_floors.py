"""The floors do what they are a floor for: two durable commits a call."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from surefoot_bench.floors import GroupCommitFloor, OneClientFloor

CALLS = 20
HEADER, FRAME_HEADER = 32, 24
"""Bytes in front of a write-ahead log, and in front of each page in it (https://sqlite.org/fileformat2.html#walformat)."""

PROGRAM = f"""
import sys
from pathlib import Path
from surefoot_bench.floors import OneClientFloor
with OneClientFloor(Path(sys.argv[1])) as floor:
    print("opened", flush=True)
    floor.calls({CALLS})
    print("called", flush=True)
"""


def commits(database: Path) -> int:
    """Return how many transactions a database's write-ahead log holds: frames that say how large the database is then."""
    log = database.with_name(f"{database.name}-wal").read_bytes()
    (page,) = struct.unpack_from(">I", log, 8)
    return sum(struct.unpack_from(">I", log, at + 4) != (0,) for at in range(HEADER, len(log), FRAME_HEADER + page))


def test_the_floor_commits_twice_a_call(tmp_path: Path) -> None:
    """Each call of the one-client floor adds two transactions, with a page in each, to the write-ahead log."""
    with OneClientFloor(tmp_path / "floor.db") as floor:
        before = commits(tmp_path / "floor.db")
        floor.calls(CALLS)
        assert commits(tmp_path / "floor.db") - before == 2 * CALLS


def test_the_group_commit_floor_commits_twice_a_call(tmp_path: Path) -> None:
    """With one client nothing can be grouped: each call adds two transactions to the write-ahead log."""
    with asyncio.Runner() as runner, GroupCommitFloor(tmp_path / "floor.db") as floor:
        before = commits(tmp_path / "floor.db")
        runner.run(floor.calls(1, CALLS))
        assert commits(tmp_path / "floor.db") - before == 2 * CALLS


def test_the_group_commit_floor_groups(tmp_path: Path) -> None:
    """Many clients share transactions, and every call of theirs is there in the end."""
    with asyncio.Runner() as runner, GroupCommitFloor(tmp_path / "floor.db") as floor:
        before = commits(tmp_path / "floor.db")
        runner.run(floor.calls(64, 64))
        assert commits(tmp_path / "floor.db") - before < 64
    db = sqlite3.connect(tmp_path / "floor.db")
    assert db.execute("SELECT count(*) FROM calls WHERE record LIKE '%committed%'").fetchone() == (64,)
    db.close()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_floor_syncs_twice_a_call(tmp_path: Path) -> None:
    """The operating system sees two syncs of the file system for each call of the one-client floor."""
    log = tmp_path / "log"
    trace = ["strace", "-f", "-e", "trace=fsync,fdatasync,write", "-o", log]
    done = subprocess.run([*trace, sys.executable, "-c", PROGRAM, tmp_path / "floor.db"], capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    called = log.read_text().partition('"opened')[2].partition('"called')[0]
    assert called.count("sync(") >= 2 * CALLS
