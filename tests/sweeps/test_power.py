"""Power cuts: what the store's files could look like after one, and whether what was promised is in them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps import vfs
from sweeps.power import sweep

pytestmark = [
    pytest.mark.sweep,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not vfs.available(), reason="this interpreter has SQLite built in, where nothing can be put below it"),
]

ROUNDS = 320
"""Draws at each of some 1,100 moments: more than 100,000 different states."""


def test_i2_i3_a_power_cut_loses_no_intent_and_no_returned_result(folder: Path, say: Callable[[str], None]) -> None:
    """In every state that a power cut may leave, the intent of every effect and every returned result is there, and the file is sound."""
    start = time.monotonic()
    found = sweep(folder, "FULL", rounds=ROUNDS)
    say(f"{found.states:,} different states after a power cut in {time.monotonic() - start:.0f} s: {found.bad} unsafe")
    assert found.wrong == {}
    assert found.states >= 100_000


def test_i2_negative_control_normal_loses_intents(folder: Path, say: Callable[[str], None]) -> None:
    """With synchronous=NORMAL the same oracle finds effects without a durable intent."""
    found = sweep(folder, "NORMAL", rounds=2)
    lost = sum(times for what, times in found.wrong.items() if "the ledger does not know it" in what)
    say(f"synchronous=NORMAL: {found.bad:,} of {found.states:,} states are unsafe, {lost:,} effects without an intent")
    assert lost > 0
