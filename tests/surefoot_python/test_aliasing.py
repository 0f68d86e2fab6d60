"""What one attempt does to what it was given stays with that attempt."""

from __future__ import annotations

import pytest

import surefoot
from surefoot import Guard, StepOutput, Verdict
from surefoot_python import Context, Pipeline, Result, Step, Task, _running

GOOD = {"list": ["a"], "deep": {"x": 1}}


def reject_first(output: StepOutput) -> Verdict:
    """Reject the first attempt."""
    return Verdict.failed("INCOMPLETE", "Say more.") if output.attempt == 1 else Verdict.passed()


def run(guard: Guard) -> tuple[Result, list[object]]:
    """Run a pipeline whose second step spoils all that it can reach; return its result, and what each of its tries found."""
    kept = {"list": ["a"], "deep": {"x": 1}}
    seen: list[object] = []

    def research(_ctx: Context) -> object:
        return kept

    def draft(ctx: Context) -> str:
        seen.append((str(ctx.outputs["research"]), str(ctx.task.inputs)))
        for facts in (ctx.outputs["research"], kept):
            facts["list"].append("spoilt")
            facts["deep"]["x"] = 999
        ctx.task.inputs["who"].append("spoilt")
        return "draft"

    def review(ctx: Context) -> object:
        return ctx.outputs["research"]

    pipeline = Pipeline([research, Step("draft", draft, verifier=reject_first), review])
    return surefoot.wrap(pipeline, guard=guard).run(Task("write", inputs={"who": ["reader"]}, id="t")), seen


def test_a_rejected_attempt_changes_no_committed_checkpoint(guard: Guard) -> None:
    """Spoilt outputs, inputs and kept references reach no memo, no later step, no next attempt, and not the result."""
    result, seen = run(guard)
    assert seen == [(str(GOOD), "{'who': ['reader']}")] * 2
    assert (result.output, result.outputs["research"]) == (GOOD, GOOD)
    assert "spoilt" not in "".join(point.output or "" for point in guard.runs.checkpoints(result.run_id))
    again, _ = run(guard)
    assert again.output == GOOD


def test_without_copies_it_would_have_changed_them(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: where attempts share what the steps before them returned, the result has what a rejected one did."""

    def shared(self: _running._Outputs, name: str, output: object) -> str:
        self._made[name] = lambda: output
        return self._codec.dumps(output, whole=True)

    monkeypatch.setattr(_running._Outputs, "add", shared)
    result, _ = run(guard)
    assert result.output != GOOD
