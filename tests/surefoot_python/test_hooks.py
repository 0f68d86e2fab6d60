"""Gates, verifiers and probes that do not answer: they are waited for as long as their ``timeout`` says, and have said nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import Effects

import surefoot
from surefoot import Allow, Call, Denied, Gate, Guard, InDoubt, Retry, StepRule, ToolRule, Verdict, VerificationFailed, Verifier
from surefoot.types import HOOK_SECONDS

SOON = 0.05


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a new SQLite store."""
    return f"sqlite:///{tmp_path}/surefoot.db"


@pytest.fixture
def answer() -> Iterator[threading.Event]:
    """What hooks wait for; set when the test has ended, so that no thread outlives it for long."""
    event = threading.Event()
    yield event
    event.set()


class Slow(Gate):
    """Allows when it is told to."""

    def __init__(self, answer: threading.Event, timeout: float | None = SOON, *, tell: Callable[[], Any] = lambda: None) -> None:
        self.answer, self.timeout, self.tell = answer, timeout, tell
        self.asked: list[tuple[Any, str]] = []

    def check(self, _call: Call) -> Allow:
        """Wait, and allow."""
        place = surefoot.current_step()
        self.asked.append((place and place.name, threading.current_thread().name))
        self.tell()
        self.answer.wait(20)
        return Allow()


def test_hooks_have_sixty_seconds() -> None:
    """Where nothing is said, a hook has sixty seconds, as its contract documents."""
    assert (HOOK_SECONDS, Gate.timeout, Verifier.timeout) == (60.0, 60.0, 60.0)


@pytest.mark.parametrize("effect", ["unsafe", "idempotent", "read"])
def test_as_46_a_gate_that_hangs_denies(store: str, effects: Effects, answer: threading.Event, effect: Any) -> None:
    """AS-46, I16: a gate that does not answer in time denies whatever is not a declared read, and says so."""
    guard = Guard(store, gates=[Slow(answer)], tools={"pay": ToolRule(effect=effect)})

    @guard.tool
    def pay() -> str:
        effects.add("pay")
        return "paid"

    def main() -> str:
        return pay()

    wrapped = surefoot.wrap(main, guard=guard)
    if effect == "read":
        assert wrapped() == "paid"
    else:
        with pytest.raises(Denied, match=r"policy_unavailable: the gate Slow raised Overdue"):
            wrapped()
    assert effects.count("pay") == (effect == "read")


async def test_as_46_a_gate_that_raises_stop_iteration_denies_at_once(store: str, effects: Effects) -> None:
    """What ``next()`` raises on nothing is an error like any other, although no coroutine can be given it."""

    class Nobody(Gate):
        def check(self, _call: Call) -> Allow:
            return next(iter(()))

    guard = Guard(store, gates=[Nobody()])

    @guard.tool
    async def pay() -> None:
        effects.add("pay")

    async def main() -> None:
        await pay()

    with pytest.raises(Denied, match="policy_unavailable: the gate Nobody raised RuntimeError"):
        await asyncio.wait_for(surefoot.wrap(main, guard=guard)(), HOOK_SECONDS / 2)
    assert effects.count("pay") == 0


async def test_as_46_a_gate_that_hangs_stops_nobody_else(store: str, effects: Effects, answer: threading.Event) -> None:
    """While a gate is waited for, the loop goes on with other tasks; the gate knows the step that it is asked in."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    gate = Slow(answer, 30, tell=lambda: loop.call_soon_threadsafe(asked.set))
    guard = Guard(store, gates=[gate])

    @guard.tool
    async def pay() -> str:
        effects.add("pay")
        return "paid"

    async def main() -> str:
        return await pay()

    task = asyncio.ensure_future(surefoot.wrap(main, guard=guard)())
    async with asyncio.timeout(10):  # a gate that had the loop's thread would answer before this went on
        await asked.wait()
    assert not answer.is_set()
    assert not task.done()
    answer.set()
    assert await task == "paid"
    assert gate.asked[0][0] == "main"


def test_a_gate_without_a_limit_is_asked_in_the_callers_thread(store: str, answer: threading.Event) -> None:
    """With ``timeout = None`` a gate has no thread of its own on the synchronous face, and is waited for without end."""
    answer.set()
    gates = [Slow(answer, None), Slow(answer, 10)]
    guard = Guard(store, gates=gates)

    @guard.tool
    def pay() -> str:
        return "paid"

    def main() -> str:
        return pay()

    assert surefoot.wrap(main, guard=guard)() == "paid"
    assert [gate.asked[0][1] == threading.current_thread().name for gate in gates] == [True, False]


@pytest.mark.parametrize("kind", ["function", "coroutine", "object"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_as_51_a_verifier_that_hangs_passes_nothing(store: str, answer: threading.Event, kind: str, asynchronous: bool) -> None:  # noqa: FBT001 - pytest
    """AS-51, I13: a verifier that does not answer in time has not passed; the step's event says why, and nothing is committed."""

    def function(_output: Any) -> Verdict:
        answer.wait(20)
        return Verdict.passed()

    async def coroutine(_output: Any) -> Verdict:
        await asyncio.sleep(20)
        return Verdict.passed()

    class Judge(Verifier):
        timeout = SOON

        def verify(self, output: Any) -> Verdict:
            return function(output)

    function.timeout = coroutine.timeout = SOON  # type: ignore[attr-defined]
    verifier: Any = {"function": function, "coroutine": coroutine, "object": Judge()}[kind]
    guard = Guard(store, steps={"main": StepRule(verifier=verifier)}, retry=Retry(max_attempts=1))

    def main() -> str:
        return "done"

    async def amain() -> str:
        return "done"

    amain.__qualname__ = main.__qualname__
    with pytest.raises(VerificationFailed, match=r"UNVERIFIED, \w+ raised Overdue: it ran past its deadline of 0\.05 s"):
        asyncio.run(surefoot.wrap(amain, guard=guard)()) if asynchronous else surefoot.wrap(main, guard=guard)()
    (run,) = guard.runs.list()
    assert guard.runs.checkpoints(run.run_id) == []
    rejected = [event.data for event in guard.runs.events(run.run_id) if event.type == "step.rejected"]
    assert [(event["verdict"], "Overdue" in event["reason"]) for event in rejected] == [("UNVERIFIED", True)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_probe_that_hangs_settles_nothing(store: str, effects: Effects, answer: threading.Event, asynchronous: bool) -> None:  # noqa: FBT001 - pytest
    """A probe that does not answer in time leaves the call in doubt: the effect happened, and is not repeated."""

    def probe(_call: Call) -> Any:
        answer.wait(20)
        return surefoot.will_not_happen()

    probe.timeout = SOON  # type: ignore[attr-defined]
    guard = Guard(store, tools={"pay": ToolRule(effect="unsafe", probe=probe)})

    @guard.tool
    def pay() -> str:
        effects.add("pay")
        raise KeyboardInterrupt

    def main() -> str:
        return pay()

    async def amain() -> str:
        return await asyncio.to_thread(pay)

    wrapped: Any = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"), pytest.raises(KeyboardInterrupt):
        wrapped()
    if asynchronous:
        amain.__qualname__, amain.__module__ = main.__qualname__, main.__module__
        wrapped = surefoot.wrap(amain, guard=guard)
    with surefoot.run("r"), pytest.raises(InDoubt):
        asyncio.run(wrapped()) if asynchronous else wrapped()
    assert [str(call.state) for call in guard.calls.list()] == ["in_doubt"]
    assert effects.count("pay") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_process_passes_through_a_hooks_thread(store: str, effects: Effects, error: type[BaseException]) -> None:
    """A gate that is interrupted has not denied: what stops the process reaches the caller, and the body has not run."""

    class Stops(Gate):
        def check(self, _call: Call) -> Allow:
            raise error

    guard = Guard(store, gates=[Stops()])

    @guard.tool
    def pay() -> None:
        effects.add("pay")

    def main() -> None:
        pay()

    with pytest.raises(error):
        surefoot.wrap(main, guard=guard)()
    assert effects.count("pay") == 0


def test_a_probe_whose_answer_cannot_be_stored_settles_nothing(store: str, effects: Effects) -> None:
    """What nobody could give back later is no answer: the call stays in doubt, and that is what the caller is told."""
    guard = Guard(store, tools={"pay": ToolRule(effect="unsafe", probe=lambda _call: surefoot.happened(threading.Lock()))})

    @guard.tool
    def pay() -> None:
        effects.add("pay")
        raise ConnectionError("lost")

    def main() -> None:
        pay()

    wrapped = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"):
        with pytest.raises(ConnectionError):
            wrapped()
        with pytest.raises(InDoubt):
            wrapped()
    assert effects.count("pay") == 1
