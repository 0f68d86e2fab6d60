"""Cancellation at every await of governed calls, steps and runs, counted as they come and not as somebody knew them."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from sweeps.support import AT_MOST_ONCE, SCRIPTS, Agent, Ask

from surefoot import Call, CallRecord, CallState, InDoubt, RunRecord, RunStatus, StepRule, Store, Verdict
from surefoot.contracts import Transaction
from surefoot.engine import guard as guards
from surefoot.engine import run as runs
from surefoot.types import ProbeAnswer
from surefoot_stores import MemoryStore, SqliteStore
from surefoot_stores.queue import Job, deliver, finished

T = TypeVar("T")
ALL: Final[dict[str, Sequence[Sequence[Ask]]]] = {**SCRIPTS, "twins": [[Ask("a", "order"), Ask("a", "order"), Ask("b", "pay")]]}
"""``twins`` ask for the same key at the same time: one waits for the other."""


class MemoryElsewhere(MemoryStore):
    """The memory store behind a thread, for which its coroutines wait."""

    _pool = ThreadPoolExecutor(1, "elsewhere")

    async def arun(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Do the work in the thread, in the order of the calls."""
        job = Job.of_task(work, write=write)
        self._pool.submit(self._do, job)
        result: T = await finished(job)
        return result

    def _do(self, job: Job) -> None:
        try:
            job.answer = self.run(job.work, write=job.write)
        except BaseException as exc:  # noqa: BLE001 - told to who waits
            job.error = exc
        deliver([job])


class SqliteElsewhere(SqliteStore):
    """The SQLite store on a disk that is slow: the loop leaves every commit to the writer thread."""

    _commits_fast = property(lambda _: False, lambda _, _fast: None)  # type: ignore[assignment]


@pytest.fixture(params=["memory", "memory behind a thread", "sqlite", "sqlite behind a thread"])
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """Each store, new and empty."""
    url = f"sqlite:///{folder}/s.db"
    made: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "memory behind a thread": MemoryElsewhere,
        "sqlite": partial(SqliteStore, url),
        "sqlite behind a thread": partial(SqliteElsewhere, url),
    }
    one = made[request.param]()
    yield one
    one.close()


class Waiting(Agent):
    """An agent whose probe and verifier wait too, and which knows which bodies were entered."""

    def __init__(self, folder: Path, script: Sequence[Sequence[Ask]], name: str, store: Store) -> None:
        super().__init__(folder, script, name=name, store=store)
        self.entered: set[str] = set()
        self.guard.steps["work"] = StepRule(verifier=self.verify)

    async def verify(self, _output: Any) -> Verdict:
        """Wait, and pass."""
        await asyncio.sleep(0)
        return Verdict.passed()

    async def probe(self, call: Call) -> ProbeAnswer:  # type: ignore[override]
        """Wait, and look into the effects."""
        await asyncio.sleep(0)
        return super().probe(call)

    async def before(self, ask: Ask) -> None:
        """Note that the body was entered."""
        self.entered.add(ask.name)
        await asyncio.sleep(0)


class Scissors:
    """Counts the suspensions of every task of a loop, and cancels the one that suspends at a chosen number."""

    def __init__(self, *at: int) -> None:
        self.count = 0
        self._at = at

    def suspended(self) -> None:
        """Count one; cancel the task if it is its turn."""
        self.count += 1
        if self.count in self._at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    def run(self, coro: Coroutine[Any, Any, None]) -> BaseException | None:
        """Run a coroutine in a loop of its own; return what it raised. Fails when a task is left."""
        loop = asyncio.new_event_loop()
        loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(_Watched(self, coro), loop=loop, **options))
        main = loop.create_task(coro)
        try:
            loop.run_until_complete(main)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - the caller judges it
            return exc
        else:
            return None
        finally:
            left = asyncio.all_tasks(loop)
            loop.close()
            assert left == set()


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that tells the scissors when it suspends."""

    def __init__(self, scissors: Scissors, coro: Coroutine[Any, Any, Any]) -> None:
        self._scissors, self._coro = scissors, coro

    def send(self, value: Any) -> Any:
        pending = self._coro.send(value)
        self._scissors.suspended()
        return pending

    def throw(self, *error: Any) -> Any:
        pending = self._coro.throw(*error)
        self._scissors.suspended()
        return pending

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()


def only_run(agent: Waiting) -> RunRecord | None:
    """Return the agent's run; fails when its thread holds another one."""
    with agent.guard.store.transaction(write=False) as tx:
        thread = tx.records.get("threads", f"default/{agent.name}")
    if thread is None:
        return None
    assert thread.value["count"] == 1
    return agent.guard.runs.show(thread.value["run"])


def rows(agent: Waiting) -> dict[str, CallRecord]:
    """Return the calls of the agent's run by name."""
    run = only_run(agent)
    return {str(row.alias): row for row in agent.guard.calls.list(run_id=run.run_id)} if run else {}


def check(agent: Waiting) -> None:
    """Fail unless each call is in a state that is true, and nothing of the process is left behind."""
    found = rows(agent)
    happened = [line[0] for line in agent.effects.all()]
    for ask in (ask for asks in agent.script for ask in asks):
        state = found[ask.name].state if ask.name in found else None
        allowed = {None, CallState.FAILED, CallState.COMMITTED, CallState.RAISED}
        if ask.name in agent.entered:
            allowed.add(CallState.IN_DOUBT)
        assert state in allowed, ask
        if ask.name in happened:
            assert state in {CallState.COMMITTED, CallState.RAISED, CallState.IN_DOUBT}, ask
        elif ask.tool != "look":
            assert state in {None, CallState.FAILED, CallState.IN_DOUBT}, ask
        assert ask.tool not in AT_MOST_ONCE or happened.count(ask.name) <= 1, ask
    url = agent.guard.store.url
    left = [entry for table in (guards._bodies, runs._held, runs._live) for entry in table if entry[0] == url]
    assert left == []
    with agent.guard.store.transaction(write=False) as tx:
        lease = tx.leases.get(f"default/{agent.name}")
        assert lease is None or not lease.held


def finish(agent: Waiting) -> None:
    """Let the run go on to its end, settling by hand what is in doubt."""
    for _ in range(len(agent.effects.all()) + 4):
        run = only_run(agent)
        if run is not None and run.status is RunStatus.COMPLETED:
            return
        error = Scissors().run(agent.arun())
        check(agent)
        assert error is None or isinstance(error, InDoubt), error
        if error is not None:
            agent.settle()
    pytest.fail("the run does not come to an end")


def cancel_everywhere(folder: Path, store: Store, script: str, *, pairs: bool = False) -> int:
    """Cancel at each await in turn (with ``pairs`` at a second one after it too), until a run has no such await; return how often."""
    done, first, reached = 0, 1, True
    while reached:
        reached, second, again = False, first + 1, True
        while again:
            at = (first, second) if pairs else (first,)
            agent = Waiting(folder, ALL[script], f"{script} {at}", store)
            agent.effects.path.unlink(missing_ok=True)
            scissors = Scissors(*at)
            error = scissors.run(agent.arun())
            if scissors.count >= first:
                reached, done = True, done + 1
                assert isinstance(error, asyncio.CancelledError), (at, error)
            else:
                assert error is None
            check(agent)
            finish(agent)
            again = pairs and scissors.count >= second
            second += 1
        first += 1
    return done


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


@pytest.mark.parametrize("script", ALL)
def test_i11_cancelled_at_any_await(folder: Path, store: Store, script: str) -> None:
    """Cancelled at any await: CancelledError comes out, every call is absent, failed, answered or in doubt, and the run can go on."""
    store.run(lambda tx: tx.counters.value("opened"))
    before = threading.active_count(), descriptors()
    assert cancel_everywhere(folder, store, script) > 5
    assert threading.active_count() <= before[0] + 1  # the thread behind which a store is
    assert descriptors() <= before[1]


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_i11_cancelled_twice(folder: Path, store: Store, say: Callable[[str], None]) -> None:
    """The same with a second cancellation at every await that comes after the first one."""
    for script in ALL:
        say(f"{script}: {cancel_everywhere(folder, store, script, pairs=True):,} cancelled runs with a cancellation at two awaits")
