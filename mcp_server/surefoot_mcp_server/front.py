"""Streamable HTTP in front of servers that are spoken to line by line: each session is a connection of its own."""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from surefoot import SurefootError
from surefoot_mcp_server import sse
from surefoot_mcp_server.endpoint import Connection, Endpoint
from surefoot_mcp_server.headers import MISMATCH, Door, mismatch, tenant_of
from surefoot_mcp_server.lines import Hose
from surefoot_mcp_server.upstream import STREAM
from surefoot_mcp_server.web import body_of, disconnected, json
from surefoot_mcp_server.wire import CALL, LIMIT, Asked, Malformed, answer, dump, error, identity, is_modern, loosely, parse

__all__ = ["Front", "Session"]

_log = logging.getLogger("surefoot.mcp")
_SESSION: Final = "mcp-session-id"
_HELLO: Final = "initialize"
_CANCELLED: Final = "notifications/cancelled"
_SUBSCRIPTION: Final = "io.modelcontextprotocol/subscriptionId"
_MOST_SESSIONS: Final = 100
_MOST_KEPT: Final = 100
"""Messages that wait for a stream on which the client hears them."""
_ENDED: Final = -32000


class _Waiting:
    """A request of a client's, and what it gets."""

    def __init__(self, about: str | int, token: Any) -> None:
        self.about = about
        self.token = token
        self.pieces: asyncio.Queue[tuple[Mapping[str, Any], bool]] = asyncio.Queue(16)
        """Messages, each with whether it is the response."""
        self.left = asyncio.Event()

    async def put(self, message: Mapping[str, Any], *, last: bool) -> bool:
        """Hand a message on when there is room for it; return whether the client is there."""
        putting = asyncio.ensure_future(self.pieces.put((message, last)))
        left = asyncio.ensure_future(self.left.wait())
        await asyncio.wait([putting, left], return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()
        left.cancel()
        return not self.left.is_set()


class Session:
    """One client's connection: what it asks goes there under numbers of our own, so that equal ids never meet (I31)."""

    def __init__(self, tenant: str, name: str, *, shared: bool) -> None:
        self.tenant = tenant
        self.name = name
        self.hose = Hose()
        self.shared = shared
        """Clients of the new revision have no sessions: those of one credential share a connection."""
        self._connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.waiting: dict[str, _Waiting] = {}
        self._numbers = itertools.count(1)
        self._kept: deque[Mapping[str, Any]] = deque(maxlen=_MOST_KEPT)
        self._news = asyncio.Event()
        self.listening = 0
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[bool]] = set()

    async def start(self, endpoint: Endpoint) -> None:
        """Start the servers. Raises :class:`~surefoot.UsageError`."""
        self._connection = await endpoint.connect(self.hose, self, self.tenant)
        self.task = asyncio.get_running_loop().create_task(self._run(self._connection))

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._ended.set()
            self._news.set()
            await asyncio.gather(*(self._give_up(number) for number in list(self.waiting)))

    async def _give_up(self, number: str) -> None:
        if (one := self.waiting.pop(number, None)) is not None:
            await one.put(loosely(answer(one.about, error(_ENDED, "the server ended before it answered; ask again"))), last=True)

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.is_set()

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything of it."""
        return not self.waiting and not self.listening

    async def end(self) -> None:
        """End it, and the servers behind it."""
        if self._connection is not None and self.task is not None:
            self._connection.end()
            await asyncio.wait([self.task])

    # --- from the client

    async def ask(self, message: dict[str, Any], about: str | int) -> _Waiting:
        """Send a request."""
        number = str(next(self._numbers))
        params = message.get("params")
        meta = params.get("_meta") if isinstance(params, dict) else None
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        if token is not None:
            message = {**message, "params": {**params, "_meta": {**meta, "progressToken": number}}}  # type: ignore[dict-item]
        found = self.waiting[number] = _Waiting(about, token)
        if not await self.hose.write(dump({**message, "id": number})):
            await self._give_up(number)
        return found

    async def tell(self, message: dict[str, Any]) -> None:
        """Send what has no answer."""
        params = message.get("params")
        if message.get("method") == _CANCELLED and isinstance(params, dict):
            about = identity({"id": params.get("requestId")})
            found = [number for number, one in self.waiting.items() if one.about == about]
            if self.shared or not found:
                return
            message = {**message, "params": {**params, "requestId": found[0]}}
        await self.hose.write(dump(message))

    def leave(self, waiting: _Waiting) -> None:
        """Note that the client of a request is gone, or has its answer; one without an answer is cancelled (AS-45)."""
        waiting.left.set()
        number = next((number for number, one in self.waiting.items() if one is waiting), None)
        if number is not None:
            del self.waiting[number]
            params = {"requestId": number, "reason": "its client went away"}
            telling = self.hose.write(dump({"jsonrpc": "2.0", "method": _CANCELLED, "params": params}))
            task = asyncio.get_running_loop().create_task(telling)  # whoever leaves may itself be cancelled
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def news(self) -> AsyncIterator[bytes]:
        """Yield what is said to the client outside of any request."""
        self.listening += 1
        try:
            while self.live:
                while self._kept:
                    yield sse.of(dump(self._kept.popleft()))
                self._news.clear()
                await self._news.wait()
        finally:
            self.listening -= 1

    # --- from the servers: this is where their lines go

    async def write(self, line: bytes) -> bool:
        """Give a message to the request that it belongs to; return whether somebody is there to read it."""
        message = loosely(line)
        if not isinstance(message, dict):
            return False
        number = identity(message) if "method" not in message else None
        if number is not None:
            waiting = self.waiting.pop(str(number), None)
            return waiting is not None and await waiting.put({**message, "id": waiting.about}, last=True)
        about, restored = self._about(message)
        if about is not None:
            return await about.put(restored, last=False)
        if self.shared:
            return False  # it is nobody's in particular, and may not be everybody's
        if len(self._kept) == _MOST_KEPT:
            _log.warning("a client listens on no stream; of %s messages for it, the oldest is dropped", _MOST_KEPT)
        self._kept.append(message)
        self._news.set()
        return True

    def _about(self, message: Mapping[str, Any]) -> tuple[_Waiting | None, Mapping[str, Any]]:
        """Return the request that a message goes with, and the message as its client knows it."""
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        meta = meta if isinstance(meta, dict) else {}
        if (found := self.waiting.get(str(params.get("progressToken")))) is not None:
            return found, {**message, "params": {**params, "progressToken": found.token}}
        if (found := self.waiting.get(str(meta.get(_SUBSCRIPTION)))) is not None:
            return found, {**message, "params": {**params, "_meta": {**meta, _SUBSCRIPTION: found.about}}}
        if not self.shared or len(self.waiting) == 1:
            return next(reversed(self.waiting.values()), None), message
        return None, message

    async def watch(self) -> None:
        """Return when nobody reads any more: when the session ends."""
        await self._ended.wait()

    def close(self) -> None:
        """Say that there is no more."""
        self._ended.set()


class Front:
    """An HTTP application. A client of an old revision has a session; those of the new one are told apart by their credential."""

    def __init__(self, door: Door, endpoint: Endpoint, path: str = "/mcp") -> None:
        self._door = door
        self._endpoint = endpoint
        self._sessions: dict[str, Session] = {}
        """The one that was used longest ago is the first."""
        self._starting = asyncio.Lock()
        self.app = Starlette(routes=[Route(path, self._take, methods=["GET", "POST", "DELETE"])])

    async def close(self) -> None:
        """End every session."""
        await asyncio.gather(*(session.end() for session in self._sessions.values()))

    async def _take(self, request: Request) -> Response:
        """Answer one request."""
        if (why := self._door.refuses(request.headers)) is not None:
            return Response(why, 403)
        if request.method != "POST":
            return await self._other(request)
        body = await body_of(request)
        if body is None:
            return Response(f"a message may have {LIMIT} bytes", 413)
        try:
            return await self._message(request, _checked(request, parse(body)))
        except Malformed as exc:
            return json(answer(exc.about, error(exc.code, str(exc))), 400)
        except SurefootError as exc:
            return json(answer(None, error(_ENDED, str(exc))), 503)

    async def _other(self, request: Request) -> Response:
        session = self._known(request)
        if session is None:
            return Response("there is no such session", 404 if _SESSION in request.headers else 405)
        if request.method == "DELETE":
            self._sessions.pop(session.name, None)
            await session.end()
            return Response(None, 204)
        return StreamingResponse(session.news(), media_type=STREAM)

    def _known(self, request: Request) -> Session | None:
        """Return the session that a request names, where it is its own (I27)."""
        name = request.headers.get(_SESSION, "")
        session = self._sessions.get(name)
        if session is None or session.shared or not session.live or session.tenant != tenant_of(request.headers.get("authorization")):
            return None
        self._sessions[name] = self._sessions.pop(name)
        return session

    async def _message(self, request: Request, message: dict[str, Any]) -> Response:
        about, method = identity(message), message.get("method")
        if _SESSION in request.headers:
            session = self._known(request)
            if session is None:
                return json(answer(about, error(-32001, "there is no such session; begin a new one")), 404)
        elif method == _HELLO or is_modern(message):
            session = await self._begun(tenant_of(request.headers.get("authorization")), shared=method != _HELLO)
        else:
            raise Malformed(f"the header {_SESSION} is missing; begin with {_HELLO}", -32600, about)
        if method is None or about is None:
            await session.tell(message)
            return Response(None, 202)
        waiting = await session.ask(message, about)
        return await self._answered(request, session, waiting, {_SESSION: session.name} if method == _HELLO else {})

    async def _begun(self, tenant: str, *, shared: bool) -> Session:
        """Return a connection of the client's own, or the one of all with its credential. Raises :class:`~surefoot.UsageError`."""
        async with self._starting:
            name = f"={tenant}" if shared else uuid.uuid4().hex
            known = self._sessions.pop(name, None)
            if known is None or not known.live:
                await self._make_room()
                known = Session(tenant, name, shared=shared)
                await known.start(self._endpoint)
            self._sessions[name] = known
            return known

    async def _make_room(self) -> None:
        self._sessions = {name: session for name, session in self._sessions.items() if session.live}
        if len(self._sessions) >= _MOST_SESSIONS:
            session = next((session for session in self._sessions.values() if session.idle), None)
            if session is None:
                raise SurefootError(f"{_MOST_SESSIONS} sessions are in use; ask again when one of them has ended")
            del self._sessions[session.name]
            await session.end()

    async def _answered(self, request: Request, session: Session, waiting: _Waiting, headers: dict[str, str]) -> Response:
        """Answer with the response alone where it is the first that is said, else with a stream that ends with it."""
        gone = asyncio.ensure_future(disconnected(request))
        first = asyncio.ensure_future(waiting.pieces.get())
        try:
            await asyncio.wait([gone, first], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not first.done():
                first.cancel()
                session.leave(waiting)
        if first.cancelled() or not first.done():
            return Response(None, 499)
        message, last = first.result()
        if last:
            return json(dump(message), 200, headers)
        return StreamingResponse(_stream(session, waiting, message), media_type=STREAM, headers=headers)


async def _stream(session: Session, waiting: _Waiting, first: Mapping[str, Any]) -> AsyncIterator[bytes]:
    message, last = first, False
    try:
        yield sse.of(dump(message))
        while not last:
            message, last = await waiting.pieces.get()
            yield sse.of(dump(message))
    finally:
        session.leave(waiting)


def _checked(request: Request, message: Any) -> dict[str, Any]:
    """Return a message. Raises :class:`.wire.Malformed` for an array, and where the headers do not say what the body says (I30)."""
    if not isinstance(message, dict):
        raise Malformed("send messages one by one, not in an array", -32600)
    if message.get("method") != CALL:
        return message
    about = identity(message)
    if about is None:
        raise Malformed("a tools/call without an id cannot be answered", -32600)
    try:
        asked = Asked.of(message.get("params"))
    except Malformed as exc:
        raise Malformed(str(exc), exc.code, about) from None
    if (why := mismatch(request.headers.items(), asked, message)) is not None:
        raise Malformed(why, MISMATCH, about)
    return message
