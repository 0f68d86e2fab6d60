"""The judge of the fleet's histories, on histories that were made up."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from sweeps.linear import DOUBT, Op, histories, linearizable
from sweeps.support import Lines

DIED = math.inf


@pytest.mark.parametrize(
    "ops",
    [
        [],
        [Op(0, 1, "a", "a"), Op(2, 3, None, "a")],
        [Op(0, 5, "a", "a"), Op(1, 9, None, "a"), Op(6, 7, None, "a")],
        [Op(0, DIED, "a"), Op(2, 3, None, DOUBT), Op(4, 5, None, "a")],
        [Op(0, 1, "a", DOUBT), Op(2, 3, None, DOUBT)],
        [Op(0, DIED), Op(1, 2, None, DOUBT)],
        [Op(0, DIED), Op(1, 2, "a", "a")],
        [Op(0, 3, "a", "a"), Op(1, 2, None, DOUBT)],
    ],
    ids=[
        "nothing",
        "replayed",
        "beside one another",
        "landed late",
        "stays in doubt",
        "intent lost",
        "never claimed",
        "doubt before it ends",
    ],
)
def test_what_happens_at_most_once_is_linearizable(ops: list[Op]) -> None:
    """A history that one call after another could have made is accepted."""
    assert linearizable(ops)


@pytest.mark.parametrize(
    "ops",
    [
        [Op(0, 1, "a", "a"), Op(2, 3, "b", "b")],
        [Op(0, DIED, "a"), Op(2, DIED, "b")],
        [Op(0, 1, "a", "a"), Op(2, 3, None, DOUBT)],
        [Op(0, 1, None, DOUBT), Op(2, 3, "a", "a")],
        [Op(0, 1, "a", "b")],
        [Op(0, 1, None, "a"), Op(2, 3, "a", "a")],
        [Op(0, DIED, "a"), Op(1, 2, None, "a"), Op(3, 4, None, DOUBT)],
    ],
    ids=[
        "two effects",
        "two effects unseen",
        "demoted",
        "doubt forgotten",
        "another's answer",
        "before it was",
        "demoted after landing late",
    ],
)
def test_negative_control_what_happened_twice_or_was_taken_back_is_not(ops: list[Op]) -> None:
    """A second body, an answer that changes, a doubt that is forgotten or comes after an answer: each is refused."""
    assert not linearizable(ops)


def test_a_doubt_about_another_call_is_no_answer(tmp_path: Path) -> None:
    """A held run answers every call with the doubt of one: only that one's key has it in its history."""
    lines = Lines(tmp_path / "h")
    for words in (
        ("asked", "1", "k1", "0"), ("body", "1", "t", "call_1"), ("asked", "2", "k1", "1"), ("doubt", "2", "call_1", "2"),
        ("asked", "3", "k2", "3"), ("doubt", "3", "call_1", "4"),
    ):  # fmt: skip
        lines.add(*words)
    assert histories(lines.path) == {"k1": [Op(0, math.inf, "t"), Op(1, 2, None, DOUBT)]}
