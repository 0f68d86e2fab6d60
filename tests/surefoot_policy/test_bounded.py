"""I26: whatever a condition takes, it ends, it denies where it does not answer, and it holds up nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from processes import finish, start

import surefoot
import surefoot_policy
from surefoot import Denied, Guard
from surefoot_policy import FilePolicy, conditions, parse
from surefoot_policy import policy as policies
from surefoot_policy.rules import Question

Policed = Callable[..., Guard]
ORDERS = list(range(2000))
"""Twice nested, some minutes; three times, days."""


@pytest.fixture
def pay(effects: Effects) -> Any:
    """A tool of one argument, which may be a list."""

    @surefoot.tool()
    def pay(amount: Any) -> str:
        effects.add("pay")
        return "paid"

    pay.__qualname__ = "pay"
    return pay


class Slow(surefoot_policy.Expressions):
    """A language whose every condition says that it has begun, and holds when it is let."""

    begun: threading.Event
    let: threading.Event

    def compile(self, text: str, names: Any) -> Any:
        """Return the one condition that there is."""
        return self._holds

    def _holds(self, _values: Any) -> bool:
        self.begun.set()
        return self.let.wait()

    def values(self, values: Any) -> Any:
        """Return them as they are."""
        return values


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Slow]]:
    """The language ``slow``; its conditions are let in the end, whatever becomes of the test."""
    monkeypatch.setitem(surefoot_policy.LANGUAGES, "slow", Slow)
    Slow.begun, Slow.let = threading.Event(), threading.Event()
    yield Slow
    Slow.let.set()


def test_i26_a_slow_condition_holds_up_no_other_process(policed: Policed, pay: Any, effects: Effects, slow: Any, tmp_path: Path) -> None:
    """While a condition is being evaluated, another process pays in the same store; when it holds at last, its own call is denied."""
    guard = policed("expressions: slow\ntools: [{tool: pay, when: x, decision: deny}]\n")
    told: list[BaseException] = []

    def agent() -> None:
        try:
            surefoot.wrap(lambda: pay(1), guard=guard)()
        except Denied as exc:
            told.append(exc)

    waiting = threading.Thread(target=agent, daemon=True)
    waiting.start()
    assert slow.begun.wait(60)
    assert finish(start(tmp_path, amounts=[2], run="other"))["result"] == ["paid 2"]
    assert not slow.let.is_set()
    slow.let.set()
    waiting.join(60)
    assert [str(exc) for exc in told] == ["pay was not executed: tools[0] says deny."]
    assert effects.count("pay") == 1


@pytest.mark.parametrize("effect", ["read", "unsafe"])
def test_i26_a_condition_that_does_not_end_denies(
    policed: Policed, effects: Effects, slow: Any, monkeypatch: pytest.MonkeyPatch, effect: str
) -> None:
    """A condition that has not answered in the time of a gate denies the call, a declared read as well."""
    monkeypatch.setattr(conditions, "HOOK_SECONDS", 0.05)
    guard = policed("expressions: slow\ntools: [{tool: look, when: x, decision: deny}]\n")

    @surefoot.tool(effect=effect)  # type: ignore[arg-type]
    def look() -> None:
        effects.add("look")

    look.__qualname__ = "look"
    with pytest.raises(Denied, match="policy_unavailable"):
        surefoot.wrap(look, guard=guard)()
    assert effects.all() == []


def test_i26_a_guardrail_that_does_not_end_denies(
    policed: Policed, pay: Any, effects: Effects, slow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guardrail looks at sums, which stand still in the transaction only; there it is waited for so long, then the call is denied."""
    monkeypatch.setattr(policies, "GUARDRAIL_SECONDS", 0.05)
    guard = policed("expressions: slow\nguardrails: [{when: x}]\n")
    with pytest.raises(Denied, match=r"policy_unavailable: guardrails\[0\] .* has not answered within 0.05 s"):
        surefoot.wrap(lambda: pay(1), guard=guard)()
    assert effects.all() == []


LONG = {
    "twice": "args.amount.all(x, args.amount.all(y, x + y >= 0))",
    "three times, spread over lines": "args.amount\n . all (x, args.amount.exists(y, args.amount.exists_one( z, z == x + y )))",
    "in a filter": "args.amount.filter(x, args.amount.map(y, x * y).size() > 0).size() > 0",
    "behind a text that looks like an end": "args.amount.all(x, ')' != \"'\" && args.amount.all(y, x + y >= 0))",
}


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("place", ["tools", "guardrails"])
def test_i26_what_cel_would_take_too_long_for_is_denied(policed: Policed, pay: Any, effects: Effects, text: str, place: str) -> None:
    """Loops inside of loops over a long list are refused before they begin, and the entry is named; over a short one they run."""
    when = LONG[text].replace("\n", "\\n").replace('"', '\\"')
    rest = "tool: pay, decision: allow" if place == "tools" else "action: reject, reason: it holds"
    guard = policed(f'{place}: [{{when: "{when}", {rest}}}]\n')
    with pytest.raises(Denied, match=rf"policy_unavailable: {place}\[0\] .* would take more than [\d,]+ steps"):
        surefoot.wrap(lambda: pay(ORDERS), guard=guard)()
    assert effects.all() == []
    if place == "tools":
        assert surefoot.wrap(lambda: pay([1, 2, 3]), guard=guard)() == "paid"


def test_i26_one_loop_over_a_long_list_is_fine(policed: Policed, pay: Any) -> None:
    """A condition that looks at each of thousands of items once is evaluated."""
    guard = policed('tools: [{tool: pay, when: "args.amount.exists(x, x < 0)", decision: deny}]\n')
    assert surefoot.wrap(lambda: pay(ORDERS), guard=guard)() == "paid"


@pytest.mark.parametrize("where", ["tools", "guardrails"])
def test_i26_a_condition_that_fails_says_where(policed: Policed, effects: Effects, where: str) -> None:
    """AS-46, I26: a condition that cannot be evaluated denies a declared read too, and names its entry."""
    rest = "tool: look, decision: deny" if where == "tools" else "action: reject"
    guard = policed(f"{where}: [{{when: args.nothing > 1, {rest}}}]\n")

    @surefoot.tool(effect="read")
    def look() -> None:
        effects.add("look")

    look.__qualname__ = "look"
    with pytest.raises(Denied, match=rf"policy_unavailable: {where}\[0\]"):
        surefoot.wrap(look, guard=guard)()
    assert effects.all() == []


def test_i26_a_pattern_of_a_schema_takes_linear_time(policed: Policed, pay: Any, effects: Effects) -> None:
    """A pattern of ``arguments:`` over which a backtracking engine would sit for years is matched, or refused when the file is read."""
    guard = policed("tools: [{tool: pay, arguments: {properties: {amount: {pattern: '^(a+)+$'}}}}]\n")
    with pytest.raises(Denied, match=r"do not fit tools\[0\]"):
        surefoot.wrap(lambda: pay("a" * 40_000 + "b"), guard=guard)()
    with pytest.raises(surefoot.UsageError, match=r"tools\[0\]"):
        policed("tools: [{tool: pay, arguments: {properties: {amount: {pattern: '^(a+)\\1$'}}}}]\n")


@pytest.mark.parametrize(
    "entry", [{"when": "size(args) > 0", "decision": "allow"}, {"arguments": {"type": "object"}}], ids=["cel", "schema"]
)
def test_i26_arguments_that_are_nested_too_deep_deny(entry: Any) -> None:
    """Arguments nested in themselves, at which a library would end the process, are denied before it sees them."""
    rules = FilePolicy(parse({"tools": [{"tool": "pay", **entry}]}, "inline"), "inline").rules
    endless: list[Any] = []
    endless.append(endless)
    judged = rules.decide(Question("pay", "unsafe", {"amount": endless}))
    assert judged.decision == "deny"
    assert "policy_unavailable: tools[0] cannot be evaluated (ValueError: it is nested deeper than" in judged.reason
