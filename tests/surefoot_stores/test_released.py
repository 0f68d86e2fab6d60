"""Stores of every schema that was released, kept in ``released`` as SQL: each opens, verifies and still knows what it did (I35)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crash import killed_before

import surefoot
from surefoot import CallState, Guard, RunStatus, StoreUnavailable, ToolRule
from surefoot_cli.audit import problem_of
from surefoot_stores import PostgresStore, SqliteStore, migrations
from surefoot_stores.care import damage, schema_of
from surefoot_stores.postgres import schema, session

psycopg = pytest.importorskip("psycopg")
RELEASED = Path(__file__).parent / "released"
NEXT = ["ALTER TABLE calls ADD COLUMN new TEXT", "CREATE INDEX calls_new ON calls (new)", "CREATE TABLE more (name TEXT PRIMARY KEY)"]
"""A migration that nobody released."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that they were made with."""
    monkeypatch.setenv("SUREFOOT_DIGEST_KEY", "released")


def sqlite(name: str, folder: Path) -> str:
    """Make the file of a released SQLite store; return its URL."""
    with sqlite3.connect(folder / "s.db") as db:
        db.executescript((RELEASED / name).read_text(encoding="utf-8"))
    db.close()
    return f"sqlite:///{folder}/s.db"


def postgres(name: str, url: str) -> str:
    """Make the tables of a released PostgreSQL store; return its URL."""
    place = session.Place.of(url)
    with psycopg.connect(place.conninfo, autocommit=True) as db:
        db.execute((RELEASED / name).read_text(encoding="utf-8").replace("surefoot_released", place.schema))
    return url


@pytest.fixture(params=sorted(path.name for path in RELEASED.glob("*.sql")))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of each of them, made anew."""
    name = str(request.param)
    return sqlite(name, tmp_path) if name.startswith("sqlite") else postgres(name, request.getfixturevalue("postgres_url"))


def check(url: str) -> None:
    """Look that a released store is sound and whole, and go on with what it was doing."""
    effects: list[int] = []

    @surefoot.tool()
    def order(number: int) -> str:
        effects.append(number)
        return f"ordered {number}"

    with Guard(url, tools={"order": ToolRule("unsafe", key=["number"]), "pay": ToolRule("unsafe")}) as guard:
        assert damage(guard.store) == []
        runs = {run.thread: run for run in guard.runs.list()}
        assert {thread: run.status for thread, run in runs.items()} == {"run:shopping": RunStatus.COMPLETED, "run:paying": RunStatus.OPEN}
        assert [problem_of(guard, run.run_id) for run in runs.values()] == [None, None]
        assert [call.tool for call in guard.calls.list()] == ["order", "look", "order", "pay"]
        with surefoot.run("another"):
            assert surefoot.wrap(lambda what: [what, order(7), order(9)], guard=guard)("go") == ["go", "ordered 7", "ordered 9"]
        assert effects == [9]  # the order of 7 was made long ago
        [doubt] = guard.calls.list(state="in_doubt")
        assert runs["run:paying"].hold == (doubt.call_id,)
        assert guard.calls.settle(doubt.call_id, failed=True, by="maria").state is CallState.FAILED


def test_there_is_a_released_store_of_each_schema() -> None:
    """Who adds a migration adds a store of the schema before it is released: ``python scripts/released_stores.py``."""
    wanted = {f"sqlite-{number}.sql" for number in range(1, len(migrations.MIGRATIONS) + 1)}
    wanted |= {f"postgres-{number}.sql" for number in range(1, len(schema.MIGRATIONS) + 1)}
    assert {path.name for path in RELEASED.iterdir()} == wanted


def test_i35_a_store_of_each_released_schema_opens_verifies_and_goes_on(url: str) -> None:
    """It is brought up to date with everything in it: results, doubts, holds, logs."""
    check(url)


def test_i35_another_key_is_refused_and_changes_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with another key nothing would be recognised, and the store says so."""
    monkeypatch.setenv("SUREFOOT_DIGEST_KEY", "another")
    with pytest.raises(StoreUnavailable, match="another digest key"):
        check(url)


def test_i35_a_migration_killed_at_any_statement_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite: whichever statement of a migration a process dies at, the next one finds the old store whole, and migrates it."""
    newest = len(migrations.MIGRATIONS)
    monkeypatch.setattr(migrations, "MIGRATIONS", [*migrations.MIGRATIONS, [*NEXT, f"PRAGMA user_version = {newest + 1}"]])
    versions: list[int] = []
    for at in range(1, 100):
        folder = tmp_path / str(at)
        folder.mkdir()
        url = sqlite(f"sqlite-{newest}.sql", folder)
        if not killed_before(at, partial(_opened, url)):
            break
        store = SqliteStore(url)
        versions.append(schema_of(store))
        check(url)
        assert schema_of(store) == newest + 1
    assert versions.count(newest) >= len(NEXT)
    assert set(versions) == {newest, newest + 1}


def _opened(url: str, trace: Callable[[str], None]) -> None:
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        db = real(*args, **options)
        db.set_trace_callback(trace)
        return db

    sqlite3.connect = connect  # type: ignore[assignment]
    SqliteStore(url).run(lambda _tx: None)


def test_i35_a_migration_cut_off_at_any_statement_is_done_again(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL: whichever statement of a migration the server hears last, the next process finds the old store whole."""
    newest = len(schema.MIGRATIONS)
    postgres(f"postgres-{newest}.sql", postgres_url)
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, NEXT])
    execute = session.Session.execute
    for at in range(1, len(NEXT) + 3):  # the wait for its turn, the steps, the number of the schema
        left = [at]

        def cut(self: session.Session, statement: str, *values: Any, left: list[int] = left) -> int:
            left[0] -= 1
            if not left[0]:
                self.db.close()  # the server sees what it would see of a process that died
            return execute(self, statement, *values)

        monkeypatch.setattr(session.Session, "execute", cut)
        store = PostgresStore(postgres_url)
        with pytest.raises(StoreUnavailable):
            store.run(lambda _tx: None)
        monkeypatch.setattr(session.Session, "execute", execute)
        assert schema_of(store) == newest
    check(postgres_url)
    assert schema_of(PostgresStore(postgres_url)) == newest + 1
