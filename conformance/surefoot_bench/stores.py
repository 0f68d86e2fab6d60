"""What a store's two writes of a call cost, without the guard around them: SQLite, and PostgreSQL where there is a server."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Self

from surefoot_bench.calls import BURST, CLIENTS
from surefoot_bench.floors import OneClientFloor, record
from surefoot_bench.plan import Plan, interleaved
from surefoot_bench.results import Result, Skip, Target, costs, rates

if TYPE_CHECKING:
    from surefoot import Store
    from surefoot.contracts import Transaction

__all__ = ["stores"]

_MOST: Final = 1_200
"""Microseconds that both writes may take with one client of PostgreSQL."""
_LEAST: Final = 10_000
"""Calls a second with many clients of PostgreSQL."""


def stores(plan: Plan) -> Iterator[Result]:
    """Measure both stores, each beside its driver alone: two transactions of one row a call."""
    from surefoot_stores import PostgresStore, SqliteStore

    with OneClientFloor(plan.folder / "floor.db") as floor:
        sqlite = SqliteStore(plan.url("stores"))
        yield from _measured(plan, "stores/sqlite", sqlite, floor.calls, "sqlite3, 2 commits", [], [])
        sqlite.close()
    if plan.postgres is None:
        raise Skip("PostgreSQL was not measured: give --postgres URL, or set SUREFOOT_TEST_POSTGRES")
    with _schema(plan.postgres) as (url, folder), _PostgresFloor(plan.postgres, folder) as bare:
        postgres = PostgresStore(url)
        one, many = [Target("measured", "<=", _MOST)], [Target("measured", ">=", _LEAST)]
        yield from _measured(plan, "stores/postgres", postgres, bare.calls, "psycopg, 2 commits", one, many)
        postgres.close()


def _measured(
    plan: Plan, name: str, store: Store, floor: Callable[[int], float], against: str, one: list[Target], many: list[Target]
) -> Iterator[Result]:
    writes = _Writes(store)
    with asyncio.Runner() as runner:
        sides = {
            "floor": (floor, plan.calls),
            "one": (writes.one_after_another, plan.calls),
            "many": (lambda number: runner.run(writes.at_once(number)), plan.calls * BURST),
        }
        found = interleaved(plan, sides)
    yield costs(name, found["one"], against, found["floor"], *one)
    yield rates(f"{name}/64", found["many"], against, found["floor"], *many)


@contextmanager
def _schema(server: str) -> Iterator[tuple[str, str]]:
    """Yield the URL of a store in a schema of its own, which is dropped after the block, and the schema's name."""
    from surefoot_stores.postgres import driver

    name = f"surefoot_bench_{uuid.uuid4().hex}"
    try:
        yield f"{server}{'&' if '?' in server else '?'}surefoot_schema={name}", name
    finally:
        with driver().connect(server, autocommit=True) as db:
            db.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


class _Writes:
    """Calls as the guard writes them: the row with its intent, the row with its outcome, and an event with each."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers = itertools.count(1)

    def one_after_another(self, number: int) -> float:
        """Write so many calls with one client; return the seconds of one."""
        begun = perf_counter()
        for n in itertools.islice(self._numbers, number):
            self._store.run(_intent(n))
            self._store.run(_outcome(n))
        return (perf_counter() - begun) / number

    async def at_once(self, number: int) -> float:
        """Write about so many calls with many clients."""
        each = max(1, number // CLIENTS)

        async def client() -> None:
            for n in itertools.islice(self._numbers, each):
                await self._store.arun(_intent(n))
                await self._store.arun(_outcome(n))

        begun = perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return (perf_counter() - begun) / (each * CLIENTS)


def _intent(number: int) -> Callable[[Transaction], Any]:
    from surefoot import CallRecord, CallState, Effect, Event

    name = f"call_{number:020}"
    identity = (name, f"key_{number}", "default", "thread", "run", "run", "agent#1/tools#1", "charge", "0" * 64, '{"amount": 5}')
    row = CallRecord(*identity, Effect.UNSAFE, CallState.INTENT, 1, 1, "owner", created=1.0, updated=1.0)

    def work(tx: Transaction) -> None:
        tx.calls.get(name)
        tx.calls.insert(row)
        tx.events.append(Event("run", "call.claimed", 1.0, {"tool": "charge", "state": "intent", "entry": 1}, row.path, name))

    return work


def _outcome(number: int) -> Callable[[Transaction], Any]:
    from surefoot import CallState, Event

    name = f"call_{number:020}"

    def work(tx: Transaction) -> None:
        row = tx.calls.get(name)
        assert row is not None  # noqa: S101 - its intent was written
        tx.calls.update(row.changed(state=CallState.COMMITTED, value='"charged 5"'))
        tx.events.append(Event("run", "call.committed", 1.0, {"tool": "charge", "state": "committed", "entry": 1}, row.path, name))

    return work


class _PostgresFloor:
    """One client of the bare driver: insert the record, commit, update it, commit. A context manager."""

    def __init__(self, server: str, schema: str) -> None:
        from surefoot_stores.postgres import driver

        self._db = driver().connect(server, autocommit=True)
        self._table = f'"{schema}".floor'
        self._db.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        self._db.execute(f"CREATE TABLE {self._table} (number BIGINT PRIMARY KEY, record TEXT NOT NULL)")
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        """Return the floor."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the connection."""
        self._db.close()

    def calls(self, number: int) -> float:
        """Do so many calls, one after the other."""
        insert = f"INSERT INTO {self._table} VALUES (%s, %s)"  # noqa: S608 - a name of our own
        update = f"UPDATE {self._table} SET record = %s WHERE number = %s"  # noqa: S608 - as above
        begun = perf_counter()
        for n in itertools.islice(self._numbers, number):
            self._db.execute(insert, (n, record(n, "intent")))
            self._db.execute(update, (record(n, "committed"), n))
        return (perf_counter() - begun) / number
