"""Bodies in processes of their own: killed at their deadline, with everything that they started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import bodies
import pytest
from crash import Effects, children_of, is_alive
from python_support import settles, states

import surefoot
from surefoot import Guard, InDoubt, NotCommitted, ToolFailed, UsageError
from surefoot_python.processes import _bodies, isolated

PATHS = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
"""Where a program of its own finds the bodies."""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Where bodies count their effects."""
    return str(tmp_path / "effects")


def tool(function: Any, effect: str = "unsafe", timeout: float | None = None) -> Any:
    """Return an isolated function as a tool."""
    return surefoot.tool(effect=effect, timeout=timeout)(function)  # type: ignore[arg-type]


def pids(file: str, what: str) -> list[int]:
    """Return the processes that counted an effect."""
    lines = Path(file).read_text().splitlines() if Path(file).exists() else []
    return [pid for name, *(pid,) in map(json.loads, lines) if name == what]


def test_an_isolated_body_answers_from_another_process(guard: Guard) -> None:
    """Result, call and idempotency key are those of the call; the process is another one, and is gone; a replay starts none."""
    main = surefoot.wrap(lambda: bodies.greet("you"), guard=guard)
    with surefoot.run("r"):
        hello, pid, key, argument = main()
    assert (hello, argument) == ("hello you", "you")
    assert pid != os.getpid()
    assert not is_alive(pid)
    (call,) = guard.calls.list()
    assert key == f"surefoot-{call.key[:40]}"
    assert states(guard) == ["committed"]


@pytest.mark.parametrize(("body", "effect"), [("hang", "unsafe"), ("busy", "unclassified"), ("hang", "idempotent"), ("busy", "read")])
def test_as_44_a_body_past_its_deadline_is_killed(guard: Guard, file: str, body: str, effect: str) -> None:
    """The caller goes on, the process is killed, what it did is in doubt, and nothing of it runs on."""
    threads = threading.active_count()
    error = TimeoutError if effect in {"idempotent", "read"} else InDoubt
    for timeout in (1, 2, 4, 8, 16):  # a busy machine may need longer to begin
        run = tool(getattr(bodies, body), effect, timeout)
        with pytest.raises(error, match="ran past its deadline"):
            surefoot.wrap(lambda run=run: run(file), guard=guard)()
        if pids(file, body):
            break
    (pid,) = pids(file, body)
    assert settles(lambda: not is_alive(pid))
    assert set(states(guard)) == (set() if effect == "read" else {"in_doubt"})
    assert settles(lambda: threading.active_count() <= threads)
    assert settles(lambda: not any(guard.runs_here(call) for call in guard.calls.list()))
    assert Effects(Path(file)).count("woke") == 0


def test_as_44_what_a_killed_body_started_is_killed(guard: Guard, file: str) -> None:
    """The process's own child dies with it."""
    for timeout in (1, 2, 4, 8, 16):
        run = tool(bodies.hang, "unclassified", timeout)
        with pytest.raises(InDoubt):
            surefoot.wrap(lambda run=run: run(file, children=True), guard=guard)()
        if pids(file, "hang"):
            break
    assert settles(lambda: not any(map(is_alive, pids(file, "hang") + pids(file, "child"))))
    assert len(pids(file, "child")) >= 1


def test_as_44_two_hundred_timeouts_of_bodies_that_never_end(guard: Guard, file: str) -> None:
    """After 200 timeouts of a body that hangs for ever there are as many threads, processes and open files as before."""
    run = tool(bodies.hang, "unclassified", timeout=0.01)
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    def main() -> None:
        for n in range(200):
            with pytest.raises(InDoubt):
                run(file, n)

    surefoot.wrap(main, guard=guard)()
    assert states(guard) == ["in_doubt"] * 200
    assert settles(lambda: threading.active_count() <= threads)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 5, "the store's own"
    assert not children_of(os.getpid()), "every process was waited for"
    assert len(pids(file, "hang")) <= 200


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGKILL", "exit code 3"])
@pytest.mark.parametrize("effect", ["unsafe", "idempotent"])
def test_a_process_that_dies_by_itself_leaves_a_doubt(guard: Guard, file: str, how: str, effect: str) -> None:
    """Nobody can know what it did; a tool that may run again says what became of its process."""
    run = tool(bodies.die, effect)
    main = surefoot.wrap(lambda: run(file, how), guard=guard)
    with surefoot.run("r"):
        for _ in range(2):
            with pytest.raises(ChildProcessError if effect == "idempotent" else InDoubt, match=f"its process died .{how}"):
                main()
    assert states(guard) == ["raised" if effect == "idempotent" else "in_doubt"]
    assert Effects(Path(file)).count("die") == (2 if effect == "idempotent" else 1)


def test_what_an_isolated_body_raises_is_its_answer(guard: Guard) -> None:
    """Errors come back as they are, or by name where they cannot be sent; a proof that nothing happened is one; so is a body not found."""
    refuse, strange = tool(bodies.refuse, "unclassified"), tool(bodies.strange, "unclassified")
    lost = tool(isolated(bodies.odd), "unclassified")
    _bodies.clear()

    def main() -> None:
        with pytest.raises(ValueError, match=r"^no such order$"):
            refuse("ValueError")
        with pytest.raises(NotCommitted, match="declined"):
            refuse("NotCommitted")
        with pytest.raises(ToolFailed, match="StrangeError: too strange"):
            refuse("strange")
        with pytest.raises(ToolFailed, match="cannot store function"):
            strange()
        with pytest.raises(NotCommitted, match=r"cannot import bodies\.odd"):
            lost()
        with pytest.raises(NotCommitted, match="pass plain data"):
            refuse(kind=threading.Lock())

    surefoot.wrap(main, guard=guard)()
    assert states(guard) == ["raised", "failed", "raised", "raised", "failed", "failed"]


def test_a_governed_tool_inside_an_isolated_one_is_refused(guard: Guard) -> None:
    """It would run where no guard is: said, not done."""
    with pytest.raises(UsageError, match="cannot be called inside an isolated one"):
        surefoot.wrap(tool(bodies.nested), guard=guard)()


def test_what_cannot_be_isolated_is_refused() -> None:
    """Local functions, lambdas, coroutines and generators: refused when they are decorated, with what to do."""

    def local() -> None: ...

    nameless = FunctionType(local.__code__, globals(), "<lambda>")
    nameless.__module__ = "bodies"
    for function in (local, nameless):
        with pytest.raises(UsageError, match="at the top level of a module"):
            isolated(function)
    for other in (pages, wait, print):
        with pytest.raises(UsageError, match="not a plain function"):
            isolated(other)


def pages() -> Iterator[int]:
    """Be a generator."""
    yield 1


async def wait() -> None:
    """Be a coroutine."""


def test_i_4_an_isolated_body_does_not_outlive_its_owner(file: str) -> None:
    """Whoever asked is killed: so is the body, because an owner that is dead must have none that runs."""
    program = f"import sys; sys.path[:0] = {PATHS}; import bodies; bodies.busy({file!r})"
    with subprocess.Popen([sys.executable, "-c", program]) as owner:
        try:
            assert settles(lambda: bool(pids(file, "busy")))
        finally:
            owner.send_signal(signal.SIGKILL)
    assert settles(lambda: not is_alive(pids(file, "busy")[0]))


def test_i_4_an_isolated_body_does_not_outlive_its_owner_in_a_fork_of_it(file: str) -> None:
    """A process that the owner forked while the body ran has the pipe open too, and keeps nothing alive."""
    program = f"""
import os, sys, threading, time
sys.path[:0] = {PATHS}
import bodies
from test_isolated import pids
threading.Thread(target=bodies.busy, args=({file!r},), daemon=True).start()
while not pids({file!r}, "busy"):
    time.sleep(0.01)
if not os.fork():
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "forked\n"
        owner.kill()
        owner.wait()
        assert settles(lambda: not is_alive(pids(file, "busy")[0]))


def test_two_isolated_functions_of_one_name_are_not_mixed_up(guard: Guard, file: str) -> None:
    """A new process finds functions by their names: where two have the same one neither runs, and no other in its place."""
    for function in (bodies.first, bodies.second):
        run = tool(function)
        with pytest.raises(NotCommitted, match="two functions of this name"):
            surefoot.wrap(lambda run=run: run(file), guard=guard)()
    assert Effects(Path(file)).count() == 0


def test_a_process_that_dies_where_nobody_is_waited_for(guard: Guard, file: str) -> None:
    """A program that ignores SIGCHLD is told that the process died, too."""
    run = tool(bodies.die, "idempotent")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(ChildProcessError, match="its process died"):
            surefoot.wrap(lambda: run(file, "exit code 3"), guard=guard)()
    finally:
        signal.signal(signal.SIGCHLD, before)
