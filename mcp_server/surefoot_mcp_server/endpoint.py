"""What a client is connected to: the relay of one server, or several behind a switch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from surefoot import Guard, NotCommitted
from surefoot_mcp_server.governor import Governor
from surefoot_mcp_server.lines import Reads, Writes
from surefoot_mcp_server.probe import Ask
from surefoot_mcp_server.servers import Server
from surefoot_mcp_server.stdio import Relay
from surefoot_mcp_server.switch import Relays, Switch

if TYPE_CHECKING:
    from surefoot_mcp_server.child import Child
    from surefoot_mcp_server.remote import Remote

__all__ = ["Connection", "Endpoint", "guarding"]


def guarding(servers: Sequence[Server], store: str, **options: Any) -> Guard:
    """Return the guard of these servers' tools."""
    return Guard(store, tools={name: rule for server in servers for name, rule in server.rules.tools(server.prober).items()}, **options)


class Connection:
    """One client's way to every server, and the governors on it."""

    def __init__(self, relays: Relays, governors: Sequence[Governor]) -> None:
        self._relays = relays
        self._governors = governors

    def end(self) -> None:
        """End it soon."""
        self._relays.end()

    async def run(self) -> int:
        """Relay until one side ends; return the exit code."""
        try:
            return await self._relays.run()
        finally:
            for governor in self._governors:
                await governor.close()


class Endpoint:
    """Connects clients to the servers, each client to processes and sessions of its own."""

    def __init__(self, servers: Sequence[Server], guard: Guard, grace: float) -> None:
        self._servers = servers
        self._guard = guard
        self._grace = grace
        self._asking: Mapping[str, list[Ask]] = {server.rules.server: [] for server in servers}
        """What asks each server, of every connection; the newest counts."""
        for server in servers:
            server.prober.ask = partial(self._ask, server.rules.server)

    async def _ask(self, server: str, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._asking[server]:
            raise NotCommitted(f"nobody is connected to the server {server}")
        return await self._asking[server][-1](method, params)

    async def recover(self) -> None:
        """Find what dead proxies of these servers left."""
        for server in self._servers:
            await Governor(self._guard, server.rules).recover()

    async def connect(self, client: Reads, sink: Writes, tenant: str = "default") -> Connection:
        """Start every server for a client. Raises :class:`~surefoot.UsageError` where one cannot be started, and then none is left."""
        started: list[tuple[Server, Child | Remote]] = []
        try:
            for server in self._servers:
                started.append((server, await server.start()))  # noqa: PERF401 - what has started must be ended
        except BaseException:
            hurry = asyncio.Event()
            hurry.set()
            for _, one in started:
                await one.stop(hurry, 0)
            raise
        governors = {server.rules.server: Governor(self._guard, server.rules, tenant) for server, _ in started}
        made = {server.rules.server: partial(self._relay, governors[server.rules.server], server, one) for server, one in started}
        if len(made) == 1:
            (only,) = made.values()
            return Connection(only(client, sink), [*governors.values()])
        return Connection(Switch(made, client, sink), [*governors.values()])

    def _relay(self, governor: Governor, server: Server, started: Child | Remote, client: Reads, sink: Writes) -> Relays:
        relay = Relay(governor, started, client, sink, limit=server.limit, grace=self._grace)
        return _Listed(relay, self._asking[server.rules.server])


class _Listed:
    """A relay that a server can be asked through for as long as it runs."""

    def __init__(self, relay: Relay, asking: list[Ask]) -> None:
        self._relay = relay
        self._asking = asking

    def end(self) -> None:
        """End it soon."""
        self._relay.end()

    async def run(self) -> int:
        """Relay until one side ends; return the exit code."""
        self._asking.append(self._relay.ask)
        try:
            return await self._relay.run()
        finally:
            self._asking.remove(self._relay.ask)
