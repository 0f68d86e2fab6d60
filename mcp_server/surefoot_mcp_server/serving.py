"""``surefoot mcp serve``: the gateway as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from surefoot import Guard, UsageError
from surefoot_mcp_server.governor import Governor
from surefoot_mcp_server.headers import Door
from surefoot_mcp_server.http import Gateway, Options
from surefoot_mcp_server.probe import Ask, Prober
from surefoot_mcp_server.rules import Rules
from surefoot_mcp_server.upstream import Upstream

__all__ = ["options", "serve"]

_OWN = 10.0


def options(upstream: str, hosts: Sequence[str], origins: Sequence[str], limit: float | None, *, forward_authorization: bool) -> Options:
    """Return the gateway's options. Raises :class:`~surefoot.UsageError` for a URL that is none."""
    parts = urlsplit(upstream)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"--upstream {upstream!r} is not of the form http://host:port/path")
    own = os.environ.get("SUREFOOT_MCP_AUTHORIZATION")
    return Options(upstream, Door(hosts, origins), limit, forward_authorization, own)


async def serve(guard: Guard, rules: Rules, prober: Prober, given: Options, host: str, port: int) -> int:
    """Serve until a signal ends it; return the exit code."""
    async with Upstream() as upstream:
        gateway = Gateway(given, lambda tenant: Governor(guard, rules, tenant), upstream)
        await Governor(guard, rules).recover()
        prober.ask = _asking(given, upstream)
        # h11 reads headers as HTTP has them; the other parser leaves spaces at the end of their values.
        config = uvicorn.Config(
            gateway.app, host, port, http="h11", log_level="error", lifespan="off", timeout_graceful_shutdown=3, server_header=False
        )
        server = _Server(config)
        try:
            await server.serve()
        except SystemExit:  # uvicorn's answer to an address that it cannot have
            raise UsageError(f"{host}:{port} cannot be listened on; another process may have it, so give another --port") from None
        finally:
            await gateway.close()
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


def _asking(given: Options, upstream: Upstream) -> Ask:
    """Return what asks the server on our own account."""

    async def ask(method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        if given.authorization:
            headers["authorization"] = given.authorization
        body = {"jsonrpc": "2.0", "id": "surefoot", "method": method, "params": params}
        async with asyncio.timeout(_OWN):
            return (await upstream.ask(given.upstream, headers, body))[0]

    return ask
