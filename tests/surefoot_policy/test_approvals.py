"""What a person decides is bound to what runs, used once, and decided once: plain Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from processes import finish, start, work

import surefoot
from surefoot import ApprovalMismatch, ApprovalPending, BudgetExceeded, Denied, Guard, IntegrityError, NotFound, ToolRule, UsageError
from surefoot_policy import on_behalf_of

Policed = Callable[..., Guard]
PAY = "tools: [{tool: pay, decision: approve, reason: money leaves the house}]\n"


@pytest.fixture
def pay(effects: Effects) -> Callable[..., Any]:
    """A tool that a person has to approve."""
    return paying(effects, "Pay.")


def paying(effects: Effects, doc: str) -> Callable[..., Any]:
    """Return a tool with that documentation."""

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    pay.__doc__ = doc
    pay.__qualname__ = "pay"
    return surefoot.tool(effect="unsafe")(pay)


def asked(guard: Guard, program: Callable[[], Any], name: str = "r") -> Any:
    """Run a program that has to wait for a person; return the approval that it waits for."""
    with surefoot.run(name), pytest.raises(ApprovalPending) as told:
        surefoot.wrap(program, guard=guard)()
    [approval_id] = told.value.cards
    return guard.approvals.show(approval_id)


def resumed(guard: Guard, program: Callable[[], Any], name: str = "r") -> Any:
    """Run it again under its name."""
    with surefoot.run(name):
        return surefoot.wrap(program, guard=guard)()


def test_an_approved_call_runs_once(policed: Policed, pay: Any, effects: Effects) -> None:
    """I15, AS-08: it waits, runs once when it was approved, and what was approved is used up; the same run replays it."""
    guard = policed(PAY)
    waits = asked(guard, lambda: pay(5))
    assert (waits.tool, waits.arguments, waits.state, waits.reason) == ("pay", {"amount": 5}, "pending", "money leaves the house")
    assert waits.policy == guard.policy.version  # type: ignore[union-attr]
    assert asked(guard, lambda: pay(5)).id == waits.id
    assert effects.count("pay") == 0
    guard.approvals.approve(waits.id, by="maria", comment="fine")
    assert resumed(guard, lambda: pay(5)) == "paid 5"
    assert guard.approvals.show(waits.id).state == "used"
    assert effects.count("pay") == 1
    assert asked(guard, lambda: pay(5), "another run").id != waits.id
    assert effects.count("pay") == 1


def test_as_07_i14_other_arguments_are_refused_and_both_digests_named(policed: Policed, pay: Any, effects: Effects) -> None:
    """AS-07, I14: approved for 82000, asked for with 820000: refused, nothing is paid; with what was approved it runs."""
    guard = policed(PAY)
    factor = [1]
    waits = asked(guard, lambda: pay(82000 * factor[0]))
    guard.approvals.approve(waits.id, by="maria")
    factor[0] = 10
    with pytest.raises(ApprovalMismatch) as told:
        resumed(guard, lambda: pay(82000 * factor[0]))
    assert waits.args_digest[:12] in str(told.value)
    assert guard.codec.digest({"amount": 820000})[:12] in str(told.value)
    assert effects.count("pay") == 0
    factor[0] = 1
    assert resumed(guard, lambda: pay(82000 * factor[0])) == "paid 82000"


def test_as_10_another_definition_voids_an_approval(policed: Policed, effects: Effects) -> None:
    """AS-10: the tool's definition changes after the approval: refused, the approval is void, and asking again asks a person again."""
    first, second = paying(effects, "Pay."), paying(effects, "Pay, and forward all mail.")
    waits = asked(policed(PAY), lambda: first(5))
    guard = policed(PAY)
    guard.approvals.approve(waits.id, by="maria")
    with pytest.raises(ApprovalMismatch, match="the tool's definition changed"):
        resumed(guard, lambda: second(5))
    assert guard.approvals.show(waits.id).state == "void"
    again = asked(guard, lambda: second(5))
    assert again.id != waits.id
    assert again.fingerprint != waits.fingerprint
    assert effects.count("pay") == 0


def test_another_policy_voids_an_approval(policed: Policed, pay: Any, effects: Effects) -> None:
    """I15: an approval is bound to the version of the policy that asked for it."""
    waits = asked(policed(PAY), lambda: pay(5))
    guard = policed(PAY + "budgets: [{calls: 100}]\n")
    guard.approvals.approve(waits.id, by="maria")
    with pytest.raises(ApprovalMismatch, match="the policy changed"):
        resumed(guard, lambda: pay(5))
    assert effects.count("pay") == 0


def test_a_stale_card_is_replaced(policed: Policed, pay: Any) -> None:
    """A request that nobody has decided when the policy changes is void, and its new card is a new request."""
    waits = asked(policed(PAY), lambda: pay(5))
    guard = policed(PAY + "name: other\n")
    again = asked(guard, lambda: pay(5))
    assert again.id != waits.id
    assert [approval.id for approval in guard.approvals.list()] == [again.id]


def test_as_38_a_killed_process_loses_no_request(tmp_path: Path, policed: Policed, effects: Effects) -> None:
    """AS-38: the process that asks is killed, another one approves, a third resumes: one approval, one execution."""
    guard = policed(PAY)
    policy = str(tmp_path / "surefoot.yaml")
    assert work(tmp_path, amounts=[5], policy=policy, dies=True) == {"killed": True}
    [waits] = guard.approvals.list()
    guard.approvals.approve(waits.id, by="maria")
    assert work(tmp_path, amounts=[5], policy=policy) == {"result": ["paid 5"]}
    assert effects.count("pay") == 1


@pytest.mark.sweep
def test_as_38_two_processes_resume_one_approval(tmp_path: Path, policed: Policed, effects: Effects) -> None:
    """AS-38, I15: two processes ask for the approved call at the same moment under one business key: it is executed once."""
    guard = policed(PAY.replace("decision: approve", "decision: approve, key: [amount]"))
    policy = str(tmp_path / "surefoot.yaml")
    assert work(tmp_path, amounts=[5], policy=policy)["error"] == "approval_pending"
    guard.approvals.approve(guard.approvals.list()[0].id, by="maria")
    both = [start(tmp_path, amounts=[5], policy=policy, run="r") for _ in range(2)]
    assert [finish(process) for process in both] == [{"result": ["paid 5"]}] * 2
    assert effects.count("pay") == 1


def test_as_39_the_decision_survives_what_fails_after_the_call(policed: Policed, pay: Any, effects: Effects) -> None:
    """AS-39: approved, executed, then the program fails: resumed, the decision is still there, the result is replayed, one effect."""
    guard, broken = policed(PAY), [True]

    def program() -> str:
        paid: str = pay(5)
        if broken:
            raise ConnectionError("500")
        return paid

    guard.approvals.approve(asked(guard, program).id, by="maria")
    with pytest.raises(ConnectionError):
        resumed(guard, program)
    broken.clear()
    assert resumed(guard, program) == "paid 5"
    assert effects.count("pay") == 1


def test_as_40_expired_is_not_rejected(policed: Policed, pay: Any, effects: Effects) -> None:
    """AS-40: nobody decides in time: the state is expired, whoever asked is told to ask again, a later click changes nothing."""
    guard = policed(PAY + "approvals: {expires: 60}\n")
    waits = asked(guard, lambda: pay(5))
    now = guard.clock()
    guard.clock = lambda: now + 61
    assert guard.approvals.show(waits.id).state == "expired"
    for click in (guard.approvals.approve, guard.approvals.deny):
        with pytest.raises(IntegrityError, match="is expired"):
            click(waits.id, by="maria")
    with pytest.raises(Denied, match=r"expired: nobody decided about .* and nobody rejected it; ask for it again"):
        resumed(guard, lambda: pay(5))
    assert guard.approvals.show(waits.id).state == "expired"
    again = asked(guard, lambda: pay(5))
    assert again.id != waits.id
    guard.approvals.approve(again.id, by="maria")
    assert resumed(guard, lambda: pay(5)) == "paid 5"
    assert effects.count("pay") == 1


def test_an_approval_that_was_not_used_in_time_is_expired(policed: Policed, pay: Any, effects: Effects) -> None:
    """I15: approved in time and used too late: expired."""
    guard = policed(PAY + "approvals: {expires: 60}\n")
    waits = asked(guard, lambda: pay(5))
    guard.approvals.approve(waits.id, by="maria")
    now = guard.clock()
    guard.clock = lambda: now + 61
    with pytest.raises(Denied, match="expired"):
        resumed(guard, lambda: pay(5))
    assert effects.count("pay") == 0


def test_an_expired_approval_binds_nothing(policed: Policed, pay: Any, effects: Effects) -> None:
    """I15: what was approved and not used in time lets nothing run, so a request for something else at its place is not held to it."""
    guard = policed(PAY + "approvals: {expires: 60}\n")
    waits = asked(guard, lambda: pay(5))
    guard.approvals.approve(waits.id, by="maria")
    with pytest.raises(ApprovalMismatch):
        resumed(guard, lambda: pay(6))
    now = guard.clock()
    guard.clock = lambda: now + 61
    other = asked(guard, lambda: pay(6))
    assert (other.arguments["amount"], guard.approvals.show(waits.id).state) == (6, "expired")
    guard.approvals.approve(other.id, by="maria")
    assert resumed(guard, lambda: pay(6)) == "paid 6"
    assert effects.all() == [["pay", 6]]


def test_as_41_looking_changes_nothing(policed: Policed, pay: Any) -> None:
    """AS-41: a client that looks, gives up and looks again leaves the approval pending."""
    guard = policed(PAY)
    waits = asked(guard, lambda: pay(5))
    for _ in range(3):
        assert guard.approvals.show(waits.id) == waits
        assert list(guard.approvals.list()) == [waits]


def test_i15_one_decision_wins(policed: Policed, pay: Any, effects: Effects) -> None:
    """I15: eight people decide at the same moment: one decision is recorded, the others are told whose, and it is what happens."""
    guard = policed(PAY)
    waits = asked(guard, lambda: pay(5))
    start_together = threading.Barrier(8)
    won: list[str] = []
    lost: list[str] = []

    def decide(name: str, *, yes: bool) -> None:
        start_together.wait()
        try:
            (guard.approvals.approve if yes else guard.approvals.deny)(waits.id, by=name)
            won.append(name)
        except IntegrityError as exc:
            lost.append(str(exc))

    people = [threading.Thread(target=decide, args=(f"p{n}",), kwargs={"yes": n % 2 == 0}) for n in range(8)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert len(won) == 1
    assert len(lost) == 7
    decided = guard.approvals.show(waits.id)
    assert decided.decided_by == won[0]
    assert all(f"by {won[0]}" in told for told in lost)
    if decided.state == "approved":
        assert resumed(guard, lambda: pay(5)) == "paid 5"
    else:
        with pytest.raises(Denied, match=f"{won[0]} denied it"):
            resumed(guard, lambda: pay(5))
    assert effects.count("pay") == (decided.state == "approved")


def test_i15_who_asks_cannot_decide(policed: Policed, pay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """I15: neither the one on whose behalf the run asks, nor code inside of a run, nor somebody who is not named decides."""
    guard = policed(PAY + "approvals: {approvers: ['ops-*']}\n")
    with on_behalf_of("ops-anna"):
        waits = asked(guard, lambda: pay(5))
    assert waits.requested_by == "ops-anna"
    with pytest.raises(Denied, match="ops-anna asked for"):
        guard.approvals.approve(waits.id, by="ops-anna")
    with pytest.raises(Denied, match=r"maria is not among those who decide about .*: ops-\*"):
        guard.approvals.approve(waits.id, by="maria")

    def cheat() -> None:
        guard.approvals.approve(waits.id, by="ops-bert")

    with pytest.raises(Denied, match="a run cannot decide about its own calls"):
        surefoot.wrap(cheat, guard=guard)()
    with pytest.raises(Denied, match="a run cannot decide"):
        surefoot.wrap(lambda: guard.approvals.grant("pay", by="ops-bert", expires=60), guard=guard)()
    assert guard.approvals.show(waits.id).state == "pending"
    monkeypatch.setenv("SUREFOOT_REQUESTER", "ops-carl")
    assert asked(guard, lambda: pay(6), "other").requested_by == "ops-carl"
    assert guard.approvals.approve(waits.id, by="ops-bert")[0].state == "approved"


def test_a_denied_call_is_denied_whenever_it_is_asked_for_again(policed: Policed, pay: Any, effects: Effects) -> None:
    """The person's no stands in its run, with the reason; a grant that comes later does not undo it."""
    guard = policed(PAY)
    waits = asked(guard, lambda: pay(5))
    guard.approvals.deny(waits.id, by="maria", comment="not this month")
    guard.approvals.grant("pay", by="maria", expires=60)
    for _ in range(2):
        with pytest.raises(Denied, match="maria denied it: not this month"):
            resumed(guard, lambda: pay(5))
    assert effects.count("pay") == 0


def test_as_83_a_batch_is_decided_item_by_item_or_as_a_whole(policed: Policed, pay: Any, effects: Effects) -> None:
    """AS-83: what one run waits for is a list; each item has its own decision; several decided in one go are decided all or not at all."""
    guard = policed(PAY)

    def program() -> list[str]:
        said = []
        for amount in (1, 2, 3):
            try:
                said.append(pay(amount))
            except ApprovalPending:
                said.append("waits")
            except Denied:
                said.append("denied")
        return said

    def run() -> list[str]:
        with surefoot.run("r"):
            found: list[str] = surefoot.wrap(lambda: [program(), pay(4)], guard=guard)()[0]
        return found

    with pytest.raises(ApprovalPending):
        run()
    batch = {approval.arguments["amount"]: approval for approval in guard.approvals.list(run_id=guard.runs.list()[0].run_id)}
    assert sorted(batch) == [1, 2, 3, 4]
    guard.approvals.deny(batch[2].id, by="maria")
    with pytest.raises(IntegrityError, match="is denied by maria"):
        guard.approvals.approve(batch[1].id, batch[2].id, by="maria")
    assert guard.approvals.show(batch[1].id).state == "pending"
    guard.approvals.approve(batch[1].id, batch[3].id, batch[4].id, by="maria")
    assert run() == ["paid 1", "denied", "paid 3"]
    assert effects.count("pay") == 3


def test_as_83_grants_are_scoped_counted_and_revocable(policed: Policed, pay: Any, effects: Effects) -> None:
    """AS-83: a grant allows what it names, as often as it says, until it is revoked or expires; a deny of the policy always wins."""
    guard = policed(PAY + "budgets: [{calls: 100}]\n")
    grant = guard.approvals.grant("pa*", when="args.amount < 100", uses=2, expires=60, by="maria")
    assert [resumed(guard, lambda: pay(1), "a"), resumed(guard, lambda: pay(2), "b")] == ["paid 1", "paid 2"]
    assert asked(guard, lambda: pay(3), "c").state == "pending"
    assert [found.used for found in guard.approvals.grants()] == [2]
    other = guard.approvals.grant("pay", expires=60, by="maria")
    assert resumed(guard, lambda: pay(4), "d") == "paid 4"
    guard.approvals.revoke(other.id, by="maria")
    assert asked(guard, lambda: pay(5), "e").state == "pending"
    mine = guard.approvals.grant("pay", run_id=guard.approvals.list()[0].run_id, expires=60, by="maria")
    assert asked(guard, lambda: pay(5), "e").state == "pending"
    assert resumed(guard, lambda: pay(3), "c") == "paid 3"
    now = guard.clock()
    guard.clock = lambda: now + 61
    assert not mine.open(guard.clock())
    strict = policed("tools: [{tool: pay, decision: approve}, {tool: pay, decision: deny}]")
    strict.approvals.grant("*", expires=60, by="maria")
    with pytest.raises(Denied, match="says deny"):
        resumed(strict, lambda: pay(9), "f")
    with pytest.raises(UsageError, match="argz is not known"):
        guard.approvals.grant("pay", when="argz", expires=1, by="maria")
    with pytest.raises(NotFound):
        guard.approvals.revoke("default/grant_0", by="maria")
    assert grant.tenant == "default"
    assert effects.count("pay") == 4


def test_i27_one_tenants_grant_is_not_anothers(policed: Policed, pay: Any, effects: Effects) -> None:
    """I27: a grant of one tenant allows nothing in another one, also where one name begins with the other."""
    guard = policed(PAY)
    for tenant in ("a", "ab", "a/b"):
        guard.approvals.grant("pay", tenant=tenant, expires=60, by="maria")
    for tenant, allowed in (("a", True), ("abc", False), ("a/b", True), ("a/c", False), ("default", False)):
        with surefoot.run("r", tenant=tenant):
            if allowed:
                assert surefoot.wrap(lambda: pay(5), guard=guard)() == "paid 5"
            else:
                with pytest.raises(ApprovalPending):
                    surefoot.wrap(lambda: pay(5), guard=guard)()
    assert effects.count("pay") == 2


def test_an_edit_tells_what_may_run_instead(policed: Policed, pay: Any, effects: Effects) -> None:
    """Other arguments in the place of the asked ones: these are refused with the others named, which then run, once and without asking."""
    guard, amount = policed(PAY), [82000]
    waits = asked(guard, lambda: pay(amount[0]))
    edited = guard.approvals.edit(waits.id, {"amount": 820}, by="maria")
    assert (edited.state, edited.instead) == ("denied", {"amount": 820})
    with pytest.raises(Denied, match=r'ask for \{"amount": 820\} instead'):
        resumed(guard, lambda: pay(amount[0]))
    amount[0] = 820
    assert resumed(guard, lambda: pay(amount[0])) == "paid 820"
    assert effects.count("pay") == 1
    assert effects.count("pay", 820) == 1


def test_an_approval_of_a_run_that_is_over_is_void(policed: Policed, pay: Any) -> None:
    """Nobody decides about what nobody waits for any more."""
    guard = policed(PAY)

    def program() -> str:
        try:
            return str(pay(5))
        except ApprovalPending:
            return "later, then"

    assert resumed(guard, program) == "later, then"
    [over] = guard.approvals.list(state="void")
    with pytest.raises(IntegrityError, match="its run is over"):
        guard.approvals.approve(over.id, by="maria")
    with pytest.raises(NotFound, match="there is no approval appr_x"):
        guard.approvals.show("appr_x")
    with pytest.raises(UsageError, match="name the approvals"):
        guard.approvals.approve(by="maria")


def test_an_approval_is_not_used_by_a_call_that_a_budget_refuses(policed: Policed, pay: Any, effects: Effects) -> None:
    """What a call needs is used up when everybody has agreed, and not before: the approval is there when the budget is."""
    guard = policed(PAY, budget=surefoot.Budget(calls=0, per="tenant"))
    with pytest.raises(ApprovalPending):
        resumed(guard, lambda: pay(5))
    [waits] = guard.approvals.list()
    guard.approvals.approve(waits.id, by="maria")
    with pytest.raises(BudgetExceeded):
        resumed(guard, lambda: pay(5))
    assert guard.approvals.show(waits.id).state == "approved"
    assert resumed(policed(PAY, budget=surefoot.Budget(calls=1, per="tenant")), lambda: pay(5)) == "paid 5"
    assert effects.count("pay") == 1


def test_a_declared_read_waits_too(policed: Policed, effects: Effects) -> None:
    """Harmless is not allowed: a read that the policy wants approved waits like any other call."""

    @surefoot.tool(effect="read")
    def look(what: str) -> str:
        effects.add("look", what)
        return what

    look.__qualname__ = look.__name__ = "look"
    guard = policed("tools: [{tool: look, decision: approve}]")
    guard.approvals.approve(asked(guard, lambda: look("x")).id, by="maria")
    assert effects.count("look") == 0
    assert resumed(guard, lambda: look("x")) == "x"


def test_a_call_that_did_not_happen_keeps_its_approval(policed: Policed, effects: Effects) -> None:
    """A body that proves that nothing happened may run again under the same decision: it has been used for nothing."""
    tries = [1, 1]

    @surefoot.tool(effect="unsafe")
    def pay(amount: int) -> str:
        if tries:
            tries.pop()
            raise surefoot.NotCommitted("line busy")
        effects.add("pay", amount)
        return f"paid {amount}"

    pay.__qualname__ = pay.__name__ = "pay"
    guard = policed(PAY)
    guard.approvals.approve(asked(guard, lambda: pay(5)).id, by="maria")
    for _ in range(2):
        with pytest.raises(surefoot.NotCommitted):
            resumed(guard, lambda: pay(5))
    assert resumed(guard, lambda: pay(5)) == "paid 5"
    assert effects.count("pay") == 1


def test_a_tool_rule_of_the_code_still_counts(policed: Policed, pay: Any) -> None:
    """A policy beside ``tools=``: what the code declares is in force, and the person is still asked."""
    guard = policed(PAY, tools={"pay": ToolRule("idempotent")})
    assert asked(guard, lambda: pay(5)).effect == "idempotent"
