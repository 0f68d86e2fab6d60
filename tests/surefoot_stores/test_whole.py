"""Checkpoint, ledger and event log move together (I17), seen before every single SQL statement of a run."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crash import killed_before

import surefoot
from surefoot import Guard, StepOutput, StepRule, ToolRule, Verdict
from surefoot.contracts import Transaction
from surefoot_stores import SqliteStore

ENDS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


class Split(sqlite3.Connection):
    """A connection without transactions: each statement is durable by itself."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Run a statement, unless it would begin or end a transaction."""
        return super().execute("SELECT 1" if sql.startswith(ENDS) else sql, *values)


def reject_first(output: StepOutput) -> Verdict:
    """Reject the first attempt."""
    return Verdict.failed("INCOMPLETE", "Say more.") if output.attempt == 1 else Verdict.passed()


def writer(url: str, kept: str, trace: Callable[[str], None]) -> None:
    """Run two steps with a call each, one of which is rejected once; ``trace`` is called with each statement."""
    real, opened = sqlite3.connect, []

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        opened.append(real(*args, **options) if kept == "whole" else real(*args, **options, factory=Split))
        return opened[-1]

    sqlite3.connect = connect  # type: ignore[assignment]

    @surefoot.tool()
    def pay(order: int) -> str:
        return f"paid {order}"

    def first() -> str:
        return str(pay(1))

    def second() -> str:
        return str(pay(2))

    guard = Guard(url, tools={"pay": ToolRule(effect="unsafe")}, steps={"second": StepRule(verifier=reject_first)})
    steps = [surefoot.wrap(function, guard=guard) for function in (first, second)]
    guard.runs.list()
    for db in opened:  # what opens a store is not part of a run
        db.set_trace_callback(trace)
    with surefoot.run("shopping"):
        surefoot.wrap(lambda: [one() for one in steps], guard=guard)()


def mixed(tx: Transaction) -> list[str]:
    """Return what of one moment does not fit together: each step's memo, tries and events, each call's row and events."""
    found = []
    records = {record.key: record.value for record in tx.records.list("attempts")}
    for run in {call.run_id for call in tx.calls.list(limit=100)}:
        events = tx.events.list(run)
        of = lambda kind, path: sum(event.type == kind and event.step == path for event in events)  # noqa: B023, E731 - used in this turn only
        paths = {event.step for event in events} | {point.path for point in tx.checkpoints.list(run, limit=100)}
        for path in paths - {None}:
            points = len(tx.checkpoints.at(run, path))
            if points != of("step.committed", path):
                found.append(f"{path}: {points} checkpoints, {of('step.committed', path)} told")
            tried = records.get(f"{run}/{path}", {"attempt": 1})["attempt"] - 1
            if tried != (0 if points else of("step.rejected", path)):
                found.append(f"{path}: {tried} rejected tries are known, {of('step.rejected', path)} told")
        for call in tx.calls.list(run_id=run, limit=100):
            told = [event.data["state"] for event in events if event.call_id == call.call_id and "state" in event.data]
            if told[-1:] != [str(call.state)]:
                found.append(f"{call.tool}: {call.state}, told {told}")
    return found


def look(url: str) -> list[str]:
    """Return what another process sees that does not fit together."""
    store = SqliteStore(url)
    try:
        return store.run(mixed, write=False)
    finally:
        store.close()


def stops(work: Callable[[Callable[[str], None]], None]) -> Iterator[str]:
    """Run ``work`` in a child that stands still before each SQL statement until the next one is asked for; yield each."""
    (heard, tell), (wait, go) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)

        def trace(statement: str) -> None:
            os.write(tell, (statement.replace("\n", " ") + "\n").encode())
            if not os.read(wait, 1):
                os._exit(0)

        try:
            trace("-- before all")  # for a reader to open the store: processes take turns at that
            work(trace)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(wait)
    try:
        with os.fdopen(heard) as lines:
            for line in lines:
                yield line
                os.write(go, b".")
    finally:
        os.close(go)  # upon which a child that still waits ends
        os.waitpid(pid, 0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """URL of a store with its tables."""
    made = f"sqlite:///{tmp_path}/s.db"
    with Guard(made) as guard:
        guard.runs.list()
    return made


@pytest.mark.parametrize("kept", ["whole", "statement by statement"])
def test_i17_a_reader_sees_a_checkpoint_and_all_that_belongs_to_it_or_nothing(url: str, kept: str) -> None:
    """Before each statement of a run another process finds checkpoints, calls, tries and events that fit together.

    Negative control: where each statement is durable by itself, it does not.
    """
    reader = SqliteStore(url)
    seen = {at: found for at, _ in enumerate(stops(partial(writer, url, kept))) if (found := reader.run(mixed, write=False))}
    reader.close()
    assert bool(seen) is (kept != "whole"), seen
    assert look(url) == []
    with Guard(url) as guard:
        (run,) = guard.runs.list()
        assert (run.status, len(guard.runs.checkpoints(run.run_id))) == ("completed", 3)


@pytest.mark.sweep
@pytest.mark.parametrize("kept", ["whole", "statement by statement"])
def test_i17_killed_at_any_statement_what_is_left_fits_together(tmp_path: Path, kept: str) -> None:
    """SIGKILL before each statement of a run: what is found after it fits together.

    Negative control: where each statement is durable by itself, it does not.
    """
    broken = []
    for at in range(1, 1000):
        url = f"sqlite:///{tmp_path}/{at}.db"
        SqliteStore(url).run(lambda _tx: None)
        if not killed_before(at, partial(writer, url, kept)):
            break
        broken += look(url)
    assert at > 50
    assert bool(broken) is (kept != "whole"), broken
