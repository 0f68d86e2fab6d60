"""Several hosts on one PostgreSQL store: each a process with temporary files and a clock of its own. Effects are counted in a file."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from proxy import Proxy

from surefoot import Guard, InDoubt, StoreUnavailable, ToolRule
from surefoot_stores.postgres import session

psycopg = pytest.importorskip("psycopg")
WORKER = Path(__file__).parent / "hosts.py"
YEAR = 365 * 86_400.0
CLOCKS = [(0.0, 0.0), (YEAR, -YEAR), (-YEAR, YEAR)]
SLOW = [
    pytest.param(kind, clocks, marks=pytest.mark.sweep)
    for kind, clocks in (("python", CLOCKS[0]), ("langgraph", CLOCKS[2]), ("openai_agents", CLOCKS[1]))
]


class Host:
    """A process on a host of its own."""

    def __init__(self, folder: Path, name: str, told: dict[str, Any]) -> None:
        files = folder / name
        files.mkdir(exist_ok=True)
        start = [sys.executable, str(WORKER), json.dumps({"folder": str(folder), **told})]
        env = {**os.environ, "TMPDIR": str(files)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(start, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)

    def says(self, line: str) -> None:
        """Wait until it says this."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said == f"{line}\n", said or self.process.communicate()[1][-3000:]

    def stop(self) -> None:
        """Stop it, as a long pause of its machine would."""
        self.process.send_signal(signal.SIGSTOP)

    def ended(self) -> dict[str, Any]:
        """Let it go on to its end; return what it printed last."""
        self.process.send_signal(signal.SIGCONT)
        out, err = self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0, err[-3000:]
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found


@pytest.fixture
def host(tmp_path: Path, postgres_url: str) -> Iterator[Callable[..., Host]]:
    """Start processes on hosts; none outlives the test."""
    started: list[Host] = []

    def start(name: str, **told: Any) -> Host:
        started.append(Host(tmp_path, name, {"url": f"{postgres_url}&surefoot_ttl=1", **told}))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def charged(folder: Path) -> list[int]:
    """Return the amounts that were really charged."""
    return [amount for _, amount in Effects(folder / "effects").all()]


ALL = {"result": ["charged 1", "charged 2", "charged 3"]}


@pytest.mark.parametrize(("kind", "clocks"), [("python", CLOCKS[1]), *SLOW])
def test_as_49_i9_i10_a_zombie_that_was_taken_over_does_nothing_more(
    host: Callable[..., Host], tmp_path: Path, kind: str, clocks: tuple[float, float]
) -> None:
    """A worker stopped past its TTL loses its run to another host, whose clock is up to two years away; when it goes on it is refused."""
    first = host("a", kind=kind, waits=["before intent", 2], clock=clocks[0])
    first.says("before intent")
    first.stop()
    assert host("b", kind=kind, clock=clocks[1]).ended() == ALL
    assert first.ended()["error"] == "LeaseLost"
    assert charged(tmp_path) == [1, 2, 3]


@pytest.mark.sweep
def test_as_49_without_the_fence_a_zombie_charges_again(host: Callable[..., Host], tmp_path: Path, postgres_url: str) -> None:
    """Negative control: a zombie that does not look at the epoch of its lease charges in a run that is no longer its own."""
    first = host("a", kind="python", waits=["before intent", 2], unfenced=True)
    first.says("before intent")
    first.stop()
    second = host("b", kind="python", waits=["before intent", 2])
    second.says("before intent")
    assert first.ended().get("error") != "LeaseLost"
    assert charged(tmp_path) == [1, 2, 3]
    second.ended()


@pytest.mark.parametrize(("kind", "clocks"), [("python", CLOCKS[2]), *SLOW])
def test_as_75_i4_i10_what_a_stopped_worker_was_doing_is_in_doubt_and_lands_late(
    host: Callable[..., Host], tmp_path: Path, kind: str, clocks: tuple[float, float]
) -> None:
    """Stopped inside a body past its TTL: it is held on the other host; when the body lands the hold is lifted, and it goes on."""
    first = host("a", kind=kind, effect="unsafe", waits=["in the body", 2], clock=clocks[0])
    first.says("in the body")
    first.stop()
    held = host("b", kind=kind, effect="unsafe", clock=clocks[1]).ended()
    assert held["error"] == "InDoubt", held
    assert charged(tmp_path) == [1]
    assert first.ended()["error"] == "LeaseLost"
    assert charged(tmp_path) == [1, 2]
    assert host("b", kind=kind, effect="unsafe", clock=clocks[1]).ended() == ALL
    assert charged(tmp_path) == [1, 2, 3]


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["python", "langgraph", "openai_agents"])
def test_as_49_a_worker_that_lives_is_waited_for(host: Callable[..., Host], tmp_path: Path, kind: str) -> None:
    """While the first host shows that it is alive, for longer than a TTL, the second one gets InFlight, and nothing is done twice."""
    first = host("a", kind=kind, waits=["in the body", 2], clock=-YEAR)
    first.says("in the body")
    assert host("b", kind=kind, wait=2.5, clock=YEAR).ended()["error"] == "InFlight"
    assert first.ended() == ALL
    assert charged(tmp_path) == [1, 2, 3]


@pytest.mark.sweep
def test_a_worker_stopped_past_its_ttl_that_nobody_took_over_goes_on(host: Callable[..., Host], tmp_path: Path, postgres_url: str) -> None:
    """An owner whose row was removed, but whose lease nobody took, puts it back and finishes its run."""
    watcher = Guard(f"{postgres_url}&surefoot_ttl=1")
    first = host("a", kind="python", waits=["before intent", 2])
    first.says("before intent")
    [owner] = [call.owner for call in watcher.calls.list()]
    first.stop()
    for _ in range(200):
        if not watcher.store.alive(owner):
            break
        subprocess.run(["sleep", "0.05"], check=True)  # noqa: S607 - whichever there is
    assert not watcher.store.alive(owner)
    assert first.ended() == ALL
    assert charged(tmp_path) == [1, 2, 3]
    watcher.close()


# --- one process, and a server that goes away


def order(guard: Guard, done: list[int], meanwhile: Callable[[int], None] = lambda _amount: None, name: str = "order-7") -> Any:
    """Run the program in this process; ``meanwhile`` is called in each body, after the effect."""
    import surefoot

    @surefoot.tool(effect="unsafe")
    def charge(amount: int) -> str:
        done.append(amount)
        meanwhile(amount)
        return f"charged {amount}"

    def main() -> list[str]:
        return [charge(amount) for amount in (1, 2, 3)]

    with surefoot.run(name):
        return surefoot.wrap(main, guard=guard)()


def test_as_75_a_server_bounced_in_every_body_is_reconnected_to(postgres_url: str) -> None:
    """All backends of the store ended while a body runs: its outcome is stored all the same, and nothing is charged twice."""
    guard = Guard(postgres_url)
    done: list[int] = []
    place = session.Place.of(postgres_url)

    def bounce(_amount: int) -> None:
        name = f"surefoot {os.getpid()}"
        with psycopg.connect(place.conninfo, autocommit=True) as db:
            db.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (name,))

    assert order(guard, done, bounce) == ALL["result"]
    assert done == [1, 2, 3]
    guard.close()


def test_i34_while_the_store_is_away_no_effect_starts(postgres_url: str) -> None:
    """A network cut in a body: its outcome cannot be stored and is told, no other effect starts, and after it heals all is settled."""
    with Proxy(postgres_url) as proxy:
        guard = Guard(f"{proxy.url}&surefoot_wait=0", tools={"charge": ToolRule(effect="unsafe")})
        done: list[int] = []

        def cut(amount: int) -> None:
            if amount == 2:
                proxy.cut()

        with pytest.raises(StoreUnavailable):
            order(guard, done, cut)
        with pytest.raises(StoreUnavailable):
            order(guard, done, cut)
        assert done == [1, 2]
        proxy.heal()
        with pytest.raises(InDoubt):
            order(guard, done, cut)
        [doubt] = guard.calls.list(state="in_doubt")
        guard.calls.settle(doubt.call_id, committed="charged 2", by="the bank statement")
        assert order(guard, done) == ALL["result"]
        assert done == [1, 2, 3]
        guard.close()


@pytest.mark.parametrize(
    ("fault", "stride"), [("DiskFull", 11), *(pytest.param(name, 1, marks=pytest.mark.sweep) for name in ("DiskFull", "AdminShutdown"))]
)
def test_i33_a_statement_that_fails_anywhere_leaves_no_second_effect(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, fault: str, stride: int
) -> None:
    """The n-th statement of a run fails, for each n: the run ends, at once or when it is asked for again, and each charge happened once."""
    execute = psycopg.Cursor.execute
    came_to: Counter[str] = Counter()
    for nth in range(1, 1000, stride):
        seen = itertools.count(1)

        def failing(*args: Any, nth: int = nth, seen: Any = seen, **options: Any) -> Any:
            if next(seen) == nth:
                raise getattr(psycopg.errors, fault)("the server says no")
            return execute(*args, **options)

        guard = Guard(f"{postgres_url}&surefoot_wait=0")
        guard.store.run(lambda _tx: None)
        done: list[int] = []
        monkeypatch.setattr(psycopg.Cursor, "execute", failing)
        end = tried(guard, done, nth)
        monkeypatch.setattr(psycopg.Cursor, "execute", execute)
        came_to[end] += 1
        if end == "unavailable":
            came_to[tried(guard, done, nth)] += 1
        assert done == [1, 2, 3], nth
        guard.close()
        if next(seen) <= nth:
            break
    assert came_to["unavailable"] > 0
    assert came_to["ended"] > 0
    assert came_to["held"] == 0


def tried(guard: Guard, done: list[int], number: int) -> str:
    """Run the program under a name of its own; return what came of it."""
    try:
        assert order(guard, done, name=f"order-{number}") == ALL["result"]
    except StoreUnavailable:
        return "unavailable"
    except InDoubt:
        return "held"
    return "ended"
