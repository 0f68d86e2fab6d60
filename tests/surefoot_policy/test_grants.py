"""AS-83: grants that allow nothing any more cost a call nothing, are still listed, and go with retention."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from crash import Effects

import surefoot
from surefoot import ApprovalPending, Guard, NotFound
from surefoot.engine.program import Tx
from surefoot_stores.retention import Retention, prune

Policed = Callable[..., Guard]
ASKS = "tools: [{tool: pay, decision: approve}]\n"
YEAR = 365 * 86_400.0


@pytest.fixture
def pay(effects: Effects) -> Any:
    """A tool."""

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return "paid"

    pay.__qualname__ = "pay"
    return surefoot.tool(effect="unsafe")(pay)


def looked_at(guard: Guard) -> list[str]:
    """Return the grants that a call which needs one reads."""
    return [row.key for row in guard.transact(Tx(lambda unit: unit.records.list("approvals.grants"), write=False))]


def go(guard: Guard, pay: Any, *amounts: int) -> None:
    """Pay in a run."""
    surefoot.wrap(lambda: [pay(amount) for amount in amounts], guard=guard)()


def asked(guard: Guard, pay: Any) -> None:
    """Pay, which somebody must allow first."""
    with pytest.raises(ApprovalPending):
        go(guard, pay, 99)


def test_as_83_a_grant_that_is_over_is_not_read_again(policed: Policed, pay: Any, effects: Effects) -> None:
    """Used up, revoked or expired: later calls do not read it, it is listed as it was, and it allows nothing."""
    guard = policed(ASKS)
    used = [guard.approvals.grant("pay", by="maria", expires=60, uses=1).id for _ in range(3)]
    go(guard, pay, 1, 2, 3)
    revoked = guard.approvals.grant("pay", by="maria", expires=60).id
    assert guard.approvals.revoke(revoked, by="anna").revoked_by == "anna"
    old = guard.approvals.grant("pay", by="maria", expires=60).id
    kept = guard.approvals.grant("nothing", by="maria", expires=YEAR).id
    assert set(looked_at(guard)) == {old, kept}
    guard.clock = lambda: time.time() + 61
    asked(guard, pay)
    assert looked_at(guard) == [kept]
    listed = {grant.id: grant for grant in guard.approvals.grants()}
    assert set(listed) == {*used, revoked, old, kept}
    assert [listed[one].used for one in used] == [1, 1, 1]
    assert [listed[one].open(guard.clock()) for one in (*used, revoked, old, kept)] == [False] * 5 + [True]
    assert effects.count("pay") == 3


def test_as_83_a_grant_that_is_over_can_be_revoked(policed: Policed, pay: Any) -> None:
    """Taking back what is used up is noted, once more too; what is not there is not."""
    guard = policed(ASKS)
    grant = guard.approvals.grant("pay", by="maria", expires=60, uses=1)
    go(guard, pay, 1)
    for by in ("anna", "eva"):
        assert guard.approvals.revoke(grant.id, by=by).revoked_by == by
    assert [(one.used, one.revoked_by) for one in guard.approvals.grants()] == [(1, "eva")]
    with pytest.raises(NotFound, match="there is no grant default/nothing"):
        guard.approvals.revoke("default/nothing", by="anna")


def test_as_74_grants_go_with_retention(policed: Policed, pay: Any) -> None:
    """AS-74: what was over for long is pruned, read or not; what may still be used, and what ended lately, is not."""
    guard = policed(ASKS)
    guard.approvals.grant("pay", by="maria", expires=60, uses=1)
    go(guard, pay, 1)
    guard.approvals.grant("pay", by="maria", expires=60)
    guard.approvals.grant("nothing", by="maria", expires=3 * YEAR)
    now = time.time()
    assert prune(guard.store, Retention(), now + 2).grants == 0
    assert len(guard.approvals.grants()) == 3
    assert prune(guard.store, Retention(), now + YEAR + 120).grants == 2
    assert [grant.tool for grant in guard.approvals.grants()] == ["nothing"]
    assert prune(guard.store, Retention(), now + YEAR + 120).grants == 0
