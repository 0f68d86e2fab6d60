"""Questions to the users of clients of old revisions over HTTP: on the stream of the call that they are about."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from surefoot_mcp_server import sse
from surefoot_mcp_server.people import can_ask
from surefoot_mcp_server.wire import dump, identity

__all__ = ["Place", "Questions"]

Place = tuple[str, str]
"""A client: its tenant, and its session."""
_MOST: Final = 10_000


class Questions:
    """What clients were asked, and which of them can be."""

    def __init__(self) -> None:
        self._able: dict[Place, None] = {}
        self._open: dict[str, tuple[Place, asyncio.Future[Mapping[str, Any]]]] = {}

    def greeted(self, place: Place, params: Any) -> None:
        """Note whether a client that has begun a session can show its user a form."""
        if place[1] and isinstance(params, dict) and can_ask(params.get("capabilities")):
            self._able[place] = None
            if len(self._able) > _MOST:
                del self._able[next(iter(self._able))]

    def able(self, place: Place) -> bool:
        """Return whether a client can be asked."""
        return place in self._able

    async def ask(
        self, place: Place, say: Callable[[bytes], Awaitable[None]], left: asyncio.Event, params: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Say a question as an event, and return what its user answered; ``None`` where the client has left, or cannot ask after all."""
        about = f"surefoot-{uuid.uuid4().hex}"
        answered: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._open[about] = (place, answered)
        leaving = asyncio.ensure_future(left.wait())
        ends: set[asyncio.Future[Any]] = {answered, leaving}
        try:
            await say(sse.of(dump({"jsonrpc": "2.0", "id": about, "method": "elicitation/create", "params": params})))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return answered.result().get("result") if answered.done() else None
        finally:
            leaving.cancel()
            del self._open[about]

    def answered(self, place: Place, message: Mapping[str, Any]) -> bool:
        """Take the answer of the client that was asked; return whether it was one."""
        asked = self._open.get(str(identity(message)))
        if asked is None or asked[0] != place:
            return False
        if not asked[1].done():
            asked[1].set_result(message)
        return True
