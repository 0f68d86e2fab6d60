"""Plain programs killed by SIGKILL, stopped, or run twice at once. Effects are counted in a file that the tools write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import Effects, died, printed

from surefoot import Guard

POINTS = ["before intent", "call.claimed", "effect", "call.committed", "step.committed"]
PROGRAMS = Path(__file__).parent / "programs.py"


def command(folder: Path, told: dict[str, Any]) -> list[str]:
    """Return the command that runs one process of a scenario."""
    return [sys.executable, str(PROGRAMS), json.dumps({"folder": str(folder), **told})]


def process(folder: Path, **told: Any) -> subprocess.CompletedProcess[str]:
    """Run one process to its end."""
    return subprocess.run(command(folder, told), capture_output=True, text=True, check=False, timeout=60)


def killed(folder: Path, **told: Any) -> None:
    """Run a process that must die of SIGKILL."""
    died(process(folder, **told))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that go on beside the test; none outlives it."""
    started: list[subprocess.Popen[str]] = []

    def begin(**told: Any) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command(tmp_path, told), stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for child in started:
        child.kill()
        child.communicate()


def heard(child: subprocess.Popen[str], line: str) -> None:
    """Wait until a process says this."""
    assert child.stdout is not None
    assert child.stdout.readline() == f"{line}\n"


def ended(child: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Let a process go on from its body, to its end."""
    out, err = child.communicate("\n", timeout=60)
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def doubts(folder: Path) -> list[Any]:
    """Return the calls that are in doubt."""
    return list(Guard(f"sqlite:///{folder}/surefoot.db").calls.list(state="in_doubt"))


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "asynchronous"])
def test_as_03_at_most_one_effect_at_every_kill_point(tmp_path: Path, kind: str, effect: str, point: str) -> None:
    """Killed at any point and run again under its name, the charge happened at most once: once, or the run says that it is in doubt."""
    told = {"kind": kind, "effect": effect}
    killed(tmp_path, kill=point, **told)
    again = process(tmp_path, **told)
    count = Effects(tmp_path / "effects").count("charge")
    if point in {"call.claimed", "effect"}:
        assert again.returncode == 1
        assert "InDoubt" in again.stderr
        assert count == (point == "effect")
        assert len(doubts(tmp_path)) == 1
    else:
        assert printed(again) == ["order 7", "charged 5"]
        assert (count, doubts(tmp_path)) == (1, [])


@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "asynchronous", "nested"])
def test_as_03_negative_control_a_bare_program_charges_twice(tmp_path: Path, kind: str) -> None:
    """The same program without surefoot charges twice: the matrix can fail."""
    killed(tmp_path, kind=kind, kill="effect", bare=True)
    assert "charged 5" in printed(process(tmp_path, kind=kind, bare=True))
    assert Effects(tmp_path / "effects").count("charge", 5) == 2


@pytest.mark.parametrize(("how", "count"), [({"committed": "charged 5"}, 1), ({"failed": True}, 2)])
def test_as_03_settled_by_hand_the_run_completes(tmp_path: Path, how: dict[str, Any], count: int) -> None:
    """Killed after the effect and settled, the run goes on: with the given result, or running the body again."""
    killed(tmp_path, kill="effect", effect="unsafe")
    guard = Guard(f"sqlite:///{tmp_path}/surefoot.db")
    assert process(tmp_path, effect="unsafe").returncode == 1
    (doubt,) = doubts(tmp_path)
    guard.calls.settle(doubt.call_id, by="operator", **how)
    assert printed(process(tmp_path, effect="unsafe")) == ["order 7", "charged 5"]
    assert Effects(tmp_path / "effects").count("charge") == count
    assert [run.status for run in guard.runs.list()] == ["completed"]


@pytest.mark.parametrize("point", ["call.committed", "step.committed"])
@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
def test_a_recorded_step_is_no_drift_of_the_ones_after_it(tmp_path: Path, effect: str, point: str) -> None:
    """Killed after the first of three steps that charge different amounts, the run goes on without a hold: one charge each."""
    killed(tmp_path, kind="nested", effect=effect, kill=point)
    assert printed(process(tmp_path, kind="nested", effect=effect)) == ["order 7", "charged 5", "charged 6", "charged 7"]
    assert [Effects(tmp_path / "effects").count("charge", amount) for amount in (5, 6, 7)] == [1, 1, 1]


def test_a_run_is_resumed_under_its_name_only(tmp_path: Path) -> None:
    """Killed after the charge, another name is another run; another order of the same name abandons the first run."""
    killed(tmp_path, kill="call.committed")
    assert printed(process(tmp_path, name="order-8")) == ["order 7", "charged 5"]
    assert Effects(tmp_path / "effects").count("charge") == 2
    assert printed(process(tmp_path, order=9)) == ["order 9", "charged 5"]
    assert Effects(tmp_path / "effects").count("charge") == 2, "the undelivered charge of the abandoned run is delivered once"
    statuses = [(run.thread, run.ordinal, run.status) for run in Guard(f"sqlite:///{tmp_path}/surefoot.db").runs.list()]
    assert sorted(statuses) == [("run:order-7", 1, "abandoned"), ("run:order-7", 2, "completed"), ("run:order-8", 1, "completed")]


def test_as_05_a_second_dispatch_attaches_to_the_first(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """A process that is sent the same order while another one works on it waits and gets that run's answer: 1 effect, 1 run."""
    first = start(waits=True)
    heard(first, "in the body")
    second = start(looks=True)
    for _ in range(6):  # its first transactions open the run; from the third on it has found the run busy, and looks again
        heard(second, "looked")
    assert printed(ended(first)) == printed(ended(second)) == ["order 7", "charged 5"]
    assert Effects(tmp_path / "effects").count("charge") == 1
    assert [run.status for run in Guard(f"sqlite:///{tmp_path}/surefoot.db").runs.list()] == ["completed"]


def test_as_49_one_of_two_processes_has_the_lease(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """While a process has the run, stopped or not, another one is refused; the first ends well, and nothing is lost."""
    first = start(waits=True)
    heard(first, "in the body")
    for stop in (signal.SIGCONT, signal.SIGSTOP):
        os.kill(first.pid, stop)
        second = process(tmp_path, wait=0)
        assert second.returncode == 1
        assert "InFlight" in second.stderr
    os.kill(first.pid, signal.SIGCONT)
    assert printed(ended(first)) == ["order 7", "charged 5"]
    assert Effects(tmp_path / "effects").count("charge") == 1


def test_as_49_the_lease_of_a_dead_process_is_free_at_once(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """A process that dies in a body that had no effect yet leaves a doubt; the next one takes over without waiting and says so."""
    first = start(waits=True, effect="unsafe")
    heard(first, "in the body")
    first.kill()
    first.wait()
    second = process(tmp_path, wait=0, effect="unsafe")
    assert "InDoubt" in second.stderr
    assert Effects(tmp_path / "effects").count("charge") == 0
