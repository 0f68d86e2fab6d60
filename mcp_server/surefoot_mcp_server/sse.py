"""Server-sent events: split without changing a byte, so that one of them can be held back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from surefoot_mcp_server.lines import Overlong
from surefoot_mcp_server.wire import LIMIT, loosely

__all__ = ["Sent", "events", "of"]

_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINES: Final = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Sent:
    """One event, as it came."""

    raw: bytes
    message: Any
    """The message in it, or ``None``."""
    resumable: bool
    """It has an id, after which a client may ask for the rest."""


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Sent]:
    """Yield the events of a stream, what is left at its end included. Raises :class:`~surefoot_mcp_server.lines.Overlong`."""
    rest = bytearray()
    async for chunk in chunks:
        searched = max(0, len(rest) - 3)
        rest += chunk
        while (end := _END.search(rest, searched)) is not None:
            yield _event(bytes(rest[: end.end()]))
            del rest[: end.end()]
            searched = 0
        if len(rest) >= LIMIT:
            raise Overlong(f"an event is longer than {LIMIT} bytes")
    if rest:
        yield _event(bytes(rest))


def _event(raw: bytes) -> Sent:
    fields = [line.partition(b":")[::2] for line in _LINES.split(raw)]
    data = b"\n".join(value.removeprefix(b" ") for name, value in fields if name == b"data")
    return Sent(raw, loosely(data) if data else None, any(name == b"id" for name, _ in fields))


def of(line: bytes) -> bytes:
    """Return a message as an event."""
    return b"event: message\ndata: " + line.rstrip(b"\n") + b"\n\n"
