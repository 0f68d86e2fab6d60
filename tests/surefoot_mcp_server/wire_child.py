"""A client, a proxy and a server, one of which is killed at one of the boundaries that a message crosses in the proxy.

The process that a test starts is the client; it forks the proxy, which starts the server. ``told`` says whom to kill (``victim``) at
which boundary (``at``, counted from 0), and what the proxy is told about its tools (``rules``).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcp_support import SHOP, call_params

from surefoot_mcp_server import command
from surefoot_mcp_server.child import Child
from surefoot_mcp_server.endpoint import Endpoint, guarding
from surefoot_mcp_server.governor import Answer, Governor
from surefoot_mcp_server.lines import Sink
from surefoot_mcp_server.lost import Lost
from surefoot_mcp_server.rules import Rules
from surefoot_mcp_server.servers import Server
from surefoot_mcp_server.stdio import Relay
from surefoot_mcp_server.wire import Asked

__all__ = ["Boundaries", "main", "ungoverned"]


class Boundaries:
    """Counts what a message crosses, and kills somebody there."""

    def __init__(self, at: int | None, victim: Callable[[], int]) -> None:
        self._at = at
        self._victim = victim
        self.crossed = 0
        self._lock = threading.Lock()

    def cross(self) -> None:
        """Cross one; this process goes no further than its own end."""
        with self._lock:
            if self.crossed == self._at:
                os.kill(self._victim(), signal.SIGKILL)
            self.crossed += 1

    def around(self, owner: Any, name: str) -> None:
        """Make the beginning and the end of a coroutine function boundaries."""
        inner: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def crossing(*args: Any, **kwargs: Any) -> Any:
            self.cross()
            try:
                return await inner(*args, **kwargs)
            finally:
                self.cross()

        setattr(owner, name, crossing)


async def ungoverned(_self: Governor, _asked: Asked, dispatch: Any, *_: Any) -> Answer:
    """Pass a call as if there were no ledger: the negative control."""
    try:
        return Answer(await dispatch())
    except Lost as exc:
        return Answer(outcome={"error": {"code": -32000, "message": str(exc)}})


def _proxy(told: dict[str, Any], client: int) -> None:
    folder = Path(told["folder"])
    shop = Server(Rules("shop", **told["rules"]), (sys.executable, "-S", "-E", SHOP, told["effects"]))
    guard = guarding([shop], told["store"], wait=20.0)
    server: list[Child] = []
    victims = {"client": lambda: client, "proxy": os.getpid, "server": lambda: server[0]._process.pid}
    boundaries = Boundaries(told["at"], victims[told["victim"]])
    start = Child.start

    async def started(*what: Any) -> Child:
        child = await start(*what)
        server.append(child)
        return child

    Child.start = started  # type: ignore[method-assign,assignment]
    for owner, name in ((Relay, "_ask"), (Relay, "_told"), (Sink, "write"), (guard.store, "arun")):
        boundaries.around(owner, name)
    if told.get("ungoverned"):
        Governor.call = ungoverned  # type: ignore[method-assign,assignment]
    code = asyncio.run(command._connected(Endpoint([shop], guard, 1.0), guard))
    (folder / "crossed").write_text(str(boundaries.crossed))
    os._exit(code)


def main(told: dict[str, Any]) -> None:
    """Be the client: ask for one payment and print what came back."""
    (inward, to_proxy), (from_proxy, outward) = os.pipe(), os.pipe()
    client = os.getpid()
    proxy = os.fork()
    if proxy == 0:
        try:
            for ours, theirs in ((inward, 0), (outward, 1)):
                os.dup2(ours, theirs)
            for fd in (to_proxy, from_proxy, inward, outward):
                os.close(fd)
            sys.stdin = open(0)  # noqa: SIM115 - the zygote's own is another file
            sys.stdout = open(1, "w")  # noqa: SIM115 - as above
            _proxy(told, client)
        except BaseException:  # noqa: BLE001 - printed, and the exit code tells
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(1)
    os.close(inward)
    os.close(outward)
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("pay", {"amount": 7}, key=told.get("key"))}
    os.write(to_proxy, json.dumps(message).encode() + b"\n")
    with os.fdopen(from_proxy) as answers:
        line = answers.readline()
        print(line, flush=True)
        os.close(to_proxy)
        answers.read()
    os.waitpid(proxy, 0)
