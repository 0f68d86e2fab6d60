"""Retention: what goes, when, and what never does."""

from __future__ import annotations

import base64
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from crash import Effects, killed_before

import surefoot
from surefoot import CallState, Guard, NotCommitted, ResultUnavailable, ToolRule, UsageError
from surefoot.contracts import Transaction
from surefoot_cli.audit import problem_of
from surefoot_stores import SqliteStore
from surefoot_stores.retention import Pruned, Retention, prune

DAY = 86_400.0
START = 1_000_000.0
AGES = Retention(payload_ttl=10 * DAY, dedup_ttl=100 * DAY, max_run_age=50 * DAY)
SOON, LATER, MUCH_LATER = START + 5 * DAY, START + 80 * DAY, START + 200 * DAY


class Shop:
    """An agent whose effects are counted in a file, over one store, at a time that the test says."""

    def __init__(self, url: str, folder: Path) -> None:
        self.effects = Effects(folder / "effects")
        self.guard = Guard(
            url,
            tools={"order": ToolRule("unsafe", key=["number"]), "pay": ToolRule("unsafe"), "broken": ToolRule("unsafe")},
            reads=["look"],
        )
        self.store = self.guard.store
        self.at(START)

        @surefoot.tool()
        def pay(what: str) -> str:
            self.effects.add("pay", what)
            return f"paid {what} " + "." * 40_000

        @surefoot.tool()
        def order(number: int) -> str:
            self.effects.add("order", number)
            return f"ordered {number}"

        @surefoot.tool()
        def look(what: str) -> str:
            return f"seen {what}"

        @surefoot.tool()
        def refused(what: str) -> str:
            raise NotCommitted(what)

        @surefoot.tool()
        def broken(what: str) -> str:
            raise KeyboardInterrupt(what)

        self.pay, self.order, self.look, self.refused, self.broken = pay, order, look, refused, broken

    def at(self, now: float) -> None:
        """Let it be that time."""
        self.guard.clock = lambda: now

    def work(self, name: str, *tools: Callable[[], Any], raises: bool = False) -> list[Any]:
        """Call tools in a run; one that raises leaves it open."""

        def steps(what: str) -> list[Any]:
            answers = [tool() for tool in tools]
            if raises:
                raise RuntimeError(what)
            return answers

        with surefoot.run(name):
            return surefoot.wrap(steps, guard=self.guard)(name)

    def crash(self, name: str, *tools: Callable[[], Any]) -> None:
        """Call tools in a run that does not end."""
        with pytest.raises(RuntimeError):
            self.work(name, *tools, raises=True)

    def prune(self, now: float) -> Pruned:
        """Prune at that time."""
        return prune(self.store, AGES, now)

    def states(self) -> dict[str, CallState]:
        """Return the state of each call by its tool."""
        return {call.tool: call.state for call in self.guard.calls.list(limit=1000)}

    def rows(self) -> dict[str, list[Any]]:
        """Return everything that a run is made of, as it is stored."""

        def look(tx: Any) -> dict[str, list[Any]]:
            orders = {"calls": "call_id", "checkpoints": "run_id, seq", "events": "run_id, seq", "records": "namespace, key"}
            return {table: tx.read(f"SELECT * FROM {table} ORDER BY {order}") for table, order in orders.items()}  # noqa: S608 - constants

        return getattr(self.store, "store", self.store).run(look, write=False)


@pytest.fixture(params=["sqlite", "postgres", "encrypted"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop over each store that can be pruned."""
    url = f"sqlite:///{tmp_path}/s.db" if request.param != "postgres" else request.getfixturevalue("postgres_url")
    if request.param == "encrypted":
        monkeypatch.setenv("SUREFOOT_STORE_KEY", base64.b64encode(bytes(32)).decode())
        url = f"encrypted+{url}"
    made = Shop(url, tmp_path)
    yield made
    made.guard.close()


@pytest.mark.parametrize(
    "ages",
    [
        {"dedup_ttl": 50 * DAY, "max_run_age": 50 * DAY},
        {"dedup_ttl": 9 * DAY, "max_run_age": DAY, "payload_ttl": 10 * DAY},
        {"payload_ttl": -1.0},
        {"payload_ttl": None},
    ],
)
def test_as_74_a_key_is_kept_for_longer_than_a_retry_may_come(ages: dict[str, Any]) -> None:
    """Ages that would forget a call while its run may be resumed, or before its payload, are refused."""
    with pytest.raises(UsageError):
        Retention(**ages)


def test_as_74_payloads_go_first_and_the_key_stays_taken(shop: Shop) -> None:
    """A payload lives for its time; then the value is gone, the call is a tombstone, and its event log still verifies."""
    shop.work("r", lambda: shop.pay("a"), lambda: shop.order(7), lambda: shop.look("b"))
    assert shop.prune(SOON) == Pruned()
    done = shop.prune(LATER)
    assert (done.tombstones, done.payloads, done.runs, done.hashes, done.logs) == (2, 3, 1, 0, 0)
    assert shop.states() == {"pay": CallState.TOMBSTONE, "order": CallState.TOMBSTONE, "look": CallState.COMMITTED}
    stored = str(shop.rows())
    assert "paid a" not in stored
    assert "ordered 7" not in stored
    assert "seen b" not in stored
    [run] = shop.guard.runs.list()
    assert problem_of(shop.guard, run.run_id) is None
    assert shop.prune(LATER) == Pruned()


@pytest.mark.parametrize("now", [LATER, MUCH_LATER])
def test_i8_as_74_after_retention_an_effect_is_expired_and_never_fresh(shop: Shop, now: float) -> None:
    """A call that took effect is not run again after any age, by slot (a resume) or by business key (another run)."""
    shop.crash("r", lambda: shop.pay("a"), lambda: shop.order(7))
    shop.prune(now)
    with pytest.raises(ResultUnavailable, match="retention"):
        shop.work("r", lambda: shop.pay("a"), lambda: shop.order(7))
    with pytest.raises(ResultUnavailable, match="retention"):
        shop.work("another", lambda: shop.order(7))
    assert shop.effects.all() == [["pay", "a"], ["order", 7]]


def test_i8_negative_control_a_store_that_forgets_keys_lets_an_effect_happen_twice(tmp_path: Path) -> None:
    """Where rows are removed instead, the same resume pays again, and the count shows it."""
    shop = Shop(f"sqlite:///{tmp_path}/s.db", tmp_path)
    shop.crash("r", lambda: shop.pay("a"))
    shop.store.run(lambda tx: tx.rewrite("DELETE FROM calls"))  # type: ignore[attr-defined]
    shop.work("r", lambda: shop.pay("a"))
    assert shop.effects.count("pay") == 2


def test_as_74_at_last_a_hash_is_left_for_slots_and_the_identity_for_business_keys(shop: Shop) -> None:
    """Of a call by slot only the hash stays; one by business key says what it was; reads, what may run again, and the log go."""
    shop.work("r", lambda: shop.pay("a"), lambda: shop.order(7), lambda: shop.look("b"))
    with pytest.raises(NotCommitted):
        shop.work("q", lambda: shop.refused("c"))
    done = shop.prune(MUCH_LATER)
    assert (done.hashes, done.logs, done.removed) == (1, 1, 1)  # the process that was refused lives: what it runs might yet land
    shop.store.run(lambda tx: [tx.replace(call.changed(owner="1", version=call.version + 1)) for call in tx.calls.list()])  # type: ignore[attr-defined]
    done = shop.prune(MUCH_LATER)
    assert (done.hashes, done.logs, done.removed) == (0, 1, 1)
    calls = {call.tool: call for call in shop.guard.calls.list()}
    assert sorted(calls) == ["order", "pay"]
    assert (calls["pay"].run_id, calls["pay"].path, calls["pay"].args_digest, calls["pay"].arguments) == ("", "", "", None)
    assert calls["order"].args_digest
    assert calls["order"].run_id
    assert shop.guard.runs.events(calls["order"].run_id) == []
    assert [problem_of(shop.guard, run.run_id) for run in shop.guard.runs.list()] == [None, None]
    assert shop.prune(MUCH_LATER + DAY) == Pruned()


def test_as_74_what_is_in_doubt_or_undelivered_is_never_touched(shop: Shop) -> None:
    """A run with a doubt is as it was after any age, and so is a result that nobody was given."""
    work = (lambda: shop.pay("a"), lambda: shop.broken("b"))
    with pytest.raises(KeyboardInterrupt):
        shop.work("held", *work)
    with pytest.raises(surefoot.InDoubt):
        shop.work("held", *work)
    shop.crash("abandoned", lambda: shop.order(7))
    shop.at(START + DAY)
    with surefoot.run("abandoned"):
        surefoot.wrap(lambda what: what, guard=shop.guard)("another input")
    assert any(call.sticky for call in shop.guard.calls.list(state="committed"))
    runs = [run.run_id for run in shop.guard.runs.list() if run.status != "completed"]
    assert len(runs) == 2
    before = shop.rows()
    assert (done := shop.prune(MUCH_LATER)) == Pruned(runs=1, logs=1), done  # of the run that took the thread over
    after = shop.rows()
    assert after["calls"] == before["calls"]
    for table in ("checkpoints", "events"):
        assert [row for row in after[table] if row[0] in runs] == [row for row in before[table] if row[0] in runs]


def test_as_74_a_run_that_a_fork_may_still_ask_is_left_alone(shop: Shop) -> None:
    """The calls of a run answer its forks: while one of them goes on, they keep their values."""
    shop.work("r", lambda: shop.pay("a"))
    [run] = shop.guard.runs.list()

    def fork(tx: Transaction) -> None:
        record = tx.records.get("runs", run.run_id)
        assert record is not None
        tx.records.put("runs", "run_2", {**record.value, "run_id": "run_2", "origin": run.run_id, "ended": None, "created": LATER})

    shop.store.run(fork)
    assert shop.prune(LATER + 20 * DAY) == Pruned()
    assert shop.prune(LATER + 70 * DAY).tombstones == 1


def test_as_74_a_run_under_way_is_left_alone(shop: Shop) -> None:
    """However old a run is: while a living process works on it, it keeps its values."""
    done: list[Pruned] = []
    shop.work("r", lambda: shop.pay("a"), lambda: done.append(shop.prune(MUCH_LATER)))
    assert done == [Pruned()]


def test_as_74_killed_at_any_statement_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed at each of its SQL statements in turn: the logs verify, nothing is fresh, and the next pass comes to the same end."""
    shop = Shop(f"sqlite:///{tmp_path}/s.db", tmp_path)
    for name in ("r1", "r2"):
        shop.work(name, lambda name=name: shop.pay(name), lambda name=name: shop.order(int(name[1])), lambda name=name: shop.look(name))
    shop.crash("r3", lambda: shop.pay("r3"), lambda: shop.order(3))
    shop.guard.close()
    whole = _pruned_copy(tmp_path, "whole", None)
    kills = 0
    while (kills := kills + 1) < 1000:
        copied = _pruned_copy(tmp_path, f"at{kills}", kills)
        if copied is None:
            break
        assert copied == whole, f"killed at statement {kills}"
    assert 20 < kills < 1000


def test_as_74_beside_agents_no_effect_happens_twice(shop: Shop) -> None:
    """While another process prunes again and again, runs end as ever, and an order that was made is never made again."""
    shop.work("first", lambda: shop.pay("first"))
    shop.guard.close()
    pruner = os.fork()
    if pruner == 0:
        try:
            while True:
                prune(shop.store, AGES, MUCH_LATER)
        finally:
            os._exit(1)
    try:
        for number in range(40):
            shop.work(f"r{number}", lambda number=number: shop.pay(str(number)), lambda number=number: shop.look(str(number)))
            with suppress(ResultUnavailable):
                shop.work(f"o{number}", lambda number=number: shop.order(number % 7))
    finally:
        os.kill(pruner, signal.SIGKILL)
        _, status = os.waitpid(pruner, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "it did not prune all the time"
    assert sorted(shop.effects.all()) == sorted(
        [["pay", "first"], *(["pay", str(n)] for n in range(40)), *(["order", n] for n in range(7))]
    )
    assert CallState.TOMBSTONE in shop.states().values()


def _pruned_copy(folder: Path, name: str, kill: int | None) -> Any:
    """Prune a copy of the store, killed at a statement and run again; ``None`` when there was no such statement."""
    path = folder / f"{name}.db"
    source, target = sqlite3.connect(folder / "s.db"), sqlite3.connect(path)
    source.backup(target)
    source.close()
    target.close()
    path.with_name(f"{name}.db.key").write_bytes((folder / "s.db.key").read_bytes())

    def pruned(trace: Callable[[str], None]) -> None:
        store = SqliteStore(f"sqlite:///{path}")
        with store.transaction(write=False) as tx:
            tx.db.set_trace_callback(trace)  # type: ignore[attr-defined]
        prune(store, AGES, MUCH_LATER)

    if kill is not None and not killed_before(kill, pruned):
        return None
    shop = Shop(f"sqlite:///{path}", folder / "nowhere")
    assert [problem for run in shop.guard.runs.list() if (problem := problem_of(shop.guard, run.run_id))] == []
    shop.prune(MUCH_LATER)
    calls = [(call.call_id, call.tool, call.state, call.run_id, call.arguments, call.value) for call in shop.guard.calls.list()]
    logs = [[event.type for event in shop.guard.runs.events(run.run_id)] for run in shop.guard.runs.list()]
    left = {table: len(rows) for table, rows in shop.rows().items()}
    shop.guard.close()
    path.unlink()
    return calls, logs, left


def test_a_store_without_a_database_is_refused() -> None:
    """A memory store has nothing that outlives its process: pruning it is a mistake."""
    with pytest.raises(UsageError, match="cannot be pruned"):
        prune(Guard("memory://").store, AGES, LATER)
