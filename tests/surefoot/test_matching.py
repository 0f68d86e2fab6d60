"""Which earlier effect is a request's own? Twins, and requests that come in another order."""

from __future__ import annotations

from typing import Any

from surefoot import Guard
from surefoot.engine.claims import Position, Request
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do
from surefoot.engine.run import RunSpec, close_run, open_run
from surefoot.engine.step import StepSpec, step
from surefoot.types import RunStatus

NOTHING = Do(lambda: None)
PAY = {"amount": 1}


def entry(guard: Guard, body: Any) -> None:
    """Enter the one step of a run, whichever time it is."""
    spec = RunSpec("test", "default", "thread", "input", {}, "digest", NOTHING, Do(dict), lambda error: error)
    run = guard.drive(open_run(guard, spec)).run
    try:
        guard.drive(step(guard, StepSpec(run, None, "tools#1", "tools", {}, "digest"), lambda frame: Do(lambda: body(frame))))
    except InterruptedError:
        guard.drive(close_run(guard, run, RunStatus.OPEN))


def test_as_96_a_twin_does_not_take_its_siblings_effect() -> None:
    """Of two equal requests of one reply the first committed; on re-entry the second comes first: it runs, 2 effects in all."""
    guard = Guard("memory://")
    paid: list[str] = []

    def ask(frame: Frame, rank: int) -> Any:
        digest = guard.codec.digest(PAY)
        return guard.call(
            frame, Request("pay", PAY, None, position=Position(digest, rank, [digest])), lambda: paid.append(str(rank)) or rank
        )

    def dies(frame: Frame) -> None:
        ask(frame, 0)
        raise InterruptedError

    entry(guard, dies)
    answers: list[Any] = []
    entry(guard, lambda frame: answers.extend([ask(frame, 1), ask(frame, 0)]))
    assert paid == ["0", "1"]
    assert answers == [1, 0]
