"""The table of transitions: complete, closed, and the only way a call moves."""

from __future__ import annotations

import itertools

import pytest

from surefoot import CallRecord, CallState, Effect, IntegrityError
from surefoot.engine.transitions import TABLE, CallEvent, advance

RECORD = CallRecord(
    "call_1", "k", "t", "c", "r", "s", "p", "tool", "d", None, Effect.UNSAFE, CallState.INTENT, 1, 1, "o", sticky=True
)  # fmt: skip


def test_every_state_and_event_is_used() -> None:
    """Every state can be reached and every event leads somewhere."""
    assert {t.to for t in TABLE.values()} == set(CallState)
    assert {event for _, event in TABLE} == set(CallEvent)


@pytest.mark.parametrize(("state", "event"), list(itertools.product([None, *CallState], CallEvent)))
def test_only_the_table_moves_a_call(state: CallState | None, event: CallEvent) -> None:
    """A pair in the table gives its state and mark; any other raises IntegrityError."""
    if (state, event) not in TABLE:
        with pytest.raises(IntegrityError):
            advance(RECORD, state, event, 5.0)
        return
    moved = advance(RECORD, state, event, 5.0)
    expected = TABLE[state, event]
    assert (moved.state, moved.updated) == (expected.to, 5.0)
    assert moved.sticky is (True if expected.sticky is None else expected.sticky)


def test_i1_a_committed_call_becomes_an_intent_only_as_a_read() -> None:
    """The only ways from committed to running again are a read that is read again and a compensated effect."""
    to_intent = {pair for pair, t in TABLE.items() if t.to is CallState.INTENT}
    assert {state for state, _ in to_intent} == {None, *CallState} - {CallState.TOMBSTONE, CallState.COMPENSATION_FAILED}
    assert [event for state, event in to_intent if state is CallState.COMMITTED] == [CallEvent.REENTERED]


def test_i8_a_tombstone_is_never_fresh() -> None:
    """Nothing leads away from a tombstone."""
    assert {t.to for (state, _), t in TABLE.items() if state is CallState.TOMBSTONE} == {CallState.TOMBSTONE}
