"""The PostgreSQL store: what the server, the network and other hosts may do to it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pg_direct import server
from proxy import Proxy
from sweeps.postgres_server import Server, binaries

from surefoot import Event, LeaseLost, StoreUnavailable, UsageError
from surefoot.contracts import Transaction
from surefoot_stores import PostgresStore
from surefoot_stores.postgres import pending, schema, session, tables

psycopg = pytest.importorskip("psycopg")


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    """Yield a store whose tables are there."""
    made = PostgresStore(postgres_url)
    made.run(lambda tx: tx.records.get("n", "k"))
    yield made
    made.close()


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    """Yield a proxy before the server."""
    with Proxy(postgres_url) as made:
        yield made


def put(key: str, value: Any = 1) -> Callable[[Transaction], Any]:
    """Return a work that writes a record under ``key``."""
    return lambda tx: tx.records.put("n", key, value)


def keys(url: str) -> list[str]:
    """Return the keys of the records, as another process sees them."""
    other = PostgresStore(url)
    found = other.run(lambda tx: [record.key for record in tx.records.list("n")], write=False)
    other.close()
    return found


def end_backends(url: str, store: PostgresStore) -> int:
    """End the server's processes that serve a store; return how many there were."""
    held = [part for part in (store._session, store._presence._session) if part is not None]
    with server(url) as db:
        return sum(db.execute("SELECT pg_terminate_backend(%s, 5000)", (part.db.info.backend_pid,)).fetchone()[0] for part in held)


# --- the commit that nobody answered


def test_as_75_a_commit_without_an_answer_that_happened_is_told_as_done(proxy: Proxy, postgres_url: str) -> None:
    """I3: a connection lost after COMMIT reached the server: the server is asked, says that it was committed, and it is done once."""
    store = PostgresStore(proxy.url)
    store.run(put("before"))
    proxy.lose = (b"COMMIT", True)
    store.run(lambda tx: tx.counters.reserve("c", 1, None))
    assert proxy.lost == 1
    assert store.run(lambda tx: tx.counters.value("c"), write=False) == 1
    store.close()


def test_as_75_a_commit_that_never_arrived_has_not_happened(proxy: Proxy, postgres_url: str) -> None:
    """A connection lost before COMMIT reached the server: the server is asked, and StoreUnavailable says that it was undone."""
    store = PostgresStore(proxy.url)
    store.run(put("before"))
    proxy.lose = (b"COMMIT", False)
    with pytest.raises(StoreUnavailable, match="it was undone"):
        store.run(put("lost"))
    assert proxy.lost == 1
    assert keys(postgres_url) == ["before"]
    store.run(put("after"))
    store.close()


def test_a_commit_that_nobody_can_know_of_is_not_told_as_done(proxy: Proxy, postgres_url: str) -> None:
    """A server that does not come back after COMMIT leaves it unknown, and that is what StoreUnavailable says."""
    store = PostgresStore(f"{proxy.url}&surefoot_wait=0.2")
    store.run(put("before"))
    proxy.lose = (b"COMMIT", True)
    connect = store._connect

    def away() -> Any:
        proxy.cut()
        return connect()

    store._connect = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="it is unknown whether it was committed"):
        store.run(put("done"))
    assert keys(postgres_url) == ["before", "done"]
    store._connect = connect  # type: ignore[method-assign]
    proxy.heal()
    store.run(put("after"))
    store.close()


def test_after_a_crash_no_number_of_a_transaction_is_believed() -> None:
    """A server that died gives the number of a lost transaction to another one: what became of the first is unknown, not committed."""
    found = binaries()
    if found is None:
        pytest.skip("there is no initdb to make a server of the test's own with")
    with Server(found) as server:
        store, other = PostgresStore(server.url), PostgresStore(server.url)
        store.run(put("before"))
        open_ones = [psycopg.connect(server.url) for _ in range(5)]  # numbers that the server gives again, to whoever comes first
        for connection in open_ones:
            connection.execute("SELECT pg_current_xact_id()")

        def lost(_tx: Transaction) -> None:
            assert store._session is not None
            server.kill()
            server.start()
            given = [transaction_of(other, f"other {number}") for number in range(10)]
            assert store._session.xid in given, "the server did not give the number again; this tests nothing"

        with pytest.raises(StoreUnavailable, match="it is unknown whether it was committed"):
            store.run(lost)
        store.run(put("after"))
        assert "after" in keys(server.url)
        for closing in (store, other, *open_ones):
            closing.close()


def transaction_of(store: PostgresStore, key: str) -> str:
    """Write a record; return the server's number of the transaction."""
    store.run(put(key))
    assert store._session is not None
    return store._session.xid


def test_within_one_life_of_the_server_a_commit_is_known_of(postgres_url: str) -> None:
    """Connections of one life of the server know each other's transactions, a new connection after the old one was lost too."""
    first, second = PostgresStore(postgres_url), PostgresStore(postgres_url)
    xid = transaction_of(first, "a")
    transaction_of(second, "b")
    assert first._session is not None
    assert second._session is not None
    assert first._session.life == second._session.life != ""
    assert second._session.fate(xid, first._session.life) is True
    assert second._session.fate(xid, "another") is None
    first.close()
    second.close()


# --- reconnecting


def test_as_75_ended_backends_are_not_noticed_between_transactions(postgres_url: str, store: PostgresStore) -> None:
    """Backends that were ended while nothing was under way are replaced; no transaction is lost or done twice."""
    store.owner()
    for number in range(5):
        store.run(lambda tx: tx.counters.reserve("c", 1, None))
        assert end_backends(postgres_url, store) == 2, number
        with pytest.raises(psycopg.OperationalError):
            store._presence.beat()
        store._presence.beat()
    assert store.run(lambda tx: tx.counters.value("c"), write=False) == 5


def test_as_75_a_backend_ended_inside_a_transaction_undoes_it(postgres_url: str, store: PostgresStore) -> None:
    """A transaction whose backend ends has not happened, and the next one works."""

    def work(tx: Transaction) -> None:
        tx.counters.reserve("c", 1, None)
        end_backends(postgres_url, store)
        tx.counters.value("another")

    with pytest.raises(StoreUnavailable):
        store.run(work)
    assert store.run(lambda tx: tx.counters.value("c"), write=False) == 0


def test_i34_a_store_that_cannot_be_reached_says_so_and_works_again(proxy: Proxy) -> None:
    """While the network is cut every transaction raises StoreUnavailable in the time given; after it heals they work."""
    store = PostgresStore(f"{proxy.url}&surefoot_wait=0.1")
    store.run(put("before"))
    proxy.cut()
    with pytest.raises(StoreUnavailable, match="can be reached"):
        store.run(put("meanwhile"))
    proxy.heal()
    store.run(put("after"))
    assert [record.key for record in store.run(lambda tx: tx.records.list("n"))] == ["after", "before"]
    store.close()


def test_i34_a_network_that_swallows_everything_is_noticed(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose answers never come counts as lost after its time, and not never."""
    store = PostgresStore(f"{proxy.url}&surefoot_wait=0")
    store.run(put("before"))
    monkeypatch.setattr(session, "_SECONDS", 0.1)
    monkeypatch.setattr(session, "_MARGIN", 0.2)
    proxy.stall()
    with pytest.raises(StoreUnavailable):
        store.run(put("swallowed"))
    proxy.heal()
    monkeypatch.undo()
    assert "before" in [record.key for record in store.run(lambda tx: tx.records.list("n"))]
    store.close()


@pytest.mark.parametrize("url", ["postgresql://nobody-here@127.0.0.1:1/x", "postgresql://127.0.0.1:1/x?surefoot_wait=60"])
def test_a_server_that_was_never_there_is_one_clear_error_at_once(url: str) -> None:
    """The first connection is not waited for, and the error names the server without a password."""
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/x"):
        PostgresStore(url).run(put("k"))


def test_i23_no_error_shows_the_password(postgres_url: str) -> None:
    """The password of the URL stands in no error."""
    with pytest.raises(StoreUnavailable) as caught:
        PostgresStore("postgresql://me:open-sesame@127.0.0.1:1/x").run(put("k"))
    assert "open-sesame" not in f"{caught.value} {caught.value.__cause__}"
    assert "open-sesame" not in PostgresStore("postgresql://me:open-sesame@127.0.0.1:1/x").url


@pytest.mark.parametrize("option", ["surefoot_ttl=soon", "surefoot_ttl=0", "surefoot_schema=", "surefoot_colour=1", "surefoot_wait=-1"])
def test_a_url_with_an_option_that_cannot_work_is_refused(option: str) -> None:
    """Options of the URL are checked at once."""
    with pytest.raises(UsageError, match="surefoot_ttl"):
        PostgresStore(f"postgresql://127.0.0.1/test?{option}")


# --- taking turns


def test_as_93_a_process_stopped_in_a_transaction_does_not_stop_the_others(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has the turn to write and does nothing loses it: the server ends its transaction, which has not happened."""
    monkeypatch.setattr(session, "_IDLE", 0.2)
    stopped, other = PostgresStore(postgres_url), PostgresStore(postgres_url)
    other.run(put("before"))

    def work(tx: Transaction) -> None:
        tx.records.put("n", "stopped", 1)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(other.run, put("other")).result(10)

    with pytest.raises(StoreUnavailable):
        stopped.run(work)
    assert keys(postgres_url) == ["before", "other"]
    stopped.close()
    other.close()


def test_what_others_wrote_is_read_anew(postgres_url: str, store: PostgresStore) -> None:
    """What a process remembers of a row counts only until somebody else writes."""
    other = PostgresStore(postgres_url)
    for number in range(3):
        store.run(lambda tx: tx.counters.reserve("c", 1, None))
        assert other.run(lambda tx: tx.counters.value("c"), write=False) == 2 * number + 1
        other.run(lambda tx: tx.counters.reserve("c", 1, None))
        assert store.run(lambda tx: tx.counters.value("c"), write=False) == 2 * number + 2
    other.close()


def test_what_a_reading_transaction_saw_is_not_believed_after_it(postgres_url: str, store: PostgresStore) -> None:
    """A read beside an open transaction of another process sees the state before it, and does not remember that for later."""
    other = PostgresStore(postgres_url)
    with other.transaction() as tx:
        tx.counters.reserve("c", 1, None)
        other._tables.flush()
        assert store.run(lambda tx: tx.counters.value("c"), write=False) == 0
    assert store.run(lambda tx: tx.counters.value("c"), write=False) == 1
    assert store.run(lambda tx: tx.counters.reserve("c", 1, 1)) is False
    other.close()


async def test_of_tasks_that_share_a_commit_the_one_that_raises_is_undone_alone(store: PostgresStore) -> None:
    """Each job is undone by itself, whether what it wrote was sent already or not, and so that the others see nothing of it."""
    said: list[list[str]] = []

    def broken(tx: Transaction, *, sent: bool) -> None:
        tx.records.put("n", f"broken {sent}", 1)
        tx.events.append(Event("run", "broken", 1.0))
        if sent:
            said.append([record.key for record in tx.records.list("n")])
        tx.records.put("n", "also", 1, version=7)

    works = [put("a"), lambda tx: broken(tx, sent=True), put("b"), lambda tx: broken(tx, sent=False), put("c")]
    with store._lock:
        results = asyncio.gather(*(store.arun(work) for work in works), return_exceptions=True)
        await asyncio.sleep(0.01)
    errors = [type(result) for result in await results if isinstance(result, Exception)]
    assert errors == [LeaseLost, LeaseLost]
    assert said == [["a", "broken True"]]
    assert [record.key for record in store.run(lambda tx: tx.records.list("n"))] == ["a", "b", "c"]
    assert store.run(lambda tx: tx.events.list("run")) == []


async def test_tasks_of_one_round_share_a_commit(postgres_url: str, store: PostgresStore) -> None:
    """64 tasks that write at the same time make two commits at most, each with its own answer."""
    with server(postgres_url) as db:
        before = db.execute("SELECT last_value FROM turns").fetchone()[0]
        answers = await asyncio.gather(*(store.arun(put(f"{n:02}")) for n in range(64)))
        after = db.execute("SELECT last_value FROM turns").fetchone()[0]
    assert [record.key for record in answers] == [f"{n:02}" for n in range(64)]
    assert after - before <= 2


# --- forks


def test_as_92_a_forked_child_leaves_its_parents_connection_alone(store: PostgresStore, postgres_url: str) -> None:
    """The child of a process with an open store writes on a connection of its own, and its end does not end the parent's."""
    me = store.owner()
    backend = store._session.db.info.backend_pid  # type: ignore[union-attr]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            store.run(put("child"))
            code = 0 if store.owner() != me and store.alive(me) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    store.run(put("parent"))
    assert store._session.db.info.backend_pid == backend  # type: ignore[union-attr]
    assert keys(postgres_url) == ["child", "parent"]


def test_as_92_a_fork_inside_a_transaction_leaves_it_to_the_parent(store: PostgresStore) -> None:
    """The child of a fork inside a transaction cannot commit it nor use the store; the parent commits it."""
    pid, refused = -1, 0
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


# --- the schema


def test_i35_a_newer_schema_is_refused(postgres_url: str, store: PostgresStore) -> None:
    """Tables of a newer surefoot are refused with what to do, and not changed."""
    with server(postgres_url) as db:
        db.execute("UPDATE meta SET version = %s", (len(schema.MIGRATIONS) + 1,))
    with pytest.raises(StoreUnavailable, match="upgrade surefoot"):
        PostgresStore(postgres_url).run(put("k"))
    with server(postgres_url) as db:
        assert db.execute("SELECT count(*) FROM records").fetchone() == (0,)


def test_i35_processes_that_make_one_store_at_once_all_get_it(postgres_url: str) -> None:
    """Four stores that are opened at the same moment where there are no tables make them once."""
    stores = [PostgresStore(postgres_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.run(lambda tx: tx.counters.reserve("c", 1, None)), stores))
    assert stores[0].run(lambda tx: tx.counters.value("c")) == 4
    for one in stores:
        one.close()


def test_what_every_call_sends_looks_rows_up_by_an_index(store: PostgresStore) -> None:
    """No statement of a call reads a whole table, however little the planner knows of it: its cost does not grow with the ledger."""
    with store.transaction() as tx:
        assert isinstance(tx, tables.Tables)
        for query, values in (
            (pending._CHANGE, ("[]",)),
            (pending._DROP, ("[]",)),
            (tables._UNDER, ("s", "p", "s", "p/", "p0", None, None, None, None)),
            (tables._CALLS + "WHERE call_id = %s", ("c",)),
            (tables._EVENTS, ("r", 0, 9)),
        ):
            plan = " ".join(line for (line,) in tx.session.rows(f"EXPLAIN {query}", *values))
            assert "Index" in plan
            assert "Seq Scan" not in plan, plan


def test_what_postgres_cannot_keep_is_refused(store: PostgresStore) -> None:
    """A lone surrogate, an integer of more than 64 bits and a name that no index takes raise UsageError; nothing is written."""
    noise = "".join(chr(0x100 + (n * 7919) % 9000) for n in range(6000))
    for work in (
        lambda tx: tx.leases.take("\ud800", "me"),
        lambda tx: tx.counters.reserve("c", 2**63, None),
        lambda tx: tx.records.put("n", noise, 1),
    ):
        with pytest.raises(UsageError):
            store.run(work)
    assert store.run(lambda tx: tx.counters.value("c")) == 0


def test_without_its_driver_the_store_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where psycopg is missing, the error names the extra."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"surefoot\[postgres\]"):
        PostgresStore("postgresql://127.0.0.1/test")


def test_i2_a_commit_is_synchronous_whatever_the_server_is_set_to(postgres_url: str) -> None:
    """Where the database's own setting would lose a confirmed commit in a power cut, the store's connection says otherwise."""
    place = session.Place.of(postgres_url)
    with server(postgres_url) as db:
        name = db.info.dbname
        assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)
    loose = PostgresStore(f"{postgres_url}&options=-c%20synchronous_commit%3Doff")
    loose.run(put("k"))
    assert loose._session is not None
    assert loose._session.rows("SHOW synchronous_commit") == [("on",)], (name, place.name)
    loose.close()
