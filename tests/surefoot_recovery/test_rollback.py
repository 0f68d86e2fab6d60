"""Rolling back plain Python: what is undone, in which order, and what refuses it. Effects are counted in a file that tools write."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from bank import Bank
from crash import Children, Effects, died, look, printed

import surefoot
from surefoot import CallState, InDoubt, InFlight, NotCommitted, NotFound, ResultUnavailable, UsageError
from surefoot_recovery import Plan, RollbackRefused, undone_on_failure
from surefoot_stores.retention import Retention, prune

DONE = ["credit", "notify", "withdraw"]
UNDONE = ["undo withdraw", "undo notify", "undo credit"]


def states(bank: Bank) -> dict[str, str]:
    """Return where the calls of the newest run stand."""
    return {row.tool: str(row.state) for row in bank.guard.calls.list(run_id=bank.newest.run_id)}


# --- AS-70


def test_as_70_an_error_that_is_tried_again_undoes_nothing(tmp_path: Path) -> None:
    """The withdrawal fails and then succeeds on retry: nothing is compensated, and the run is completed."""
    bank = Bank(tmp_path, {"fails": {"withdraw": 1}, "tries": 2})
    assert bank.scoped() == ["credit 10", "withdraw 10"]
    assert (bank.did(), bank.newest.status) == (DONE, "completed")


def test_as_70_a_scope_that_finally_fails_is_undone_newest_first(tmp_path: Path) -> None:
    """The withdrawal fails for good: what was done is compensated in reverse order, once each, and the run is ``compensated``."""
    bank = Bank(tmp_path, {"fails": {"withdraw": 1}})
    with pytest.raises(NotCommitted, match="withdraw is closed"):
        bank.scoped()
    assert bank.did() == ["credit", "notify", "undo notify", "undo credit"]
    assert bank.newest.status == "compensated"
    assert states(bank) == {"credit": "compensated", "notify": "compensated", "withdraw": "failed"}


def test_as_70_a_compensation_that_fails_is_no_success_and_can_be_tried_again(tmp_path: Path) -> None:
    """A compensation that fails stops the rollback at its place, holds the run as ``compensation_failed``, and goes on when asked again."""
    bank = Bank(tmp_path, {"fails": {"undo notify": 1}})
    bank.run()
    run = bank.newest.run_id
    undone = bank.guard.runs.rollback(run, by="tester")
    assert (undone.status, len(undone.compensated), len(undone.failed), len(undone.left)) == ("compensation_failed", 1, 1, 2)
    assert states(bank) == {"credit": "committed", "notify": "compensation_failed", "withdraw": "compensated"}
    assert (bank.newest.status, bool(bank.newest.hold)) == ("compensation_failed", True)
    with pytest.raises(InDoubt, match="a rollback of it is under way"):
        bank.run()
    assert bank.guard.runs.rollback(run, by="tester").status == "compensated"
    assert bank.did() == [*DONE, *UNDONE]
    assert (bank.newest.status, bank.newest.hold) == ("compensated", ())


def test_as_70_partial_goes_past_a_compensation_that_fails(tmp_path: Path) -> None:
    """With ``partial`` the others are undone, the failed one is listed, and the status says so."""
    bank = Bank(tmp_path, {"fails": {"undo notify": 1}})
    bank.run()
    undone = bank.guard.runs.rollback(bank.newest.run_id, partial=True, by="tester")
    assert bank.did() == [*DONE, "undo withdraw", "undo credit"]
    assert (undone.status, undone.left == undone.failed, len(undone.failed)) == ("compensation_failed", True, 1)
    assert (bank.newest.status, bank.newest.hold) == ("compensation_failed", ())


def test_as_70_a_scope_undoes_nothing_of_a_run_before_it(tmp_path: Path) -> None:
    """A block that fails before it calls anything leaves what a completed run of its name, or of its thread, did."""
    bank = Bank(tmp_path, {})
    bank.scoped()
    with pytest.raises(ValueError, match="before"), undone_on_failure(bank.guard, "t-7"):
        raise ValueError("before the transfer")
    assert (bank.did(), bank.newest.status) == (DONE, "completed")


def test_as_70_a_scope_without_a_name_is_refused(tmp_path: Path) -> None:
    """What has no name could not be found again, so nothing is begun."""
    bank = Bank(tmp_path, {})
    with pytest.raises(UsageError, match="the name of the run"), undone_on_failure(bank.guard):
        bank.transfer(10)
    assert bank.did() == []


def test_as_70_a_rollback_under_way_is_finished_before_another_one(tmp_path: Path) -> None:
    """A rollback whose compensation failed goes on to the step that it was begun for, and to no other."""
    bank = Bank(tmp_path, {"fails": {"undo notify": 1}})
    bank.run()
    run = bank.newest.run_id
    bank.guard.runs.rollback(run, by="tester")
    with pytest.raises(UsageError, match=f"finish it first: surefoot runs rollback {run}$"):
        bank.guard.runs.rollback(run, to="fetch", by="tester")
    assert bank.newest.hold
    assert bank.guard.runs.rollback(run, by="tester").status == "compensated"


def test_as_70_a_business_key_that_was_undone_and_done_again_is_undone_again(tmp_path: Path) -> None:
    """One order is charged, refunded and charged again by a later run: its charge is refunded again, and does not stand unseen."""
    guard, did = surefoot.Guard(f"sqlite:///{tmp_path}/surefoot.db"), []

    @surefoot.tool(effect="unsafe", key=["order"], compensate=lambda _call, _result: did.append("refund"))
    def charge(order: str) -> str:
        did.append("charge")
        return order

    def buy(order: str) -> str:
        return str(charge(order))

    program = surefoot.wrap(buy, guard=guard)

    def bought(name: str) -> str:
        with surefoot.run(name):
            program("o-1")
        return guard.runs.list()[0].run_id

    first = bought("a")
    guard.runs.rollback(first, by="tester")
    second = bought("b")
    assert [len(guard.calls.list(run_id=run)) for run in (first, second)] == [0, 1], "it is the later run's now"
    assert guard.runs.rollback(second, by="tester").compensated
    assert did == ["charge", "refund", "charge", "refund"]
    assert guard.runs.rollback(first, by="tester").compensated == ()
    assert did.count("refund") == 2


def test_as_70_a_held_call_that_ran_and_was_undone_may_run_again(tmp_path: Path) -> None:
    """What a person let run and a rollback compensated is asked for again: it runs, since nothing of it stands."""

    class HoldsCharges(surefoot.Gate):
        def check(self, call: surefoot.Call) -> surefoot.Decision:
            return surefoot.Hold("a person decides") if call.tool == "charge" else surefoot.Allow()

    guard, did = surefoot.Guard(f"sqlite:///{tmp_path}/surefoot.db", gates=[HoldsCharges()]), []

    @surefoot.tool(effect="unsafe", compensate=lambda _call, _result: did.append("refund"))
    def charge() -> str:
        did.append("charge")
        return "charged"

    def prepare() -> str:
        return "prepared"

    def settle() -> str:
        return str(charge())

    steps = [surefoot.wrap(step, guard=guard) for step in (prepare, settle)]

    def order() -> list[str]:
        return [step() for step in steps]

    program = surefoot.wrap(order, guard=guard)
    with surefoot.run("r"):
        with pytest.raises(InDoubt) as held:
            program()
        guard.calls.settle(held.value.call_id or "", failed=True, by="maria")
        assert program() == ["prepared", "charged"]
        guard.runs.rollback(guard.runs.list()[0].run_id, to="prepare", by="maria")
        assert program() == ["prepared", "charged"]
    assert did == ["charge", "refund", "charge"]


@pytest.mark.parametrize(
    "point",
    [
        "call.claimed undo:notify",
        "effect undo notify",
        "call.committed undo:notify",
        "call.compensated notify",
        "run.rollback_begun",
        "call.compensated credit",
        "run.rolled_back",
    ],
)
def test_as_70_i18_i19_a_killed_rollback_goes_on_and_undoes_each_effect_once(tmp_path: Path, children: Children, point: str) -> None:
    """Killed anywhere, the rollback is finished by asking again: each compensation ran at most once, in reverse order, or is in doubt."""
    assert printed(children.process(tmp_path, do="run")) == ["credit 10", "withdraw 10"]
    died(children.process(tmp_path, do="undo", kill=point))
    if point != "run.rolled_back":
        assert "a rollback of it is under way" in children.process(tmp_path, do="run").stderr, (
            "nobody goes on from a state that is half undone"
        )
    again = children.process(tmp_path, do="undo")
    did = [effect[0] for effect in Effects(tmp_path / "effects").all()]
    if point in {"call.claimed undo:notify", "effect undo notify"}:
        assert "InDoubt" in again.stderr
        (doubt,) = look(tmp_path).calls.list(state="in_doubt")
        assert doubt.tool == "undo:notify"
        happened = "undo notify" in did
        look(tmp_path).calls.settle(doubt.call_id, by="tester", **({"committed": "undid notify"} if happened else {"failed": True}))
        again = children.process(tmp_path, do="undo")
    assert printed(again)[0] == "compensated"
    assert [effect[0] for effect in Effects(tmp_path / "effects").all()] == [*DONE, *UNDONE]


def test_as_70_negative_control_without_a_ledger_a_killed_rollback_undoes_twice(tmp_path: Path) -> None:
    """The same compensations called by hand, killed and called again, undo twice: the matrix can fail."""
    bank = Bank(tmp_path)
    bank.run()
    for _ in range(2):  # a process that dies after the first, and the next one
        for row in reversed(bank.guard.calls.list(run_id=bank.newest.run_id)):
            bank.effects.add(f"undo {row.tool}")
    assert bank.did().count("undo withdraw") == 2


# --- AS-71


def test_as_71_what_cannot_be_completed_is_refused_before_anything_is_undone(tmp_path: Path) -> None:
    """One call that declares no compensation refuses the whole rollback; the error lists it, and nothing was undone or held."""
    bank = Bank(tmp_path, {"declares": ["credit", "withdraw"]})
    bank.run()
    with pytest.raises(RollbackRefused, match="notify declares no compensate=") as refused:
        bank.guard.runs.rollback(bank.newest.run_id, by="tester")
    assert [item.tool for item in refused.value.plan.blocking] == ["notify"]
    assert (bank.did(), bank.newest.status, bank.newest.hold) == (DONE, "completed", ())
    undone = bank.guard.runs.rollback(bank.newest.run_id, partial=True, by="tester")
    assert bank.did() == [*DONE, "undo withdraw", "undo credit"]
    assert [bank.guard.calls.show(call).tool for call in undone.left] == ["notify"]


def test_as_71_an_effect_in_doubt_refuses_the_rollback(tmp_path: Path, children: Children) -> None:
    """Nobody knows whether a call in doubt needs to be undone: the rollback is refused, and with ``partial`` it is listed."""
    died(children.process(tmp_path, do="run", kill="effect withdraw"))
    refused = children.process(tmp_path, do="undo")
    assert "InDoubt" in refused.stderr
    assert "settle it, or --partial" in refused.stderr
    assert [effect[0] for effect in Effects(tmp_path / "effects").all()] == DONE
    assert printed(children.process(tmp_path, do="undo", partial=True)) == ["compensated", 2]
    assert [effect[0] for effect in Effects(tmp_path / "effects").all()] == [*DONE, "undo notify", "undo credit"]


# --- AS-72


def test_as_72_the_plan_lists_what_came_after_the_step_and_writes_nothing(tmp_path: Path) -> None:
    """The plan names each effect after the step as compensable or irreversible, newest first; making it changes nothing."""
    bank = Bank(tmp_path, {"declares": ["credit", "withdraw"]})
    bank.run()
    before = len(bank.guard.runs.events(bank.newest.run_id))
    plan = bank.guard.runs.rollback(bank.newest.run_id, to="fetch", plan=True, by="tester")
    assert isinstance(plan, Plan)
    assert [(item.tool, item.state, item.fate) for item in plan.items] == [
        ("withdraw", "committed", "compensable"),
        ("notify", "committed", "irreversible"),
    ]
    assert [path.split("/")[-1].split("#")[0] for path in plan.steps] == ["transfer", "send"]
    assert (len(bank.guard.runs.events(bank.newest.run_id)), len(bank.guard.runs.list())) == (before, 1)


def test_as_72_running_forward_replays_what_stays_and_runs_what_was_undone(tmp_path: Path) -> None:
    """Back to a step and run again under its name: the step is not repeated, what was undone happens anew, and can be undone again."""
    bank = Bank(tmp_path)
    bank.run()
    run = bank.newest.run_id
    for times in (1, 2):
        undone = bank.guard.runs.rollback(run, to="fetch", by="tester")
        assert (undone.status, bank.newest.status, len(undone.compensated)) == ("rolled_back", "open", 2)
        assert bank.run() == ["credit 10", "withdraw 10"]
        assert (bank.newest.run_id, bank.newest.status) == (run, "completed")
        assert bank.did() == DONE + ["undo withdraw", "undo notify", "notify", "withdraw"] * times


def test_as_72_an_effect_that_was_left_is_replayed_not_repeated(tmp_path: Path) -> None:
    """An irreversible effect that ``partial`` left is not repeated when the run goes forward again."""
    bank = Bank(tmp_path, {"declares": ["credit", "withdraw"]})
    bank.run()
    bank.guard.runs.rollback(bank.newest.run_id, to="fetch", partial=True, by="tester")
    assert bank.run() == ["credit 10", "withdraw 10"]
    assert bank.did() == [*DONE, "undo withdraw", "withdraw"]


def test_as_72_what_a_whole_rollback_left_is_not_repeated_by_the_next_run(tmp_path: Path) -> None:
    """All of a run undone but one irreversible effect: the next run of that name gets its answer, once, and does the rest anew."""
    bank = Bank(tmp_path, {"declares": ["credit", "withdraw"]})
    bank.run()
    bank.guard.runs.rollback(bank.newest.run_id, partial=True, by="tester")
    assert bank.run() == ["credit 10", "withdraw 10"]
    assert bank.did() == [*DONE, "undo withdraw", "undo credit", "credit", "withdraw"]
    assert len([run for run in bank.guard.runs.list() if run.adapter != "rollback"]) == 2


def test_i18_the_state_after_a_rollback_is_the_state_at_the_step(tmp_path: Path) -> None:
    """The committed steps that stand after a rollback are those that stood when the step was committed, with equal outputs."""
    bank = Bank(tmp_path, {"fails": {"withdraw": 1}})
    with pytest.raises(NotCommitted):
        bank.run()
    run = bank.newest.run_id
    at_fetch = [(c.path, c.output) for c in bank.guard.runs.checkpoints(run)]
    bank.run()
    bank.guard.runs.rollback(run, to="fetch", by="tester")
    standing = {c.path: c.output for c in bank.guard.runs.checkpoints(run)}
    assert [(path, output) for path, output in standing.items() if output is not None] == at_fetch


def test_a_rollback_names_the_steps_that_there_are(tmp_path: Path) -> None:
    """An unknown step, an unknown run and a run that another one stands on are refused with what to do instead."""
    bank = Bank(tmp_path)
    bank.run()
    run = bank.newest.run_id
    with pytest.raises(NotFound, match="it has transfer#1/fetch#1"):
        bank.guard.runs.rollback(run, to="nowhere", by="tester")
    with pytest.raises(NotFound):
        bank.guard.runs.rollback("run_0", by="tester")
    bank.run(amount=11)
    with pytest.raises(UsageError, match="stands on it"):
        bank.guard.runs.rollback(run, by="tester")


def test_a_rollback_inside_of_a_run_is_refused(tmp_path: Path) -> None:
    """It would wait for the end of the very run that it is asked for in: refused at once, with nothing undone."""
    bank = Bank(tmp_path)

    def main() -> None:
        bank.guard.runs.rollback(bank.newest.run_id, by="tester")

    with surefoot.run("t-8"), pytest.raises(UsageError, match="inside of a run"):
        surefoot.wrap(main, guard=bank.guard)()
    assert bank.did() == []


def test_i19_a_compensation_is_a_call_of_the_ledger(tmp_path: Path) -> None:
    """Each compensation has a row of its own, claimed before its body and committed after it, in the rollback's run."""
    bank = Bank(tmp_path)
    bank.run()
    bank.guard.runs.rollback(bank.newest.run_id, by="tester")
    rows = bank.guard.calls.list(run_id=f"{bank.newest.run_id}~1")
    assert [(row.tool, row.effect, row.state) for row in rows] == [
        (f"undo:{tool}", "unsafe", CallState.COMMITTED) for tool in ("withdraw", "notify", "credit")
    ]
    kinds = [event.type for event in bank.guard.runs.events(f"{bank.newest.run_id}~1") if event.call_id]
    assert kinds == ["call.claimed", "call.committed"] * 3


# --- AS-81


def test_as_81_a_fork_replays_what_is_before_it_and_shares_what_is_after(tmp_path: Path) -> None:
    """A branch at a step has its outputs and effects; the same requests after it get the run's answers, and the run stays as it is."""
    bank = Bank(tmp_path)
    bank.run()
    branch = bank.guard.runs.fork(bank.newest.run_id, at="fetch", name="t-7b", by="tester")
    assert bank.run("t-7b") == ["credit 10", "withdraw 10"]
    assert bank.did() == DONE
    assert sorted((run.thread, run.status) for run in bank.guard.runs.list()) == [("run:t-7", "completed"), ("run:t-7b", "completed")]
    assert bank.guard.runs.show(branch.run_id).origin != branch.run_id


def test_as_81_another_effect_after_the_fork_needs_a_decision(tmp_path: Path) -> None:
    """A branch that asks for another unsafe effect than the run did after the fork is held until a person decides."""
    bank = Bank(tmp_path)
    bank.run()
    bank.guard.runs.fork(bank.newest.run_id, at="fetch", name="t-7b", by="tester")
    other = Bank(tmp_path)
    real = other.withdraw
    other.withdraw = lambda account, amount: real(account, amount + 1)
    with pytest.raises(InDoubt, match="with other arguments"):
        other.run("t-7b")
    assert bank.did() == DONE


def test_a_fork_is_named_and_has_a_run_to_branch_off(tmp_path: Path) -> None:
    """A name that is taken and an unknown step are refused."""
    bank = Bank(tmp_path)
    bank.run()
    with pytest.raises(UsageError, match="already"):
        bank.guard.runs.fork(bank.newest.run_id, at="fetch", name="t-7", by="tester")
    with pytest.raises(NotFound):
        bank.guard.runs.fork(bank.newest.run_id, at="nowhere", by="tester")


# --- what stands in the way of all of it


def test_a_run_that_retention_has_forgotten_is_not_said_to_be_undone(tmp_path: Path) -> None:
    """With its log removed nobody can say what of a run stands: plan and rollback say so, and it is not ``compensated``."""
    bank = Bank(tmp_path)
    bank.run()
    run = bank.newest.run_id
    prune(bank.guard.store, Retention(payload_ttl=1, dedup_ttl=3, max_run_age=2), time.time() + 1000)
    for plan in (True, False):
        with pytest.raises(ResultUnavailable, match="nobody can say what of it stands"):
            bank.guard.runs.rollback(run, plan=plan, by="tester")
    assert (bank.guard.runs.show(run).status, bank.did()) == ("completed", DONE)


def test_a_call_whose_payload_is_gone_is_irreversible_and_says_why(tmp_path: Path) -> None:
    """Arguments and result removed, but the log still there: each effect is listed as what retention left, and nothing is undone."""
    bank = Bank(tmp_path)
    bank.run()
    prune(bank.guard.store, Retention(payload_ttl=1, dedup_ttl=10_000, max_run_age=2), time.time() + 1000)
    with pytest.raises(RollbackRefused, match="retention removed it on"):
        bank.guard.runs.rollback(bank.newest.run_id, by="tester")
    assert bank.did() == DONE


def test_a_run_without_a_name_is_not_rolled_back_while_it_is_under_way(tmp_path: Path) -> None:
    """No lease says that it runs: it is refused while it is open in this process, and rolled back after that."""
    guard, did = surefoot.Guard(f"sqlite:///{tmp_path}/surefoot.db"), []
    inside, go_on = threading.Event(), threading.Event()

    @surefoot.tool(effect="unsafe", compensate=lambda _call, _result: did.append("refund"))
    def charge() -> None:
        did.append("charge")

    def order() -> None:
        charge()
        inside.set()
        assert go_on.wait(30)

    running = threading.Thread(target=surefoot.wrap(order, guard=guard))
    running.start()
    assert inside.wait(30)
    run = guard.runs.list()[0].run_id
    with pytest.raises(InFlight, match="no name and is under way"):
        guard.runs.rollback(run, by="tester")
    go_on.set()
    running.join(30)
    assert guard.runs.rollback(run, by="tester").status == "compensated"
    assert did == ["charge", "refund"]


def test_a_run_without_a_name_of_another_living_process_is_not_rolled_back(tmp_path: Path) -> None:
    """A process that has calls in it lives, so the run may be under way; when that process has died, it can be rolled back."""
    code = """
import sys, surefoot
guard = surefoot.Guard(sys.argv[1])
@surefoot.tool(effect="unsafe")
def charge():
    return "charged"
def order():
    charge()
    print(flush=True)
    sys.stdin.read()
surefoot.wrap(order, guard=guard)()
"""
    url = f"sqlite:///{tmp_path}/surefoot.db"
    with subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        guard = surefoot.Guard(url)
        run = guard.runs.list()[0].run_id
        with pytest.raises(InFlight, match="no name and is under way"):
            guard.runs.rollback(run, partial=True, by="tester")
        child.kill()
    assert guard.runs.rollback(run, partial=True, by="tester").status == "compensated"


def test_a_run_that_was_branched_off_is_not_rolled_back_under_its_branch(tmp_path: Path) -> None:
    """A branch shares what the run did: the run's rollback is refused until the branch is undone as a whole."""
    bank = Bank(tmp_path)
    bank.run()
    run = bank.newest.run_id
    branch = bank.guard.runs.fork(run, at="fetch", name="t-7b", by="tester")
    bank.run("t-7b")
    with pytest.raises(UsageError, match=f"{branch.run_id} was branched off {run}"):
        bank.guard.runs.rollback(run, to="fetch", by="tester")
    assert bank.did() == DONE
    assert bank.guard.runs.rollback(branch.run_id, by="tester").status == "compensated"
    assert bank.guard.runs.rollback(run, by="tester").status == "compensated"
    assert bank.did() == [*DONE, *UNDONE]
