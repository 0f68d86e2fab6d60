"""Declared reads: no intent, and an outcome that rides along with the next write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from surefoot import Guard, StoreUnavailable
from surefoot.engine.claims import Request
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do
from surefoot.engine.run import RunSpec, open_run
from surefoot.engine.step import StepSpec, step
from surefoot_stores import MemoryStore

NOTHING = Do(lambda: None)


class Counting(MemoryStore):
    """A store that counts its write transactions, and can be away."""

    writes = 0
    away = False

    def run(self, work: Callable[[Any], Any], *, write: bool = True) -> Any:
        """Count, then run."""
        self.writes += write
        if write and self.away:
            raise StoreUnavailable("away")
        return super().run(work, write=write)


def in_step(guard: Guard, body: Callable[[Frame], Any]) -> None:
    """Run ``body`` as the one step of a run."""
    run = guard.drive(open_run(guard, RunSpec("test", "default", "t", "input", {}, "d", NOTHING, Do(dict), lambda e: e))).run
    guard.drive(step(guard, StepSpec(run, None, "s#1", "s", {}, "d"), lambda frame: Do(lambda: body(frame))))


def search(guard: Guard, frame: Frame, n: int) -> Any:
    """Ask for a read."""
    return guard.call(frame, Request("search", {"n": n}, None), lambda: f"found {n}")


def test_reads_do_not_wait_for_the_disk() -> None:
    """A hundred reads in a step are a hundred rows in the ledger, and not one transaction more than none."""

    def writes(guard: Guard, reads: int) -> int:
        assert isinstance(guard.store, Counting)
        guard.codec.digest("the first digest asks the store for its key")
        before = guard.store.writes
        in_step(guard, lambda frame: [search(guard, frame, n) for n in range(reads)])
        return guard.store.writes - before

    guard = Guard(Counting(), reads=["search"])
    assert writes(guard, 100) == writes(Guard(Counting(), reads=["search"]), 0)
    assert [call.value for call in guard.calls.list()] == [f'"found {n}"' for n in range(100)]


def test_what_rides_along_is_kept_while_the_store_is_away() -> None:
    """A write that fails takes nothing with it: what rode along rides along with the next one, once."""
    store = Counting()
    guard = Guard(store, reads=["search"])

    def body(frame: Frame) -> None:
        search(guard, frame, 1)
        store.away = True
        with pytest.raises(StoreUnavailable):
            guard.call(frame, Request("pay", {}, None), lambda: "paid")
        store.away = False
        guard.call(frame, Request("pay", {}, None), lambda: "paid")

    in_step(guard, body)
    assert [(call.tool, str(call.state)) for call in guard.calls.list()] == [("search", "committed"), ("pay", "committed")]


@pytest.mark.parametrize("store", ["memory://", "sqlite"])
def test_an_outcome_that_cannot_be_written_takes_nobody_with_it(store: str, tmp_path: Path) -> None:
    """A read that no row can hold (its id is no Unicode) is not recorded; what it rode along with, and what comes later, is."""
    guard = Guard(f"sqlite:///{tmp_path}/s.db" if store == "sqlite" else store, reads=["search"])

    def body(frame: Frame) -> None:
        assert guard.call(frame, Request("search", {}, None, alias="\ud800"), lambda: "found") == "found"
        assert guard.call(frame, Request("pay", {}, None), lambda: "paid") == "paid"

    in_step(guard, body)
    assert "pay" in [call.tool for call in guard.calls.list(state="committed")]
    guard.close()


def test_close_writes_what_still_waits() -> None:
    """Closing the guard records reads that no write came after."""
    store = Counting()
    with Guard(store, reads=["search"]) as guard:

        def body(frame: Frame) -> None:
            search(guard, frame, 1)
            raise InterruptedError

        with pytest.raises(InterruptedError):
            in_step(guard, body)
    assert [call.tool for call in Guard(store).calls.list()] == ["search"]
