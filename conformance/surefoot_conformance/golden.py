"""Recorded runs that every adapter replays: written by ``scripts/golden.py``, read by the check that replays them.

They are made over a store whose digest key is :data:`KEY`, so that any store with that key recognises what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from surefoot_conformance.harness import Turn
from surefoot_conformance.lab import Lab, Play

__all__ = ["GO", "KEY", "PLAY", "recorded", "recording"]

KEY: Final = "golden"
"""The digest key: nothing in these runs is a secret."""
GO: Final = Turn("golden", "Charge order 7.", run="golden")
PLAY: Final = Play(script=[[("look", 1)], [("charge", 5), ("mail", 2), ("charge", 5)], [("charge", 6)]])
_FOLDER: Final = Path(__file__).parent / "recordings"


def recording(name: str) -> Path:
    """Return the file of a harness's recorded run; there may be none."""
    return _FOLDER / f"{name}.jsonl"


def recorded(lab: Lab) -> Sequence[str]:
    """Play the golden run in an empty laboratory and return it as JSON lines."""
    from surefoot_journal import Recorded

    os.environ["SUREFOOT_DIGEST_KEY"] = KEY
    lab.done(PLAY, GO)
    (run,) = lab.runs()
    lines: list[str] = lab.look(lambda guard: list(Recorded.of(guard, run["id"]).lines(guard.redact)))
    return lines
