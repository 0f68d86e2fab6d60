"""Group commit: what comes while a commit is under way shares the next one, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from surefoot import Guard, LeaseLost, StoreUnavailable, ToolRule
from surefoot.contracts import Transaction
from surefoot.engine.claims import Request
from surefoot.engine.program import Do
from surefoot.engine.run import RunSpec, open_run
from surefoot.engine.step import StepSpec, step
from surefoot_stores import SqliteStore, sqlite


def put(key: str) -> Callable[[Transaction], Any]:
    """Return a work that writes a record under ``key``."""
    return lambda tx: tx.records.put("n", key, key)


def keys(store: SqliteStore) -> list[str]:
    """Return the keys of the records, read through a connection of its own."""
    with sqlite3.connect(store.path) as db:
        return [key for (key,) in db.execute("SELECT key FROM records ORDER BY key")]


@pytest.fixture
def commits(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of works of each shared commit."""
    sizes: list[int] = []
    take = store._queue.take

    def counted() -> list[Any]:
        jobs = take()
        sizes.append(len(jobs))
        return jobs

    monkeypatch.setattr(store._queue, "take", counted)
    return sizes


def crowd(store: SqliteStore, prefix: str = "") -> set[str]:
    """Have eight threads write while a transaction is open; return the keys that they were told."""
    with ThreadPoolExecutor(8) as pool:
        with store.transaction() as tx:
            waiting = [pool.submit(store.run, put(f"{prefix}{n}")) for n in range(8)]
            while len(store._queue) < 8:
                threading.Event().wait(0.001)
            tx.records.put("n", f"{prefix}first", 1)
        return {future.result().key for future in waiting}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    """Yield a store whose file exists, on a disk that counts as fast."""
    monkeypatch.setattr(sqlite, "_FAST", 60.0)
    made = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    made.run(lambda tx: tx.records.get("n", "k"))
    yield made
    made.close()


async def test_tasks_of_one_round_share_a_commit(store: SqliteStore, commits: list[int]) -> None:
    """64 tasks that write at the same time make two commits at most, and each has its own answer."""
    answers = await asyncio.gather(*(store.arun(put(f"{n:02}")) for n in range(64)))
    assert [record.key for record in answers] == [f"{n:02}" for n in range(64)]
    assert keys(store) == [f"{n:02}" for n in range(64)]
    assert len(commits) <= 2


async def test_a_task_alone_commits_where_it_is(store: SqliteStore) -> None:
    """One task after the other never needs the writer thread."""
    for n in range(5):
        await store.arun(put(str(n)))
    assert keys(store) == list("01234")
    assert "surefoot-writer" not in {thread.name for thread in threading.enumerate()}


def test_threads_that_come_during_a_commit_share_the_next(store: SqliteStore, commits: list[int]) -> None:
    """While one transaction is open, eight threads queue; their works are one commit."""
    assert crowd(store) == set(map(str, range(8)))
    assert sum(commits) == 8
    assert len(commits) <= 2


async def test_one_that_raises_is_undone_alone(store: SqliteStore) -> None:
    """Of works that share a commit, the one that raises leaves nothing and the others are durable; what it read is read anew."""

    def broken(tx: Transaction) -> None:
        tx.records.put("n", "broken", 1)
        tx.records.put("n", "also", 1, version=7)

    results = await asyncio.gather(store.arun(put("a")), store.arun(broken), store.arun(put("b")), return_exceptions=True)
    assert isinstance(results[1], LeaseLost)
    assert keys(store) == ["a", "b"]
    assert store.run(lambda tx: tx.records.get("n", "broken"), write=False) is None


async def test_i11_a_cancelled_task_is_cancelled_after_its_commit(store: SqliteStore) -> None:
    """A task that is cancelled while its work is queued has the work committed first; then CancelledError, nothing leaks."""
    after: list[str] = []

    async def write(key: str) -> None:
        await store.arun(put(key))
        after.append(key)
        await asyncio.sleep(0)
        after.append(f"{key} went on")

    tasks = [asyncio.create_task(write(key)) for key in "ab"]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert keys(store) == ["a", "b"]
    assert (tasks[0].cancelled(), tasks[1].cancelled()) == (True, False)
    assert "a went on" not in after
    assert len(asyncio.all_tasks()) == 1


async def test_i11_a_timeout_around_a_commit_is_a_timeout(store: SqliteStore) -> None:
    """``asyncio.timeout`` that ends while a commit is queued raises TimeoutError, as it does around anything else."""

    async def slow() -> None:
        async with asyncio.timeout(0.001):
            await store.arun(lambda tx: threading.Event().wait(0.05))
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await asyncio.gather(slow(), store.arun(put("a")))


async def test_i11_a_call_cancelled_before_its_body_has_failed(tmp_path: Path) -> None:
    """A governed call that is cancelled while its intent is written: the body never starts, and the ledger says ``failed``."""
    guard = Guard(f"sqlite:///{tmp_path}/s.db", tools={"pay": ToolRule(effect="unsafe")})
    nothing = Do(lambda: None)
    run = (await guard.adrive(open_run(guard, RunSpec("t", "default", "t", "input", {}, "d", nothing, Do(dict), lambda e: e)))).run
    entered: list[int] = []

    async def body(frame: Any) -> None:
        async def pay() -> None:
            entered.append(1)

        calls = [asyncio.create_task(guard.acall(frame, Request("pay", {"n": n}, None), pay)) for n in range(2)]
        await asyncio.sleep(0)
        calls[0].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)

    await guard.adrive(step(guard, StepSpec(run, None, "s#1", "s", {}, "d"), lambda frame: Do(lambda: None, lambda: body(frame))))
    assert [call.state for call in guard.calls.list()] == ["failed", "committed"]
    assert entered == [1]
    guard.close()


def test_threads_are_back_at_the_baseline_after_close(store: SqliteStore) -> None:
    """After ``close`` the writer thread is gone, and the store opens again when it is used again."""
    before = threading.active_count()
    crowd(store)
    assert threading.active_count() == before + 1
    store.close()
    assert threading.active_count() == before
    store.run(put("again"))
    assert "again" in keys(store)


def test_as_92_a_child_of_a_process_with_a_writer_thread_has_its_own(store: SqliteStore) -> None:
    """A fork while the writer thread lives: the child queues and commits by itself."""
    crowd(store, "parent")
    pid = os.fork()
    if pid == 0:
        crowd(store, "child")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(keys(store)) == 18


async def test_a_slow_disk_does_not_keep_the_loop(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a commit that took long, the next ones are the writer thread's, until they are fast again."""
    committers: list[str] = []
    finish = store._finish

    def noted(tables: Any, how: str) -> None:
        committers.append(threading.current_thread().name)
        finish(tables, how)

    monkeypatch.setattr(store, "_finish", noted)
    store._commits_fast = False
    await asyncio.gather(*(store.arun(put(str(n))) for n in range(8)))
    await asyncio.gather(*(store.arun(put(str(n))) for n in range(8)))
    assert committers == ["surefoot-writer", "MainThread"]


async def test_the_loop_goes_on_while_another_process_has_the_lock(store: SqliteStore) -> None:
    """A loop whose store is locked by another connection runs its other tasks; the work is committed once the lock is free."""
    other = sqlite3.connect(store.path, isolation_level=None)
    await store.arun(put("a"))
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(store.arun(put("b")))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not writing.done()
    other.execute("COMMIT")
    await writing
    assert keys(store) == ["a", "b"]
    other.close()


async def test_i33_all_of_a_failed_commit_are_told(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the commit itself fails, every work of it raises StoreUnavailable and none of it is there."""
    finish = store._finish

    def full(tables: Any, how: str) -> None:
        if how == "COMMIT":
            raise StoreUnavailable("disk full")
        finish(tables, how)

    monkeypatch.setattr(store, "_finish", full)
    results = await asyncio.gather(*(store.arun(put(key)) for key in "abc"), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 3
    monkeypatch.undo()
    assert keys(store) == []


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, KeyError])
async def test_whatever_a_work_raises_nobody_waits_for_ever(store: SqliteStore, error: type[Exception]) -> None:
    """An error that asyncio's futures refuse reaches its own task, and the others of that commit have their answers."""

    def broken(_tx: Transaction) -> None:
        raise error

    results = await asyncio.gather(store.arun(put("a")), store.arun(broken), store.arun(put("b")), return_exceptions=True)
    assert isinstance(results[1], (error, RuntimeError)), "no coroutine lets StopIteration through as it is"
    assert keys(store) == ["a", "b"]


@pytest.mark.filterwarnings("ignore:coroutine method 'arun'")
def test_a_loop_that_is_closed_with_queued_works_leaves_nothing(store: SqliteStore) -> None:
    """Tasks that wait for a commit when their loop is closed can be collected, and what they had queued is not done for nobody."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    tasks = [loop.create_task(store.arun(put(str(n)))) for n in range(3)]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert len(store._queue) == 3
    del tasks
    gc.collect()
    assert asyncio.run(store.arun(put("next"))).key == "next"
    crowd(store, "later ")
    assert not {"0", "1", "2"} & set(keys(store))
    assert len(store._queue) == 0
