"""Pipelines: what is rejected is tried again, what is committed stays as it is, what was killed goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crash import Effects, died, look, printed

import surefoot
from surefoot import Event, Guard, Retry, StepOutput, StepRule, UsageError, Verdict, VerificationFailed
from surefoot_python import Context, Criticality, Pipeline, Step, Task
from surefoot_verifiers import claims, tiered

CHILD = Path(__file__).parent / "pipeline_child.py"
POINTS = ["before intent", "call.claimed", "effect", "call.committed", "step.rejected", "step.committed"]


def research(_ctx: Context) -> dict[str, Any]:
    """Find facts."""
    return {"facts": ["a", "b"]}


def draft(ctx: Context) -> str:
    """Write from the facts."""
    return f"Draft of {', '.join(ctx.outputs['research']['facts'])}"


def review(ctx: Context) -> str:
    """Look at the draft."""
    return f"fine: {ctx.outputs['draft']}"


def reject_first(output: StepOutput) -> Verdict:
    """Reject the first attempt."""
    return Verdict.failed("INCOMPLETE", "Say more.") if output.attempt == 1 else Verdict.passed()


def test_three_steps_without_a_key_commit_three() -> None:
    """The quickstart: rules judge every step, no key is needed, and 3 of 3 steps are committed."""
    result = surefoot.wrap(Pipeline([research, draft, review]), store="memory://").run(Task("write about a and b"))
    assert (result.success, result.committed, result.planned, result.output) == (True, 3, 3, "fine: Draft of a, b")
    assert result.summary().startswith("3 of 3 steps committed")


async def test_both_faces_and_both_kinds_of_steps() -> None:
    """``arun`` takes plain and asynchronous steps, and ``run`` says what to do with an asynchronous one."""

    async def later(ctx: Context) -> str:
        step = surefoot.current_step()
        assert step is not None
        return f"{step.name} after {ctx.outputs['research']['facts']}"

    pipeline = surefoot.wrap(Pipeline([research, later]), store="memory://")
    assert (await pipeline.arun("x")).output == "later after ['a', 'b']"
    with pytest.raises(UsageError, match="arun"):
        pipeline.run("x")


def test_as_52_a_rejected_step_runs_again_with_its_hint() -> None:
    """AS-52: the hint is in the next attempt's context, the report tells it, and the effect of the first attempt is not repeated."""
    sent: list[int] = []
    seen: list[tuple[int, str, bool]] = []

    @surefoot.tool(effect="unsafe")
    def send(number: int) -> str:
        sent.append(number)
        return "sent"

    def letter(ctx: Context) -> str:
        seen.append((ctx.attempt, ctx.hint, ctx.is_retry))
        return f"{send(7)} {ctx.hint}"

    result = surefoot.wrap(Pipeline([Step("letter", letter, verifier=reject_first)]), store="memory://").run("write")
    assert seen == [(1, "", False), (2, "Say more.", True)]
    assert (sent, result.output) == ([7], "sent Say more.")
    assert [(step.attempts, step.hints) for step in result.steps] == [(2, ("Say more.",))]
    assert "told: Say more." in result.summary()


def test_a_failed_attempt_cannot_change_what_is_committed(tmp_path: Path) -> None:
    """Outputs and inputs are copies: what an attempt does to them reaches no checkpoint, no later step and no other attempt."""
    found: list[Any] = []

    def meddle(ctx: Context) -> str:
        found.append((list(ctx.outputs["research"]["facts"]), list(ctx.task.inputs["list"])))
        ctx.outputs["research"]["facts"].append("forged")
        ctx.task.inputs["list"].append("forged")
        return "x"

    guard = Guard(f"sqlite:///{tmp_path}/s.db")
    task = Task("t", {"list": [1]})
    result = surefoot.wrap(Pipeline([research, Step("meddle", meddle, verifier=reject_first), draft]), guard=guard).run(task)
    assert found == [(["a", "b"], [1])] * 2
    assert result.output == "Draft of a, b"
    assert task.inputs == {"list": [1]}
    assert guard.runs.checkpoints(result.run_id)[0].output == '{"facts":["a","b"]}'


def test_a_step_that_never_passes_ends_the_pipeline_with_what_there_is() -> None:
    """Attempts exhausted: no exception, the outputs before it are kept, nothing of it or after it is committed; raise_for_error raises."""
    never = Step("never", lambda _ctx: "no", verifier=lambda _output: False, retry=Retry(max_attempts=2))
    result = surefoot.wrap(Pipeline([research, never, review]), store="memory://").run("x")
    assert (result.success, result.committed, result.planned) == (False, 1, 3)
    assert dict(result.outputs) == {"research": {"facts": ["a", "b"]}}
    assert [(step.name, step.committed, step.attempts) for step in result.steps] == [("research", True, 1), ("never", False, 2)]
    assert result.summary().startswith("1 of 3 steps committed; stopped: step never#1")
    with pytest.raises(VerificationFailed):
        result.raise_for_error()


def test_what_a_step_raises_leaves_the_run_to_be_resumed(tmp_path: Path) -> None:
    """An exception comes out as it is; the same task again goes on after the last committed step, another task is a new run."""
    ran: list[str] = []
    broken = [True]

    def first(ctx: Context) -> str:
        ran.append(f"first {ctx.task.goal}")
        return "1"

    def second(_ctx: Context) -> str:
        ran.append("second")
        if broken and broken.pop():
            raise ConnectionError("away")
        return "2"

    pipeline = surefoot.wrap(Pipeline([first, second]), store=f"sqlite:///{tmp_path}/s.db")
    with pytest.raises(ConnectionError):
        pipeline.run(Task("a", id="n"))
    result = pipeline.run(Task("a", id="n"))
    assert (ran, result.success, [step.attempts for step in result.steps]) == (["first a", "second", "second"], True, [0, 1])
    assert "first: committed, recorded before" in result.summary()
    assert pipeline.run(Task("b", id="n")).success
    assert ran[-2:] == ["first b", "second"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_and_resumed_each_effect_happens_once(tmp_path: Path, point: str) -> None:
    """SIGKILL at each point, then the same task in a new process: one charge, nothing committed runs again, the hint is not lost."""

    def process(**told: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(CHILD), json.dumps({"folder": str(tmp_path), **told})]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    effects = Effects(tmp_path / "effects")
    died(process(kill=point))
    success, outputs, _steps = printed(process())
    assert success
    assert outputs["report"] == "done: charged 5, receipt follows"
    assert effects.count("charge") == 1
    assert effects.count("plan") == 1
    assert (effects.count("pay", 2), effects.count("report")) == (1, 1)
    (run,) = look(tmp_path).runs.list()
    assert run.status == "completed"


def test_criticality_chooses_the_judge_and_events_tell_what_happens() -> None:
    """A tiered verifier is asked at the step's criticality, its own verifier wins over the pipeline's, and events are in order."""
    judged: list[tuple[str, str]] = []
    events: list[Event] = []

    def tier(name: str) -> Any:
        return lambda output: judged.append((name, output.name)) is None

    steps = [Step("one", research, criticality=Criticality.LOW), Step("two", research, criticality=Criticality.HIGH)]
    steps.append(Step("three", lambda _ctx: "I can e-mail you.", verifier=claims()))
    pipeline = Pipeline(steps, verifier=tiered(low=tier("low"), medium=tier("medium"), high=tier("high")))
    assert surefoot.wrap(pipeline, store="memory://", on_event=events.append).run("x").committed == 3
    assert judged == [("low", "one"), ("high", "two")]
    assert [event.type for event in events] == ["run.opened", "step.committed", "step.committed", "step.committed", "run.ended"]


def test_a_rule_of_the_guard_wins() -> None:
    """``wrap(steps=…)`` with a verifier overrides what the pipeline says about a step of that name or pattern."""
    judged: list[str] = []
    rules = {"dr*": StepRule(verifier=lambda output: judged.append(output.name) is None)}
    assert surefoot.wrap(Pipeline([research, draft, review]), store="memory://", steps=rules).run("x").success
    assert judged == ["draft"]


def test_what_cannot_be_stored_is_passed_on_and_not_remembered() -> None:
    """An output without a data form is given to the next steps as a copy; it is no memo, so a resumed run makes it again."""

    class Opaque:
        value = 1

    def opaque(_ctx: Context) -> Opaque:
        return Opaque()

    result = surefoot.wrap(Pipeline([opaque, Step("use", lambda ctx: ctx.outputs["opaque"].value)]), store="memory://").run("x")
    assert result.output == 1


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda: Pipeline([]), "at least one step"),
        (lambda: Pipeline([draft, draft]), "a name of its own"),
        (lambda: Step("x", 3), "a function that takes a Context"),  # type: ignore[arg-type]
        (lambda: Step("", draft), "a step's name"),
        (lambda: Pipeline([draft]).run("x"), "is not wrapped"),
        (lambda: surefoot.wrap(Pipeline([draft], verifier="ruler"), store="memory://"), "no plugin makes"),
        (lambda: surefoot.wrap(surefoot.wrap(Pipeline([draft]), store="memory://"), store="memory://"), "another guard"),
        (lambda: surefoot.wrap(Pipeline([research]), store="memory://", strict=True).run("x"), "needs a name"),
        (lambda: surefoot.wrap(Pipeline([research]), store="memory://").run(Task("x", {"a": object()})), "plain data"),
        (lambda: surefoot.wrap(Pipeline([research]), store="memory://").run(3), "a Task or a goal"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_refused_with_one_sentence(use: Any, says: str) -> None:
    """A mistake is a UsageError that says what to do."""
    with pytest.raises(UsageError, match=says):
        use()


def test_two_pipelines_of_one_guard_do_not_share_a_rule_by_accident() -> None:
    """Two pipelines may share a guard; a step name with two different rules is refused."""
    guard = Guard("memory://")
    surefoot.wrap(Pipeline([research]), guard=guard)
    surefoot.wrap(Pipeline([research, draft]), guard=guard)
    with pytest.raises(UsageError, match="different rules"):
        surefoot.wrap(Pipeline([research], verifier=claims()), guard=guard)
