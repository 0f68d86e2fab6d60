"""What must stay closed: ways round a policy that a hostile or careless user would try. Effects are counted in a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import Effects

import surefoot
import surefoot_policy
from surefoot import ApprovalPending, Budget, BudgetExceeded, Denied, Guard, NotCommitted, RunStopped, UsageError

Policed = Callable[..., Guard]
ASKS = "tools: [{tool: pay, decision: approve}]\n"


@pytest.fixture
def shop(effects: Effects) -> Callable[..., Any]:
    """Makes the tool that pays; ``fails`` is what it raises, again and again."""

    def make(effect: Any = "unsafe", fails: type[Exception] | None = None, about: str = "Pay.", **declared: Any) -> Any:
        def pay(amount: int = 1, card: str = "x") -> str:
            effects.add("pay", amount)
            if fails is not None:
                raise fails("no")
            return f"paid {amount}"

        pay.__qualname__, pay.__doc__ = "pay", about
        return surefoot.tool(effect=effect, **declared)(pay)

    return make


def go(guard: Guard, pay: Any, **arguments: Any) -> Any:
    """Pay in the run of these tests."""
    with surefoot.run("r"):
        return surefoot.wrap(lambda: pay(**arguments), guard=guard)()


def asked(guard: Guard, pay: Any, **arguments: Any) -> str:
    """Have a person asked; return what about."""
    with pytest.raises(ApprovalPending):
        go(guard, pay, **arguments)
    return guard.approvals.list()[-1].id  # type: ignore[no-any-return]


@pytest.mark.parametrize("by", ["anna", "maria"])
def test_i15_who_may_not_approve_cannot_grant(policed: Policed, shop: Any, effects: Effects, by: str) -> None:
    """I15: neither the requester nor somebody who is no approver can allow beforehand what they could not approve."""
    guard, pay = policed(ASKS + "approvals: {approvers: ['ops-*']}"), shop()
    with surefoot_policy.on_behalf_of("anna"):
        with pytest.raises(Denied, match="may not decide"):
            guard.approvals.grant("pay", by=by, expires=60)
        asked(guard, pay)
    assert effects.all() == []


def test_i15_a_grant_of_the_requester_covers_nothing(policed: Policed, shop: Any, effects: Effects) -> None:
    """I15: what somebody granted when others asked does not let their own calls run; others' calls it does."""
    guard, pay = policed(ASKS), shop()
    guard.approvals.grant("pay", by="anna", expires=60)
    with surefoot_policy.on_behalf_of("anna"):
        asked(guard, pay)
    assert go(guard, pay, amount=2) == "paid 2"
    with pytest.raises(UsageError, match="by= is empty"):
        guard.approvals.grant("pay", by=" ", expires=60)


@pytest.fixture
def junk(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A language whose conditions answer junk."""

    class Junk(surefoot_policy.Expressions):
        def compile(self, text: str, names: Any) -> Any:
            return lambda _values: request.param

        def values(self, values: Any) -> Any:
            return values

    surefoot_policy.LANGUAGES["junk"] = Junk
    yield request.param
    del surefoot_policy.LANGUAGES["junk"]


@pytest.mark.parametrize("junk", [None, 0, "", []], indirect=True, ids=repr)
@pytest.mark.parametrize("text", ["tools: [{tool: pay, when: x, decision: deny}]", "guardrails: [{when: x, action: abort}]"])
def test_as_46_a_language_that_answers_junk_denies(policed: Policed, shop: Any, effects: Effects, junk: Any, text: str) -> None:
    """AS-46, I16: a condition whose answer is neither true nor false denies, whatever Python would take the answer for."""
    with pytest.raises(Denied, match="policy_unavailable"):
        go(policed(f"expressions: junk\n{text}"), shop())
    assert effects.all() == []


@pytest.mark.parametrize("effect", ["read", "idempotent"])
def test_i12_as_34_retries_are_paid_for(policed: Policed, shop: Any, effects: Effects, effect: str) -> None:
    """I12, AS-34: a tool that may run again and raises costs a call each time it does."""
    guard, pay = policed("budgets: [{calls: 3}]"), shop(effect, ConnectionError)

    def stubborn() -> None:
        for _ in range(10):
            with contextlib.suppress(ConnectionError):
                pay()

    with surefoot.run("r"), pytest.raises(BudgetExceeded):
        surefoot.wrap(stubborn, guard=guard)()
    assert effects.count("pay") == 3


def test_i15_an_approval_is_for_one_execution(policed: Policed, shop: Any, effects: Effects) -> None:
    """I15: a tool that may run again and raised needs another approval before it does."""
    guard, pay = policed(ASKS), shop("idempotent", ConnectionError)
    guard.approvals.approve(asked(guard, pay), by="maria")
    with pytest.raises(ConnectionError):
        go(guard, pay)
    asked(guard, pay)
    assert effects.count("pay") == 1


def test_as_10_what_was_used_for_nothing_is_bound_still(policed: Policed, shop: Any, effects: Effects) -> None:
    """AS-10, I15: a call that proved that nothing happened runs again under its approval, and not when the tool is another one."""
    guard = policed(ASKS)
    failing = shop(fails=NotCommitted)
    guard.approvals.approve(asked(guard, failing), by="maria")
    for _ in range(2):
        with pytest.raises(NotCommitted):
            go(guard, failing)
    asked(policed(ASKS), shop(about="Pay whoever asks."))
    assert effects.count("pay") == 2


@pytest.mark.parametrize("change", ["the tool", "the policy"])
def test_as_10_what_an_edit_allows_is_bound_too(policed: Policed, shop: Any, effects: Effects, change: str) -> None:
    """AS-10: other arguments that a person gave may run under the definition and the policy that they were given under, no other."""
    guard = policed(ASKS)
    guard.approvals.edit(asked(guard, shop(), amount=5000), {"amount": 500, "card": "x"}, by="maria")
    tool = shop(about="Pay whoever asks.") if change == "the tool" else shop()
    asked(policed(ASKS + ("name: another\n" if change == "the policy" else "")), tool, amount=500)
    assert effects.all() == []
    assert go(policed(ASKS), shop(), amount=500) == "paid 500", "it stands for what it was given for"


def test_as_83_a_grant_is_found_among_thousands(policed: Policed, shop: Any, effects: Effects) -> None:
    """AS-83: however many grants a store has, each is listed, and can be revoked."""
    guard = policed(ASKS)
    for _ in range(1001):
        guard.approvals.grant("nothing", by="maria", expires=60, tenant="a")
    grant = guard.approvals.grant("pay", by="maria", expires=60, tenant="z")
    assert len(guard.approvals.grants()) == 1002
    guard.approvals.revoke(grant.id, by="maria")
    with surefoot.run("r", tenant="z"), pytest.raises(ApprovalPending):
        surefoot.wrap(shop(), guard=guard)()
    assert effects.all() == []


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("p.json", '{"tools": [{"tool": "pay", "decision": "deny", "decision": "allow"}]}', "decision: the key is there twice"),
        ("p.json", '{"tools": [{"tool": "pay", "decision": "deny"}], "tools": []}', "tools: the key is there twice"),
        ("pyproject.toml", '[tool.surefot]\ndefault = "deny"', r"has no \[tool.surefoot\]"),
    ],
)
def test_a_file_that_would_say_less_than_it_seems_is_refused(tmp_path: Path, name: str, text: str, why: str) -> None:
    """A key that is there twice, of which the last would win, and a table that is misspelt are refused, and allow nothing."""
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=why):
        Guard("memory://", policy=str(tmp_path / name))


@pytest.mark.parametrize(
    "text",
    [
        "tools: [{tool: [], decision: deny}]",
        "tools: [{tool: '', decision: deny}]",
        "tools: [{tool: [pay, ''], decision: deny}]",
        "budgets: [{calls: 3, tool: ''}]",
    ],
)
def test_an_entry_about_no_tool_is_refused(policed: Policed, text: str) -> None:
    """An entry that no call would ever match is refused: whoever wrote it believes that it acts."""
    with pytest.raises(UsageError, match="tool= names no tool"):
        policed(text)


@pytest.mark.parametrize(
    "text",
    [
        "approvals: {expires: .inf}",
        "budgets: [{seconds: .inf}]",
        "prices: [{model: m, input: .inf, output: 1}]",
        "budgets: [{cost_usd: .inf}]",
    ],
)
def test_a_number_without_end_is_refused(policed: Policed, text: str) -> None:
    """An endless number is no time, no limit and no price."""
    with pytest.raises(UsageError, match="finite number"):
        policed(text)


@pytest.mark.parametrize(
    "given",
    [
        {"expires": float("inf")},
        {"expires": float("nan")},
        {"expires": -1},
        {"expires": "60"},
        {"expires": 60, "uses": 0},
        {"expires": 60, "uses": 1.5},
        {"expires": 60, "tool": " "},
    ],
)
def test_a_grant_of_nothing_or_for_ever_is_refused(policed: Policed, given: Any) -> None:
    """AS-83: a grant that never ends could be forgotten, and one that covers nothing would deceive: both are refused."""
    guard = policed(ASKS)
    with pytest.raises(UsageError, match=r" is not a"):
        guard.approvals.grant(**{"tool": "pay", "by": "maria", **given})
    assert guard.approvals.grants() == []


def test_a_condition_that_the_library_would_die_of_is_refused(policed: Policed) -> None:
    """I26: CEL goes one level deeper for each term, and would take the whole process with it; what is too long is never compiled."""
    with pytest.raises(UsageError, match="more than 4,000 characters"):
        policed(f"tools: [{{tool: pay, decision: deny, when: 'args.n{'+1' * 20_000} == 1'}}]")
    with pytest.raises(UsageError, match="more than 4,000 characters"):
        policed(ASKS).approvals.grant("pay", by="maria", expires=60, when=f"args.n{'+1' * 20_000} == 1")


def test_a_text_that_looks_like_a_sum_is_a_text(policed: Policed, shop: Any, effects: Effects) -> None:
    """What a condition compares with is not read as a part of it."""
    guard = policed("""tools: [{tool: pay, when: 'args.card == "sum(card)"', decision: deny}]""")
    with pytest.raises(Denied):
        go(guard, shop(), card="sum(card)")
    assert effects.all() == []


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -1, "3"])
def test_a_budget_that_is_no_number_is_refused(limit: Any) -> None:
    """A limit that no amount would ever reach, or that nothing can be compared with, is refused."""
    with pytest.raises(UsageError, match="a number, 0 or more"):
        Guard("memory://", budget=Budget(calls=limit))


def test_only_totals_have_a_sum(policed: Policed) -> None:
    """The sum of an argument would be that of one call; it is refused and not taken for one of all."""
    with pytest.raises(UsageError, match=r"sum\(args.amount\) is no total"):
        policed("guardrails: [{when: sum(args.amount) > 100, scope: run, action: abort}]")


def test_a_run_cannot_take_away_what_stops_it(policed: Policed, shop: Any, effects: Effects) -> None:
    """What stops a run is taken away from outside of it only."""
    guard, pay = policed("{}"), shop()

    def agent() -> None:
        surefoot_policy.stop(guard, everything=True, by="maria")
        with pytest.raises(RunStopped):
            pay()
        with pytest.raises(Denied, match="cannot take a stop away"):
            surefoot_policy.release(guard, everything=True, by="the agent")

    with surefoot.run("r"), pytest.raises(RunStopped):
        surefoot.wrap(agent, guard=guard)()
        go(guard, pay)
    assert effects.all() == []


def test_i27_tenants_with_odd_names_share_no_counter(policed: Policed, effects: Effects) -> None:
    """I27: what one tenant did with a tool is not taken for what a tenant of another name did."""
    guard = policed("budgets: [{calls: 3, per: tenant}, {calls: 100, per: tenant, tool: 'github/*'}]")

    def create(number: int) -> None:
        effects.add("create", number)

    create.__qualname__ = "github/create"
    tool = surefoot.tool()(create)
    for tenant, numbers in (("acme", (1, 2, 3)), ("acme/github", (4,))):
        with surefoot.run(tenant=tenant):
            surefoot.wrap(lambda numbers=numbers: [tool(number) for number in numbers], guard=guard)()
    assert effects.count("create") == 4


@pytest.mark.parametrize("broken", [lambda: 1 / 0, object], ids=["raises", "is none"])
def test_an_executor_that_cannot_be_made_is_a_refusal(
    policed: Policed, shop: Any, effects: Effects, monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    """A sandbox whose executor raises when it is made, or is none, denies the call and names the entry."""
    monkeypatch.setitem(surefoot_policy.EXECUTORS, "bad", broken)
    with pytest.raises(Denied, match=r"tools\[0\] has it run in the sandbox 'bad', whose executor cannot be made"):
        go(policed("tools: [{tool: pay, sandbox: bad}]"), shop())
    assert effects.all() == []
