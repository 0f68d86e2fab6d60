"""``surefoot mcp serve``: the gateway as a process."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from surefoot import Guard, UsageError
from surefoot_mcp_server.endpoint import Endpoint
from surefoot_mcp_server.front import Front
from surefoot_mcp_server.governor import Governor
from surefoot_mcp_server.headers import Door
from surefoot_mcp_server.http import Gateway, Options
from surefoot_mcp_server.probe import Ask
from surefoot_mcp_server.servers import Server
from surefoot_mcp_server.upstream import Upstream

__all__ = ["Listening", "asking", "serve"]

_OWN: Final = 10.0
_GRACE: Final = 1.0
"""Seconds that what is under way may go on for when a session ends."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where it listens, and to whom."""

    host: str
    port: int
    door: Door
    forward_authorization: bool = False
    """Credentials of the client pass to the one server behind it, where that speaks HTTP."""


async def serve(guard: Guard, servers: Sequence[Server], given: Listening) -> int:
    """Serve until a signal ends it; return the exit code. Raises :class:`~surefoot.UsageError` for an address that cannot be had."""
    only = servers[0] if len(servers) == 1 else None
    if only is not None and only.url is not None:  # both sides speak HTTP: it passes byte for byte
        return await _gateway(guard, only, only.url, given)
    endpoint = Endpoint(servers, guard, _GRACE)
    await endpoint.recover()
    return await _listen(Front(given.door, endpoint), guard, given)


async def _gateway(guard: Guard, server: Server, url: str, given: Listening) -> int:
    async with Upstream() as upstream:
        options = Options(url, given.door, server.limit, given.forward_authorization, server.authorization)
        gateway = Gateway(options, lambda tenant: Governor(guard, server.rules, tenant), upstream)
        await Governor(guard, server.rules).recover()
        server.prober.ask = asking(options, upstream)
        return await _listen(gateway, guard, given)


async def _listen(served: Gateway | Front, guard: Guard, given: Listening) -> int:
    # h11 reads headers as HTTP has them; the other parser leaves spaces at the end of their values.
    config = uvicorn.Config(
        served.app, given.host, given.port, http="h11", log_level="error", lifespan="off", timeout_graceful_shutdown=3, server_header=False
    )
    try:
        await _Server(config).serve()
    except SystemExit:  # uvicorn's answer to an address that it cannot have
        msg = f"{given.host}:{given.port} cannot be listened on; another process may have it, so give another --port"
        raise UsageError(msg) from None
    finally:
        await served.close()
        guard.close()
    return 0


class _Server(uvicorn.Server):
    """Says where it listens, once it does, and ends in order when a signal says so: uvicorn's own way kills the process first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that end the process for as long as it serves."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for server in self.servers:
            for socket in server.sockets:
                address, port = socket.getsockname()[:2]
                sys.stderr.write(f"surefoot: listening on {address}:{port}\n")
                sys.stderr.flush()


def asking(given: Options, upstream: Upstream) -> Ask:
    """Return what asks the server on our own account."""

    async def ask(method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        if given.authorization:
            headers["authorization"] = given.authorization
        body = {"jsonrpc": "2.0", "id": "surefoot", "method": method, "params": params}
        async with asyncio.timeout(_OWN):
            return (await upstream.ask(given.upstream, headers, body))[0]

    return ask
