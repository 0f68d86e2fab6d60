"""A governed agent without a framework: the least there is around surefoot's own cost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final

from surefoot import Effect, Guard, RunStatus, StepRule, ToolRule, Verifier
from surefoot.engine.claims import Request
from surefoot.engine.frames import Frame, LiveRun
from surefoot.engine.program import Do
from surefoot.engine.run import RunSpec, close_run, open_run
from surefoot.engine.step import StepSpec, step
from surefoot_bench.plan import Side

__all__ = ["Agent", "arguments", "clients", "governed"]

_TOOL: Final = "pay"


def arguments(number: int) -> dict[str, Any]:
    """Return what call ``number`` asks for: about 200 bytes of JSON, so that its ledger row holds what the floor's record does."""
    return {
        "order_id": f"order-{number:010}",
        "amount": {"cents": 1999, "currency": "EUR"},
        "customer": {"name": "A customer", "country": "NL", "reference": "c-000042"},
        "note": "Two items; deliver to the door on the left.",
    }


def governed(url: str, verifier: Callable[[Any], bool] | Verifier | None = None) -> Guard:
    """Return a guard with the default settings that knows the agent's tool; ``verifier`` judges every step."""
    return Guard(url, tools={_TOOL: ToolRule(effect=Effect.UNSAFE)}, steps={"*": StepRule(verifier=verifier)})


class Agent:
    """One run of an agent that calls one unsafe tool. Its methods are sides to measure."""

    def __init__(self, guard: Guard, thread: str = "bench", *, clock: Callable[[], float] = perf_counter) -> None:
        self.guard = guard
        self._clock = clock
        self._thread = thread
        self._numbers = itertools.count(1)
        self._run = self._open()

    def _open(self) -> LiveRun:
        digest = f"input {next(self._numbers)}"
        spec = RunSpec("bench", "default", self._thread, "input", {"ask": digest}, digest, Do(lambda: None), Do(dict), lambda exc: exc)
        opened: LiveRun = self.guard.drive(open_run(self.guard, spec)).run
        return opened

    def _step(self) -> StepSpec:
        number = next(self._numbers)
        return StepSpec(self._run, None, f"agent#{number}", "agent", {"number": number}, f"{number:064}")

    def _request(self) -> Request:
        return Request(_TOOL, arguments(next(self._numbers)), self)

    def calls(self, number: int) -> float:
        """Call the tool in one step, one call after the other."""

        def body(frame: Frame) -> float:
            begun = self._clock()
            for _ in range(number):
                self.guard.call(frame, self._request(), _paid)
            return (self._clock() - begun) / number

        return float(self.guard.drive(step(self.guard, self._step(), lambda frame: Do(lambda: body(frame)))))

    async def acalls(self, number: int, start: asyncio.Barrier) -> tuple[float, float]:
        """Call the tool in one step from a coroutine, once all are at ``start``; return when it began and ended."""

        async def body(frame: Frame) -> tuple[float, float]:
            await start.wait()
            begun = perf_counter()
            for _ in range(number):
                await self.guard.acall(frame, self._request(), _apaid)
            return begun, perf_counter()

        program = step(self.guard, self._step(), lambda frame: Do(lambda: body(frame), lambda: body(frame)))
        begun, ended = await self.guard.adrive(program)
        return begun, ended

    def steps(self, number: int) -> float:
        """Take steps that call nothing."""
        begun = self._clock()
        for _ in range(number):
            self.guard.drive(step(self.guard, self._step(), lambda _frame: Do(_paid)))
        return (self._clock() - begun) / number

    def runs(self, number: int) -> float:
        """Complete the run and begin the next one of the thread with one call in it, again and again."""
        begun = self._clock()
        for _ in range(number):
            self.guard.drive(close_run(self.guard, self._run, RunStatus.COMPLETED))
            self._run = self._open()
            self.calls(1)
        return (self._clock() - begun) / number


@contextmanager
def clients(url: str, number: int) -> Iterator[Side]:
    """Yield the side of so many agents that call their tool at the same time, in one event loop over one guard."""
    with asyncio.Runner() as runner, governed(url) as guard:
        agents = [Agent(guard, f"client {client}") for client in range(number)]
        yield lambda calls: runner.run(_at_once(agents, calls))


async def _at_once(agents: list[Agent], number: int) -> float:
    each = max(1, number // len(agents))
    start = asyncio.Barrier(len(agents))
    times = await asyncio.gather(*(agent.acalls(each, start) for agent in agents))
    return (max(ended for _, ended in times) - min(begun for begun, _ in times)) / (each * len(agents))


def _paid() -> dict[str, Any]:
    return {"receipt": "r-000042", "status": "paid"}


async def _apaid() -> dict[str, Any]:
    return _paid()
