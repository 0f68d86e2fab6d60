"""Every documented key of a policy file has a test that shows that it acts; those that no other file has are here."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash import Effects

import surefoot
import surefoot_recovery
from surefoot import BudgetExceeded, Call, Denied, Guard, RunStopped
from surefoot.engine.claims import Request
from surefoot.engine.frames import innermost
from surefoot_adapters import here
from surefoot_policy import EXECUTORS, Executor
from surefoot_policy.model import json_schema

Policed = Callable[..., Guard]

SHOWN = {
    # key of the file: the tests that show that it acts
    "PolicyFile.version": "test_a_mistake_says_where_it_is",
    "PolicyFile.name": "test_a_key_that_allows",
    "PolicyFile.default": "test_a_key_that_denies",
    "PolicyFile.expressions": "test_another_language_is_a_plugin",
    "PolicyFile.tiers": "test_a_key_that_denies",
    "PolicyFile.tools": "test_a_key_that_denies",
    "PolicyFile.approvals": "test_as_40_expired_is_not_rejected",
    "PolicyFile.budgets": "test_every_limit_acts",
    "PolicyFile.guardrails": "test_every_limit_acts",
    "PolicyFile.redaction": "test_as_67_forty_encodings_are_in_no_sink_after_sigkill",
    "PolicyFile.prices": "test_tokens_and_cost_are_limited_and_attributed",
    "ToolEntry.tool": "test_a_key_that_denies",
    "ToolEntry.name": "test_a_key_that_denies",
    "ToolEntry.when": "test_a_key_that_denies",
    "ToolEntry.tier": "test_a_key_that_denies",
    "ToolEntry.decision": "test_a_key_that_denies",
    "ToolEntry.reason": "test_a_key_that_denies",
    "ToolEntry.arguments": "test_a_key_that_denies",
    "ToolEntry.effect": "test_a_timeout_ends_the_wait",
    "ToolEntry.key": "test_a_key_makes_two_requests_one",
    "ToolEntry.scope": "test_scope_says_where_a_key_is_unique",
    "ToolEntry.probe": "test_a_probe_is_asked",
    "ToolEntry.not_committed": "test_not_committed_lets_it_run_again",
    "ToolEntry.timeout": "test_a_timeout_ends_the_wait",
    "ToolEntry.redact": "test_as_67_a_redacted_argument_is_nowhere_and_dedup_works",
    "ToolEntry.compensate": "test_compensate_undoes_a_call",
    "ToolEntry.depends_on": "test_depends_on_names_what_a_bulkhead_is_of",
    "ToolEntry.sandbox": "test_a_sandbox_runs_the_body_elsewhere",
    "ToolEntry.plan": "test_as_84_changed_targets_are_refused",
    "Plan.targets": "test_as_84_changed_targets_are_refused",
    "Plan.token": "test_as_84_the_token_may_come_in_another_argument",
    "Plan.expires": "test_as_84_a_plan_expires_and_is_void_under_another_policy",
    "Tier.decision": "test_a_key_that_denies",
    "Tier.reason": "test_a_key_that_denies",
    "Tier.sandbox": "test_a_sandbox_runs_the_body_elsewhere",
    "Approvals.expires": "test_as_40_expired_is_not_rejected",
    "Approvals.approvers": "test_i15_who_asks_cannot_decide",
    "Limit.calls": "test_every_limit_acts",
    "Limit.tokens": "test_every_limit_acts",
    "Limit.cost_usd": "test_every_limit_acts",
    "Limit.seconds": "test_every_limit_acts",
    "Limit.depth": "test_every_limit_acts",
    "Limit.iterations": "test_every_limit_acts",
    "Limit.per": "test_what_a_limit_is_counted_over",
    "Limit.tool": "test_as_34_parent_sub_agents_and_retries_share_one_budget",
    "Limit.effect": "test_as_37_a_loop_of_a_mutating_tool_ends",
    "Limit.action": "test_the_three_actions",
    "Guardrail.when": "test_a_guardrail_over_tokens",
    "Guardrail.scope": "test_every_limit_acts",
    "Guardrail.action": "test_the_three_actions_of_a_guardrail",
    "Guardrail.reason": "test_a_guardrail_over_tokens",
    "Redaction.name": "test_as_67_a_pattern_is_found_wherever_it_stands_and_dedup_works",
    "Redaction.pattern": "test_as_67_a_pattern_is_found_wherever_it_stands_and_dedup_works",
    "Redaction.env": "test_as_67_forty_encodings_are_in_no_sink_after_sigkill",
    "Price.model": "test_tokens_and_cost_are_limited_and_attributed",
    "Price.input": "test_tokens_and_cost_are_limited_and_attributed",
    "Price.output": "test_tokens_and_cost_are_limited_and_attributed",
}


def test_every_documented_key_has_a_test_that_shows_it_acts() -> None:
    """The published schema has these keys and no others, and each of the tests exists."""
    schema = json_schema()
    keys = {f"{name}.{key}" for name, part in {**schema["$defs"], "PolicyFile": schema}.items() for key in part["properties"]}
    assert keys == set(SHOWN)
    trees = [ast.parse(path.read_text()) for path in Path(__file__).parent.glob("test_*.py")]
    tests = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert set(SHOWN.values()) - tests == set()


def paying(effects: Effects, effect: Any = "unclassified") -> Any:
    """Return a tool."""

    @surefoot.tool(effect=effect)
    def pay(amount: int = 5) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    pay.__qualname__ = pay.__name__ = "pay"
    return pay


@pytest.mark.parametrize(("scope", "times"), [("tenant", 1), ("run", 2)])
def test_scope_says_where_a_key_is_unique(policed: Policed, effects: Effects, scope: str, times: int) -> None:
    """``scope:`` acts: two runs that ask for one business key share its effect, or have one each."""
    pay = paying(effects)
    guard = policed(f"tools: [{{tool: pay, key: [amount], scope: {scope}}}]")
    for _ in range(2):
        surefoot.wrap(pay_once(pay), guard=guard)()
    assert effects.count("pay") == times


def pay_once(pay: Any) -> Callable[[], Any]:
    """Return a program that pays."""
    return lambda: pay(5)


def undo(call: Call, value: Any) -> None:
    """Undo a payment."""
    UNDONE.append((call.tool, value))


UNDONE: list[tuple[str, Any]] = []


def test_compensate_undoes_a_call(policed: Policed, effects: Effects, monkeypatch: pytest.MonkeyPatch) -> None:
    """``compensate:`` acts: what it names is called with the call and its result when the run is rolled back, once."""
    import sys

    monkeypatch.setitem(sys.modules, "test_keys", sys.modules[__name__])
    UNDONE.clear()
    guard = policed("tools: [{tool: pay, effect: unsafe, compensate: 'test_keys:undo'}]")
    surefoot.wrap(pay_once(paying(effects)), guard=guard)()
    for _ in range(2):
        surefoot_recovery.rollback(guard, guard.runs.list()[-1].run_id, by="maria")
    assert UNDONE == [("pay", "paid 5")]


@pytest.mark.parametrize("action", ["reject", "pause", "abort"])
def test_the_three_actions_of_a_guardrail(policed: Policed, effects: Effects, action: str) -> None:
    """``action:`` of a guardrail acts: the caller is told and goes on, the run pauses, or it is stopped until somebody releases it."""
    pay = paying(effects)
    guard = policed(f"guardrails: [{{when: sum(calls) >= 1, action: {action}}}]")

    def program() -> None:
        pay(1)
        pay(2)

    with surefoot.run("r"), pytest.raises(BudgetExceeded) as told:
        surefoot.wrap(program, guard=guard)()
    assert told.value.stop_reason["action"] == action
    with surefoot.run("r"):
        if action == "abort":
            with pytest.raises(RunStopped):
                surefoot.wrap(program, guard=policed("default: allow"))()
        else:
            surefoot.wrap(program, guard=policed("default: allow"))()
    assert effects.count("pay") == (1 if action == "abort" else 2)


class Elsewhere(Executor):
    """Says what it was asked to run."""

    def run(self, call: Call) -> str:
        """Say it."""
        return f"elsewhere: {call.tool}{dict(call.arguments)}"


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize(
    "text", ["tools: [{tool: pay, sandbox: jail}]", "tiers: {shell: {sandbox: jail}}\ntools: [{tool: pay, tier: shell}]"]
)
def test_a_sandbox_runs_the_body_elsewhere(
    policed: Policed, effects: Effects, monkeypatch: pytest.MonkeyPatch, face: str, text: str
) -> None:
    """``sandbox:`` acts, of an entry and of a tier: the executor runs the call, and the body here is not entered."""
    monkeypatch.setitem(EXECUTORS, "jail", Elsewhere)
    guard = policed(text)

    @surefoot.tool()
    async def pay(amount: int = 5) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    async def program() -> Any:
        return await pay(5)

    if face == "async":
        answer = asyncio.run(surefoot.wrap(program, guard=guard)())
    else:
        answer = surefoot.wrap(pay_once(paying(effects)), guard=guard)()
    assert answer == "elsewhere: pay{'amount': 5}"
    assert effects.all() == []
    assert [call.state for call in guard.calls.list()] == ["committed"]


def test_an_adapter_that_cannot_have_a_body_run_elsewhere_is_refused(
    policed: Policed, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sandbox:`` fails closed: where whoever makes the call does not hand its body over, nothing runs."""
    monkeypatch.setitem(EXECUTORS, "jail", Elsewhere)
    guard = policed("tools: [{tool: pay, sandbox: jail}]")

    def program() -> Any:
        frame = innermost(here())
        assert frame is not None
        return guard.call(frame, Request("pay", {"amount": 5}, None), lambda: effects.add("pay"))

    with pytest.raises(Denied, match="its adapter cannot have a body run elsewhere"):
        surefoot.wrap(program, guard=guard)()
    assert effects.all() == []


@pytest.mark.parametrize("effect", ["read", "unsafe"])
def test_a_read_needs_its_sandbox_too(policed: Policed, effects: Effects, effect: str) -> None:
    """A declared read whose sandbox is not installed is denied like everything else."""
    with pytest.raises(Denied, match="no executor of that name is installed"):
        surefoot.wrap(pay_once(paying(effects, effect)), guard=policed("tools: [{tool: pay, sandbox: jail}]"))()
    assert effects.all() == []


def test_depends_on_names_what_a_bulkhead_is_of(policed: Policed, effects: Effects) -> None:
    """``depends_on:`` acts: two tools that the file has need one dependency share its one place, a third one does not."""
    free, inner = paying(effects), paying(effects)
    guard = policed("tools: [{tool: [agent, pay], depends_on: [bank]}]")
    surefoot_recovery.protect(guard, surefoot_recovery.Bulkhead("places", 1, per="dependency"))

    @surefoot.tool(effect="composite")
    def agent() -> Any:
        return inner(1)

    with pytest.raises(surefoot_recovery.BulkheadFull):
        surefoot.wrap(agent, guard=guard)()
    assert effects.all() == []
    surefoot.wrap(lambda: free(2), guard=guard)()
    assert effects.all() == [["pay", 2]]
