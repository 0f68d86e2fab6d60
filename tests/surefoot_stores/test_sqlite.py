"""The SQLite store: processes that die, stop and fork; damage; versions."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from surefoot import StoreUnavailable
from surefoot_stores import SqliteStore
from surefoot_stores.migrations import MIGRATIONS

CHILD = """
import sys
from surefoot_stores import SqliteStore
store = SqliteStore(sys.argv[1])
print(store.owner(), flush=True)
number = 0
while True:
    store.run(lambda tx: tx.records.put("n", f"{number:09}", number))
    print(number, flush=True)
    number += 1
"""


def child(url: str) -> subprocess.Popen[str]:
    """Start a process that registers as an owner, prints its id, and then writes and prints without end."""
    return subprocess.Popen([sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True)


def test_i3_what_a_killed_writer_had_acknowledged_is_there(tmp_path: Path) -> None:
    """After SIGKILL in the middle of writing, every acknowledged row is readable and the file is sound."""
    url = f"sqlite:///{tmp_path}/s.db"
    process = child(url)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(50)]
    process.kill()
    rest = process.communicate()[0]
    seen = int((rest.split() or [lines[-1]])[-1])
    assert process.returncode == -signal.SIGKILL
    with SqliteStore(url).transaction(write=False) as tx:
        keys = [record.value for record in tx.records.list("n", limit=1_000_000)]
    assert keys[: seen + 1] == list(range(seen + 1))
    assert sqlite3.connect(tmp_path / "s.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_as_93_a_stopped_owner_is_alive_and_a_dead_one_is_not(tmp_path: Path) -> None:
    """SIGSTOP leaves an owner alive; SIGKILL makes it dead at once, without a clock."""
    url = f"sqlite:///{tmp_path}/s.db"
    store = SqliteStore(url)
    process = child(url)
    assert process.stdout is not None
    owner = process.stdout.readline().strip()
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    assert store.alive(owner)
    process.kill()
    process.wait()
    process.stdout.close()
    assert not store.alive(owner)
    assert store.alive(store.owner())


def test_as_92_a_forked_child_has_its_own_owner_and_connection(tmp_path: Path) -> None:
    """After fork the child is another owner, writes through a connection of its own, and the parent stays alive."""
    store = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    mine = store.owner()
    store.run(lambda tx: tx.records.put("n", "parent", 1))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        store.run(lambda tx: tx.records.put("n", "child", 2))
        os.write(writer, f"{store.owner()} {store.alive(mine)}".encode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(writer)
    other, alive = os.read(reader, 1000).decode().split()
    os.close(reader)
    assert other != mine
    assert alive == "True"
    assert not store.alive(other)
    assert store.alive(mine)
    with store.transaction(write=False) as tx:
        assert [record.key for record in tx.records.list("n")] == ["child", "parent"]


def test_i35_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file from a newer surefoot is refused with what to do, and not changed."""
    path = tmp_path / "s.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(StoreUnavailable, match="upgrade surefoot"), SqliteStore(f"sqlite:///{path}").transaction():
        pass
    assert sqlite3.connect(path).execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_i35_a_migration_that_was_killed_is_done_again(tmp_path: Path) -> None:
    """A migration is one transaction: a file whose migration did not commit is migrated when it is opened next."""
    path = tmp_path / "s.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    for statement in MIGRATIONS[0][:3]:
        db.execute(statement)
    db.close()
    store = SqliteStore(f"sqlite:///{path}")
    store.run(lambda tx: tx.records.put("n", "k", 1))
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


@pytest.mark.parametrize("content", [b"this is not a database, but long enough to look at" * 30, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    """A file that is no database raises StoreUnavailable with its path; it is not overwritten."""
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=str(path)), SqliteStore(f"sqlite:///{path}").transaction():
        pass
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """A path below a file raises StoreUnavailable, not an OSError."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable), SqliteStore(f"sqlite:///{tmp_path}/file/s.db").transaction():
        pass


def test_a_closed_store_opens_again(tmp_path: Path) -> None:
    """Closing twice is harmless, and using a closed store opens it."""
    store = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    store.run(lambda tx: tx.records.put("n", "k", 1))
    store.close()
    store.close()
    assert store.run(lambda tx: tx.records.get("n", "k"), write=False) is not None
