"""The store contract, over every store that comes with surefoot."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from surefoot import CallRecord, CallState, Checkpoint, Effect, Event, IntegrityError, LeaseLost, Store, UsageError
from surefoot.contracts import Transaction
from surefoot.engine.events import verify
from surefoot_stores import EncryptedStore, MemoryStore, PostgresStore, SqliteStore

HOSTILE = ["", "a'b", '" OR 1=1 --', "'); DROP TABLE calls; --", "$.x') = 1 --", "é\u0301😀", "a\x00b", "%_", "a" * 5000]


KEY = b"k" * 32


@pytest.fixture(params=["memory", "sqlite", "postgres", "encrypted memory", "encrypted sqlite", "encrypted postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each store, new and empty."""
    made: Store
    match request.param.removeprefix("encrypted "):
        case "memory":
            made = MemoryStore()
        case "sqlite":
            made = SqliteStore(f"sqlite:///{tmp_path}/s.db")
        case _:
            made = PostgresStore(request.getfixturevalue("postgres_url"))
    if request.param.startswith("encrypted"):
        made = EncryptedStore(made, key=KEY)
    yield made
    made.close()


def row(number: int, **changes: Any) -> CallRecord:
    """Return a call with everything filled in."""
    record = CallRecord(
        f"call_{number}", f"key{number}", "acme", "thread", "run", "scope", "a#1", "pay", "digest", '{"n":1}',
        Effect.UNSAFE, CallState.INTENT, (7 << 32) + number, (7 << 32) + number, "owner", created=float(number),
    )  # fmt: skip
    return record.changed(**changes)


def test_a_call_comes_back_as_it_was_written(store: Store) -> None:
    """Every field of a row survives insert and update, and the update counts the version up."""
    record = row(
        1,
        sticky=True,
        entered=False,
        value='"v"',
        error="{}",
        reason="why",
        settled_by="probe",
        alias="id",
        occurrence="2@x",
        interrupts=(0, -1),
    )
    with store.transaction() as tx:
        tx.calls.insert(record)
    with store.transaction() as tx:
        assert tx.calls.get("call_1") == record
        assert tx.calls.get("call_2") is None
        tx.calls.update(record.changed(state=CallState.COMMITTED, sticky=False, value=None, interrupts=(1,)))
    with store.transaction(write=False) as tx:
        assert tx.calls.get("call_1") == record.changed(state=CallState.COMMITTED, sticky=False, value=None, interrupts=(1,), version=1)


@pytest.mark.parametrize("text", HOSTILE)
def test_i25_hostile_strings_are_only_strings(store: Store, text: str) -> None:
    """Whatever a key, name or value contains, it is stored, found and returned as it is, and finds nothing else."""
    with store.transaction() as tx:
        tx.calls.insert(row(1))
        tx.calls.insert(row(2, call_id=f"c{text}", tool=f"t{text}", run_id=f"r{text}", scope=f"s{text}", value=text, sticky=True))
        tx.records.put(text, text, {text: text})
        tx.counters.reserve(text, 2, None)
        tx.events.append(Event(f"r{text}", "t", 1.0, {"v": text}))
    with store.transaction(write=False) as tx:
        assert [r.call_id for r in tx.calls.list(run_id=f"r{text}")] == [f"c{text}"]
        assert [r.value for r in tx.calls.under(f"s{text}", "a#1", tool=f"t{text}")] == [text]
        found = tx.records.get(text, text)
        assert found is not None
        assert found.value == {text: text}
        assert tx.counters.value(text) == 2
        assert [e.data for e in tx.events.list(f"r{text}")] == [{"v": text}]


def test_inserting_twice_is_refused(store: Store) -> None:
    """A second row with the same id raises IntegrityError and changes nothing."""
    with store.transaction() as tx:
        tx.calls.insert(row(1))
    with pytest.raises(IntegrityError), store.transaction() as tx:
        tx.calls.insert(row(1, value='"other"'))
    with store.transaction() as tx:
        assert tx.calls.get("call_1") == row(1)


def test_an_update_is_compare_and_set(store: Store) -> None:
    """Only the holder of the newest version can update a row."""
    with store.transaction() as tx:
        tx.calls.insert(row(1))
        tx.calls.update(row(1, reason="first"))
    with pytest.raises(LeaseLost), store.transaction() as tx:
        tx.calls.update(row(1, reason="second"))
    with pytest.raises(LeaseLost), store.transaction() as tx:
        tx.calls.update(row(2))


def test_a_raising_transaction_has_not_happened(store: Store) -> None:
    """Nothing of a transaction that raises is there afterwards, in any table."""
    with store.transaction() as tx:
        tx.calls.insert(row(1))
        tx.records.put("n", "k", 1)
        tx.leases.take("l", "me")
        tx.counters.reserve("c", 1, None)
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:
        tx.calls.insert(row(2))
        tx.calls.update(row(1, state=CallState.COMMITTED, sticky=True))
        tx.records.put("n", "k", 2)
        tx.records.put("n", "k2", 2)
        tx.records.delete("n", "k")
        tx.leases.take("l", "you")
        tx.counters.reserve("c", 5, None)
        tx.events.append(Event("run", "t", 1.0))
        tx.checkpoints.append(Checkpoint("run", "a#1", "", 1, 1, "d", None, "null"))
        _ = 1 / 0
    with store.transaction() as tx:
        assert tx.calls.get("call_2") is None
        assert tx.calls.get("call_1") == row(1)
        assert list(tx.calls.unsettled("run")) == [row(1)]
        assert tx.calls.sticky("acme", "thread", "pay", "digest") == [] or not tx.calls.sticky("acme", "thread", "pay", "digest")
        assert [r.value for r in tx.records.list("n")] == [1]
        lease = tx.leases.get("l")
        assert lease is not None
        assert (lease.owner, lease.epoch) == ("me", 1)
        assert tx.counters.value("c") == 1
        assert not tx.events.list("run")
        assert not tx.checkpoints.list("run")


def test_a_path_has_below_it_only_what_is_below_it(store: Store) -> None:
    """``a#1`` covers itself and ``a#1/…``, never ``a#10``, ``a#1x`` or another slot space."""
    paths = ["a#1", "a#1/b#1", "a#1/b#1/c#2", "a#10", "a#1x", "a#1[x]", "a#", "b#1"]
    with store.transaction() as tx:
        for number, path in enumerate(paths):
            tx.calls.insert(row(number, path=path, tool="x" if number % 2 else "pay"))
        tx.calls.insert(row(99, scope="other"))
        assert [r.path for r in tx.calls.under("scope", "a#1")] == paths[:3]
        assert [r.path for r in tx.calls.under("scope", "a#1", tool="x")] == ["a#1/b#1"]
        assert [r.path for r in tx.calls.under("scope", "a#1", before=(7 << 32) + 1)] == ["a#1"]
        assert tx.calls.touches("scope", "a#1/b#1/c#2")
        assert not tx.calls.touches("scope", "a#1/b#2")
        assert not tx.calls.touches("nowhere", "a#1")


def test_unsettled_calls_of_a_run_and_of_its_fork(store: Store) -> None:
    """A run's open calls are its own: not those of a run that was forked from it, whose slots are among its own."""
    with store.transaction() as tx:
        tx.calls.insert(row(1, run_id="origin", scope="origin"))
        tx.calls.insert(row(2, run_id="fork", scope="origin"))
    with store.transaction(write=False) as tx:
        assert [found.call_id for found in tx.calls.unsettled("origin")] == ["call_1"]
        assert [found.call_id for found in tx.calls.unsettled("fork")] == ["call_2"]


def test_sticky_and_unsettled_follow_the_row(store: Store) -> None:
    """A row is found as sticky or unsettled exactly while it is, oldest first."""
    with store.transaction() as tx:
        tx.calls.insert(row(1, sticky=True, state=CallState.IN_DOUBT))
        tx.calls.insert(row(2, sticky=True))
        tx.calls.insert(row(3, sticky=True, tenant="other"))
        assert [r.call_id for r in tx.calls.sticky("acme", "thread", "pay", "digest")] == ["call_1", "call_2"]
        assert [r.call_id for r in tx.calls.unsettled("run")] == ["call_1", "call_2", "call_3"]
        tx.calls.update(row(1, sticky=False, state=CallState.COMMITTED))
        assert [r.call_id for r in tx.calls.sticky("acme", "thread", "pay", "digest")] == ["call_2"]
        assert [r.call_id for r in tx.calls.unsettled("run")] == ["call_2", "call_3"]


def test_calls_are_listed_in_pages_and_by_state(store: Store) -> None:
    """Listing is in order of creation, filtered, and can be continued after any call."""
    with store.transaction() as tx:
        for number in range(5):
            tx.calls.insert(row(number, state=CallState.COMMITTED if number % 2 else CallState.INTENT))
        assert [r.call_id for r in tx.calls.list(limit=2)] == ["call_0", "call_1"]
        assert [r.call_id for r in tx.calls.list(after="call_1", limit=2)] == ["call_2", "call_3"]
        assert [r.call_id for r in tx.calls.list(state=CallState.COMMITTED)] == ["call_1", "call_3"]
        assert not tx.calls.list(after="call_4")


def test_checkpoints_are_numbered_in_their_run(store: Store) -> None:
    """Checkpoints count from 1 in each run, and are found by their exact path."""
    with store.transaction() as tx:
        for run in ("r1", "r2"):
            for path in ("a#1", "a#10"):
                tx.checkpoints.append(Checkpoint(run, path, "b", 1, 2, "d", '"o"', "null", 3, 4.0))
        assert [(c.path, c.seq) for c in tx.checkpoints.list("r1")] == [("a#1", 1), ("a#10", 2)]
        assert tx.checkpoints.at("r2", "a#1") == [Checkpoint("r2", "a#1", "b", 1, 2, "d", '"o"', "null", 3, 4.0, 1)] or list(
            tx.checkpoints.at("r2", "a#1")
        ) == [Checkpoint("r2", "a#1", "b", 1, 2, "d", '"o"', "null", 3, 4.0, 1)]
        assert [c.seq for c in tx.checkpoints.list("r1", after=1)] == [2]


def test_i21_events_are_chained(store: Store) -> None:
    """The log of a run is one hash chain; a changed, missing or reordered event is found at its position."""
    with store.transaction() as tx:
        for number in range(4):
            tx.events.append(Event("run", "t", 1.0, {"n": number}, "a#1", "call"))
        events = list(tx.events.list("run"))
    assert [e.seq for e in events] == [1, 2, 3, 4]
    assert verify(events) is None
    changed = [*events[:2], Event(**{**_fields(events[2]), "data": {"n": 9}}), events[3]]
    assert verify(changed) == 3
    assert verify([events[0], events[2]]) == 3
    assert verify([events[1], events[0]]) == 2


def _fields(event: Event) -> dict[str, Any]:
    return vars(event)


def test_leases_count_epochs(store: Store) -> None:
    """Taking a lease always gives a higher epoch, and only its holder can release it."""
    with store.transaction() as tx:
        mine = tx.leases.take("t", "me")
        yours = tx.leases.take("t", "you")
        assert (mine.epoch, yours.epoch, yours.held) == (1, 2, True)
        assert not tx.leases.release(mine)
        assert tx.leases.release(yours)
        assert tx.leases.get("t") == yours.__class__("t", "you", 2, held=False)
        assert tx.leases.get("other") is None


def test_records_are_compare_and_set(store: Store) -> None:
    """A record is written only over the version that the writer saw; keys are listed in order by prefix."""
    with store.transaction() as tx:
        assert tx.records.put("n", "a/1", {"v": 1}, version=0).version == 1
        assert tx.records.put("n", "a/1", {"v": 2}, version=1).version == 2
        tx.records.put("n", "a/2", None)
        tx.records.put("n", "b", [])
        tx.records.put("other", "a/3", 0)
        assert [r.key for r in tx.records.list("n", prefix="a/")] == ["a/1", "a/2"]
        assert [r.key for r in tx.records.list("n", after="a/1")] == ["a/2", "b"]
    for version in (0, 1, 3):
        with pytest.raises(LeaseLost), store.transaction() as tx:
            tx.records.put("n", "a/1", 9, version=version)


def test_i12_a_counter_never_exceeds_its_limit(store: Store) -> None:
    """Eight threads that reserve at once get exactly the limit together."""
    got: list[bool] = []

    def work() -> None:
        got.extend(store.run(lambda tx: tx.counters.reserve("budget", 1, 33)) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(True) == 33
    assert store.run(lambda tx: tx.counters.value("budget"), write=False) == 33


def test_an_owner_is_alive_in_its_own_process(store: Store) -> None:
    """A store's owner id is stable in one process and alive."""
    assert store.owner() == store.owner()
    assert store.alive(store.owner())
    assert str(os.getpid()) in store.owner()


def test_calls_are_in_the_order_of_their_creation_whatever_the_clock_says(store: Store) -> None:
    """A clock that is set back, or a call that came and went, does not change which call is the oldest (I10)."""
    with store.transaction() as tx:
        tx.calls.insert(row(1, created=5.0, sticky=True))
        tx.calls.insert(row(2, created=4.0, sticky=True))
        left = tx.calls.update(row(1, created=5.0, sticky=False, state=CallState.COMMITTED))
        tx.calls.update(left.changed(sticky=True, state=CallState.IN_DOUBT))
        for found in (tx.calls.sticky("acme", "thread", "pay", "digest"), tx.calls.unsettled("run"), tx.calls.under("scope", "a#1")):
            assert [r.call_id for r in found] == ["call_1", "call_2"]


def test_transactions_do_not_nest(store: Store) -> None:
    """A second transaction in the same thread is refused, and the first is still undone when it raises."""

    def work(tx: Transaction) -> None:
        tx.counters.reserve("c", 1, None)
        with pytest.raises(UsageError):
            store.run(lambda inner: inner.counters.value("c"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.run(work)
    assert store.run(lambda tx: tx.counters.value("c"), write=False) == 0


def test_a_reading_transaction_cannot_write(store: Store) -> None:
    """Writing in a transaction opened with ``write=False`` is refused."""
    with pytest.raises(UsageError):
        store.run(lambda tx: tx.counters.reserve("c", 1, None), write=False)
    assert store.run(lambda tx: tx.counters.value("c")) == 0


def test_an_error_of_the_work_itself_is_passed_on(store: Store) -> None:
    """An OSError that the work raises is not taken for a failure of the store."""

    def work(tx: Transaction) -> None:
        raise ConnectionResetError("not the store's")

    with pytest.raises(ConnectionResetError):
        store.run(work)


def test_other_threads_see_nothing_of_an_open_transaction(store: Store) -> None:
    """A reader in another thread waits for the writer, and sees nothing of what that one took back."""
    started = threading.Event()
    seen: list[int] = []

    def read() -> None:
        started.set()
        seen.append(store.run(lambda tx: tx.counters.value("c"), write=False))

    reader = threading.Thread(target=read)

    def work(tx: Transaction) -> None:
        tx.counters.reserve("c", 1, None)
        reader.start()
        started.wait()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.run(work)
    reader.join()
    assert seen == [0]


def test_a_stored_value_is_nobodys_to_change(store: Store) -> None:
    """Changing what was put, or what was got, does not change what is stored."""
    value = {"calls": ["a"]}
    store.run(lambda tx: tx.records.put("n", "k", value))
    value["calls"].append("b")
    got = store.run(lambda tx: tx.records.get("n", "k"))
    assert got is not None
    got.value["calls"].append("c")
    again = store.run(lambda tx: tx.records.get("n", "k"))
    assert again is not None
    assert again.value == {"calls": ["a"]}


@pytest.mark.parametrize("prefix", HOSTILE)
def test_i25_a_prefix_is_only_a_prefix(store: Store, prefix: str) -> None:
    """Listing by prefix finds the keys that start with it, whatever characters it has."""
    keys = sorted([f"{prefix}/1", f"{prefix}/2", f"x{prefix}/3"])
    with store.transaction() as tx:
        for key in keys:
            tx.records.put("n", key, None)
        assert [r.key for r in tx.records.list("n", prefix=f"{prefix}/")] == [key for key in keys if key.startswith(f"{prefix}/")]


def test_i21_a_whole_number_as_time_keeps_the_chain(store: Store) -> None:
    """An event whose time was given as an int, or whose schema is not 1, verifies when it is read back."""
    with store.transaction() as tx:
        tx.events.append(Event("run", "t", 1, schema=2))
        events = tx.events.list("run")
    assert [event.schema for event in events] == [2]
    assert verify(events) is None


def test_a_reason_may_quote_what_is_not_unicode(store: Store) -> None:
    """A reason with a file name that is not Unicode is stored in a readable form, so that no outcome is lost to it."""
    reason = f"FileNotFoundError: {os.fsdecode(bytes([0x63, 0xE9]))}"
    with store.transaction() as tx:
        tx.calls.insert(row(1))
        tx.calls.update(row(1, reason=reason))
        stored = tx.calls.get("call_1")
    assert stored is not None
    assert stored.reason.startswith("FileNotFoundError: c")


def test_an_owner_that_never_was_is_not_alive(store: Store) -> None:
    """An id that no process of the store can have is nobody's."""
    assert [store.alive(owner) for owner in ("", "somebody", "host:1:²", f"host:1:{2**70}")] == [False] * 4
