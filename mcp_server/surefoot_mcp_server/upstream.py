"""The HTTP server behind the gateway: what is sent to it, and what came of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from surefoot import NotCommitted
from surefoot_mcp_server import sse
from surefoot_mcp_server.wire import dump, identity, loosely

__all__ = ["BROKEN", "STREAM", "Upstream", "is_stream", "pairs"]

STREAM: Final = "text/event-stream"
BROKEN: Final = (aiohttp.ClientError, TimeoutError)
"""What is raised where a connection breaks, and nobody can say what became of a request."""
_CONNECT: Final = 10.0
_IDLE: Final = 2.0
"""Seconds that a connection is kept for. Servers close idle ones after five, or later: a request that meets such an end is lost."""
_LONGEST_HEADER: Final = 64 * 1024
_OWN: Final = ("accept", "accept-encoding", "content-type", "user-agent")
_UNSENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


class Upstream:
    """Sends requests, each on a connection that is its own until its response has ended. A context manager."""

    def __init__(self) -> None:
        self._session: Any = None

    async def __aenter__(self) -> Self:
        """Return it, ready to send."""
        return self.open()

    def open(self) -> Self:
        """Return it, ready to send, to be closed by :meth:`close`. Needs a running event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_OWN,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )
        return self

    async def __aexit__(self, _kind: type[BaseException] | None, _exc: BaseException | None, _trace: TracebackType | None) -> None:
        """Close every connection."""
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def send(self, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes | None) -> aiohttp.ClientResponse:
        """Send a request, whose header texts stand for bytes (latin-1); return its response as soon as that begins.

        Raises :class:`~surefoot.NotCommitted` where the server cannot have got it, and :data:`BROKEN`.
        """
        given = [(name, value.encode("latin-1").decode()) for name, value in headers]
        where = URL(url, encoded=True)
        try:
            found = await self._session.request(method, where, headers=given, data=body, allow_redirects=False)
        except _UNSENT as exc:
            raise NotCommitted(f"the server at {where.origin()} cannot be reached ({type(exc).__name__})") from exc
        return found  # type: ignore[no-any-return]

    async def ask(self, url: str, headers: Mapping[str, str], message: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """Ask the server something ourselves; return its message (``error`` where it sent none) and its headers. Raises as :meth:`send`."""
        found = await self.send("POST", url, headers.items(), dump(message))
        with closing(found):
            if is_stream(found):
                told = [event.message async for event in sse.events(found.content.iter_any())]
            else:
                told = [loosely(await found.read())]
        answer = next((one for one in told if isinstance(one, dict) and identity(one) == message.get("id")), None)
        return answer or {"error": f"HTTP status {found.status}"}, found.headers


def is_stream(found: aiohttp.ClientResponse) -> bool:
    """Return whether a response is a stream of events."""
    return found.headers.get("content-type", "").startswith(STREAM)


def pairs(found: aiohttp.ClientResponse) -> list[tuple[str, str]]:
    """Return a response's headers, each as often as it came, in texts that stand for bytes (latin-1)."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in found.raw_headers]
