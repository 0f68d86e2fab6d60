"""Encryption at rest: nothing plain on the disk, nothing changed taken for true, and which key opens what."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import surefoot
from surefoot import (
    CallRecord,
    CallState,
    Checkpoint,
    Effect,
    Event,
    Guard,
    IntegrityError,
    Store,
    StoreUnavailable,
    SurefootWarning,
    ToolRule,
    UsageError,
)
from surefoot_cli.audit import problem_of
from surefoot_cli.main import cli
from surefoot_stores import EncryptedStore, MemoryStore, SqliteStore
from surefoot_stores.care import damage

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment have a key."""
    monkeypatch.setenv("SUREFOOT_STORE_KEY", NEW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EncryptedStore]:
    """An encrypted SQLite store with two calls, two steps, two events and two records."""
    made = EncryptedStore(SqliteStore(f"sqlite:///{tmp_path}/s.db"))
    fill(made)
    yield made
    made.close()


def fill(store: Store) -> None:
    """Write something into every table, so that a row can stand in for another one."""

    def work(tx: Any) -> None:
        for number in (1, 2):
            values = {
                "value": f'"value {number}"',
                "error": "{}",
                "reason": "why",
                "interrupts": ('"yes"',),
                "created": 5.0,
                "updated": 6.0,
            }
            names = (f"call_{number}", f"key{number}", "t", "c", "r", "s", "a#1", "pay", f"d{number}", f'{{"n":{number}}}')
            tx.calls.insert(CallRecord(*names, Effect.UNSAFE, CallState.INTENT, 1, 1, "o", **values))
            tx.checkpoints.append(Checkpoint("r", f"a#{number}", "", 1, 1, "d", f'"output {number}"', '"PASS"'))
            tx.events.append(Event("r", "t", 1.0, {"n": number}))
            tx.records.put("n", f"k{number}", {"n": number})

    store.run(work)


def committed(store: Store, number: int = 1) -> None:
    """Let a call end."""
    store.run(lambda tx: tx.calls.update(tx.calls.get(f"call_{number}").changed(state=CallState.COMMITTED)))  # type: ignore[union-attr]


def sql(path: Path, *statements: str) -> int:
    """Change the file around the store; return how many rows the last statement changed."""
    with sqlite3.connect(path) as db:
        changed = [db.execute(statement).rowcount for statement in statements]
    db.close()
    return changed[-1]


def everything(store: Store) -> list[Any]:
    """Return all that there is, as the store reads it."""

    def look(tx: Any) -> list[Any]:
        return [*tx.calls.list(), *tx.checkpoints.list("r"), *tx.events.list("r"), *tx.records.list("n")]

    return store.run(look, write=False)


# --- what was changed

CHANGES = {
    "a state": "UPDATE calls SET state = 'failed' WHERE call_id = 'call_1'",
    "an effect class": "UPDATE calls SET effect = 'read' WHERE call_id = 'call_1'",
    "a tenant": "UPDATE calls SET tenant = 'x' WHERE call_id = 'call_1'",
    "an owner": "UPDATE calls SET owner = 'x' WHERE call_id = 'call_1'",
    "a version": "UPDATE calls SET version = 9 WHERE call_id = 'call_1'",
    "a time": "UPDATE calls SET created = 0 WHERE call_id = 'call_1'",
    "a result that is gone": "UPDATE calls SET value = NULL WHERE call_id = 'call_1'",
    "a result of another call": "UPDATE calls SET value = (SELECT value FROM calls WHERE call_id = 'call_2') WHERE call_id = 'call_1'",
    "arguments of another call": """UPDATE calls SET arguments = (SELECT arguments FROM calls WHERE call_id = 'call_2')
        WHERE call_id = 'call_1'""",
    "an error for a result": "UPDATE calls SET value = error WHERE call_id = 'call_1'",
    "an answer that is gone": "UPDATE calls SET interrupts = '[]' WHERE call_id = 'call_1'",
    "a plain reason": "UPDATE calls SET reason = 'done' WHERE call_id = 'call_1'",
    "a row of another call": """UPDATE calls SET (key, args_digest, arguments, value, error, reason, interrupts) =
        (SELECT key, args_digest, arguments, value, error, reason, interrupts FROM calls WHERE call_id = 'call_2')
        WHERE call_id = 'call_1'""",
    "an output of another step": "UPDATE checkpoints SET output = (SELECT output FROM checkpoints WHERE seq = 2) WHERE seq = 1",
    "a step of another run": "UPDATE checkpoints SET run_id = 'x' WHERE seq = 1",
    "a step's place": "UPDATE checkpoints SET path = 'a#9' WHERE seq = 1",
    "steps in another order": "UPDATE checkpoints SET seq = 3 - seq + 100 * (seq = 1)",
    "an event of another place": "UPDATE events SET data = (SELECT data FROM events WHERE seq = 2) WHERE seq = 1",
    "an event's type": "UPDATE events SET type = 'x' WHERE seq = 1",
    "an event's time": "UPDATE events SET at = 2 WHERE seq = 1",
    "a record of another key": "UPDATE records SET value = (SELECT value FROM records WHERE key = 'k2') WHERE key = 'k1'",
    "a record of another version": "UPDATE records SET version = 7 WHERE key = 'k1'",
    "a plain record": "UPDATE records SET value = '{\"n\": 9}' WHERE key = 'k1'",
    "a record that is no object": "UPDATE records SET value = '[1]' WHERE key = 'k1'",
    "an event that is no object": "UPDATE events SET data = '[1]' WHERE seq = 1",
    "what is no JSON": "UPDATE events SET data = 'x' WHERE seq = 1",
    "what is no state": "UPDATE calls SET state = 'x' WHERE call_id = 'call_1'",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_changed_or_moved_is_refused(store: EncryptedStore, tmp_path: Path, change: str) -> None:
    """A changed column, and a value, row or step in another one's place, is one clear error, and never an answer."""
    assert len(everything(store)) == 8
    store.close()
    assert sql(tmp_path / "s.db", change) > 0

    def look(tx: Any) -> list[Any]:
        return [*tx.calls.list(), *tx.checkpoints.list("r"), *tx.checkpoints.list("x"), *tx.events.list("r"), *tx.records.list("n")]

    with pytest.raises(IntegrityError, match=r"not what was written.*restore the store from a backup"):
        store.run(look, write=False)


def test_without_encryption_a_change_is_taken_for_true(tmp_path: Path) -> None:
    """The control of the test above: a plain store answers with what it was changed to."""
    plain = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    fill(plain)
    plain.close()
    for change in ("a state", "a result of another call", "a row of another call", "an output of another step", "a record of another key"):
        assert sql(tmp_path / "s.db", CHANGES[change]) > 0
    found = everything(plain)
    assert found[0].state is CallState.FAILED
    assert found[0].value == '"value 2"'
    assert found[2].output == '"output 2"'
    plain.close()


def test_no_flipped_byte_is_taken_for_true(store: EncryptedStore, tmp_path: Path) -> None:
    """A byte of the file that was flipped is refused, or leaves what is read as it was: nothing else is ever read."""
    true, path = everything(store), tmp_path / "s.db"
    store.close()
    sql(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    whole, refused = path.read_bytes(), 0
    for place in [place for place, byte in enumerate(whole) if byte][::19]:
        (tmp_path / "s.db-wal").unlink(missing_ok=True)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        flipped = EncryptedStore(SqliteStore(f"sqlite:///{path}"))
        try:
            assert [found for found in everything(flipped) if found not in true] == [], place
        except (IntegrityError, StoreUnavailable):
            refused += 1
        flipped.close()
    assert refused > 100


def test_what_another_store_wrote_is_refused(store: EncryptedStore, tmp_path: Path) -> None:
    """A row of another store with the same key is not taken for one of this store."""
    other = EncryptedStore(SqliteStore(f"sqlite:///{tmp_path}/other.db"))
    fill(other)
    other.close()
    store.close()
    attach = f"ATTACH '{tmp_path}/other.db' AS other"
    assert sql(tmp_path / "s.db", attach, "REPLACE INTO records SELECT * FROM other.records WHERE key = 'k1'") == 1
    with pytest.raises(IntegrityError, match="record k1"):
        everything(store)


def test_a_row_that_was_put_back_whole_is_found_by_the_log_alone(tmp_path: Path) -> None:
    """An older state of a whole row has a seal of its own and is read; the run's log says that it is not the last one."""
    path = tmp_path / "s.db"
    with Guard(f"encrypted+sqlite:///{path}", tools={"pay": ToolRule("unsafe")}) as guard:
        copies: list[Any] = []

        @surefoot.tool()
        def pay(what: str) -> str:
            with sqlite3.connect(path) as db:
                copies.append(db.execute("SELECT * FROM calls").fetchone())
            db.close()
            return what

        with surefoot.run("r"):
            surefoot.wrap(pay, guard=guard)("tea")
        [run] = guard.runs.list()
        assert problem_of(guard, run.run_id) is None
        guard.close()
        with sqlite3.connect(path) as db:
            db.execute(f"REPLACE INTO calls VALUES ({', '.join('?' * len(copies[0]))})", copies[0])  # noqa: S608 - question marks
        db.close()
        assert [call.state for call in guard.calls.list()] == [CallState.INTENT]
        assert "intent in the ledger, committed in the log" in str(problem_of(guard, run.run_id))


def test_a_log_that_was_cut_is_found(store: EncryptedStore, tmp_path: Path) -> None:
    """A log without its last event is found by looking for it, and when it would be added to; a plain store goes on behind the cut."""
    plain = SqliteStore(f"sqlite:///{tmp_path}/plain.db")
    fill(plain)
    for one, path in ((plain, "plain.db"), (store, "s.db")):
        assert damage(one) == []
        one.close()
        assert sql(tmp_path / path, "DELETE FROM events WHERE seq = 2") == 1
    assert damage(plain) == []
    assert damage(store) == ["the log of the run r was cut"]
    plain.run(lambda tx: tx.events.append(Event("r", "t", 1.0)))
    plain.close()
    with pytest.raises(IntegrityError, match="events of the run r end at 1, and 2 were written"):
        store.run(lambda tx: tx.events.append(Event("r", "t", 1.0)))


def test_an_update_does_not_seal_what_was_changed(store: EncryptedStore, tmp_path: Path) -> None:
    """A call whose row was changed is not written over: the update is refused, and the row is what it was changed to."""
    record = store.run(lambda tx: tx.calls.get("call_1"))
    assert record is not None
    store.close()
    sql(tmp_path / "s.db", CHANGES["a tenant"])
    with pytest.raises(IntegrityError, match="the call call_1"):
        store.run(lambda tx: tx.calls.update(record.changed(state=CallState.COMMITTED)))
    committed(store, 2)
    assert store.store.run(lambda tx: tx.calls.get("call_1")).state is CallState.INTENT  # type: ignore[union-attr]


def test_verify_finds_what_was_changed(store: EncryptedStore, tmp_path: Path) -> None:
    """``store verify`` reads every seal: of records whose namespaces it finds in the database, and of calls."""
    path = tmp_path / "s.db"
    for change in ("a plain record", "a state"):
        with sqlite3.connect(path) as db:
            before = list(db.iterdump())
        db.close()
        assert damage(store) == []
        store.close()
        sql(path, CHANGES[change])
        assert len(damage(store)) == 1
        result = CliRunner().invoke(cli, ["--store", store.url, "store", "verify"])
        assert (result.exit_code, "not what was written" in result.output) == (8, True)
        store.close()
        for file in tmp_path.glob("s.db*"):
            file.unlink()
        with sqlite3.connect(path) as db:
            db.executescript("\n".join(before) + "\nPRAGMA user_version = 2")
        db.close()


def test_an_update_that_does_not_enter_a_call_leaves_it_where_it_is(store: EncryptedStore) -> None:
    """The place of a call changes with an update to ``intent`` alone, and the row has a seal that holds either way."""
    moved = {"run_id": "other", "scope": "x", "path": "b#1"}
    for state, place in ((CallState.FAILED, ("r", "s", "a#1")), (CallState.INTENT, ("other", "x", "b#1"))):

        def work(tx: Any, state: CallState = state) -> None:
            tx.calls.update(tx.calls.get("call_1").changed(state=state, **moved))

        store.run(work)
        store.close()
        found = store.run(lambda tx: tx.calls.get("call_1"), write=False)
        assert found is not None
        assert (found.state, found.run_id, found.scope, found.path) == (state, *place)


def test_what_retention_leaves_of_a_call_has_a_seal(store: EncryptedStore) -> None:
    """A call that is written over without its texts and its identity is read as that, with the answers that it had."""
    committed(store)
    taken = {"arguments": None, "value": None, "error": None, "tenant": "", "alias": None}

    def prune(tx: Any) -> int:
        call = tx.calls.get("call_1")
        replaced: int = tx.replace(call.changed(**taken, version=call.version + 1))
        return replaced

    before = store.run(lambda tx: tx.calls.get("call_1"))
    assert before is not None
    assert store.run(prune) == 1
    assert store.run(lambda tx: tx.calls.get("call_1")) == before.changed(**taken, version=before.version + 1)
    assert before.interrupts == ('"yes"',)


# --- keys


def rows(path: Path) -> list[str]:
    """Return everything in the file."""
    with sqlite3.connect(path) as db:
        found = list(db.iterdump())
    db.close()
    return found


def test_a_wrong_key_is_refused_before_anything_is_written(store: EncryptedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another key nothing is read and nothing written, whichever comes first; the error names the key that is missing."""
    before = rows(tmp_path / "s.db")
    monkeypatch.setenv("SUREFOOT_STORE_KEY", OLD)
    other = EncryptedStore(SqliteStore(f"sqlite:///{tmp_path}/s.db"))
    for work in (fill, everything, Store.digest_key):
        with pytest.raises(StoreUnavailable, match=r"encrypted with the key [0-9a-f]{8}, which was not given"):
            work(other)
    assert rows(tmp_path / "s.db") == before
    other.close()


@pytest.mark.parametrize("given", ["", "x", "c2hvcnQ=", NEW[:-4], f"{NEW},", b"short", [], [NEW, "x"], 7])
def test_what_is_no_key_is_refused(given: Any) -> None:
    """Anything that is not 32 bytes is a usage error that does not say what was given, also where the environment has a key."""
    with pytest.raises(UsageError, match="openssl rand -base64 32") as caught:
        EncryptedStore(MemoryStore(), key=given)
    assert NEW[:-4] not in str(caught.value)


@pytest.mark.parametrize("given", [None, ""])
def test_a_key_that_is_missing_is_asked_for(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key in the environment, or with an empty one, the error says where to put it."""
    monkeypatch.delenv("SUREFOOT_STORE_KEY")
    if given is not None:
        monkeypatch.setenv("SUREFOOT_STORE_KEY", given)
    with pytest.raises(UsageError, match="set SUREFOOT_STORE_KEY"):
        Guard("encrypted+memory://")


def test_a_key_may_come_from_a_function(tmp_path: Path) -> None:
    """A function is asked for the key when the store is first used, once; what it returns is checked as any key is."""
    asked: list[str] = []

    def ask() -> list[bytes]:
        asked.append("once")
        return [base64.b64decode(NEW)]

    store = EncryptedStore(SqliteStore(f"sqlite:///{tmp_path}/s.db"), key=ask)
    assert asked == []
    fill(store)
    assert len(everything(store)) == 8
    assert asked == ["once"]
    store.close()
    with pytest.raises(UsageError, match="32 random bytes"):
        EncryptedStore(MemoryStore(), key=lambda: "x").run(lambda tx: None)


def test_keys_are_rotated(tmp_path: Path) -> None:
    """The first key seals and every given one opens; without one that rows were sealed with, the store is refused, whichever that is."""
    inside = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    fill(EncryptedStore(inside, key=OLD))
    both = EncryptedStore(inside, key=f"{NEW},{OLD}")
    committed(both)
    assert [found.state for found in everything(both)[:2]] == [CallState.COMMITTED, CallState.INTENT]
    reasons = inside.run(lambda tx: [call.reason.split(":")[1] for call in tx.calls.list()])
    assert reasons[0] != reasons[1]
    assert len(everything(EncryptedStore(inside, key=[OLD, NEW]))) == 8
    for lone in (OLD, NEW):
        with pytest.raises(StoreUnavailable, match="which was not given"):
            everything(EncryptedStore(inside, key=lone))
    inside.close()


def test_a_marker_that_was_changed_is_refused(store: EncryptedStore, tmp_path: Path) -> None:
    """Who changes or removes what says which keys the rows need makes the store one that is refused."""
    store.close()
    path = tmp_path / "s.db"
    for change, said in (
        ('UPDATE records SET value = replace(value, \'"keys": [\', \'"keys": ["0badc0de", \')', "0badc0de, which was not given"),
        ("UPDATE records SET value = '{\"keys\": [], ' || substr(value, instr(value, '\"sealed'))", "were changed"),
        ("UPDATE records SET value = '[]'", "not what was written"),
        ("DELETE FROM records", "not encrypted"),
    ):
        kept = (path.read_bytes(),)
        assert sql(path, f"{change} WHERE namespace = 'surefoot.encryption'") == 1
        fresh = EncryptedStore(SqliteStore(f"sqlite:///{path}"))
        with pytest.raises((StoreUnavailable, IntegrityError), match=said):
            fill(fresh)
        fresh.close()
        for file in tmp_path.glob("s.db-*"):
            file.unlink()
        path.write_bytes(*kept)


# --- how it is opened


def test_a_plain_store_is_not_encrypted_halfway(tmp_path: Path) -> None:
    """A store that was written without encryption is refused, and not changed."""
    plain = SqliteStore(f"sqlite:///{tmp_path}/s.db")
    fill(plain)
    before = rows(tmp_path / "s.db")
    with pytest.raises(StoreUnavailable, match="rows that are not encrypted"):
        fill(EncryptedStore(plain))
    assert rows(tmp_path / "s.db") == before
    plain.close()


@pytest.mark.parametrize("given", [None, "a digest key"])
def test_an_encrypted_store_is_not_taken_for_a_plain_one(tmp_path: Path, given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened without encryption it is refused by agents and by the command line, with how to open it, and not changed."""
    if given:
        monkeypatch.setenv("SUREFOOT_DIGEST_KEY", given)
    url = f"sqlite:///{tmp_path}/s.db"
    with Guard(f"encrypted+{url}") as guard, surefoot.run("r"):
        surefoot.wrap(lambda what: what, guard=guard)("tea")
    monkeypatch.delenv("SUREFOOT_STORE_KEY")
    before = rows(tmp_path / "s.db")
    with Guard(url) as guard, surefoot.run("r"), pytest.raises(StoreUnavailable, match=r"encrypted\+"):
        surefoot.wrap(lambda what: what, guard=guard)("tea")
    result = CliRunner().invoke(cli, ["--store", url, "runs", "list"])
    assert (result.exit_code, f"open encrypted+{url}" in result.output) == (9, True)
    assert rows(tmp_path / "s.db") == before


def test_a_key_that_is_not_used_is_warned_about(tmp_path: Path) -> None:
    """Who sets the key and forgets to ask for encryption is told; a store in memory needs none."""
    with pytest.warns(SurefootWarning, match=r"is not encrypted: write encrypted\+sqlite"):
        Guard(f"sqlite:///{tmp_path}/s.db")
    Guard("memory://")


def test_a_url_names_it(tmp_path: Path) -> None:
    """``encrypted+`` before any URL that surefoot opens is that store, encrypted; twice, or before an unknown one, is refused."""
    with Guard(f"encrypted+sqlite:///{tmp_path}/s.db") as guard:
        assert isinstance(guard.store, EncryptedStore)
        assert guard.store.url == f"encrypted+sqlite:///{tmp_path}/s.db"
    for url in ("encrypted+nothing://x", f"encrypted+encrypted+sqlite:///{tmp_path}/s.db"):
        with pytest.raises(UsageError):
            Guard(url)
    with pytest.raises(UsageError, match="encrypted already"):
        EncryptedStore(guard.store)
