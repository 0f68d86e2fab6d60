"""Budgets, guardrails and the kill switch: nothing starts that a limit has nothing left for, in whatever process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from processes import finish, start, work

import surefoot
import surefoot_policy
from surefoot import Budget, BudgetExceeded, Denied, Guard, NotFound, RunStopped, UsageError

Policed = Callable[..., Guard]
LIMIT = 3
CALLS = 10


@pytest.fixture
def pay(effects: Effects) -> Callable[..., Any]:
    """A tool that nobody classified."""
    return tool(effects, "pay")


def tool(effects: Effects, name: str, effect: Any = "unclassified") -> Callable[..., Any]:
    """Return a tool of that name and class."""

    def body(amount: int = 0) -> str:
        effects.add(name, amount)
        return f"{name} {amount}"

    body.__qualname__ = body.__name__ = name
    return surefoot.tool(effect=effect)(body)


def stopped(guard: Guard, program: Callable[[], Any], name: str = "r") -> dict[str, Any]:
    """Run a program that a limit stops; return the stop reason."""
    with surefoot.run(name), pytest.raises(BudgetExceeded) as told:
        surefoot.wrap(program, guard=guard)()
    return dict(told.value.stop_reason)


def test_as_34_parent_sub_agents_and_retries_share_one_budget(policed: Policed, effects: Effects) -> None:
    """AS-34: 20 calls for a parent, three sub-agents and a retry: call 21 is refused before it runs, with a reason for machines."""
    pay = tool(effects, "pay")
    guard = policed("budgets: [{calls: 20, tool: pay}]")

    @surefoot.tool(effect="composite")
    def agent(number: int) -> list[str]:
        return [pay(number * 100 + n) for n in range(5)]

    agent.__qualname__ = agent.__name__ = "agent"
    got: list[str] = []

    def parent() -> None:
        for number in (1, 2, 3):
            got.extend(agent(number))
        got.extend([pay(n) for n in range(5)])
        got.append(pay(99))

    reason = stopped(guard, parent)
    assert effects.count("pay") == 20
    assert len(got) == 20
    assert reason == {"limit": "calls", "per": "run", "allowed": 20, "used": 20, "tool": "pay", "effect": None, "action": "pause"}
    assert stopped(guard, parent) == reason
    assert effects.count("pay") == 20


def test_as_35_a_restart_resets_nothing_and_a_replay_costs_nothing(tmp_path: Path, policed: Policed, effects: Effects) -> None:
    """AS-35: the process dies with two of three calls used; the next one replays two for nothing, runs one, and is refused the fourth."""
    policed(f"budgets: [{{calls: {LIMIT}}}]")
    policy = str(tmp_path / "surefoot.yaml")
    dying = start(tmp_path, amounts=[1, 2, 3, 4], policy=policy, waits=True)
    assert dying.stdin is not None
    assert dying.stdout is not None
    for _ in range(2):
        dying.stdout.readline()
        dying.stdin.write("go\n")
        dying.stdin.flush()
    dying.stdout.readline()  # it has paid twice, and waits
    dying.kill()
    dying.communicate()
    ended = work(tmp_path, amounts=[1, 2, 3, 4], policy=policy)
    assert ended["error"] == "budget_exceeded"
    assert ended["stop_reason"]["used"] == LIMIT
    assert effects.count("pay") == LIMIT


def test_as_36_without_token_counts_nothing_breaks(policed: Policed, pay: Any, effects: Effects) -> None:
    """AS-36: nobody tells how many tokens were used: the run does not crash, and the limits of calls and time still hold."""
    guard = policed("budgets: [{tokens: 100}, {cost_usd: 0.5}, {calls: 2}]")
    assert stopped(guard, lambda: [pay(n) for n in range(5)])["limit"] == "calls"
    assert effects.count("pay") == 2


@pytest.mark.parametrize("broken", [None, float("inf"), float("-inf"), float("nan"), 1e300, "many", -5, [1]], ids=repr)
def test_as_36_broken_usage_stops_nothing(policed: Policed, broken: Any) -> None:
    """AS-36: usage that is missing, endless or no number crashes nothing and counts as nothing; what is known beside it counts."""
    guard = policed("prices: [{model: '*', input: 1000000, output: 1}]")

    def agent() -> None:
        surefoot_policy.record(model=broken, agent=broken, input_tokens=broken, output_tokens=broken, cost_usd=broken)
        surefoot_policy.record(model="m", input_tokens=2, output_tokens=broken, cost_usd=broken if broken != -5 else None)

    surefoot.wrap(agent, guard=guard)()
    used = surefoot_policy.cost(guard)
    assert sum(one.replies for one in used) == 2
    assert [sum(getattr(one, name) for one in used) for name in ("input_tokens", "output_tokens", "cost_usd")] == [2, 0, 2.0]


def test_as_36_a_price_without_measure_stops_nothing(policed: Policed) -> None:
    """AS-36: a price with too many zeros makes a reply expensive, and crashes nothing."""
    guard = policed("prices: [{model: m, input: 1.0e308, output: 1.0e308}]")
    with surefoot.run("r"):
        surefoot.wrap(lambda: surefoot_policy.record(model="m", input_tokens=10**9, output_tokens=10**9), guard=guard)()
    assert [used.replies for used in surefoot_policy.cost(guard)] == [1]


def test_as_37_a_loop_of_a_mutating_tool_ends(policed: Policed, effects: Effects) -> None:
    """AS-37: add_to_cart with ever other arguments meets the ceiling of its effect class; what only reads is not stopped by it."""
    add, look = tool(effects, "add_to_cart", "unsafe"), tool(effects, "look", "read")
    guard = policed("budgets: [{calls: 20, effect: unsafe, action: abort}]")

    def loop() -> None:
        for n in range(221):
            look(n)
            add(n)

    reason = stopped(guard, loop)
    assert (reason["effect"], reason["action"]) == ("unsafe", "abort")
    assert effects.count("add_to_cart") == 20
    assert effects.count("look") == 21


@pytest.mark.parametrize(
    ("text", "ran", "limit"),
    [
        ("budgets: [{calls: 2, per: execution}]", 2, "calls"),
        ("budgets: [{calls: 2, per: run}]", 2, "calls"),
        ("budgets: [{calls: 2, per: thread}]", 2, "calls"),
        ("budgets: [{calls: 2, per: tenant}]", 2, "calls"),
        ("budgets: [{depth: 0}]", 0, "depth"),
        ("budgets: [{iterations: 0}]", 0, "iterations"),
        ("budgets: [{seconds: 0}]", 0, "seconds"),
        ("budgets: [{tokens: 0}]", 0, "tokens"),
        ("budgets: [{cost_usd: 0}]", 0, "cost_usd"),
        ("guardrails: [{when: sum(calls) >= 2}]", 2, "guardrails[0]"),
        ("guardrails: [{when: sum(calls) >= 2, scope: tenant}]", 2, "guardrails[0]"),
        ("guardrails: [{when: \"sum(calls) >= 1 && tool == 'pay'\", scope: execution}]", 1, "guardrails[0]"),
        ("guardrails: [{when: 'args.amount > 1 || sum(seconds) > 100.0', scope: thread}]", 2, "guardrails[0]"),
    ],
)
def test_every_limit_acts(text: str, ran: int, limit: str, policed: Policed, pay: Any, effects: Effects) -> None:
    """Each kind of limit and guardrail stops the call that would exceed it, before it runs."""
    assert stopped(policed(text), lambda: [pay(n) for n in range(5)])["limit"] == limit
    assert effects.count("pay") == ran


@pytest.mark.parametrize(("per", "shared"), [("run", False), ("thread", False), ("tenant", True)])
def test_what_a_limit_is_counted_over(per: str, policed: Policed, pay: Any, effects: Effects, *, shared: bool) -> None:
    """Two runs of two threads of a tenant share only what is counted per tenant; another tenant shares nothing (I27)."""
    guard = policed(f"budgets: [{{calls: 1, per: {per}}}]")
    with surefoot.run("a"):
        surefoot.wrap(lambda: pay(1), guard=guard)()
    with surefoot.run("b"):
        if shared:
            with pytest.raises(BudgetExceeded):
                surefoot.wrap(lambda: pay(2), guard=guard)()
        else:
            surefoot.wrap(lambda: pay(2), guard=guard)()
    with surefoot.run("b", tenant="other"):
        surefoot.wrap(lambda: pay(3), guard=guard)()
    assert effects.count("pay") == (2 if shared else 3)


def test_depth_counts_calls_inside_of_calls(policed: Policed, effects: Effects) -> None:
    """With a depth of 1 a step may call an agent, and the agent may not call anything."""
    pay = tool(effects, "pay")

    @surefoot.tool(effect="composite")
    def agent() -> str:
        effects.add("agent")
        return str(pay(1))

    agent.__qualname__ = agent.__name__ = "agent"
    assert stopped(policed("budgets: [{depth: 1}]"), agent)["used"] == 2
    assert (effects.count("agent"), effects.count("pay")) == (1, 0)
    guard = Guard("memory://", budget=Budget(depth=2))
    assert surefoot.wrap(agent, guard=guard)() == "pay 1"


def test_seconds_are_those_under_way(policed: Policed, pay: Any, effects: Effects) -> None:
    """Time passes while a run is under way, and not between two invocations of it, however long somebody thinks."""
    guard = policed("budgets: [{seconds: 10}]")
    now = [1_000.0]
    guard.clock = lambda: now[0]
    fails = [True]

    def program() -> list[str]:
        paid = [pay(1)]
        now[0] += 6
        paid.append(pay(2))
        if fails:
            raise ConnectionError
        paid.append(pay(3))
        now[0] += 6
        return [*paid, pay(4)]

    with surefoot.run("r"), pytest.raises(ConnectionError):
        surefoot.wrap(program, guard=guard)()
    fails.clear()
    now[0] += 100_000
    reason = stopped(guard, program)
    assert 10 <= reason["used"] < 20
    assert effects.count("pay") == 3


@pytest.mark.parametrize("action", ["reject", "pause", "abort"])
def test_the_three_actions(action: str, policed: Policed, pay: Any, effects: Effects) -> None:
    """reject: who asked is told and goes on. pause: the run stops. abort: it stays stopped until it is released, whatever the budget."""
    guard = policed(f"budgets: [{{calls: 1, action: {action}}}]")
    told: list[str] = []

    def program() -> str:
        pay(1)
        try:
            pay(2)
        except BudgetExceeded as exc:
            told.append(exc.stop_reason["action"])
        return "went on"

    with surefoot.run("r"):
        assert surefoot.wrap(program, guard=guard)() == "went on"
    assert told == [action]

    def failing() -> None:
        pay(3)
        pay(4)

    stopped(guard, failing, "s")
    richer = policed("budgets: [{calls: 10}]")
    with surefoot.run("s"):
        if action == "abort":
            with pytest.raises(RunStopped, match="was stopped by policy"):
                surefoot.wrap(failing, guard=richer)()
            surefoot_policy.release(richer, richer.runs.list()[0].run_id, by="maria")
        surefoot.wrap(failing, guard=richer)()
    assert effects.count("pay") == 3


def test_i12_ten_at_once_run_three(policed: Policed, pay: Any, effects: Effects) -> None:
    """I12: ten calls at the same moment against a limit of three run three, in one process."""
    guard = policed(f"budgets: [{{calls: {LIMIT}, action: reject}}]")

    def program() -> int:
        with ThreadPoolExecutor(CALLS) as pool:
            asked = [pool.submit(copy_context().run, pay, n) for n in range(CALLS)]
        return sum(1 for call in asked if not isinstance(call.exception(), BudgetExceeded))

    with surefoot.run("r"):
        assert surefoot.wrap(program, guard=guard)() == LIMIT
    assert effects.count("pay") == LIMIT


@pytest.mark.sweep
def test_i12_eight_processes_run_three(tmp_path: Path, policed: Policed, effects: Effects) -> None:
    """I12: eight processes that share a tenant's limit of three run three between them, whether it is a policy's or the option's."""
    policed(f"budgets: [{{calls: {LIMIT}, per: tenant}}]")
    given: list[dict[str, Any]] = [
        {"policy": str(tmp_path / "surefoot.yaml")},
        {"budget": {"calls": LIMIT, "per": "tenant"}, "tenant": "other"},
    ]
    for before, options in enumerate(given):
        workers = [start(tmp_path, amounts=[1, 2, 3], run=f"r{n}", **options) for n in range(8)]
        ended = [finish(worker) for worker in workers]
        assert effects.count("pay") == LIMIT * (before + 1)
        assert {one.get("error", "") for one in ended} <= {"", "budget_exceeded"}


# --- what models used


def test_tokens_and_cost_are_limited_and_attributed(policed: Policed, effects: Effects) -> None:
    """What models used is counted by step, tool and model, priced by the policy, and stops the call after the one that used it up."""
    pay = tool(effects, "pay")
    prices = "prices: [{model: 'big-*', input: 3.0, output: 15.0}]"
    guard = policed(f"budgets: [{{cost_usd: 0.01}}, {{tokens: 100000, per: tenant}}]\n{prices}")

    def program() -> None:
        for n in range(5):
            surefoot_policy.record(model="big-1", input_tokens=1000, output_tokens=100)
            pay(n)

    reason = stopped(guard, program)
    assert (reason["limit"], reason["allowed"]) == ("cost_usd", 0.01)
    assert effects.count("pay") == 2
    run_id = guard.runs.list()[0].run_id
    [used] = surefoot_policy.cost(guard, run_id)
    assert (used.model, used.step, used.replies, used.input_tokens, used.output_tokens) == ("big-1", "program", 3, 3000, 300)
    assert used.cost_usd == pytest.approx(3 * (0.003 + 0.0015))
    with pytest.raises(UsageError, match="there is no run here"):
        surefoot_policy.record(model="big-1")


def test_a_guardrail_over_tokens(policed: Policed, pay: Any, effects: Effects) -> None:
    """``when: sum(tokens_used) > 10000`` stops the next call, and says which guardrail and how much was used."""
    guard = policed("guardrails: [{when: sum(tokens_used) > 10000, reason: enough, scope: tenant}]")

    def program() -> None:
        for n in range(5):
            surefoot_policy.record(input_tokens=4000, output_tokens=None, cost_usd=-1)
            pay(n)

    with surefoot.run("r"), pytest.raises(BudgetExceeded, match="enough") as told:
        surefoot.wrap(program, guard=guard)()
    assert told.value.stop_reason["used"]["tokens_used"] == 12000
    assert effects.count("pay") == 2


# --- the kill switch


@pytest.mark.parametrize("scope", ["run", "tenant", "all"])
def test_the_kill_switch_reaches_a_running_process(scope: str, tmp_path: Path, effects: Effects) -> None:
    """Stopped from outside: the next call of a process under way does not start, whatever guard it has, and the run can be released."""
    guard = Guard(f"sqlite:///{tmp_path}/surefoot.db")
    process = start(tmp_path, amounts=[1, 2], waits=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    process.stdin.write("go\n")
    process.stdin.flush()
    process.stdout.readline()  # it has paid once, and is about to pay again
    run_id = guard.runs.list()[0].run_id
    named: dict[str, Any] = {"run": {"run_id": run_id}, "tenant": {"tenant": "default"}, "all": {"everything": True}}[scope]
    surefoot_policy.stop(guard, **named, by="maria", reason="smoke")
    process.stdin.write("go\n")
    process.stdin.flush()
    ended = finish(process)
    assert ended["error"] == "run_stopped"
    assert "was stopped by maria (smoke)" in ended["message"]
    assert effects.count("pay") == 1
    assert surefoot_policy.release(guard, **named, by="maria")
    assert work(tmp_path, amounts=[1, 2]) == {"result": ["paid 1", "paid 2"]}
    assert effects.count("pay") == 2


def test_a_stop_of_something_else_stops_nothing(tmp_path: Path, pay: Any, effects: Effects) -> None:
    """A stopped tenant is not another one; a stopped run does not open again, and says how it goes on."""
    guard = Guard(f"sqlite:///{tmp_path}/s.db")
    surefoot_policy.stop(guard, tenant="other", by="maria")
    surefoot.wrap(lambda: pay(1), guard=guard)()
    assert effects.count("pay") == 1
    with surefoot.run("r", tenant="other"), pytest.raises(RunStopped, match="'surefoot runs stop --tenant other --release'"):
        surefoot.wrap(lambda: pay(2), guard=guard)()
    for wrong in ({}, {"tenant": "a", "everything": True}):
        with pytest.raises(UsageError, match="say what to stop"):
            surefoot_policy.stop(guard, by="maria", **wrong)
    with pytest.raises(NotFound):
        surefoot_policy.stop(guard, "run_0", by="maria")
    assert not surefoot_policy.release(guard, tenant="nobody", by="maria")


def test_what_is_stopped_is_an_effect(tmp_path: Path, effects: Effects) -> None:
    """Reads go on; everything that changes something does not start, idempotent or not."""
    guard = Guard(f"sqlite:///{tmp_path}/s.db")
    surefoot_policy.stop(guard, everything=True, by="maria")
    assert surefoot.wrap(lambda: tool(effects, "look", "read")(1), guard=guard)() == "look 1"
    for effect in ("idempotent", "unsafe", "unclassified"):
        with pytest.raises(Denied, match="was stopped by maria"):
            surefoot.wrap(lambda effect=effect: tool(effects, f"do {effect}", effect)(1), guard=guard)()
    assert effects.count() == 1
