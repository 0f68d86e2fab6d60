"""The store contract among processes and threads: killed writers, owners, leases, claims at the same time."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from surefoot_conformance import hosts
from surefoot_conformance.checks.store import refused
from surefoot_conformance.forks import die
from surefoot_conformance.keepers import StoreBench, row
from surefoot_conformance.lab import Latch
from surefoot_conformance.table import Fault, check, equal, expect

_FEWEST: Final = 3
_LOOK: Final = 0.02
_LONG: Final = 40.0
"""Seconds that an owner on another host may count as alive after its last sign of life."""


@check("store", "L2", capability="has_durability", variants=("before commit", "after commit"))
def a_killed_writer_leaves_all_or_nothing(bench: StoreBench) -> None:
    """I3, I17: killed inside a transaction nothing of it is there; killed after it, everything; the storage is sound."""
    from surefoot import Event

    bench.store.run(lambda tx: tx.calls.insert(row(1)))
    bench.store.close()

    def work() -> None:
        store = bench.open()
        with store.transaction() as tx:
            tx.calls.update(row(1, reason="written"))
            tx.records.put("n", "k", 1)
            tx.events.append(Event("run", "t", 1.0))
            if bench.variant == "before commit":
                os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    expect(bench.child(work).killed, "the writer was not killed")
    done = bench.variant == "after commit"
    with bench.open().transaction() as tx:
        equal("the call", tx.calls.get("call_1").reason, "written" if done else "")  # type: ignore[union-attr]
        equal("the record", tx.records.get("n", "k") is not None, done)
        equal("events", len(tx.events.list("run")), int(done))
    if bench.harness.has_oracle:
        equal("what is wrong with it", bench.oracle().sound(), "")


@check("store", "L2", capability="has_statements")
def a_storage_killed_at_any_statement_of_its_making_is_made_again(bench: StoreBench) -> None:
    """I35: killed before each statement that makes or migrates the format, the storage is made by the next one, whole and sound."""
    from surefoot import Event

    def use(folder: Path) -> list[Any]:
        with bench.harness.open(folder).transaction() as tx:
            tx.calls.insert(row(1))
            tx.events.append(Event("run", "t", 1.0))
            tx.leases.take("l", "me")
            tx.counters.reserve("c", 2, None)
            tx.records.put("n", "k", 3)
            return [len(tx.calls.list()), len(tx.events.list("run")), tx.counters.value("c")]

    killed = 0
    while True:
        folder = bench.folder / f"at {killed + 1}"
        folder.mkdir()
        ended = bench.child(partial(bench.harness.migrate, folder, _dies_at(killed + 1)))
        expect(not ended.error, f"{ended.error}: {ended.message}")
        if not ended.killed:
            break
        killed += 1
        after = bench.child(partial(use, folder))
        expect(not after.error, f"killed before statement {killed}, the storage raised {after.error}: {after.message}")
        equal(f"what was written after a kill before statement {killed}", after.value, [1, 1, 2])
        equal(f"what is wrong with it after a kill before statement {killed}", bench.harness.oracle(folder).sound(), "")
    if killed < _FEWEST:
        raise Fault(f"only {killed} statements were seen while the storage was made: the harness does not watch them")


def _dies_at(statement: int) -> Callable[[], None]:
    seen = itertools.count(1)
    return lambda: die() if next(seen) == statement else None


@check("store", "L2", capability="has_sync")
def what_is_committed_is_on_the_disk(bench: StoreBench) -> None:
    """I3: a commit is synced before it is reported; a killed process loses nothing that is not, a power cut does."""
    expect(bench.child(partial(bench.harness.synced, bench.folder)).value is True, "a power cut would lose what was committed")


@check("store", "L2", capability="has_durability")
def every_acknowledged_write_outlives_its_process(bench: StoreBench) -> None:
    """I3: of a process that is killed at a random moment, every write that it reported is there, and the next goes on behind it."""
    for wave in range(5):
        read, write = os.pipe()

        def work(wave: int = wave, write: int = write) -> None:
            store = bench.open()
            for number in range(10_000):
                store.run(lambda tx, n=number: tx.records.put("n", f"{wave}/{n:05}", n))  # type: ignore[misc]
                os.write(write, b"x")

        child = bench.start(work)
        os.close(write)
        seen = 0
        while seen < 20 + wave and (told := os.read(read, 4096)):
            seen += len(told)
        child.kill()
        bench.fair(child)
        expect(seen >= 20 + wave, "the writer ended by itself")
        while more := os.read(read, 4096):
            seen += len(more)
        os.close(read)
        store = bench.open()
        found = store.run(lambda tx, w=wave: tx.records.list("n", prefix=f"{w}/", limit=20_000), write=False)  # type: ignore[misc]
        expect(len(found) >= seen, f"{seen} writes were reported, {len(found)} are there")
        equal("keys without a gap", [record.value for record in found], list(range(len(found))))
        store.close()


@check("store", "L2", capability="has_durability")
def a_dead_owner_is_dead_and_a_stopped_one_is_not(bench: StoreBench) -> None:
    """AS-93: a stopped process is alive, a killed one is dead at once, and no clock is asked."""
    told = bench.folder / "owner"
    ready, hold = Latch(), Latch()

    def work() -> None:
        store = bench.open()
        told.write_text(store.owner())
        ready.open()
        hold.wait()

    child = bench.start(work)
    started = ready.wait()
    if not started:
        bench.fair(child)
    expect(started, "the owner did not start")
    owner = told.read_text()
    store = bench.open()
    equal("alive", [store.alive(owner)], [True])
    child.pause()
    equal("alive while it is stopped", [store.alive(owner)], [True])
    child.kill()
    child.wait()
    equal("alive after SIGKILL", [store.alive(owner)], [False])
    equal("alive: this process, nobody, junk", [store.alive(name) for name in (store.owner(), "", "host:1:x")], [True, False, False])


@check("store", "L3")
def a_counter_never_exceeds_its_limit(bench: StoreBench) -> None:
    """I12: threads that reserve at once get exactly the limit together."""
    got: list[bool] = []
    store = bench.store

    def work() -> None:
        got.extend(store.run(lambda tx: tx.counters.reserve("budget", 1, 33)) for _ in range(10))

    _at_once(work, 8)
    equal("reserved", (got.count(True), bench.store.run(lambda tx: tx.counters.value("budget"))), (33, 33))


def _at_once(work: Callable[[], None], times: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@check("store", "L3", variants=("threads", "tasks"))
def a_transaction_that_raises_takes_no_other_along(bench: StoreBench) -> None:
    """Of transactions asked for at once, which a store may commit together, those that raise have not happened; the others have."""
    raised: list[str] = []
    store = bench.store

    def work(tx: Any, number: int) -> None:
        tx.counters.reserve("c", 1, None)
        tx.records.put("n", f"{number:03}", number)
        if number % 3 == 0:
            raise ZeroDivisionError

    def thread(first: int) -> None:
        for number in range(first, first + 10):
            try:
                store.run(lambda tx, n=number: work(tx, n))  # type: ignore[misc]
            except ZeroDivisionError:
                raised.append("once")

    async def tasks() -> None:
        asked = [store.arun(lambda tx, n=number: work(tx, n)) for number in range(80)]  # type: ignore[misc]
        raised.extend("once" for found in await asyncio.gather(*asked, return_exceptions=True) if isinstance(found, ZeroDivisionError))

    if bench.variant == "tasks":
        asyncio.run(tasks())
    else:
        threads = [threading.Thread(target=thread, args=(10 * number,)) for number in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    equal("raised", len(raised), 27)
    kept = [number for number in range(80) if number % 3]
    equal("counted", bench.store.run(lambda tx: tx.counters.value("c")), len(kept))
    equal("records", [found.value for found in bench.store.run(lambda tx: tx.records.list("n"))], kept)


@check("store", "L3")
def other_threads_see_nothing_of_an_open_transaction(bench: StoreBench) -> None:
    """A reader sees nothing of what a writer in another thread took back."""
    started, seen = threading.Event(), []

    def read() -> None:
        started.set()
        seen.append(bench.store.run(lambda tx: tx.counters.value("c"), write=False))

    reader = threading.Thread(target=read)

    def work(tx: Any) -> None:
        tx.counters.reserve("c", 1, None)
        reader.start()
        started.wait()
        raise ZeroDivisionError

    refused("ZeroDivisionError", lambda: bench.store.run(work), "raising in a transaction")
    reader.join()
    equal("seen", seen, [0])


@check("store", "L3", capability="has_durability")
def processes_that_claim_one_key_have_one_winner(bench: StoreBench) -> None:
    """I6: eight processes claim the same twenty keys at once: each key has one winner, and no other write is lost."""
    ready, go = [Latch() for _ in range(8)], [Latch() for _ in range(8)]

    def work(me: int) -> int:
        store = bench.open()
        ready[me].open()
        go[me].wait()
        won = 0
        for number in range(20):
            try:
                store.run(lambda tx, n=number: tx.calls.insert(row(n)))  # type: ignore[misc]
                won += 1
            except Exception as exc:
                if type(exc).__name__ != "IntegrityError":
                    raise
            store.run(lambda tx: tx.counters.reserve("writes", 1, None))
        return won

    children = [bench.start(lambda me=number: work(me)) for number in range(8)]  # type: ignore[misc]
    started = all(latch.wait() for latch in ready)
    for latch in go:
        latch.open()
    ended = [bench.fair(child) for child in children]
    expect(started, "a process did not start")
    equal("errors", [f"{end.error} {end.message}" for end in ended if end.error or end.killed], [])
    equal("keys won", sum(end.value for end in ended), 20)
    equal("writes counted", bench.open().run(lambda tx: tx.counters.value("writes")), 160)


@check("store", "L3", capability="has_durability")
def a_stale_lease_is_fenced_across_processes(bench: StoreBench) -> None:
    """AS-49: a lease that another process took cannot be released by its old holder, and its epoch is higher."""
    mine = bench.store.run(lambda tx: tx.leases.take("t", bench.store.owner()))
    bench.store.close()
    ended = bench.child(lambda: bench.open().run(lambda tx: tx.leases.take("t", "another").epoch))
    equal("the epoch that the other process got", ended.value, mine.epoch + 1)
    expect(not bench.store.run(lambda tx: tx.leases.release(mine)), "its old holder released it")


@check("store", "L3", capability="has_durability")
def a_forked_child_has_a_store_of_its_own(bench: StoreBench) -> None:
    """AS-92: the child of a process with an open store is another owner, writes, and leaves the parent's store as it was."""
    me = bench.store.owner()
    bench.store.run(lambda tx: tx.counters.reserve("c", 1, None))

    def work() -> str:
        bench.store.run(lambda tx: tx.counters.reserve("c", 1, None))
        return bench.store.owner()

    ended = bench.child(work)
    expect(not ended.error, f"the child raised {ended.error}: {ended.message}")
    expect(ended.value != me, "parent and child are one owner")
    equal("the counter", bench.store.run(lambda tx: tx.counters.value("c")), 2)
    equal("alive: the parent, the ended child", [bench.store.alive(me), bench.store.alive(str(ended.value))], [True, False])


@check("store", "L4", capability="has_hosts")
def a_lease_is_taken_over_from_another_host(bench: StoreBench) -> None:
    """I9, I10: an owner counts as alive on another host until it shows no sign of life for a TTL; what is taken from it stays taken."""
    told = bench.folder / "owner"

    def first() -> Any:
        hosts.play(bench.folder / "first")
        store = bench.open()
        lease = store.run(lambda tx: tx.leases.take("t", store.owner()))
        told.write_text(lease.owner)
        hosts.stop()
        return store.run(lambda tx: tx.leases.release(lease))

    def second() -> Any:
        hosts.play(bench.folder / "second")
        store, begun = bench.open(), time.monotonic()
        seen = [store.alive(told.read_text())]
        while seen[-1] and time.monotonic() - begun < _LONG:
            time.sleep(_LOOK)
            seen.append(store.alive(told.read_text()))
        return [seen[0], seen[-1], store.run(lambda tx: tx.leases.take("t", store.owner()).epoch)]

    with hosts.stopped(bench.start(first)) as child:
        equal("alive at first, alive in the end, the new epoch", bench.child(second).value, [True, False, 2])
        child.go_on()
        expect(not bench.fair(child).value, "the first host released what is not its own any more")
