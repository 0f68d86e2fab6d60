"""The SQLite store: processes that die, stop and fork; damage; versions."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from surefoot import StoreUnavailable, UsageError
from surefoot_stores import SqliteStore, owners, tables
from surefoot_stores.migrations import MIGRATIONS

CHILD = """
import sys
from surefoot_stores import SqliteStore, tables
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


def test_processes_that_make_a_store_together_agree_on_its_key(tmp_path: Path) -> None:
    """Six processes that ask a new store for its digest key at the same moment get one key, and so does everybody after them."""
    for number in range(8):
        store = SqliteStore(f"sqlite:///{tmp_path}/{number}.db")
        gate, start = os.pipe()
        children = []
        for _ in range(6):
            answer, tell = os.pipe()
            if not (pid := os.fork()):
                os.close(start)
                os.read(gate, 1)
                os.write(tell, store.digest_key())
                os._exit(0)
            os.close(tell)
            children.append((pid, answer))
        os.close(gate)
        os.close(start)
        keys = {os.read(answer, 100) for _, answer in children}
        for pid, answer in children:
            os.waitpid(pid, 0)
            os.close(answer)
        assert keys == {store.digest_key()}


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
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="upgrade surefoot"), SqliteStore(f"sqlite:///{path}").transaction():
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, 1])
def test_the_database_of_another_program_is_left_alone(tmp_path: Path, version: int) -> None:
    """A SQLite file that has tables of somebody else is refused with what to do, whatever version it says, and not changed."""
    path = tmp_path / "app.db"
    db = sqlite3.connect(path)
    db.executescript(f"CREATE TABLE customers (name TEXT); PRAGMA user_version = {version}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"another program \(it has customers\); give surefoot a file of its own"):
        SqliteStore(f"sqlite:///{path}").run(lambda tx: tx.records.get("n", "k"), write=False)
    assert path.read_bytes() == before


def test_a_store_behind_a_link_is_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens one file by another path finds the same owners alive: a running call is never taken for a dead one's."""
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    monkeypatch.chdir(tmp_path)
    stores = [SqliteStore(f"sqlite:///{path}/s.db") for path in (tmp_path / "real", "link")]
    assert stores[0].url == stores[1].url
    with child(f"sqlite:///{tmp_path}/link/s.db") as process:
        assert process.stdout is not None
        theirs = process.stdout.readline().strip()
        alive = [store.alive(theirs) for store in stores]
        process.kill()
    assert alive == [True, True]
    assert [store.alive(theirs) for store in stores] == [False, False]


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


def test_a_page_that_is_damaged_is_one_clear_error_when_it_is_read(tmp_path: Path) -> None:
    """Damage that SQLite comes upon among the rows of an answer raises StoreUnavailable with the path, as damage before them does."""
    path = tmp_path / "s.db"
    store = SqliteStore(f"sqlite:///{path}")
    with store.transaction() as tx:
        for number in range(100):
            tx.records.put("n", f"{number:03}", "x" * 1000)
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(size,)] = db.execute("PRAGMA page_size")
    db.close()
    whole = path.read_bytes()
    last = max(
        page for page in range(len(whole) // size) if whole[page * size] in {2, 10} and b"xxx" in whole[page * size : (page + 1) * size]
    )
    path.write_bytes(whole[: last * size] + b"\xff" * size + whole[(last + 1) * size :])
    with pytest.raises(StoreUnavailable, match=f"{path}.*malformed"):
        store.run(lambda tx: tx.records.list("n"), write=False)
    store.close()


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


def test_as_92_what_a_forked_child_writes_outlives_its_parent(tmp_path: Path) -> None:
    """A child forked from a process with the store open keeps every commit, also when the parent closes it in between."""
    store = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    store.run(lambda tx: tx.records.put("n", "parent", 0))
    to_parent, from_child = os.pipe()
    to_child, from_parent = os.pipe()
    pid = os.fork()
    if pid == 0:
        store.run(lambda tx: tx.records.put("n", "child 1", 1))
        os.write(from_child, b".")
        os.read(to_child, 1)
        store.run(lambda tx: tx.records.put("n", "child 2", 2))
        os._exit(0)
    os.read(to_parent, 1)
    store.close()
    os.write(from_parent, b".")
    assert os.waitpid(pid, 0)[1] == 0
    for end in (to_parent, from_child, to_child, from_parent):
        os.close(end)
    db = sqlite3.connect(tmp_path / "s.db")
    assert [key for (key,) in db.execute("SELECT key FROM records ORDER BY key")] == ["child 1", "child 2", "parent"]
    db.close()


def test_as_92_a_fork_inside_a_transaction_leaves_it_to_the_parent(tmp_path: Path) -> None:
    """The child of a fork inside a transaction cannot commit it nor use the store; the parent commits it."""
    store = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    pid = -1
    refused = 0
    try:
        with store.transaction() as tx:
            tx.counters.reserve("c", 1, None)
            pid = os.fork()
    except StoreUnavailable:
        refused += 1
    if pid == 0:
        try:
            store.run(lambda tx: tx.counters.value("c"))
        except StoreUnavailable:
            refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    assert store.run(lambda tx: tx.counters.value("c"), write=False) == 1


OPENER = """
import sys
from surefoot_stores import SqliteStore
print("ready", flush=True)
sys.stdin.read()
for number in range(20):
    SqliteStore(sys.argv[1]).run(lambda tx: tx.counters.reserve("c", 1, None))
"""


def test_i6_processes_open_and_write_one_new_store_at_once(tmp_path: Path) -> None:
    """Processes that create a store at the same moment all get it, and none of their writes is lost."""
    url = f"sqlite:///{tmp_path}/s.db"
    start = [sys.executable, "-c", OPENER, url]
    processes = [
        subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate()[1] for process in processes] == [""] * 4
    assert SqliteStore(url).run(lambda tx: tx.counters.value("c"), write=False) == 80


PROBER = """
import sys
from surefoot_stores import SqliteStore
store = SqliteStore(sys.argv[1])
store.owner()
print("ready", flush=True)
sys.stdin.read()
print(sum(store.alive(sys.argv[2]) for _ in range(20_000)))
"""


def test_a_process_stopped_while_it_opens_a_store_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens the same store meanwhile is told which process to look for; once that one goes on, so does everybody."""
    store = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    monkeypatch.setattr(owners, "_PATIENCE", 0.1)
    pid = os.fork()
    if pid == 0:
        with owners.alone(f"{store.path}.owners"):
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    with pytest.raises(StoreUnavailable, match="find and end that process"):
        store.run(lambda tx: None)
    os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0
    store.run(lambda tx: None)


def test_as_93_asking_for_a_dead_owner_does_not_make_it_look_alive(tmp_path: Path) -> None:
    """Two processes that ask about a dead owner at the same time are both told that it is dead."""
    start = [sys.executable, "-c", PROBER, f"sqlite:///{tmp_path}/s.db", "host:1:12345"]
    processes = [subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate()[0].strip() for process in processes] == ["0", "0"]


def test_a_directory_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """An unprivileged process that may not write the folder gets StoreUnavailable, which names the path."""
    tmp_path.chmod(0o555)
    pid = os.fork()
    if pid == 0:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            SqliteStore(f"sqlite:///{tmp_path}/s.db").run(lambda tx: tx.counters.value("c"))
        except StoreUnavailable as exc:
            os._exit(0 if f"{tmp_path}" in str(exc) else 2)
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    tmp_path.chmod(0o755)
    assert status == 0


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "sqlite://x.db", "x.db"])
def test_a_url_without_a_file_is_refused(url: str) -> None:
    """A URL that names no file is refused at once; nothing in memory is passed off as durable."""
    with pytest.raises(UsageError):
        SqliteStore(url)


def test_what_sqlite_cannot_keep_is_refused(tmp_path: Path) -> None:
    """A lone surrogate in a name and an integer of more than 64 bits raise UsageError, and nothing is written."""
    store = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    with pytest.raises(UsageError):
        store.run(lambda tx: tx.leases.take("\ud800", "me"))
    with pytest.raises(UsageError):
        store.run(lambda tx: tx.counters.reserve("c", 2**63, None))
    assert store.run(lambda tx: tx.counters.value("c")) == 0


def test_looking_below_a_path_uses_the_whole_index(tmp_path: Path) -> None:
    """What is asked for every call searches an index by scope and path, so that its cost does not grow with the run."""
    store = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    store.run(lambda tx: None)
    db = sqlite3.connect(tmp_path / "s.db")
    for query, count in ((tables._TOUCHES, 4), (tables._UNDER, 6)):
        plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", [None] * count))
        assert "calls_path (scope=? AND path=?)" in plan
        assert "calls_path (scope=? AND path>? AND path<?)" in plan
        assert "SCAN calls" not in plan
    db.close()


def test_what_is_open_in_a_run_is_found_by_an_index(tmp_path: Path) -> None:
    """The calls of a run are found by their slot space, those of a forked one by an index of its own: never by reading all calls."""
    store = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    store.run(lambda tx: None)
    db = sqlite3.connect(tmp_path / "s.db")
    plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {tables._UNSETTLED}", ["run"]))
    db.close()
    assert "calls_path (scope=?)" in plan
    assert "calls_forked (run_id=?)" in plan
    assert "SCAN calls" not in plan
