"""Large values: beside the tables, once, checked and collected."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from surefoot import CallRecord, CallState, Effect, IntegrityError
from surefoot.types import Checkpoint
from surefoot_stores import SqliteStore
from surefoot_stores.payloads import INLINE

LARGE = json.dumps("x" * INLINE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Yield a store of its own."""
    made = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    yield made
    made.close()


def call(number: int, **fields: Any) -> CallRecord:
    """Return a call with these fields."""
    key = f"{number:064}"
    values: dict[str, Any] = {"arguments": None, "effect": Effect.UNSAFE, "state": CallState.COMMITTED, "entry": 1, "touched": 1}
    return CallRecord(f"call_{number}", key, "t", "c", "r", "r", "s#1", "pay", "d", **{**values, "owner": "o", **fields})


def column(store: SqliteStore, query: str) -> list[Any]:
    """Return a column, read around the API."""
    with sqlite3.connect(store.path) as db:
        return [row[0] for row in db.execute(query)]


def test_a_large_value_is_kept_beside_its_row_and_once(store: SqliteStore) -> None:
    """Values over 32 KiB are stored once, whoever has them; they read back byte for byte, small ones stay in their row."""

    def write(tx: Any) -> None:
        tx.calls.insert(call(1, value=LARGE, arguments=LARGE))
        tx.calls.insert(call(2, value='"small"'))
        tx.checkpoints.append(Checkpoint("r", "s#1", "", 1, 1, "d", LARGE, "null"))
        tx.records.put("n", "k", "x" * INLINE)

    store.run(write)
    assert column(store, "SELECT count(*) FROM payloads") == [1]
    assert max(column(store, "SELECT length(value) FROM calls")) < 100
    store.close()
    with store.transaction(write=False) as tx:
        one, two = tx.calls.get("call_1"), tx.calls.get("call_2")
        assert one is not None
        assert two is not None
        assert (one.value, one.arguments, two.value) == (LARGE, LARGE, '"small"')
        assert [checkpoint.output for checkpoint in tx.checkpoints.list("r")] == [LARGE]
        assert [record.value for record in tx.records.list("n")] == ["x" * INLINE]


@pytest.mark.parametrize("damage", ["UPDATE payloads SET text = replace(text, 'xx', 'xy')", "DELETE FROM payloads"])
def test_a_damaged_value_is_an_error_and_never_a_value(store: SqliteStore, damage: str) -> None:
    """A large value that was changed or lost raises IntegrityError."""
    store.run(lambda tx: tx.calls.insert(call(1, value=LARGE)))
    store.close()
    with sqlite3.connect(store.path) as db:
        db.execute(damage)
    with pytest.raises(IntegrityError, match="restore the store from a backup"):
        store.run(lambda tx: tx.calls.get("call_1"), write=False)


def test_i24_a_value_cannot_pass_for_a_reference(store: SqliteStore) -> None:
    """A tool's result that looks like a reference is a result."""
    value = json.dumps("sha256:" + "0" * 64)
    store.run(lambda tx: tx.calls.insert(call(1, value=value)))
    store.close()
    found = store.run(lambda tx: tx.calls.get("call_1"), write=False)
    assert found is not None
    assert found.value == value


def test_collect_deletes_what_nothing_refers_to(store: SqliteStore) -> None:
    """Collecting keeps every value that some row refers to and deletes the others."""
    other = json.dumps("y" * INLINE)

    def write(tx: Any) -> None:
        tx.calls.insert(call(1, value=LARGE))
        tx.calls.insert(call(2, value=other))

    store.run(write)
    assert store.collect() == 0
    store.run(lambda tx: tx.calls.update(call(2, value=None)))
    assert store.collect() == 1
    assert column(store, "SELECT text FROM payloads") == [LARGE]
