"""Circuit breakers and bulkheads: what opens them, who may try, and that all processes share them. The clock is the test's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash import Effects, died, store_of

import surefoot
from surefoot import Deny, Gate, Guard, ToolRule, UsageError
from surefoot_recovery import Breaker, BreakerOpen, Bulkhead, BulkheadFull, protect


class Service:
    """A dependency with tools of every class, that is up or down, and a guard that protects it."""

    def __init__(self, folder: Path, *by: Any, effects: Effects | None = None, gates: Any = (), **rules: Any) -> None:
        self.now = [1000.0]
        self.trouble: Any = None
        self.effects = effects or Effects(folder / "effects")
        known: dict[str, ToolRule] = {"gh_read": ToolRule(effect="read"), "gh_write": ToolRule(effect="unsafe", **rules)}
        self.guard = Guard(store_of(folder), tools={**known, "other": ToolRule(effect="read")}, gates=gates)
        self.guard.clock = lambda: self.now[0]
        protect(self.guard, *(by or (Breaker("github", "gh_*", failures=3, window=60, cooldown=30),)))
        self._number = 0

    def _body(self, name: str, number: int) -> str:
        self.effects.add(name, number)
        if isinstance(self.trouble, BaseException) or (isinstance(self.trouble, type) and issubclass(self.trouble, BaseException)):
            raise self.trouble
        return str(self.trouble or "ok")

    def ask(self, name: str, tenant: str = "default", body: Callable[[], Any] | None = None) -> Any:
        """Call a tool in a run of its own, with arguments that nobody has used before."""
        self._number += 1
        service, number = self, self._number + int(self.effects.count())

        def tool(number: int) -> Any:
            return body() if body is not None else service._body(name, number)

        tool.__name__ = tool.__qualname__ = name
        governed = surefoot.tool()(tool)

        def main(number: int) -> Any:
            return governed(number)

        with surefoot.run(f"{name}-{tenant}-{number}", tenant=tenant):
            return surefoot.wrap(main, guard=self.guard)(number)

    def fails(self, name: str, error: Any = ConnectionError, times: int = 1, tenant: str = "default") -> None:
        """Have a tool fail in its transport, so many times."""
        self.trouble = error
        for _ in range(times):
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is that fails
                self.ask(name, tenant)
        self.trouble = None


def test_as_69_three_transport_failures_open_it_for_that_dependency_and_tenant_only(tmp_path: Path) -> None:
    """After three failures of the transport the next call is refused before its body; other tools and tenants are not."""
    service = Service(tmp_path)
    service.fails("gh_read", times=2)
    assert service.ask("gh_read") == "ok"
    service.fails("gh_write")
    before = len(service.effects.all())
    for name in ("gh_read", "gh_write"):
        with pytest.raises(BreakerOpen, match="github failed 3 times"):
            service.ask(name)
    assert len(service.effects.all()) == before
    assert (service.ask("other"), service.ask("gh_read", tenant="acme")) == ("ok", "ok")


@pytest.mark.parametrize("error", [ValueError("404"), surefoot.NotCommitted("refused"), "error: isError", KeyError("x")])
def test_as_69_what_a_tool_answers_does_not_open_it(tmp_path: Path, error: Any) -> None:
    """Ten errors that the tool itself answered with leave it closed."""
    service = Service(tmp_path)
    service.trouble = error
    for _ in range(10):
        with contextlib.suppress(ValueError, KeyError, surefoot.NotCommitted):
            service.ask("gh_read")
    service.trouble = None
    assert service.ask("gh_read") == "ok"


def test_as_69_ten_denials_do_not_open_it(tmp_path: Path) -> None:
    """Ten calls that a gate refused leave it closed: they never reached the dependency."""

    class No(Gate):
        no = True

        def check(self, call: Any) -> Any:
            return Deny("not today") if self.no else surefoot.Allow()

    gate = No()
    service = Service(tmp_path, gates=[gate])
    for _ in range(10):
        with pytest.raises(surefoot.Denied, match="not today"):
            service.ask("gh_write")
    gate.no = False
    assert service.ask("gh_write") == "ok"


def test_as_69_one_probe_after_the_cooldown_and_never_an_unsafe_one(tmp_path: Path) -> None:
    """Open and cooled down, an unsafe call is still refused; one read tries, another one meanwhile does not, and its success closes it."""
    service = Service(tmp_path)
    service.fails("gh_read", times=3)
    with pytest.raises(BreakerOpen):
        service.ask("gh_read")
    service.now[0] += 30
    with pytest.raises(BreakerOpen):
        service.ask("gh_write")
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        inside.set()
        assert go_on.wait(30)
        return "back"

    found: list[Any] = []
    probe = threading.Thread(target=lambda: found.append(service.ask("gh_read", body=slow)))
    probe.start()
    assert inside.wait(30)
    with pytest.raises(BreakerOpen, match="is being tried by another call"):
        service.ask("gh_read")
    go_on.set()
    probe.join(30)
    assert (found, service.ask("gh_write")) == (["back"], "ok")


def test_as_69_a_probe_that_fails_opens_it_for_another_cooldown(tmp_path: Path) -> None:
    """The read that tries fails too: everything is refused for as long again."""
    service = Service(tmp_path)
    service.fails("gh_read", times=3)
    with pytest.raises(BreakerOpen):
        service.ask("gh_read")
    service.now[0] += 30
    service.fails("gh_read")
    service.now[0] += 29
    with pytest.raises(BreakerOpen):
        service.ask("gh_read")
    service.now[0] += 31
    assert service.ask("gh_read") == "ok"


def test_as_69_a_probe_that_was_cancelled_is_no_answer(tmp_path: Path) -> None:
    """The read that tries is cancelled in its body: nobody knows whether the dependency is back, so it stays open for another cooldown."""
    service = Service(tmp_path)
    service.fails("gh_read", times=3)
    with pytest.raises(BreakerOpen):
        service.ask("gh_read")
    service.now[0] += 30

    async def cancelled() -> None:
        inside = asyncio.Event()

        async def gh_read(number: int) -> None:
            inside.set()
            await asyncio.Event().wait()

        gh_read.__qualname__ = "gh_read"
        governed = surefoot.tool()(gh_read)

        async def main(number: int) -> None:
            await governed(number)

        with surefoot.run("cancelled"):
            running = asyncio.create_task(surefoot.wrap(main, guard=other)(0))
        await asyncio.wait({running, asyncio.create_task(inside.wait())}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    other = Guard(service.guard.store, tools={"gh_read": ToolRule(effect="read")})
    other.clock = service.guard.clock
    protect(other, Breaker("github", "gh_*", failures=3, window=60, cooldown=30))
    asyncio.run(cancelled())
    for name in ("gh_read", "gh_write"):
        with pytest.raises(BreakerOpen):
            service.ask(name)
    service.now[0] += 30
    assert service.ask("gh_read") == "ok"


def test_as_69_wrap_has_a_breaker_for_each_dependency_that_a_tool_names(tmp_path: Path) -> None:
    """``wrap(breaker=)`` and ``depends_on=``: what one dependency's tools fail in is refused to all of its tools, and to no other's."""
    down = {"stripe"}

    def made(name: str, needs: str | list[str]) -> Any:
        def tool(number: int) -> str:
            if down & set([needs] if isinstance(needs, str) else needs):
                raise ConnectionError(name)
            return "ok"

        tool.__name__ = tool.__qualname__ = name
        return surefoot.tool(effect="read", depends_on=needs)(tool)

    known = {"charges": "stripe", "refunds": ["stripe", "bank"], "rates": "bank"}
    tools = {name: made(name, needs) for name, needs in known.items()}

    def main(name: str, number: int) -> Any:
        return tools[name](number)

    program = surefoot.wrap(main, store=store_of(tmp_path), breaker=Breaker(failures=2, cooldown=30))
    for number in (1, 2):
        with surefoot.run(f"r-{number}"), pytest.raises(ConnectionError):
            program("charges", number)
    for name in ("charges", "refunds"):
        with surefoot.run(f"{name}-3"), pytest.raises(BreakerOpen, match="stripe failed 2 times"):
            program(name, 3)
    with surefoot.run("r-4"):
        assert program("rates", 4) == "ok"
    with surefoot.run("r-5", tenant="acme"), pytest.raises(ConnectionError):
        program("charges", 5)


def test_failures_outside_of_the_window_do_not_count(tmp_path: Path) -> None:
    """Three failures, the first of which is older than the window, leave it closed."""
    service = Service(tmp_path)
    service.fails("gh_read", times=2)
    service.now[0] += 61
    service.fails("gh_read")
    assert service.ask("gh_read") == "ok"


def test_a_failure_that_proves_that_nothing_happened_counts_too(tmp_path: Path) -> None:
    """A connection that could not be made, declared as proof, is one of the transport."""
    service = Service(tmp_path, not_committed=(ConnectionRefusedError,))
    service.fails("gh_write", ConnectionRefusedError("no"), times=3)
    with pytest.raises(BreakerOpen):
        service.ask("gh_read")


def test_a_ping_tries_what_only_unsafe_tools_need(tmp_path: Path) -> None:
    """Where no harmless tool tries, the ping does, once a cooldown: while it raises the call is refused, and then it runs."""
    pings: list[float] = []
    up = [False]

    def ping() -> None:
        pings.append(1)
        if not up[0]:
            raise ConnectionError

    service = Service(tmp_path, Breaker("github", "gh_*", ping=ping))
    service.fails("gh_write", times=3)
    for _ in range(2):
        with pytest.raises(BreakerOpen):
            service.ask("gh_write")
    assert pings == []
    service.now[0] += 30
    for _ in range(2):
        with pytest.raises(BreakerOpen):
            service.ask("gh_write")
    assert pings == [1]
    up[0] = True
    service.now[0] += 30
    assert service.ask("gh_write") == "ok"


CHILD = """
import json, os, signal, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from test_breaker import Service
service = Service(Path(sys.argv[1]))
service.now[0] = float(sys.argv[3])
if sys.argv[4] == "die":
    service.ask("gh_read", body=lambda: os.kill(os.getpid(), signal.SIGKILL))
else:
    service.fails("gh_read", times=int(sys.argv[4]))
"""


def child(folder: Path, now: float, what: str) -> subprocess.CompletedProcess[str]:
    """Run a process that uses the service."""
    paths = json.dumps([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), paths, str(now), what], capture_output=True, text=True, check=False, timeout=60
    )


def test_as_69_processes_share_it_and_a_probe_that_was_killed_is_no_answer(tmp_path: Path) -> None:
    """Failures of two processes add up; killed while it tried, the prober leaves it open, not half open for ever."""
    service = Service(tmp_path)
    service.fails("gh_read", times=1)
    done = child(tmp_path, 1000.0, "2")
    assert done.returncode == 0, done.stderr
    with pytest.raises(BreakerOpen):
        service.ask("gh_read")
    died(child(tmp_path, 1030.0, "die"))
    service.now[0] = 1031.0
    with pytest.raises(BreakerOpen, match="failed"):
        service.ask("gh_read")
    service.now[0] = 1061.0
    assert service.ask("gh_read") == "ok"


@pytest.mark.parametrize(("per", "free"), [("all", False), ("tenant", True)])
def test_a_bulkhead_refuses_the_call_that_has_no_place(tmp_path: Path, per: Any, free: bool) -> None:  # noqa: FBT001 - a case
    """With one place taken the next call is refused before its body until it is free; tenants share it only if they are meant to."""
    service = Service(tmp_path, Bulkhead("browser", 1, "gh_*", per=per))
    seen: list[Any] = []

    def others() -> None:
        for name, tenant in (("gh_write", "default"), ("other", "default"), ("gh_read", "acme")):
            try:
                seen.append(service.ask(name, tenant))
            except BulkheadFull:
                seen.append("full")

    def inside() -> str:
        beside = threading.Thread(target=others)  # of other runs
        beside.start()
        beside.join(30)
        return "done"

    assert service.ask("gh_read", body=inside) == "done"
    assert seen == ["full", "ok", "ok" if free else "full"]
    assert service.ask("gh_write") == "ok"


def test_a_bulkhead_of_a_dependency_is_for_all_that_need_it(tmp_path: Path) -> None:
    """With the only place of a dependency taken another tool that needs it is refused, and one that needs another dependency is not."""
    service = Service(tmp_path, Bulkhead("outside", 1, per="dependency"), depends_on="github")
    seen: list[Any] = []

    def others() -> None:
        for tool in (elsewhere, service):
            try:
                seen.append(tool.ask("gh_write", "acme"))
            except BulkheadFull:
                seen.append("full")

    def inside() -> str:
        beside = threading.Thread(target=others)  # of other runs
        beside.start()
        beside.join(30)
        return "done"

    elsewhere = Service(tmp_path, Bulkhead("outside", 1, per="dependency"), effects=service.effects, depends_on="gitlab")
    assert service.ask("gh_write", body=inside) == "done"
    assert seen == ["ok", "full"]


def test_a_process_that_dies_frees_its_place(tmp_path: Path) -> None:
    """Killed in the only place of a pool, a process holds nobody up."""
    folder = tmp_path
    code = CHILD.replace("Service(Path(sys.argv[1]))", "Service(Path(sys.argv[1]), Bulkhead('b', 1, 'gh_*'))")
    code = code.replace("from test_breaker import Service", "from test_breaker import Service\nfrom surefoot_recovery import Bulkhead")
    paths = json.dumps([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    died(subprocess.run([sys.executable, "-c", code, str(folder), paths, "1000", "die"], capture_output=True, text=True, check=False))
    assert Service(tmp_path, Bulkhead("b", 1, "gh_*")).ask("gh_write") == "ok"


def test_protection_has_names(tmp_path: Path) -> None:
    """Two breakers of one dependency, a limit of nothing, and what is neither are refused."""
    with pytest.raises(UsageError, match="a name of its own"):
        Service(tmp_path, Breaker("a", "x"), Breaker("a", "y"))
    with pytest.raises(UsageError, match="a name of its own"):
        Service(tmp_path, "github")
    with pytest.raises(UsageError, match="give it one"):
        Breaker(tools="x")
    with pytest.raises(UsageError, match="like Breaker"):
        Guard(store_of(tmp_path), breaker=3)
    with pytest.raises(UsageError, match="depends_on"):
        ToolRule(depends_on=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1 or more"):
        Bulkhead("b", 0)
    with pytest.raises(UsageError, match="1 or more"):
        Breaker("a", "x", failures=0)
