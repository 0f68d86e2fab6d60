"""Degraded modes and timeouts of steps: what is done instead, what is durable of it, and when a person is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import surefoot
from surefoot import Guard, InDoubt, Retry, StepRule, ToolRule, UsageError, Verdict, VerificationFailed
from surefoot_adapters import Do, here, nested_step
from surefoot_python import Context, Pipeline, Step, Task
from surefoot_recovery import Breaker, BreakerOpen, Diagnosis, protect


class Work:
    """A program with one step, ``draft``, that has modes; which of them ran is written down."""

    def __init__(self, folder: Path, optimal: Callable[[str], Any], *fallback: Callable[[str], Any], **rule: Any) -> None:
        self.ran: list[str] = []
        modes = [self._mode(f"fallback {number}", function) for number, function in enumerate(fallback, 1)]
        self.guard = Guard(f"sqlite:///{folder}/surefoot.db", steps={"draft": StepRule(fallback=modes, **rule)}, tools=TOOLS)
        draft = surefoot.wrap(self._mode("draft", optimal), guard=self.guard)

        def write(subject: str) -> Any:
            return draft(subject)

        write.__qualname__ = "write"
        self._program = surefoot.wrap(write, guard=self.guard)

    def _mode(self, name: str, function: Callable[[str], Any]) -> Callable[[str], Any]:
        def mode(subject: str) -> Any:
            self.ran.append(name)
            return function(subject)

        mode.__qualname__ = mode.__name__ = "draft" if name == "draft" else name
        return mode

    def run(self, name: str = "r", tenant: str = "default") -> Any:
        """Run the program under a name."""
        with surefoot.run(name, tenant=tenant):
            return self._program("rain")

    def events(self, *kinds: str) -> list[Any]:
        """Return the newest run's events of these kinds: which mode, and why."""
        found = self.guard.runs.events(self.guard.runs.list()[0].run_id)
        return [(event.type.partition(".")[2], event.data.get("mode"), event.data.get("why")) for event in found if event.type in kinds]


TOOLS = {"pay": ToolRule(effect="unsafe"), "look": ToolRule(effect="read", timeout=50.0)}


def fails(_subject: str) -> str:
    """Be down."""
    raise ConnectionError("the model is down")


def about(subject: str) -> str:
    """Write something."""
    return f"about {subject}"


def judged(word: str) -> Callable[[Any], Verdict]:
    """Return a verifier that passes what has a word in it."""
    return lambda output: Verdict.passed() if word in output.output else Verdict.failed("INCOMPLETE", f"Say {word}.")


def test_what_raises_is_done_otherwise_and_the_output_is_committed(tmp_path: Path) -> None:
    """Optimal and degraded raise, the emergency mode answers: its output is the step's, each change is an event, and nothing runs again."""
    work = Work(tmp_path, fails, fails, about)
    assert [work.run("r"), work.ran] == ["about rain", ["draft", "fallback 1", "fallback 2"]]
    why = "ConnectionError: the model is down"
    assert work.events("step.degraded") == [("degraded", 1, why), ("degraded", 2, why)]
    run = work.guard.runs.list()[0].run_id
    assert [checkpoint.path.rpartition("/")[2].partition("#")[0] for checkpoint in work.guard.runs.checkpoints(run)] == ["draft", "write"]


def test_a_step_that_works_has_one_mode(tmp_path: Path) -> None:
    """What can be done as it should is: no fallback runs, and nothing is evented."""
    work = Work(tmp_path, about, fails)
    assert (work.run(), work.ran, work.events("step.degraded")) == ("about rain", ["draft"], [])


def test_what_never_passes_is_done_otherwise_once_each(tmp_path: Path) -> None:
    """Two attempts are rejected, then each fallback has one, is judged too, and is told the hint."""
    hints: list[str] = []

    def told(_subject: str) -> str:
        step = surefoot.current_step()
        hints.append(step.hint if step is not None else "")
        return "short"

    work = Work(tmp_path, told, told, lambda subject: f"long {subject}", verifier=judged("long"), retry=Retry(max_attempts=2))
    assert (work.run(), work.ran) == ("long rain", ["draft", "draft", "fallback 1", "fallback 2"])
    assert hints == ["", "Say long.", "Say long."]


def test_a_person_gives_the_output_where_nothing_does(tmp_path: Path) -> None:
    """Every mode fails: the run is held, not failed; what a person gives is the step's output, and no mode runs again."""
    work = Work(tmp_path, fails, fails)
    with pytest.raises(InDoubt, match="came to no output in any of its 2 modes") as held:
        work.run()
    assert [kind for kind, _, _ in work.events("step.escalated", "run.held")] == ["held", "escalated"]
    with pytest.raises(InDoubt):
        work.run()
    work.guard.calls.settle(held.value.call_id or "", committed="by hand", by="maria")
    assert (work.run(), work.ran) == ("by hand", ["draft", "fallback 1"])
    assert work.guard.runs.list()[0].status == "completed"


def test_a_person_may_have_everything_tried_again(tmp_path: Path) -> None:
    """Settled as failed, the step begins again as it should be; down still, a person is asked again."""
    down = [True]

    def optimal(subject: str) -> str:
        return fails(subject) if down[0] else about(subject)

    work = Work(tmp_path, optimal, fails)
    asked = set()
    for again in (True, False):
        with pytest.raises(InDoubt) as held:
            work.run()
        asked.add(held.value.call_id)
        down[0] = again
        work.guard.calls.settle(held.value.call_id or "", failed=True, by="maria")
    assert len(asked) == 2
    assert (work.run(), work.ran) == ("about rain", ["draft", "fallback 1"] * 2 + ["draft"])


def test_the_mode_outlives_the_process(tmp_path: Path) -> None:
    """Left in its fallback, a step goes on there: what was found not to work is not tried again."""

    class Gone(BaseException):
        pass

    gone = [True]

    def degraded(subject: str) -> str:
        if gone.pop() if gone else False:
            raise Gone
        return about(subject)

    work = Work(tmp_path, fails, degraded)
    with pytest.raises(Gone):
        work.run()
    assert (work.run(), work.ran) == ("about rain", ["draft", "fallback 1", "fallback 1"])


def test_nobody_who_can_judge_is_no_reason_to_fall_back(tmp_path: Path) -> None:
    """A judge who is away passes no fallback either: the step stops, and can be resumed when he is back."""
    away = [True]

    def judge(_output: Any) -> Verdict:
        return Verdict.unverified("away") if away[0] else Verdict.passed()

    work = Work(tmp_path, about, fails, verifier=judge, retry=Retry(max_attempts=1))
    with pytest.raises(VerificationFailed):
        work.run()
    away[0] = False
    assert (work.run(), work.ran) == ("about rain", ["draft", "draft"])


def test_an_effect_in_doubt_is_not_fallen_back_from(tmp_path: Path) -> None:
    """A payment raises out of the step: it may have happened, so the run is held, and no fallback goes past it."""

    def paying(_subject: str) -> str:
        return str(governed(5))

    def pay(_amount: int) -> str:
        raise ConnectionError("lost")

    pay.__qualname__ = "pay"
    governed = surefoot.tool()(pay)
    work = Work(tmp_path, paying, about)
    with pytest.raises(InDoubt, match="pay"):
        work.run()
    assert (work.ran, work.guard.runs.list()[0].hold) != ([], ())
    assert work.ran == ["draft"]


def test_a_breaker_that_is_open_leads_to_the_fallback(tmp_path: Path) -> None:
    """A dependency that is down is one of the reasons to do it otherwise; a policy's no is none."""

    def look(number: int) -> str:
        raise ConnectionError

    look.__qualname__ = "look"
    governed, number = surefoot.tool()(look), [0]

    def looking(_subject: str) -> str:
        number[0] += 1
        return str(governed(number[0]))

    work = Work(tmp_path, looking, about)
    protect(work.guard, Breaker("outside", "look", failures=1, cooldown=900))
    assert [work.run(f"r-{run}") for run in range(2)] == ["about rain"] * 2
    assert BreakerOpen.__name__ in work.events("step.degraded")[0][2]


# --- timeouts


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """What a body that takes too long waits for; set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_a_step_that_takes_too_long_is_left_and_may_do_nothing_more(tmp_path: Path, go: threading.Event) -> None:
    """The deadline passes: the fallback's output is committed, and what the left body asks for later is refused."""
    seen: list[Any] = []
    ended = threading.Event()

    def slow(_subject: str) -> str:
        go.wait()
        try:
            seen.append(governed(5))
        except surefoot.LeaseLost as exc:
            seen.append(exc)
        ended.set()
        return "late"

    def pay(_amount: int) -> str:
        seen.append("paid")
        return "paid"

    pay.__qualname__ = "pay"
    governed = surefoot.tool()(pay)
    work = Work(tmp_path, slow, about, timeout=0.05)
    assert work.run() == "about rain"
    go.set()
    assert ended.wait(30)
    assert [type(one) for one in seen] == [surefoot.LeaseLost]


def test_without_a_fallback_a_timeout_is_an_error(tmp_path: Path, go: threading.Event) -> None:
    """Nothing else can be done, so the caller is told, and the run can be resumed."""
    work = Work(tmp_path, lambda _subject: str(go.wait()), timeout=0.05)
    with pytest.raises(TimeoutError, match=r"draft#1.* took longer than the 0.05 s"):
        work.run()
    go.set()
    assert work.run() == "True"


async def test_a_coroutine_is_cancelled_at_its_deadline(tmp_path: Path) -> None:
    """On the asynchronous face too: the coroutine that takes too long is cancelled, and the fallback may be one as well."""
    import asyncio

    cancelled: list[bool] = []

    async def draft() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "never"

    async def short() -> str:
        return "short"

    guard = Guard("memory://", steps={"draft": StepRule(timeout=0.05, fallback=[short])})
    draft.__qualname__ = "draft"
    assert await surefoot.wrap(draft, guard=guard)() == "short"
    assert cancelled == [True]


@pytest.mark.parametrize(("own", "expected"), [(10.0, 1010.0), (200.0, 1100.0), (None, 1100.0)])
def test_a_child_has_what_its_parent_has_left(tmp_path: Path, own: float | None, expected: float) -> None:
    """Steps and calls inside of a step that has 100 s: each has its own time, or what is left of those, whichever is less."""
    deadlines: list[Any] = []

    def look() -> str:
        call = surefoot.current_call()
        deadlines.append(call.deadline if call is not None else None)
        return "seen"

    look.__qualname__ = "look"
    governed = surefoot.tool(effect="read")(look)

    def inner() -> str:
        return str(governed())

    inner.__qualname__ = "inner"
    guard = Guard("memory://", steps={"outer": StepRule(timeout=100.0), "inner": StepRule(timeout=own)})
    guard.clock = lambda: 1000.0
    wrapped = surefoot.wrap(inner, guard=guard)

    def outer() -> str:
        return str(wrapped())

    outer.__qualname__ = "outer"
    assert surefoot.wrap(outer, guard=guard)() == "seen"
    assert deadlines == [expected]


def test_an_unsafe_call_that_outlasts_its_step_holds_the_run(tmp_path: Path, go: threading.Event) -> None:
    """The step is out of time while a payment runs: no fallback goes past what may yet happen, and its landing frees the run."""
    landed = threading.Event()

    def paying(_subject: str) -> str:
        return str(governed(5))

    def pay(_amount: int) -> str:
        go.wait()
        return "paid"

    pay.__qualname__ = "pay"
    governed = surefoot.tool()(pay)
    work = Work(tmp_path, paying, about, timeout=0.05)
    work.guard._on_event = lambda event: landed.set() if event.type in {"call.landed_late", "run.freed"} else None
    with pytest.raises(InDoubt, match="pay"):
        work.run()
    landed.clear()
    go.set()
    assert landed.wait(30)
    assert work.run() == "paid"
    assert work.ran == ["draft", "draft"]


# --- diagnosis


def unsure(confidence: float) -> Callable[[Any], Verdict]:
    """Return a verifier that passes everything without being sure."""
    return lambda _output: Verdict.passed(confidence=confidence)


def test_a_pass_with_little_confidence_is_a_persons_to_decide(tmp_path: Path) -> None:
    """The output is staged and the run held; approved, the very output is committed, without another attempt."""
    count = iter(range(9))
    work = Work(tmp_path, lambda subject: f"{subject} {next(count)}", verifier=unsure(0.6))
    protect(work.guard, Diagnosis("draft", review_below=0.7))
    with pytest.raises(InDoubt, match=r"confidence of 0.6 only; '--committed true'") as held:
        work.run()
    staged = work.guard.codec.loads(work.guard.calls.show(held.value.call_id or "").arguments or "")
    assert staged["output"] == "rain 0"
    work.guard.calls.settle(held.value.call_id or "", committed=True, by="maria")
    assert (work.run(), work.ran) == ("rain 0", ["draft"])


def test_a_person_rejects_or_replaces_what_nobody_was_sure_of(tmp_path: Path) -> None:
    """Rejected, the step runs again and is told so; the next one is replaced by what the person says."""
    hints: list[str] = []

    def draft(subject: str) -> str:
        step = surefoot.current_step()
        hints.append(step.hint if step is not None else "")
        return subject

    work = Work(tmp_path, draft, verifier=unsure(0.1))
    protect(work.guard, Diagnosis("dr*", review_below=0.7))
    with pytest.raises(InDoubt) as held:
        work.run()
    work.guard.calls.settle(held.value.call_id or "", failed=True, by="maria")
    with pytest.raises(InDoubt) as held:
        work.run()
    work.guard.calls.settle(held.value.call_id or "", committed="sun", by="maria")
    assert (work.run(), hints) == ("sun", ["", "A person rejected the last output."])


def test_a_sure_verdict_needs_nobody(tmp_path: Path) -> None:
    """At the threshold, and without a confidence, a PASS is a PASS."""
    for number, confidence in enumerate((0.7, None)):
        work = Work(tmp_path, about, verifier=lambda _output, sure=confidence: Verdict.passed(confidence=sure))
        protect(work.guard, Diagnosis("draft", review_below=0.7))
        assert work.run(f"r-{number}") == "about rain"


def test_a_step_that_got_slow_is_degraded_for_a_while(tmp_path: Path) -> None:
    """Its median above the limit, the step begins with its fallback until the cooldown is over; other tenants' steps do not."""
    work = Work(tmp_path, about, lambda subject: f"short {subject}")
    now = [1000.0]
    work.guard.clock = lambda: now[0]
    protect(work.guard, Diagnosis("draft", slow=0.0, samples=2, cooldown=60))
    assert [work.run(f"r-{run}") for run in range(2)] == ["about rain"] * 2
    now[0] += 1
    assert work.run("r-3") == "short rain"
    assert work.events("step.degraded") == [("degraded", 1, "it was slow lately")]
    assert work.run("other", tenant="acme") == "about rain"
    now[0] += 61
    assert work.run("r-4") == "about rain"


def test_pipelines_have_modes_too(tmp_path: Path) -> None:
    """A pipeline's step falls back to functions of its own kind: each gets a context with the outputs before it."""

    def first(_context: Context) -> str:
        return "first"

    def second(_context: Context) -> str:
        raise ConnectionError

    def otherwise(context: Context) -> str:
        return f"after {context.outputs['first']}"

    pipeline = surefoot.wrap(Pipeline([first, Step("second", second, fallback=[otherwise])]), store=f"sqlite:///{tmp_path}/surefoot.db")
    result = pipeline.run(Task("write", id="r"))
    assert (result.committed, result.output) == (2, "after first")


def test_options_that_cannot_work_are_refused(tmp_path: Path) -> None:
    """A fallback that is no function, a time that is none, slowness with nothing to degrade to: each is one sentence."""
    with pytest.raises(UsageError, match="a list of functions"):
        StepRule(fallback=["draft"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="a number of seconds"):
        StepRule(timeout=-1)
    with pytest.raises(UsageError, match="a confidence"):
        Diagnosis("draft", review_below=2)
    work = Work(tmp_path, about)
    protect(work.guard, Diagnosis("draft", slow=1))
    with pytest.raises(UsageError, match="no fallback="):
        work.run()


def test_a_step_in_whose_place_nothing_can_stand_is_refused_its_fallback() -> None:
    """Where an adapter has nothing that could take a step's place the rule is refused before the step's body is entered."""
    entered: list[str] = []

    def outer() -> str:
        place = here()
        assert place is not None
        program = nested_step(guard, place, "inner", None, None, lambda _frame: Do(lambda: entered.append("inner")))
        return str(guard.drive(program))

    guard = Guard("memory://", steps={"inner": StepRule(fallback=[about])})
    with pytest.raises(UsageError, match="nothing can take the place of step inner"):
        surefoot.wrap(outer, guard=guard)()
    assert entered == []
