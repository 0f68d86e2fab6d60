"""What the MCP proxy adds to a tool call, and what it keeps in memory: the same server, directly and through the proxy.

Clients, proxy and server are processes of their own, and the client speaks the protocol without an SDK, so that little else is timed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

from surefoot import SurefootError
from surefoot_bench.plan import Plan, interleaved
from surefoot_bench.results import Result, Skip, Target, costs, extra

__all__ = ["mcp"]

_UPSTREAM: Final = (sys.executable, "-m", "surefoot_bench.mcp_upstream")
_PROXY: Final = (sys.executable, "-m", "surefoot_cli.main", "--store")
_CLIENTS: Final = 100
_ROUNDS: Final = 7
"""So many are enough, and each takes seconds."""
_TOOL: Final = 400
"""The tool of concurrent calls takes one second for so many calls of a round: half a second by default."""
_LONG: Final = 25
"""Memory is looked at after so many times the calls of a round; ``--full``: twenty times that."""
_FULL: Final = 20
_P50: Final = Target("measured", "<", 2)
_P99: Final = Target("measured", "<", 10)
_FLAT: Final = Target("ratio", "<=", 1.1)


class _Connection(ABC):
    """A client of the server, or of the proxy in front of it. A context manager."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._numbers = itertools.count(1)
        self._process: Any = None
        self.measured: list[list[float]] = []
        """The latencies of every measurement, sorted."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._runner.run(self._end())

    async def _start(self, command: Sequence[str], *, told: str = "") -> None:
        pipes: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        if told == "stderr":
            pipes["stderr"] = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, **pipes)

    async def _end(self) -> None:
        self._process.stdin.close()
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()

    @abstractmethod
    async def _ask(self, about: int, message: bytes) -> bytes:
        """Send a request and return its response."""

    async def _call(self, seconds: float) -> float:
        about = next(self._numbers)
        params = {"name": "pay", "arguments": {"seconds": seconds}, "_meta": {"surefoot/idempotencyKey": f"order-{about}"}}
        message = json.dumps({"jsonrpc": "2.0", "id": about, "method": "tools/call", "params": params}).encode() + b"\n"
        loop = asyncio.get_running_loop()
        begun = loop.time()
        response = await self._ask(about, message)
        took = loop.time() - begun
        if b"paid" not in response:
            raise SurefootError(f"the benchmark's call was answered with {response!r}")
        return took - seconds

    def side(self, clients: int, seconds: float) -> Callable[[int], float]:
        """Return a side: so many clients, each of which calls again as soon as it has its answer from a tool that takes ``seconds``."""

        async def client(rank: int, times: int, found: list[float]) -> None:
            await asyncio.sleep(seconds * rank / clients)  # else they would all call in the same moment
            for _ in range(times):
                found.append(await self._call(seconds))  # noqa: PERF401 - the other clients write into it too

        async def measured(number: int) -> float:
            found: list[float] = []
            ranks = range(min(clients, number))
            await asyncio.gather(*(client(rank, number // len(ranks), found) for rank in ranks))
            self.measured.append(sorted(found))
            return sum(found) / len(found)

        return lambda number: self._runner.run(measured(number))

    def resident(self) -> float:
        """Return the memory of the process that answers, in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None  # noqa: S101 - every Linux writes it
        return float(found[1]) * 1024


class _Pipes(_Connection):
    """Over standard input and output."""

    def __init__(self, runner: asyncio.Runner, command: Sequence[str]) -> None:
        super().__init__(runner)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        runner.run(self._start(command))
        self._reading: asyncio.Task[None] = runner.get_loop().create_task(self._read())

    async def _read(self) -> None:
        while line := await self._process.stdout.readline():
            self._waiting.pop(json.loads(line)["id"]).set_result(line)
        for waiting in self._waiting.values():
            waiting.set_exception(SurefootError("a process of the benchmark ended"))

    async def _ask(self, about: int, message: bytes) -> bytes:
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[about] = waiting
        self._process.stdin.write(message)
        return await waiting


class _Sockets(_Connection):
    """Over HTTP: one connection for each call that is under way."""

    def __init__(self, runner: asyncio.Runner, command: Sequence[str], told: str) -> None:
        super().__init__(runner)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        runner.run(self._start(command, told=told))
        line = runner.run(getattr(self._process, told).readline())
        if not line:
            raise SurefootError(f"{command[2]} does not say where it listens")
        self.port = int(line.split(b":")[-1])
        self._head = f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-type: application/json\r\n".encode()

    async def _ask(self, about: int, message: bytes) -> bytes:  # noqa: ARG002 - a connection has one request at a time
        while self._idle and self._idle[-1][0].at_eof():  # a server closes what is idle for seconds
            self._idle.pop()[1].close()
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"%bcontent-length: %d\r\n\r\n%b" % (self._head, len(message), message))
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None  # noqa: S101 - both sides answer JSON, whole
        body: bytes = await reader.readexactly(int(length[1]))
        self._idle.append((reader, writer))
        return body

    async def _end(self) -> None:
        for _, writer in self._idle:
            writer.close()
        await super()._end()


def mcp(plan: Plan) -> Iterator[Result]:
    """Measure what the proxy adds to one client's call and to those of 100, over standard input and output and over HTTP.

    Raises :class:`Skip` where a package that serving needs is not installed, and where the system does not tell a process's memory.
    """
    try:
        import aiohttp  # noqa: F401 - what ``surefoot mcp serve`` imports
        import starlette  # noqa: F401 - as above
        import uvicorn  # noqa: F401 - as above
    except ImportError as exc:
        raise Skip(f"{exc.name} is not installed; pip install 'surefoot[mcp-gateway]'") from exc
    if not Path("/proc/self/status").exists():
        raise Skip("needs /proc, which Linux has")
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        direct = stack.enter_context(_Pipes(runner, [*_UPSTREAM, "stdio"]))
        proxied = stack.enter_context(_Pipes(runner, [*_PROXY, plan.url("stdio"), "mcp", "run", "--name", "till", *_UPSTREAM, "stdio"]))
        yield from _compared(plan, "stdio", direct, proxied)
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        server = stack.enter_context(_Sockets(runner, [*_UPSTREAM, "http"], "stdout"))
        upstream = ["--upstream", f"http://127.0.0.1:{server.port}/mcp", "--port", "0"]
        gateway = stack.enter_context(_Sockets(runner, [*_PROXY, plan.url("http"), "mcp", "serve", *upstream], "stderr"))
        yield from _compared(plan, "http", server, gateway)


def _compared(plan: Plan, name: str, direct: _Connection, proxied: _Connection) -> Iterator[Result]:
    few = replace(plan, rounds=min(_ROUNDS, plan.rounds))
    at_once = {"": plan.calls / _TOOL, " at once": 0.0}
    yield from _added(few, f"mcp/{name}, one client", direct, proxied, 1, 0.0)
    for how, seconds in at_once.items():
        yield from _added(few, f"mcp/{name}, {_CLIENTS}{how}", direct, proxied, _CLIENTS, seconds)
    length = plan.calls * _LONG * (_FULL if plan.full else 1)
    side = proxied.side(_CLIENTS, 0.0)
    side(length // 10)
    early = proxied.resident()
    side(length - length // 10)
    against = f"after {length // 10:,} of them"
    yield costs(f"mcp/{name}, memory ({length:,} calls)", [proxied.resident()], against, [early], _FLAT, unit="MiB", scale=1 / 2**20)


def _added(plan: Plan, name: str, direct: _Connection, proxied: _Connection, clients: int, seconds: float) -> Iterator[Result]:
    number = plan.calls if clients == 1 else plan.calls * 2
    before = len(direct.measured), len(proxied.measured)
    interleaved(plan, {"direct": (direct.side(clients, seconds), number), "proxied": (proxied.side(clients, seconds), number)})
    theirs, ours = (one.measured[start + 1 :] for one, start in zip((direct, proxied), before, strict=True))  # without the warm-up
    for percent, target in ((50, _P50), (99, _P99)):
        whole, part = ([_quantile(found, percent) for found in rounds] for rounds in (ours, theirs))
        yield extra(f"{name}, p{percent} added", whole, "without the proxy", part, target, unit="ms", scale=1e3)


def _quantile(found: Sequence[float], percent: int) -> float:
    return found[min(len(found) - 1, len(found) * percent // 100)]
