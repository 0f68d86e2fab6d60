"""Writes that happened, though the store said that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import surefoot
from surefoot import Guard, StoreUnavailable, ToolRule
from surefoot_stores import MemoryStore


class Unanswering(MemoryStore):
    """A store that says once of a write that it may not have happened, when it has."""

    silent = False

    def run(self, work: Callable[[Any], Any], *, write: bool = True) -> Any:
        """Run, and say so or not."""
        answer = super().run(work, write=write)
        if write and self.silent:
            self.silent = False
            raise StoreUnavailable("it is unknown whether it was committed")
        return answer


def test_i3_an_outcome_that_is_told_twice_is_one_outcome() -> None:
    """A result whose write was not answered is written again and found there: one effect, one answer, and nobody is alarmed."""
    store = Unanswering()
    effects: list[int] = []

    @surefoot.tool()
    def pay(order: int) -> str:
        effects.append(order)
        store.silent = True
        return f"paid {order}"

    def buy(order: int) -> str:
        return str(pay(order))

    guard = Guard(store, tools={"pay": ToolRule(effect="unsafe")})
    assert surefoot.wrap(buy, guard=guard)(7) == "paid 7"
    assert effects == [7]
    assert not store.silent
    (call,) = guard.calls.list()
    assert (str(call.state), call.value) == ("committed", '"paid 7"')
    assert [event.type for run in guard.runs.list() for event in guard.runs.events(run.run_id)].count("call.late_conflict") == 0


def test_i3_an_intent_that_may_be_there_is_taken_back() -> None:
    """A claim whose write was not answered enters no body and leaves nothing that a later request would have to doubt."""
    store = Unanswering()
    effects: list[int] = []

    @surefoot.tool()
    def pay(order: int) -> str:
        effects.append(order)
        return f"paid {order}"

    def steps(order: int) -> str:
        store.silent = order == 7 and not effects
        try:
            return str(pay(order))
        except StoreUnavailable:
            assert effects == []
            return str(pay(order))

    guard = Guard(store, tools={"pay": ToolRule(effect="unsafe", key=["order"])})
    assert surefoot.wrap(steps, guard=guard)(7) == "paid 7"
    assert effects == [7]
