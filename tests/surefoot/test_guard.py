"""What a guard is given: bad options are refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

import surefoot
from surefoot import Budget, Guard, StepRule, ToolRule, UsageError

BAD: dict[str, tuple[Any, str]] = {
    "store": (5, "store=5 is not a URL or a Store"),
    "tools": ({"charge": "unsafe"}, r"tools=\{'charge': 'unsafe'\} is not a mapping of tool names or patterns to ToolRule"),
    "tools as a list": (["charge"], r"tools=\['charge'\] is not a mapping"),
    "reads": ("search*", r"reads='search\*' is not a list of names and patterns; write reads=\['search\*'\]"),
    "reads as a number": (3, "reads=3 is not a list"),
    "steps": ({"x": "y"}, r"steps=\{'x': 'y'\} is not a mapping of step names or patterns to StepRule"),
    "steps with a bad verifier": ({"x": StepRule(verifier=3)}, "verifier=3 is neither"),
    "retry": (3, "retry=3 is not a Retry"),
    "budget": (5, "budget=5 is not a Budget"),
    "policy": (5, "policy=5 is not a Policy"),
    "on_event": (3, "on_event=3 is not a function"),
    "wait": (-1, "wait=-1 is not a number of seconds"),
    "wait as text": ("long", "wait='long' is not a number of seconds"),
}


@pytest.mark.parametrize("option", BAD)
@pytest.mark.parametrize("make", [Guard, lambda **options: surefoot.wrap(print, **options)], ids=["Guard", "wrap"])
def test_a_bad_option_is_refused_where_it_is_given(option: str, make: Any) -> None:
    """Every option that cannot work is one sentence that says what to give, before anything is opened or wrapped."""
    given, sentence = BAD[option]
    with pytest.raises(UsageError, match=sentence):
        make(**{"store": "memory://", option.split(" ", maxsplit=1)[0]: given})


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (lambda: ToolRule("unsaef"), "effect='unsaef' is not one of read, idempotent, unsafe, composite, unclassified"),
        (lambda: ToolRule(scope="moon"), "scope='moon' is not 'tenant' or 'run'"),
        (lambda: ToolRule(key=5), "not a list of argument names"),
        (lambda: ToolRule(probe=3), "probe=3 is not a function"),
        (lambda: ToolRule(not_committed=ValueError), "not a tuple of exceptions"),
        (lambda: ToolRule(timeout=-1), "timeout=-1 is not a number of seconds"),
        (lambda: surefoot.tool(scope="moon"), "scope='moon' is not 'tenant' or 'run'"),
        (lambda: StepRule(retry=3), "retry=3 is not a Retry"),
        (lambda: Budget(per="moon"), "per='moon' is not 'run', 'thread' or 'tenant'"),
    ],
)
def test_a_bad_rule_is_refused_where_it_is_written(rule: Any, sentence: str) -> None:
    """A rule with a field that cannot work is not made."""
    with pytest.raises(UsageError, match=sentence):
        rule()


def test_a_bare_tool_decorator_is_one_clear_sentence() -> None:
    """``@surefoot.tool`` without parentheses says to write them."""
    with pytest.raises(UsageError, match="with its parentheses"):
        surefoot.tool(print)


def test_a_run_of_no_tenant_is_one_clear_sentence() -> None:
    """A tenant that is none, as from a lookup that found nothing, is refused where the run is named: it is nobody's data."""
    tenant: Any = None
    with pytest.raises(UsageError, match="tenant=None is not the name of a tenant"), surefoot.run("r", tenant=tenant):
        pass
