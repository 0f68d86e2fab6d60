"""Recorded runs, replayed with no model, no tool and nothing written (AS-77)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any, Final

from surefoot_conformance import golden
from surefoot_conformance.checks.transparent import GO
from surefoot_conformance.lab import Lab, Play, Stage
from surefoot_conformance.table import Skip, check, equal, expect

_PLAY: Final = Play(script=[[("charge", 5), ("look", 1), ("charge", 5)], [("mail", 2)]])
_CALLS: Final = ["charge", "charge", "look", "mail"]


@check("adapter", "L2", faces=("sync", "async"))
def a_recorded_run_is_replayed_offline(lab: Lab) -> None:
    """AS-77: exported and replayed, a run gives the recorded answers in order; no model, no tool; nothing is written."""
    lab.done(_PLAY, GO)
    (run,) = lab.runs()
    lines = lab.look(lambda guard: _lines(guard, run["id"]))
    before = [lab.effects.all(), lab.events.all(), lab.model.all() if lab.harness.has_model else []]
    found = _replayed(lab, _PLAY, lines)
    equal("what differs", found["why"], None)
    equal("calls that were answered", sorted(found["calls"]), _answered(lab, _CALLS))
    equal("what the recorded run went on with", found["left"], [])
    equal("what happened", [lab.effects.all(), lab.events.all(), lab.model.all() if lab.harness.has_model else []], before)
    emptied = [line for line in lines if json.loads(line).get("kind") is None]
    expect(_replayed(lab, _PLAY, emptied)["why"], "a run of which nothing is recorded was replayed")


@check("adapter", "L2", faces=("sync",))
def the_golden_run_is_replayed(lab: Lab) -> None:
    """A run that an earlier release recorded is replayed by this one: its steps, requests and answers are recognised."""
    file = golden.recording(lab.harness.name)
    if not file.exists():
        raise Skip("no run of this adapter was recorded; scripts/golden.py records one")
    os.environ["SUREFOOT_DIGEST_KEY"] = golden.KEY
    try:
        found = _replayed(lab, golden.PLAY, file.read_text(encoding="utf-8").splitlines(), exact=False)
    finally:
        del os.environ["SUREFOOT_DIGEST_KEY"]
    equal("what differs", found["why"], None)
    equal("calls that were answered", sorted(found["calls"]), _answered(lab, ["charge", "charge", "charge", "look", "mail"]))
    equal("what the recorded run went on with", found["left"], [])
    equal("effects", lab.effects.all(), [])


def _lines(guard: Any, run_id: str) -> list[str]:
    from surefoot_journal import Recorded

    return list(Recorded.of(guard, run_id).lines(guard.redact))


def _answered(lab: Lab, calls: Sequence[str]) -> list[str]:
    """Return the calls that come to the ledger: where steps are given whole, none."""
    return [] if lab.harness.has_checkpoints else list(calls)


async def _built(lab: Lab, stage: Stage) -> Any:
    return lab.built(stage)


def _fails(_stage: Stage, name: str, _amount: int) -> str:
    raise AssertionError(f"the tool {name} ran")


def _replayed(lab: Lab, play: Play, lines: Sequence[str], *, exact: bool = True) -> Any:
    """Replay a run in another process; return what differs, the calls that were answered, and what is left."""

    def work() -> Any:
        from surefoot_journal import Recorded, Replays, offline

        recorded = Recorded.parse(lines)
        quiet = dataclasses.replace(play, bodies=dict.fromkeys(play.tools(), _fails))
        stage = Stage(lab, quiet, kill=None, nth=1, bare=False)
        assert stage.guard is not None  # noqa: S101 - not bare
        target = asyncio.run(_built(lab, stage)) if lab.is_async else lab.built(stage)
        adapter = stage.guard.plugins.adapter_for(target)
        if not isinstance(adapter, Replays):
            return {"skip": f"the adapter {adapter.name} cannot run an object by itself"}
        error = None
        with offline(stage.guard, recorded, exact=exact) as found:
            try:
                adapter.again(target, recorded.run, stage.guard.codec.loads(recorded.input or "null"))
            except Exception as exc:  # noqa: BLE001 - said below
                error = f"{type(exc).__name__}: {exc}"
        return {"why": str(found.first) if found.first else error, "calls": found.calls, "left": found.left()}

    found = lab.here(work)
    if "skip" in found:
        raise Skip(found["skip"])
    return found
