"""Rolling back: what is undone, how often, in which order, and what refuses it."""

from __future__ import annotations

import contextlib
from typing import Any

from surefoot_conformance.checks.transparent import GO
from surefoot_conformance.lab import Lab, Play, Stage
from surefoot_conformance.table import check, equal


@check("adapter", "L2", faces=("sync",), variants=("whole", "partial"))
def a_rollback_undoes_each_effect_once(lab: Lab) -> None:
    """I18: after a rollback every later effect is compensated once, in reverse order, or listed."""
    from surefoot import Call, ToolRule
    from surefoot_recovery import RollbackRefused

    def undo(call: Call, value: Any) -> str:
        lab.effects.add(f"undo {call.tool}", call.arguments["amount"], value)
        return "undone"

    partial = lab.variant == "partial"
    rules = {name: ToolRule(effect="unsafe", compensate=undo) for name in ("charge", "refund")}
    rules["mail"] = ToolRule(effect="unsafe", compensate=None if partial else undo)
    play = Play(script=[[("charge", 5)], [("mail", 6)], [("refund", 7)]], guard={"tools": rules})
    lab.done(play, GO)

    def work() -> Any:
        stage = Stage(lab, play, kill=None, nth=1, bare=False)
        target, guard = lab.built(stage), stage.guard
        assert guard is not None  # noqa: S101 - it is not bare
        run = guard.runs.list()[0].run_id
        if partial:
            with contextlib.suppress(RollbackRefused):
                guard.runs.rollback(run, by="suite", app=target)
            lab.effects.add("refused")
        undone = guard.runs.rollback(run, partial=partial, by="suite", app=target)
        guard.runs.rollback(run, partial=partial, by="suite", app=target)
        return [undone.status, [guard.calls.show(call).tool for call in undone.left]]

    equal("the rollback", lab.here(work), ["compensated", ["mail"] if partial else []])
    happened = [name for name, *_ in lab.effects.all()][3:]
    equal(
        "effects after it", happened, ["refused", "undo refund", "undo charge"] if partial else ["undo refund", "undo mail", "undo charge"]
    )
