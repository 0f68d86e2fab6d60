"""A client that speaks to a relay in this process or to a real proxy, line by line."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from surefoot import Event, Guard
from surefoot_mcp_server.child import Child
from surefoot_mcp_server.governor import Governor
from surefoot_mcp_server.lines import Source, sink_of, source_of
from surefoot_mcp_server.probe import Prober
from surefoot_mcp_server.rules import Rules
from surefoot_mcp_server.stdio import Relay
from surefoot_mcp_server.wire import KEY

HERE = Path(__file__).parent
SHOP = str(HERE / "shop_server.py")
PATIENCE = 30.0


class Wire:
    """The client's ends of two pipes."""

    def __init__(self, write: int, read: int) -> None:
        self._write = write
        self._read = read
        self._reader: Source | None = None
        self._numbers = itertools.count(1)
        self.seen: list[dict[str, Any]] = []
        """Messages that were read while another one was waited for."""

    async def raw(self, line: bytes) -> None:
        """Write bytes as they are."""
        await asyncio.to_thread(_write_all, self._write, line)

    async def send(self, message: Any) -> None:
        """Write a message."""
        await self.raw(json.dumps(message).encode() + b"\n")

    async def line(self) -> bytes:
        """Read the next line; empty at the end."""
        if self._reader is None:
            self._reader = await source_of(self._read)
            self._reader.reader._limit = 2**27
        return await asyncio.wait_for(self._reader.reader.readline(), PATIENCE)

    async def read(self) -> dict[str, Any]:
        """Read the next message."""
        line = await self.line()
        assert line, "the relay ended"
        return json.loads(line)

    async def answer(self, about: Any) -> dict[str, Any]:
        """Read up to the response to a request."""
        while True:
            message = await self.read()
            if message.get("id") == about and "method" not in message:
                return message
            self.seen.append(message)

    async def ask(self, method: str, params: Any = None) -> dict[str, Any]:
        """Send a request and return its response."""
        about = next(self._numbers)
        await self.send({"jsonrpc": "2.0", "id": about, "method": method, **({} if params is None else {"params": params})})
        return await self.answer(about)

    async def call(self, tool: str, arguments: dict[str, Any] | None = None, *, key: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a tool and return the outcome: ``{"result": …}`` or ``{"error": …}``."""
        response = await self.ask("tools/call", call_params(tool, arguments, key=key, **params))
        return {name: response[name] for name in ("result", "error") if name in response}

    def done(self) -> None:
        """Read no more."""
        if self._reader is None:
            os.close(self._read)
        else:
            self._reader.close()

    def close(self) -> None:
        """Say that there is no more."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1


def call_params(tool: str, arguments: dict[str, Any] | None = None, *, key: str | None = None, **params: Any) -> dict[str, Any]:
    """Return the parameters of a ``tools/call``."""
    meta = {**params.pop("_meta", {}), **({KEY: key} if key else {})}
    return {"name": tool, "arguments": arguments or {}, **({"_meta": meta} if meta else {}), **params}


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Proxy(Wire):
    """A relay in this process, and the server behind it."""

    relay: asyncio.Task[int]
    child: Child

    def __init__(self, guard: Guard, effects: Path, write: int, read: int) -> None:
        super().__init__(write, read)
        self.guard = guard
        self.effects_file = effects

    def effects(self) -> list[str]:
        """Return what the server did, as the world sees it."""
        return self.effects_file.read_text().splitlines() if self.effects_file.exists() else []

    async def end(self) -> int:
        """Close the client's side and return the relay's exit code."""
        self.close()
        return await asyncio.wait_for(self.relay, PATIENCE)


@asynccontextmanager
async def proxy(
    tmp_path: Path,
    *,
    command: Sequence[str] | None = None,
    limit: float | None = None,
    grace: float = 5.0,
    wait: float | None = 20.0,
    dies: str = "",
    code: int = 0,
    events: list[Event] | None = None,
    policy: str | None = None,
    **rules: Any,
) -> AsyncIterator[Proxy]:
    """Run a relay with a server of our own behind it; what it did lies in ``effects`` in the folder."""
    effects = tmp_path / "effects"
    declared, prober = Rules("shop", **rules), Prober()
    listener = events.append if events is not None else None
    guard = Guard(f"sqlite:///{tmp_path / 'ledger.db'}", tools=declared.tools(prober), wait=wait, on_event=listener, policy=policy)
    governor = Governor(guard, declared)
    await governor.recover()
    os.environ |= {"SHOP_DIES": dies, "SHOP_CODE": str(code)}
    child = await Child.start(command or [sys.executable, "-S", "-E", SHOP, str(effects)])
    (inner_in, outer_out), (outer_in, inner_out) = os.pipe(), os.pipe()
    found = Proxy(guard, effects, outer_out, outer_in)
    found.child = child
    relay = Relay(governor, child, await source_of(inner_in), await sink_of(inner_out), limit=limit, grace=grace)
    prober.ask = relay.ask
    found.relay = asyncio.ensure_future(relay.run())
    try:
        yield found
    finally:
        await found.end()
        found.done()
        await governor.close()
        guard.close()


async def eventually(true: Callable[[], object]) -> None:
    """Wait until something that another process or task does has been done."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - a file of another process sets no event
            await asyncio.sleep(0.005)


def words(outcome: dict[str, Any]) -> str:
    """Return the text of a result."""
    return str(outcome["result"]["content"][0]["text"])


def code_of(outcome: dict[str, Any]) -> str | None:
    """Return surefoot's code in a refusal."""
    found = outcome.get("result", {}).get("_meta", {}).get("surefoot/error")
    return found["code"] if found else None
