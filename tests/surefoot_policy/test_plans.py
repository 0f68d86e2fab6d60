"""AS-84: a dry run names what a call would act on, and its token lets exactly that happen, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mailroom
import pytest
from crash import Effects
from mailroom import MAILS, PLAN, delete_all, filled

import surefoot
from surefoot import ApprovalPending, Call, Denied, Guard, UsageError
from surefoot_policy import DryRun, PlanMismatch

Policed = Callable[..., Guard]


@pytest.fixture(autouse=True)
def mails() -> Iterator[None]:
    """Two mails in the spam folder."""
    with filled():
        yield


@pytest.fixture
def delete(effects: Effects) -> Callable[..., Any]:
    """A tool that empties a folder."""

    @surefoot.tool(effect="unsafe")
    def delete(folder: str, plan_token: str = "") -> str:
        """Delete all mails of a folder."""
        return delete_all(effects, folder)

    delete.__qualname__ = delete.__name__ = "delete"
    return delete


def asked(guard: Guard, delete: Callable[..., Any], token: str = "", *, folder: str = "spam", run: str = "r", thread: str = "t") -> Any:
    """Ask for the deletion in a run of a thread."""
    with surefoot.run(run, thread=thread):
        return surefoot.wrap(lambda: delete(folder, plan_token=token), guard=guard)()


def dry_run(guard: Guard, delete: Callable[..., Any], **options: Any) -> str:
    """Make a dry run and return its token."""
    with pytest.raises(DryRun) as told:
        asked(guard, delete, **options)
    return str(told.value.plan["token"])


def mismatch(guard: Guard, delete: Callable[..., Any], token: str, **options: Any) -> str:
    """Carry out a plan that is not what would happen, and return what was said."""
    with pytest.raises(PlanMismatch) as told:
        asked(guard, delete, token, **options)
    assert told.value.code == "plan_mismatch"
    return str(told.value)


def test_as_84_a_plan_names_its_targets_and_runs_once(policed: Policed, delete: Any, effects: Effects) -> None:
    """AS-84: a dry run does nothing and names what it would act on; its token lets that happen, once."""
    guard = policed(PLAN)
    with pytest.raises(DryRun, match="nothing has happened") as told:
        asked(guard, delete)
    assert told.value.plan["targets"] == ["win money", "cheap pills"]
    assert "cheap pills" in str(told.value)
    assert effects.all() == []
    token = told.value.plan["token"]
    assert asked(guard, delete, token, run="r2") == "deleted 2"
    assert effects.all() == [["delete", "win money"], ["delete", "cheap pills"]]
    assert "carried out already" in mismatch(guard, delete, token, run="r3")
    assert effects.count("delete") == 2


@pytest.mark.parametrize("now", [["win money"], ["win money", "cheap pills", "invoice"], ["win money", "invoice"]])
def test_as_84_changed_targets_are_refused(policed: Policed, delete: Any, effects: Effects, now: list[str]) -> None:
    """AS-84: a target that came, went or was exchanged after the dry run: nothing runs, and the refusal says which."""
    guard = policed(PLAN)
    token = dry_run(guard, delete)
    before, MAILS["spam"] = MAILS["spam"], now
    said = mismatch(guard, delete, token)
    changed = set(before) ^ set(now)
    assert all(mail in said for mail in changed)
    assert "win money" not in said
    assert effects.all() == []


def test_as_84_the_order_of_targets_does_not_matter(policed: Policed, delete: Any) -> None:
    """The same targets in another order are the same targets."""
    guard = policed(PLAN)
    token = dry_run(guard, delete)
    MAILS["spam"].reverse()
    assert asked(guard, delete, token) == "deleted 2"


def test_as_84_a_token_is_for_one_request_of_one_conversation(policed: Policed, delete: Any, effects: Effects) -> None:
    """AS-84: other arguments, another thread, another tenant, a made-up token: nothing runs."""
    guard = policed(PLAN)
    MAILS["inbox"] = MAILS["spam"]
    token = dry_run(guard, delete)
    assert "its arguments changed" in mismatch(guard, delete, token, folder="inbox")
    assert "no such plan" in mismatch(guard, delete, token, run="r2", thread="another")
    assert "no such plan" in mismatch(guard, delete, "plan_0123")
    with surefoot.run("r", thread="t", tenant="another"), pytest.raises(PlanMismatch, match="no such plan"):
        surefoot.wrap(lambda: delete("spam", plan_token=token), guard=guard)()
    assert effects.all() == []


def test_as_84_a_plan_expires_and_is_void_under_another_policy(
    policed: Policed, delete: Any, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``expires:`` acts, and a plan is bound to the policy's version."""
    text = "tools: [{tool: delete, plan: {targets: 'mailroom:targets', expires: 60}}]\n"
    guard = policed(text)
    token = dry_run(guard, delete)
    assert "the policy changed" in mismatch(policed(text + "budgets: [{calls: 9}]\n"), delete, token)
    monkeypatch.setattr(guard, "clock", lambda: time.time() + 61)
    assert "expired" in mismatch(guard, delete, token)
    assert effects.all() == []


def test_as_84_the_token_may_come_in_another_argument(policed: Policed, effects: Effects) -> None:
    """``token:`` acts: it names the argument."""

    @surefoot.tool(effect="unsafe")
    def delete(folder: str, confirm: str = "") -> str:
        effects.add("delete", folder)
        return "deleted"

    delete.__qualname__ = "delete"
    guard = policed("tools: [{tool: delete, plan: {targets: 'mailroom:targets', token: confirm}}]\n")
    with surefoot.run("r", thread="t"), pytest.raises(DryRun, match="confirm='plan_") as told:
        surefoot.wrap(lambda: delete("spam"), guard=guard)()
    with surefoot.run("r", thread="t"):
        assert surefoot.wrap(lambda: delete("spam", confirm=told.value.plan["token"]), guard=guard)() == "deleted"
    assert effects.count("delete") == 1


@pytest.mark.parametrize("answer", [RuntimeError("the server is down"), "win money", None, {"a": 1}])
def test_as_84_targets_that_cannot_be_looked_up_deny(
    policed: Policed, delete: Any, effects: Effects, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    """I26: a function of targets that raises or returns junk denies, before the dry run and after it; the entry is named."""
    guard = policed(PLAN)
    token = dry_run(guard, delete)

    def broken(_call: Call) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(mailroom, "targets", broken)
    for given in ("", token):
        with pytest.raises(Denied, match=r"policy_unavailable: tools\[0\] cannot say what it would act on"):
            asked(policed(PLAN), delete, given)
    assert effects.all() == []


def test_as_84_a_person_sees_what_a_plan_names(policed: Policed, delete: Any, effects: Effects) -> None:
    """With ``decision: approve`` the dry run asks nobody, the card shows the targets, and after a yes they are looked up again."""
    guard = policed("tools: [{tool: delete, decision: approve, plan: {targets: 'mailroom:targets'}}]\n")
    token = dry_run(guard, delete)
    assert guard.approvals.list() == []
    with pytest.raises(ApprovalPending) as waits:
        asked(guard, delete, token)
    [card] = waits.value.cards.values()
    assert card["targets"] == ["win money", "cheap pills"]
    guard.approvals.approve(*waits.value.cards, by="maria")
    MAILS["spam"].append("invoice")
    assert "invoice" in mismatch(guard, delete, token)
    MAILS["spam"].remove("invoice")
    assert asked(guard, delete, token) == "deleted 2"
    assert effects.count("delete") == 2


def test_as_84_a_secret_in_a_target_is_stored_nowhere(policed: Policed, delete: Any, tmp_path: Path) -> None:
    """AS-67: targets are redacted before they are kept, and told apart by keyed digests all the same."""
    surefoot.register_secret("canary-0123456789", name="key")
    MAILS["spam"] = ["canary-0123456789"]
    guard = policed(PLAN)
    token = dry_run(guard, delete)
    assert asked(guard, delete, token) == "deleted 1"
    guard.close()
    assert [file.name for file in tmp_path.glob("surefoot.db*") if b"canary" in file.read_bytes()] == []


def test_as_84_targets_that_are_a_coroutine_are_refused(policed: Policed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of targets that would have to be awaited is refused when the file is read."""

    async def later(_call: Call) -> list[Any]:
        return []

    monkeypatch.setattr(mailroom, "targets", later)
    with pytest.raises(UsageError, match="is a coroutine function"):
        policed(PLAN)
