"""A server that speaks streamable HTTP, as a relay sees a server: lines in, lines out."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import closing, suppress
from typing import Any, Final

import aiohttp

from surefoot import NotCommitted
from surefoot_mcp_server import sse
from surefoot_mcp_server.headers import REFUSED
from surefoot_mcp_server.lines import Hose, Overlong
from surefoot_mcp_server.lost import Died, Lost
from surefoot_mcp_server.upstream import BROKEN, STREAM, Upstream, is_stream
from surefoot_mcp_server.wire import CALL, LIMIT, Malformed, dump, identity, key_of, loosely

__all__ = ["Remote"]

_log = logging.getLogger("surefoot.mcp")
_CANCELLED: Final = "notifications/cancelled"
_REVISION: Final = "io.modelcontextprotocol/protocolVersion"
_SESSION: Final = "mcp-session-id"
_VERSION: Final = "mcp-protocol-version"
_NAMED_BY: Final = {CALL: "name", "prompts/get": "name", "resources/read": "uri"}
"""Methods whose subject the new revision has in a header, and the parameter that it is."""
_GONE: Final = 404
_OWN: Final = 10.0
"""Seconds that the server has to take what needs no answer."""
_AGAIN: Final = 30.0
"""Seconds between two attempts to listen, at most."""


class Remote:
    """Posts each line to the server, and hands on what comes back. It ends when the server ends the session."""

    def __init__(self, url: str, upstream: Upstream, authorization: str | None = None) -> None:
        self._url = url
        self._upstream = upstream
        self._headers = {"accept": f"application/json, {STREAM}", "content-type": "application/json", "accept-encoding": "identity"}
        self._headers |= {"authorization": authorization} if authorization else {}
        self._hose = Hose()
        self._asked: dict[str | int, asyncio.Task[None]] = {}
        """Requests under way."""
        self._listening: asyncio.Task[None] | None = None
        self.on_lost: Any = None
        self.stdout = self._hose.reader
        self.sink = self
        self.gone = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether the session has not ended."""
        return not self.gone.is_set()

    async def write(self, line: bytes) -> bool:
        """Send a message: a request on its own, anything else before the next one. Return whether the session goes on."""
        message = loosely(line)
        about = identity(message) if isinstance(message, dict) and "method" in message else None
        if self.gone.is_set() or not line.strip():
            return self.running
        if about is not None:
            task = asyncio.get_running_loop().create_task(self._ask(about, line, message))
            self._asked[about] = task
            task.add_done_callback(lambda _: self._asked.pop(about, None))
        elif not self._stopped_by(message):
            await self._tell(line, message)
        return True

    def _stopped_by(self, message: Any) -> bool:
        """Take a cancellation as the new revision has it over HTTP, by the end of the connection; return whether it was one."""
        params = message.get("params") if isinstance(message, dict) and message.get("method") == _CANCELLED else None
        about = identity({"id": params.get("requestId")}) if isinstance(params, dict) else None
        task = self._asked.get(about) if about is not None else None
        if task is None or _VERSION in self._headers:
            return False
        task.cancel()
        return True

    async def _tell(self, line: bytes, message: Any) -> None:
        """Send what has no answer."""
        try:
            async with asyncio.timeout(_OWN):
                (await self._upstream.send("POST", self._url, self._headers.items(), line)).close()
        except (NotCommitted, *BROKEN) as exc:
            _log.warning("the server did not take a message (%s)", type(exc.__cause__ or exc).__name__)
        if isinstance(message, dict) and message.get("method") == "notifications/initialized" and self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def _ask(self, about: str | int, line: bytes, message: Mapping[str, Any]) -> None:
        """Send a request and hand on what comes back, up to its response."""
        try:
            found = await self._upstream.send("POST", self._url, {**self._headers, **_about(message)}.items(), line)
            with closing(found):
                if found.status in REFUSED:
                    await self._refused(about, found, message)
                elif is_stream(found) and found.ok:
                    await self._streamed(about, found)
                else:
                    await self._whole(about, found, message)
        except (NotCommitted, Lost) as exc:
            self.on_lost(about, exc)
        except (*BROKEN, Overlong) as exc:
            self.on_lost(about, Died(f"the connection to the server broke ({type(exc).__name__})"))

    async def _refused(self, about: str | int, found: aiohttp.ClientResponse, message: Mapping[str, Any]) -> None:
        """Take a status with which a request is refused before it is read as a call."""
        said = loosely(await _body(found))
        known = isinstance(said, dict) and "error" in said and identity(said) in {about, None}
        if found.status == _GONE and _SESSION in self._headers:
            self._end()
        if known and message.get("method") != CALL:
            await self._hose.write(dump({**said, "id": about}))
            return
        words = said["error"].get("message") if known and isinstance(said["error"], dict) else "no words"
        raise NotCommitted(f"the server refused it with the HTTP status {found.status} ({words})")

    async def _streamed(self, about: str | int, found: aiohttp.ClientResponse) -> None:
        async for event in sse.events(found.content.iter_any()):
            answered = identity(event.message) == about and "method" not in event.message
            if answered:
                self._greeted(event.message, found)
            if event.message is not None:
                await self._hose.write(dump(event.message))
            if answered:
                return
        raise Died("the server closed the stream before it answered")

    async def _whole(self, about: str | int, found: aiohttp.ClientResponse, message: Mapping[str, Any]) -> None:
        said = loosely(await _body(found))
        if not isinstance(said, dict) or identity(said) != about or not found.ok:
            raise Lost(f"the server answered {found.status}, and not {message['method']}")
        self._greeted(said, found)
        await self._hose.write(dump(said))

    def _greeted(self, message: Mapping[str, Any], found: aiohttp.ClientResponse) -> None:
        """Note the session and the revision that a greeting begins."""
        result = message.get("result")
        if isinstance(result, dict) and isinstance(result.get("protocolVersion"), str):
            self._headers[_VERSION] = result["protocolVersion"]
        if _SESSION in found.headers:
            self._headers[_SESSION] = found.headers[_SESSION]

    async def _listen(self) -> None:
        """Hand on what the server says of its own accord, where it offers that."""
        wait = 1.0
        while self.running:
            with suppress(NotCommitted, Overlong, *BROKEN):
                found = await self._upstream.send("GET", self._url, self._headers.items(), None)
                with closing(found):
                    if not found.ok or not is_stream(found):
                        return
                    async for event in sse.events(found.content.iter_any()):
                        wait = 1.0
                        if event.message is not None:
                            await self._hose.write(dump(event.message))
            await asyncio.sleep(wait)
            wait = min(2 * wait, _AGAIN)

    def _end(self) -> None:
        self.gone.set()
        self._hose.end()

    async def stop(self, _hurry: asyncio.Event, _patience: float, /) -> int:
        """End the session, and with it what is under way; return 0."""
        ended = self.gone.is_set()
        self.gone.set()
        tasks = [*self._asked.values(), *([self._listening] if self._listening is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if _SESSION in self._headers and not ended:
            with suppress(NotCommitted, *BROKEN):
                async with asyncio.timeout(1.0):
                    (await self._upstream.send("DELETE", self._url, self._headers.items(), None)).close()
        self._hose.end()
        await self._upstream.close()
        return 0

    def close(self) -> None:
        """Read no more."""
        self._hose.close()


def _about(message: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that say what a request says: its operation, and in the new revision its method and subject (SEP-2243)."""
    params = message.get("params")
    if not isinstance(params, dict):
        return {}
    meta = params.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    found = {}
    if isinstance(meta.get(_REVISION), str):
        found = {_VERSION: meta[_REVISION], "mcp-method": str(message["method"])}
        subject = params.get(_NAMED_BY.get(found["mcp-method"], ""))
        found |= {"mcp-name": _encoded(subject)} if isinstance(subject, str) else {}
    with suppress(Malformed):
        key = key_of(params, meta) if message["method"] == CALL else None
        found |= {"idempotency-key": _encoded(key)} if key else {}
    return found


def _encoded(text: str) -> str:
    plain = text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?base64?")
    return text if plain else f"=?base64?{base64.b64encode(text.encode('utf-8', 'surrogatepass')).decode()}?="


async def _body(found: aiohttp.ClientResponse) -> bytes:
    """Return a whole response. Raises :class:`~surefoot_mcp_server.lines.Overlong`."""
    body = bytearray()
    chunks: AsyncIterator[bytes] = found.content.iter_any()
    async for chunk in chunks:
        body += chunk
        if len(body) > LIMIT:
            raise Overlong(f"the server's answer is longer than {LIMIT} bytes")
    return bytes(body)
