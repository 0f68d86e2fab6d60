"""Many processes and threads on one store: one key raced by all, one file written by all, an owner that is stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sweeps.support import Lines, spec_of, step_of, url_of

from surefoot import CallState, Event, Guard, InFlight, RunStatus, ToolRule, not_seen
from surefoot.engine.claims import Request
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do
from surefoot.engine.run import close_run, open_run
from surefoot.engine.step import step


@contextmanager
def children(count: int, work: Callable[[int], Any], folder: Path) -> Any:
    """Fork children that start at the same moment; yields their answers, which are there after the block."""
    gate, start = os.pipe()
    answers: list[Any] = []
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(start)
                os.read(gate, 1)
                (folder / f"answer {number}").write_text(json.dumps(work(number)))
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    os.close(gate)
    os.close(start)
    try:
        yield answers
    finally:
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        answers += [json.loads((folder / f"answer {number}").read_text()) if code == 0 else code for number, code in enumerate(codes)]


def one_call(guard: Guard, thread: str, request: Request, body: Callable[[], Any]) -> Any:
    """Make one call in a run of its own."""
    opened = guard.drive(open_run(guard, spec_of(thread, thread=thread)))
    answers = []

    def inside(frame: Frame) -> Do:
        return Do(lambda: answers.append(guard.call(frame, request, body)))

    guard.drive(step(guard, step_of(opened.run, 1), inside))
    guard.drive(close_run(guard, opened.run, RunStatus.COMPLETED))
    return answers[0]


ORDER = Request("order", {"order": "one"}, None)
RULES = {"order": ToolRule("unsafe", key=["order"])}


@pytest.mark.parametrize("opened", [False, True], ids=["opened by each worker", "opened before the fork"])
def test_as_92_i6_one_key_raced_by_eight_processes(folder: Path, opened: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
    """A guard made (and used) before eight workers are forked: the key they race for takes effect once, and all get that answer."""
    guard = Guard(url_of(folder), tools=RULES)
    effects = Lines(folder / "effects")
    if opened:
        assert one_call(guard, "before", Request("order", {"order": "another"}, None), lambda: "before") == "before"

    def work(number: int) -> list[str]:
        def body() -> str:
            effects.add(f"worker {number}")
            time.sleep(0.02)  # long enough for the others to find it running
            return f"by worker {number}"

        return [one_call(guard, f"thread {number}", ORDER, body), guard.store.owner()]

    with children(8, work, folder) as answers:
        pass
    ((winner,),) = effects.all()
    assert {answer[0] for answer in answers} == {f"by {winner}"}
    assert len({answer[1] for answer in answers}) == 8


@pytest.mark.parametrize("count", [8, 16])
def test_as_73_processes_write_one_file(folder: Path, count: int) -> None:
    """Processes that make 200 calls each on one file get no error and lose nothing."""
    assert len(write_together(folder, count)) == count * 200


@pytest.mark.sweep
@pytest.mark.parametrize("count", [8, 16])
def test_as_73_processes_write_one_file_on_a_disk(tmp_path: Path, count: int, say: Callable[[str], None]) -> None:
    """The same on a disk that syncs; how long the calls take is printed."""
    start = time.monotonic()
    times = sorted(write_together(tmp_path, count))
    rate = len(times) / (time.monotonic() - start)
    middle, slow = (1000 * times[int(share * len(times))] for share in (0.5, 0.99))
    say(f"{count} processes x 200 calls on one file: {rate:.0f} calls/s, p50 {middle:.1f} ms, p99 {slow:.1f} ms")
    assert len(times) == count * 200


def write_together(folder: Path, count: int) -> list[float]:
    """Have processes make 200 calls each at the same time; return how long each call took. Fails when one got an error or is lost."""
    calls = 200
    guard = Guard(url_of(folder))

    def work(number: int) -> list[float]:
        opened = guard.drive(open_run(guard, spec_of(number, thread=f"thread {number}")))
        took = []

        def inside(frame: Frame) -> Do:
            def all_of_them() -> None:
                for n in range(calls):
                    start = time.perf_counter()
                    answer = guard.call(frame, Request("pay", {"n": n, "by": number}, None), lambda n=n: [number, n])
                    took.append(time.perf_counter() - start)
                    assert answer == [number, n]

            return Do(all_of_them)

        guard.drive(step(guard, step_of(opened.run, 1), inside))
        guard.drive(close_run(guard, opened.run, RunStatus.COMPLETED))
        return took

    with children(count, work, folder) as answers:
        pass
    assert [len(took) for took in answers] == [calls] * count
    assert len(guard.calls.list(state=CallState.COMMITTED, limit=100_000)) == count * calls
    return [second for took in answers for second in took]


def test_as_93_a_stopped_owner_keeps_its_call(folder: Path) -> None:
    """While the owner is stopped and the probe says "not seen", nobody runs the call again; its landing is everybody's answer."""
    effects, asked = Lines(folder / "effects"), Lines(folder / "asked")

    def probe(_call: Any) -> Any:
        asked.add("asked")
        return not_seen()

    guard = Guard(url_of(folder), tools={"order": ToolRule("unsafe", key=["order"], probe=probe)}, wait=0.2)
    pid = os.fork()
    if pid == 0:

        def body() -> str:
            effects.add("owner")
            os.kill(os.getpid(), signal.SIGSTOP)
            return "by the owner"

        os._exit(one_call(guard, "of the owner", ORDER, body) != "by the owner")
    os.waitid(os.P_PID, pid, os.WSTOPPED)

    def other() -> str:
        effects.add("other")
        return "by the other"

    with pytest.raises(InFlight):
        one_call(guard, "of the other", ORDER, other)
    with pytest.raises(InFlight):
        one_call(guard, "of the owner", ORDER, other)
    os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0
    assert one_call(guard, "of a third", ORDER, other) == "by the owner"
    assert effects.all() == [["owner"]]
    assert asked.all() == []


def test_i6_a_claimed_call_is_running_before_anybody_can_see_it(folder: Path) -> None:
    """Between the intent and the body, an equal request of another thread waits for it: it does not take it for a dead process's."""
    seen: list[Any] = []

    def look(event: Event) -> None:
        if event.type == "call.claimed" and not seen:
            seen.append("claimed")
            with ThreadPoolExecutor(1) as other:
                other.submit(ask_too).result()

    def ask_too() -> None:
        try:
            seen.append(one_call(guard, "other", ORDER, lambda: "twice"))
        except InFlight as exc:
            seen.append(exc)

    guard = Guard(url_of(folder), tools=RULES, wait=0.0, on_event=look)
    assert one_call(guard, "one", ORDER, lambda: "once") == "once"
    assert isinstance(seen[1], InFlight)


def test_i6_one_key_raced_by_threads(folder: Path) -> None:
    """Threads of one process that race for a key get the answer of the one that ran."""
    guard = Guard(url_of(folder), tools=RULES)
    effects = Lines(folder / "effects")

    def work(number: int) -> str:
        def body() -> str:
            effects.add(str(number))
            return f"by {number}"

        return str(one_call(guard, f"thread {number}", ORDER, body))

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(work, range(32)))
    ((winner,),) = effects.all()
    assert answers == {f"by {winner}"}


def test_i6_memory_stores_of_one_process_have_nothing_in_common() -> None:
    """A run that is closed in one memory store does not give away a thread of the same name that is at work in another."""
    mine, other = Guard("memory://", wait=0.0), Guard("memory://", wait=0.0)
    mine.drive(open_run(mine, spec_of("go")))
    assert one_call(other, "t", ORDER, lambda: "done") == "done"
    with pytest.raises(InFlight):
        mine.drive(open_run(mine, spec_of("go")))
