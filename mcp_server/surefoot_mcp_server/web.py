"""What both HTTP applications do with requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from surefoot_mcp_server.wire import LIMIT

__all__ = ["body_of", "disconnected", "json"]


async def body_of(request: Request) -> bytes | None:
    """Return a request's body, or ``None`` where it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LIMIT:
            return None
    return bytes(body)


async def disconnected(request: Request) -> None:
    """Return when the client of a request whose body was read is gone."""
    with suppress(ClientDisconnect):
        while (await request.receive())["type"] != "http.disconnect":
            pass


def json(line: bytes, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return a message as a response."""
    return Response(line, status, dict(headers or {}), media_type="application/json")
