"""``rules`` and ``schema``: form, certain defects, guesses that are asked for, and transitions of a state."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import verifier_rates
from judging import asked
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from surefoot import Guard, StepRule, UsageError, VerdictStatus
from surefoot_verifiers import HEURISTICS, rules, schema


class Invoice(BaseModel):
    """An invoice."""

    number: int
    lines: list[str]


INVOICE = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
CALLS = AIMessage("", tool_calls=[{"name": "charge", "args": {}, "id": "1"}])


def test_no_ordinary_output_is_rejected_by_default() -> None:
    """AS-25: of at least 200 ordinary outputs the defaults reject none, and at least 50 defective ones are there to be found."""
    (_, false_alarms, found), *_guesses, (_, _, found_by_all) = verifier_rates.rule_rows()
    assert len(verifier_rates.rows("ordinary")) >= 200
    assert len(verifier_rates.rows("defective")) >= 50
    assert false_alarms == 0
    assert found >= 12
    assert found_by_all >= 45


def test_the_published_rates_are_the_measured_ones() -> None:
    """The page of rates is what is measured now; ``python scripts/verifier_rates.py`` writes it anew."""
    assert verifier_rates.PAGE.read_text(encoding="utf-8") == verifier_rates.page()


@pytest.mark.parametrize(
    "output", [None, "", " \n", '{"a": [1,', '{"a": "b', "[1, 2", '{"a": tru', {"messages": [AIMessage(" ")]}, AIMessage("")]
)
def test_what_is_no_output_is_rejected_without_options(output: Any) -> None:
    """Nothing, blank text and JSON that stops half-way are INCOMPLETE, with a hint."""
    verdict = asked(rules(), output)
    assert (verdict.status, verdict.error_class) == ("FAIL", "INCOMPLETE")
    assert verdict.hint


@pytest.mark.parametrize("output", [0, False, [], {}, "{x}", "[1]", '{"a": 1}\n{"a": 2}', "[", CALLS, {"messages": [CALLS]}])
def test_an_answer_that_is_small_is_an_answer(output: Any) -> None:
    """Zero, False, an empty list, a message that only asks for calls, and texts that look a little like JSON pass."""
    assert asked(rules(), output).status is VerdictStatus.PASS


@pytest.mark.parametrize(
    ("options", "good", "bad", "error_class"),
    [
        ({"required": ["a", "b"]}, '{"a": 1, "b": 2}', {"a": 1, "b": None}, "SCHEMA"),
        ({"min_length": 5}, "enough", "no", "INCOMPLETE"),
        ({"max_length": 2}, [1, 2], [1, 2, 3], "SCOPE_CREEP"),
        ({"max_length": 2}, "ab", 3.5, "SCHEMA"),
        ({"pattern": r"\d+ EUR"}, "It costs 12 EUR.", "It is cheap.", "SCHEMA"),
        ({"pattern": "a"}, "a", {"a": 1}, "SCHEMA"),
        ({"forbidden": "(?i)password"}, "Here you are.", "Your password is x.", "SCHEMA"),
        ({"schema": Invoice}, {"number": 1, "lines": ["x"]}, {"number": "one", "lines": []}, "SCHEMA"),
        ({"schema": INVOICE}, '```json\n{"number": 3}\n```', "number three", "SCHEMA"),
        ({"schema": list[int]}, AIMessage("[1, 2]"), AIMessage("[1, null]"), "SCHEMA"),
        ({"heuristics": ["refusal"]}, "I'm sorry for the delay.", "I'm sorry, but I can't help with that.", "INCOMPLETE"),
    ],
)
def test_each_rule_says_what_is_wrong(options: Any, good: Any, bad: Any, error_class: str) -> None:
    """A rule passes what keeps it, and fails what does not with its class and a hint for the next attempt."""
    verifier = rules(**options)
    assert asked(verifier, good).status is VerdictStatus.PASS
    verdict = asked(verifier, bad)
    assert (verdict.status, verdict.error_class, bool(verdict.hint)) == ("FAIL", error_class, True)


@pytest.mark.parametrize("name", HEURISTICS)
def test_a_guess_is_off_until_it_is_named(name: str) -> None:
    """No heuristic is a part of the defaults; named, it finds something that the defaults do not."""
    defects = [row["output"] for row in verifier_rates.rows("defective")]
    extra = verifier_rates.rejected(rules(heuristics=[name]), defects) - verifier_rates.rejected(rules(), defects)
    assert extra > 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: rules(heuristics=["vibes"]), "some of placeholders"),
        (lambda: rules(heuristics="refusal"), "some of placeholders"),
        (lambda: rules(pattern="("), "no regular expression"),
        (lambda: rules(min_length=-1), "0 or more"),
        (lambda: rules(required="a"), "a list of keys"),
        (lambda: rules(schema={"type": "objekt"}), "no JSON Schema"),
        (schema, "checks nothing"),
        (lambda: schema(transitions={"status": ["open"]}), "a mapping of field"),
        (lambda: schema(object()), "neither a JSON Schema"),
        (lambda: Guard("memory://", steps={"a": StepRule(verifier="rules:")}), "nothing after its colon"),
        (lambda: Guard("memory://", steps={"a": StepRule(verifier="rules:vibes")}), "some of placeholders"),
        (lambda: Guard("memory://", steps={"a": StepRule(verifier="ruler")}), "no plugin makes a verifier"),
    ],
)
def test_an_option_that_cannot_work_is_refused_where_it_is_given(make: Any, says: str) -> None:
    """A mistake in an option is a UsageError when the verifier or the guard is made, not a verdict later."""
    with pytest.raises(UsageError, match=says):
        make()


STATUS = {"status": {None: ["draft"], "draft": ["sent", "void"], "sent": ["paid"]}}


@pytest.mark.parametrize(
    ("before", "after", "passes"),
    [
        ({}, {"status": "draft"}, True),
        ({"status": "draft"}, {"status": "sent"}, True),
        ({"status": "draft"}, {"status": "draft"}, True),
        ({"status": "draft"}, {"other": 1}, True),
        ({"status": "draft"}, {"status": "paid"}, False),
        ({"status": "paid"}, {"status": "draft"}, False),
        ("no state", {"status": "sent"}, False),
    ],
)
def test_a_state_moves_only_where_it_may(before: Any, after: Any, passes: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """A field moves along its transitions; what is left out, or stays, has not moved; the hint says what may come."""
    verdict = asked(schema(transitions=STATUS), after, input=before)
    assert (verdict.status is VerdictStatus.PASS) is passes
    assert passes or "may come" in verdict.hint


def test_checks_see_before_and_after() -> None:
    """A check is given the state before and after; what it returns but True and None is what is wrong."""

    @dataclasses.dataclass
    class Account:
        balance: int

    def never_negative(_before: Any, after: Any) -> Any:
        return after["balance"] >= 0 or f"the balance would be {after['balance']}"

    verifier = schema(checks=[never_negative])
    assert asked(verifier, Account(5)).status is VerdictStatus.PASS
    assert "the balance would be -5" in asked(verifier, Account(-5)).hint
