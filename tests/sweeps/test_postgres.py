"""A fleet of hosts on one PostgreSQL server, and everything that can happen to them: killed, stopped, cut off, with wrong clocks."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from proxy import Proxy
from sweeps.linear import histories, linearizable
from sweeps.postgres_server import Server, binaries

from surefoot import Guard

psycopg = pytest.importorskip("psycopg")
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(binaries() is None, reason="there is no initdb to make a server of the test's own with"),
]
FAULTS = int(os.environ.get("SUREFOOT_SWEEP_POSTGRES_FAULTS", "200"))
HOSTS = 4
RUNS = 60
CALLS = 5
YEAR = 365 * 86_400.0
TTL = 1.0


class Host:
    """A worker behind a proxy of its own, with temporary files and a clock of its own."""

    def __init__(self, folder: Path, server: Server, number: int, told: dict[str, Any]) -> None:
        self.files = folder / f"host {number}"
        self.files.mkdir(exist_ok=True)
        self.proxy = Proxy(server.url)
        self._told = {**told, "url": f"{self.proxy.url}?surefoot_ttl={TTL}&surefoot_wait=1", "clock": YEAR * (number - 1)}
        self._starts = 0
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the worker."""
        self._starts += 1
        told = json.dumps({**self._told, "seed": self._starts})
        env = {**os.environ, "TMPDIR": str(self.files)}
        with (self.files / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "fleet.py"), told], stdout=subprocess.DEVNULL, stderr=log, env=env
            )
        return self.process

    @property
    def runs(self) -> bool:
        """Whether the worker has not ended."""
        return self.process.poll() is None

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.proxy.__exit__(None, None, None)


class Chaos:
    """What happens to a fleet; each fault says whether it hit anybody."""

    def __init__(self, server: Server, hosts: list[Host], seed: int) -> None:
        self._server, self._hosts = server, hosts
        self._chance = random.Random(seed)  # noqa: S311 - an order, not a secret
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.counted: Counter[str] = Counter()

    def strike(self) -> None:
        """Let one thing happen."""
        kinds = {self.terminated: 8, self.cut: 4, self.stalled: 3, self.stopped: 2, self.worker_killed: 2, self.backend_killed: 1}
        [kind] = self._chance.choices([*kinds, self.server_killed], [*kinds.values(), 0.5])
        alive = [host for host in self._hosts if host.runs]
        if alive and kind(self._chance.choice(alive)):
            self.counted[kind.__name__] += 1
        self.pass_on()

    def pass_on(self, *, all_of_it: bool = False) -> None:
        """End what has lasted long enough."""
        due = [entry for entry in self._later if all_of_it or entry[0] <= time.monotonic()]
        self._later = [entry for entry in self._later if entry not in due]
        for _, end in due:
            end()

    def _after(self, seconds: float, end: Callable[[], None]) -> bool:
        self._later.append((time.monotonic() + seconds, end))
        return True

    def _backends(self) -> list[int]:
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._server.url, autocommit=True, connect_timeout=2) as db:
            return [pid for (pid,) in db.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'surefoot %%'")]
        return []

    def terminated(self, _host: Host) -> bool:
        """The server ends a connection."""
        pids = self._backends()
        if not pids:
            return False
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._server.url, autocommit=True, connect_timeout=2) as db:
            return bool(db.execute("SELECT pg_terminate_backend(%s)", (self._chance.choice(pids),)).fetchone()[0])
        return False

    def backend_killed(self, _host: Host) -> bool:
        """One of the server's processes dies; the server recovers."""
        pids = self._backends()
        return bool(pids) and self._server.backend_killed(self._chance.choice(pids))

    def server_killed(self, _host: Host) -> bool:
        """The whole server dies and is started again."""
        self._server.kill()
        self._server.start()
        return True

    def cut(self, host: Host) -> bool:
        """The network is cut, and heals."""
        host.proxy.cut()
        return self._after(self._chance.uniform(0.05, 0.6), host.proxy.heal)

    def stalled(self, host: Host) -> bool:
        """The network swallows everything for a time."""
        host.proxy.stall()
        return self._after(self._chance.uniform(0.1, 1.5 * TTL), host.proxy.heal)

    def stopped(self, host: Host) -> bool:
        """A worker is stopped, mostly past its TTL."""
        process = host.process
        process.send_signal(signal.SIGSTOP)
        return self._after(self._chance.uniform(0.5, 2.0) * TTL, lambda: process.send_signal(signal.SIGCONT))

    def worker_killed(self, host: Host) -> bool:
        """A worker dies and is started again."""
        host.process.send_signal(signal.SIGKILL)
        host.process.wait()
        host.start()
        return True


@contextlib.contextmanager
def fleet(folder: Path, server: Server, **told: Any) -> Iterator[list[Host]]:
    """Start the hosts; none outlives the block."""
    hosts = [Host(folder, server, number, {"folder": str(folder), "calls": CALLS, **told}) for number in range(HOSTS)]
    try:
        yield hosts
    finally:
        for host in hosts:
            host.close()


def wave(folder: Path, server: Server, seed: int, faults: int, effect: str) -> tuple[Counter[str], list[Host]]:
    """Let a fleet work through some runs while up to so many faults strike; return the faults, when everything has ended."""
    folder.mkdir()
    names = [f"{folder.name}-{number}" for number in range(RUNS)]
    with fleet(folder, server, runs=names, effect=effect) as hosts:
        chaos = Chaos(server, hosts, seed)
        give_up = time.monotonic() + 400
        while any(host.runs for host in hosts):
            assert time.monotonic() < give_up, f"nothing moves: {chaos.counted}"
            if chaos.counted.total() < faults:
                chaos.strike()
            else:
                chaos.pass_on(all_of_it=True)
            time.sleep(0.1)
        chaos.pass_on(all_of_it=True)
        for host in hosts:
            assert host.process.returncode == 0, (host.files / "log").read_text()[-3000:]
    return chaos.counted, hosts


def duplicates(folder: Path) -> dict[str, int]:
    """Return what took effect more than once."""
    counted = Counter(f"{name}/{number}" for name, number in Effects(folder / "effects").all())
    return {what: times for what, times in counted.items() if times > 1}


def unlinear(folder: Path) -> list[str]:
    """Return the keys whose calls no order explains that agrees with the clock."""
    return [key for key, ops in histories(folder / "history").items() if not linearizable(ops)]


@pytest.mark.sweep
def test_i1_i9_i10_i34_as_75_a_fleet_under_every_fault_has_no_effect_twice(tmp_path: Path, say: Callable[[str], None]) -> None:
    """Whatever happens to workers, network and server: no effect twice, answers as if calls came one by one, each run ended or held."""
    seed = int(os.environ.get("SUREFOOT_SWEEP_SEED", str(time.time_ns() % 100_000)))
    found = binaries()
    assert found is not None
    total: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    with Server(found) as server:
        number = 0
        while total.total() < FAULTS:
            folder = tmp_path / f"wave{number}"
            counted, _ = wave(folder, server, seed + number, FAULTS - total.total(), "unsafe")
            assert duplicates(folder) == {}, f"SUREFOOT_SWEEP_SEED={seed}"
            assert unlinear(folder) == [], f"SUREFOOT_SWEEP_SEED={seed}"
            total += counted
            ends += judged(folder, server)
            number += 1
            say(f"{total.total()} faults {dict(total)}: 0 effects twice, {dict(ends)} (SUREFOOT_SWEEP_SEED={seed})")
    assert ends["ended"] > 0


def judged(folder: Path, server: Server) -> Counter[str]:
    """Return how the runs of a wave ended, after looking that it is so."""
    counted = Counter(name for name, _ in Effects(folder / "effects").all())
    ends = {name: (how, what) for name, how, what in Effects(folder / "ends").all()}
    with Guard(server.url) as guard:
        runs = {run.thread: run for run in guard.runs.list(limit=10_000)}
        for name, (how, what) in ends.items():
            if how == "ended":
                assert what == [f"{name} {number}" for number in range(CALLS)]
                assert counted[name] == CALLS
            else:
                assert what, "a run is held and nobody says why"
                held_by = runs[f"run:{name}"].hold  # nothing, where what held it has landed late since
                assert all(guard.calls.show(call_id).reason for call_id in held_by)
    assert len(ends) == RUNS
    return Counter(how for how, _ in ends.values())


@pytest.mark.sweep
def test_a_fleet_that_may_repeat_does_repeat(tmp_path: Path) -> None:
    """Negative control: with the tool declared idempotent, the same faults make effects happen twice; count and histories show it."""
    found = binaries()
    assert found is not None
    with Server(found) as server:
        for number in range(10):
            folder = tmp_path / f"wave{number}"
            wave(folder, server, number, 60, "idempotent")
            if twice := duplicates(folder):
                assert {key.replace("/", " ") for key in twice} <= set(unlinear(folder))
                return
    pytest.fail("no effect happened twice: the faults do not hit, or nobody counts")
