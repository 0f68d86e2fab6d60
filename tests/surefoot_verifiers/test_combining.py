"""Several verifiers as one: UNVERIFIED is no vote, and nothing but PASS passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from judging import asked

from surefoot import ErrorClass, StepOutput, UsageError, Verdict, VerdictStatus
from surefoot_verifiers import HINTS, all_of, any_of, hinted, quorum, tiered

YES = Verdict.passed(confidence=0.9)
NO = Verdict.failed(ErrorClass.GOAL_DRIFT, "Go back.", confidence=0.8)
UNSURE = Verdict.unverified("away")
LETTERS = {"P": YES, "F": NO, "U": UNSURE}


def saying(verdict: Verdict, heard: list[Any] | None = None, *, later: bool = False) -> Callable[[StepOutput], Any]:
    """Return a verifier that always says this, at once or as a coroutine."""

    async def coroutine(_output: StepOutput) -> Verdict:
        return verdict

    def verify(output: StepOutput) -> Any:
        if heard is not None:
            heard.append(verdict)
        return coroutine(output) if later else verdict

    return verify


def several(letters: str, *, later: bool = False) -> list[Any]:
    """Return verifiers that say P(ASS), F(AIL), U(NVERIFIED)."""
    return [saying(LETTERS[letter], later=later) for letter in letters]


@pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("combine", "table"),
    [
        (all_of, {"P": "P", "PP": "P", "PF": "F", "FU": "F", "UF": "F", "PU": "U", "UP": "U", "U": "U"}),
        (any_of, {"P": "P", "FP": "P", "UP": "P", "FF": "F", "FU": "U", "UF": "U", "U": "U"}),
        (
            lambda *judges: quorum(2, *judges),
            {"PPF": "P", "PPU": "P", "PFF": "F", "PFU": "U", "PUU": "U", "FFU": "F", "FFF": "F", "UUU": "U"},
        ),
    ],
    ids=["all_of", "any_of", "quorum of two"],
)
def test_i13_what_could_not_judge_never_helps_to_pass(combine: Any, table: dict[str, str], later: bool) -> None:  # noqa: FBT001 - a face
    """The table of each combination; a judge who is away neither passes nor fails anything."""
    status = {letters: str(asked(combine(*several(letters, later=later)), "x").status)[0] for letters in table}
    assert status == table


def test_the_first_that_decides_ends_the_asking() -> None:
    """all_of stops at the first FAIL, any_of at the first PASS: put the cheap ones first."""
    heard: list[Any] = []
    asked(all_of(saying(NO, heard), saying(YES, heard)), "x")
    asked(any_of(saying(YES, heard), saying(NO, heard)), "x")
    assert heard == [NO, YES]


def test_a_quorum_joins_the_hints_of_those_against() -> None:
    """The class that most judges give is the verdict's, their different hints are joined, and the tally is its reason."""
    other = Verdict.failed(ErrorClass.INCOMPLETE, "Say more.")
    verdict = asked(quorum(2, saying(NO), saying(other), saying(NO)), "x")
    assert (verdict.error_class, verdict.hint) == ("GOAL_DRIFT", "Go back. Say more.")
    assert verdict.reason == "0 of 3 judges pass it, 2 needed, 0 could not judge"


@pytest.mark.parametrize(
    ("criticality", "low", "expected"),
    [
        ("low", YES, "low"),
        ("medium", YES, "medium"),
        ("high", YES, "high"),
        ("low", Verdict.passed(confidence=0.5), "low medium"),
        ("low", UNSURE, "low medium"),
    ],
)
def test_a_tier_answers_for_its_criticality_and_doubt_goes_up(criticality: str, low: Verdict, expected: str) -> None:
    """A step is judged by the tier of its criticality; a borderline or missing verdict is put to the next one, whose verdict counts."""
    heard: list[str] = []

    def tier(name: str, verdict: Verdict) -> Any:
        return lambda _output: heard.append(name) or verdict

    verifier = tiered(low=tier("low", low), medium=tier("medium", NO), high=tier("high", YES))
    verdict = asked(verifier, "x", criticality=criticality)
    assert " ".join(heard) == expected
    assert verdict.status == ("FAIL" if heard[-1] == "medium" else "PASS")


def test_a_borderline_no_goes_up_too_and_an_equal_tier_is_asked_once() -> None:
    """A FAIL of low confidence may be a false alarm; where two tiers are one verifier, it is not asked twice."""
    heard: list[Any] = []
    borderline = saying(Verdict.failed("SCHEMA", "?", confidence=0.2), heard)
    verdict = asked(tiered(low=borderline, medium=borderline, high=saying(YES, heard)), "x", criticality="low")
    assert len(heard) == 2
    assert verdict.status is VerdictStatus.PASS
    assert "low: FAIL (0.20), then high: PASS (0.90)" in verdict.reason


def test_a_hint_can_be_replaced_for_its_class() -> None:
    """A class's hint is the user's text or function, else the verifier's, else the one of the taxonomy; PASS stays as it is."""
    bare = Verdict.failed(ErrorClass.GOAL_DRIFT)
    assert asked(hinted(saying(NO), {"GOAL_DRIFT": "Stick to tax law."}), "x").hint == "Stick to tax law."
    assert (
        asked(hinted(saying(NO), {ErrorClass.GOAL_DRIFT: lambda output, verdict: f"{output.goal}: {verdict.hint}"}), "x").hint
        == "do it: Go back."
    )
    assert asked(hinted(saying(NO), {"SCHEMA": "other"}), "x").hint == "Go back."
    assert asked(hinted(saying(bare)), "x").hint == HINTS["GOAL_DRIFT"]
    assert asked(hinted(saying(YES), {"GOAL_DRIFT": "x"}), "x") == YES
    assert {*ErrorClass} <= HINTS.keys()


@pytest.mark.parametrize("make", [all_of, any_of, lambda: quorum(1), lambda: quorum(3, *several("PP")), lambda: quorum(0, *several("P"))])
def test_a_combination_of_nothing_is_refused(make: Any) -> None:
    """Nobody to ask, or more votes needed than judges: a UsageError, because it could only always pass or never."""
    with pytest.raises(UsageError):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiered("rules", None, "rules"),
        lambda: hinted("rules", {"SCHEMA": 3}),
        lambda: tiered("rules", "rules", "rules", escalate_below=7),
    ],
)  # type: ignore[dict-item]
def test_what_is_no_verifier_or_no_hint_is_refused(make: Any) -> None:
    """A tier that judges nothing, a hint that is no text, a confidence that is none: a UsageError."""
    with pytest.raises(UsageError):
        make()
