"""The event log: following it without gaps, and finding whatever was changed in it (I21)."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from surefoot import Guard, ToolRule
from surefoot.engine.claims import Request
from surefoot.engine.events import verify
from surefoot.engine.program import Do, Tx
from surefoot.engine.run import RunSpec, close_run, open_run
from surefoot.engine.step import StepSpec, step
from surefoot.types import RunStatus
from surefoot_cli.audit import problem_of
from surefoot_cli.main import cli

NOTHING = Do(lambda: None)


def run_of(guard: Guard, calls: int) -> str:
    """Run one step of so many calls to its end and return the run's id."""
    run = guard.drive(open_run(guard, RunSpec("test", "default", "t", "input", {}, "d", NOTHING, Do(dict), lambda e: e))).run

    def body(frame: Any) -> None:
        for n in range(calls):
            guard.call(frame, Request("pay", {"n": n}, None), lambda: "paid")

    guard.drive(step(guard, StepSpec(run, None, "s#1", "s", {}, "d"), lambda frame: Do(lambda: body(frame))))
    guard.drive(close_run(guard, run, RunStatus.COMPLETED))
    return run.record.run_id


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Return the file of a store with one finished run of three calls."""
    with Guard(f"sqlite:///{tmp_path}/s.db", tools={"pay": ToolRule(effect="unsafe")}) as guard:
        run_of(guard, 3)
    return tmp_path / "s.db"


def verdict(db: Path) -> str | None:
    """Return what a fresh guard says about the one run."""
    with Guard(f"sqlite:///{db}") as guard:
        return problem_of(guard, guard.runs.list()[0].run_id)


def tampered(db: Path, *statements: str) -> str | None:
    """Change a copy of the file around the API and return the verdict on it."""
    copy = db.with_name("copy.db")
    copy.write_bytes(db.read_bytes())
    with sqlite3.connect(copy) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return verdict(copy)


def test_i21_what_was_not_changed_is_sound(db: Path) -> None:
    """The log of a finished run passes, and so does that of a run whose calls a later run asked about."""
    assert verdict(db) is None


def test_i21_every_changed_field_is_found_at_its_position(db: Path) -> None:
    """A change in any field of any event is found, and its position is named; so are events that changed places."""
    with Guard(f"sqlite:///{db}") as guard:
        events = guard.runs.events(guard.runs.list()[0].run_id)
    other = {"at": 1.5, "monotonic": 1.5, "schema": 2, "data": {"other": 1}, "seq": 99}
    for place, event in enumerate(events):
        for field in dataclasses.fields(event):
            changed = dataclasses.replace(event, **{field.name: other.get(field.name, "x")})
            assert verify([*events[:place], changed, *events[place + 1 :]]) == changed.seq
    for one, two in itertools.combinations(range(len(events)), 2):
        moved = list(events)
        moved[one], moved[two] = moved[two], moved[one]
        assert verify(moved) == moved[one].seq


def test_i21_deleted_events_are_found(db: Path) -> None:
    """What was removed from the file is found at the first position behind it."""
    assert tampered(db, "UPDATE events SET salt = 'x' WHERE seq = 5") == "event 5 does not fit the chain"
    assert tampered(db, "DELETE FROM events WHERE seq = 3") == "event 4 does not fit the chain"
    assert tampered(db, "DELETE FROM events WHERE seq = 1") == "event 2 does not fit the chain"


def test_i21_a_log_cut_short_disagrees_with_the_ledger(db: Path) -> None:
    """A log without its end lacks what became of a call, and a changed ledger row disagrees with its last event."""
    assert "is committed in the ledger, intent in the log" in (tampered(db, "DELETE FROM events WHERE seq > 6") or "")
    assert "is failed in the ledger, committed in the log" in (tampered(db, "UPDATE calls SET state = 'failed' WHERE ordinal = 2") or "")
    assert tampered(db, "DELETE FROM events", "DELETE FROM calls") == "there is no event"


def test_i21_a_log_cut_behind_the_last_call_disagrees_with_the_run(db: Path) -> None:
    """The last event alone, and the one before it, are missed too: the run's end and the committed step."""
    last = "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)"
    assert "the run is completed in the store, open in the log" in (tampered(db, last) or "")
    assert "1 steps are committed in the store, 0 in the log" in (tampered(db, last, last) or "")


def test_a_run_that_goes_on_meanwhile_is_sound(tmp_path: Path) -> None:
    """Verified after every single event of a run under way, its log agrees with the store each time."""
    verdicts: list[str | None] = []
    url = f"sqlite:///{tmp_path}/s.db"
    with Guard(url) as other, Guard(url, on_event=lambda event: verdicts.append(problem_of(other, event.run_id))) as guard:
        run_of(guard, 3)
    assert verdicts == [None] * 9


def test_every_committed_step_of_a_long_run_is_shown() -> None:
    """A run of 1,001 steps has 1,001 checkpoints, and its log is sound."""
    with Guard("memory://") as guard:
        run = guard.drive(open_run(guard, RunSpec("test", "default", "t", "input", {}, "d", NOTHING, Do(dict), lambda e: e))).run
        for n in range(1_001):
            guard.drive(step(guard, StepSpec(run, None, f"s#{n}", "s", {}, "d"), lambda _frame: NOTHING))
        assert len(guard.runs.checkpoints(run.record.run_id)) == 1_001
        assert problem_of(guard, run.record.run_id) is None


def test_audit_verify_names_the_run_and_the_position(db: Path) -> None:
    """The command passes on a sound store; on a changed one it names run and position and exits with 8."""
    runner = CliRunner()
    assert runner.invoke(cli, ["--store", f"sqlite:///{db}", "audit", "verify"]).exit_code == 0
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE events SET type = 'x' WHERE seq = 4")
    done = runner.invoke(cli, ["--store", f"sqlite:///{db}", "audit", "verify", "--json"])
    assert done.exit_code == 8
    assert list(json.loads(done.stdout)["bad"].values()) == ["event 4 does not fit the chain"]
    assert "event 4 does not fit the chain" in done.stderr
    assert runner.invoke(cli, ["--store", f"sqlite:///{db}", "audit", "verify", "run_none"]).exit_code == 3


@pytest.fixture
def emit() -> tuple[Guard, Callable[[int], None]]:
    """Return a guard and a function that appends so many events to the log of run ``r``."""
    guard = Guard("memory://")
    guard.transact(Tx(lambda unit: unit.records.put("runs", "r", RECORD)))
    return guard, lambda count: guard.transact(Tx(lambda unit: [unit.emit("r", "tick") for _ in range(count)]))


RECORD = {"run_id": "r", "tenant": "t", "thread": None, "ordinal": 1, "status": "open", "digest": "", "adapter": "a"}


def test_following_has_no_gap_and_goes_on_from_an_offset(emit: tuple[Guard, Callable[[int], None]]) -> None:
    """Who follows a log while it grows sees every event once, in order; who comes back goes on behind the last one worked on."""
    guard, more = emit
    more(5)
    assert [event.seq for event in itertools.islice(guard.runs.follow("r", poll=0.001), 3)] == [1, 2, 3]
    growing = threading.Thread(target=lambda: [more(7) for _ in range(200)])
    growing.start()
    seen = [event.seq for event in itertools.islice(guard.runs.follow("r", after=3, poll=0.001), 1402)]
    growing.join()
    assert seen == list(range(4, 1406))


def test_following_ends_with_the_run(emit: tuple[Guard, Callable[[int], None]]) -> None:
    """A run that has ended is followed to its last event and no further."""
    guard, more = emit
    more(3)
    guard.transact(Tx(lambda unit: unit.records.put("runs", "r", {**RECORD, "status": "completed", "ended": 1.0})))
    assert [event.seq for event in guard.runs.follow("r")] == [1, 2, 3]
