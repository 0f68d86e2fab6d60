"""The relay between a client and a server over streamable HTTP."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from surefoot import Effect, IntegrityError, NotCommitted, current_call
from surefoot_mcp_server import sse
from surefoot_mcp_server.governor import Answer, Governor, Reply
from surefoot_mcp_server.headers import MISMATCH, REFUSED, Door, mismatch, onward, parameters, tenant_of, unreadable
from surefoot_mcp_server.lines import Overlong
from surefoot_mcp_server.lost import Died, Lost
from surefoot_mcp_server.pins import all_tools
from surefoot_mcp_server.questions import Place, Questions
from surefoot_mcp_server.upstream import BROKEN, STREAM, Upstream, is_stream, pairs
from surefoot_mcp_server.web import body_of, disconnected, json
from surefoot_mcp_server.wire import CALL, LIMIT, Asked, Malformed, answer, dump, error, identity, loosely, parse, refusal
from surefoot_mcp_server.wire import onward as without_answer

__all__ = ["Gateway", "Options"]

_log = logging.getLogger("surefoot.mcp")
_METHODS: Final = ["GET", "POST", "DELETE", "OPTIONS", "HEAD"]
_SESSION: Final = "mcp-session-id"
_LIST: Final = "tools/list"
_CANCELLED: Final = "notifications/cancelled"
_LEFT: Final = "its client went away"
_MOST_LATE: Final = 10_000
_MOST_TENANTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """How the gateway treats its two sides."""

    upstream: str
    door: Door
    limit: float | None = None
    """Seconds to wait for a tool."""
    forward_authorization: bool = False
    """Credentials of the client pass to the server; else none does (I29)."""
    authorization: str | None = None
    """The gateway's own credential for the server."""


@dataclass(eq=False, slots=True)
class _Exchange:
    """One tool call over HTTP: the client's request, and the response that grows."""

    request: Request
    body: bytes
    about: str | int
    asked: Asked
    governor: Governor
    pieces: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(16))
    """What the client gets, at its own pace."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """The server's response has begun and is a stream, or there is an answer."""
    stream: aiohttp.ClientResponse | None = None
    answer: Answer | None = None
    asks: bool = False
    """Its client was asked on a stream of ours, which the rest comes on."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Its client went away."""
    replied: asyncio.Task[Reply] | None = None
    elsewhere: bool = False
    """The server closed the stream, to give the rest on another one."""

    @property
    def client(self) -> Place:
        """Whose it is."""
        return (self.governor.tenant, self.request.headers.get(_SESSION, ""))

    @property
    def place(self) -> tuple[Place, str | int]:
        """Tells this request from another client's with an equal id (CVE-2026-25536)."""
        return (self.client, self.about)

    @property
    def left(self) -> bool:
        """Whether its client went away."""
        return self.gone.is_set()

    @property
    def unsafe(self) -> bool:
        """Whether it is finished whatever becomes of its client."""
        return bool(self.governor.effect(self.asked.tool) is Effect.UNSAFE)

    async def put(self, piece: bytes | None) -> None:
        """Hand a piece to the client, or to nobody where it is gone."""
        if not self.left:
            await self.pieces.put(piece)


class Gateway:
    """An HTTP application in front of one server; it touches tool calls only.

    ``governor`` makes the governor of a tenant. Each request has its own connection to the server, so that no answer can reach the client
    of another one, whatever its id.
    """

    def __init__(self, options: Options, governor: Callable[[str], Governor], server: Upstream) -> None:
        self._options = options
        self._make = governor
        self._server = server
        self._governors: dict[str, Governor] = {}
        self._running: set[_Exchange] = set()
        self._late: dict[tuple[Place, str | int], str] = {}
        """Calls whose stream the server closed, to give the rest on another one."""
        self._questions = Questions()
        self._tasks: set[asyncio.Task[Any]] = set()
        parts = urlsplit(options.upstream)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        paths = [parts.path or "/", "/.well-known/{rest:path}"]
        self.app = Starlette(routes=[Route(path, self._take, methods=_METHODS) for path in paths])

    async def close(self) -> None:
        """End what is under way; what has no answer is in doubt."""
        for exchange in list(self._running):
            self._leave(exchange)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        for governor in self._governors.values():
            await governor.close()

    async def _take(self, request: Request) -> Response:
        """Answer one request."""
        if (why := self._options.door.refuses(request.headers)) is not None:
            return Response(why, 403)
        if (name := unreadable(request.headers.raw)) is not None:
            return Response(f"the header {name} is not UTF-8", 400)
        if request.method != "POST":
            return await self._pass(request, None)
        body = await body_of(request)
        if body is None:
            return Response(f"a message may have {LIMIT} bytes", 413)
        try:
            message = parse(body)
            if isinstance(message, list) and any(_is_call(one) for one in message):
                return json(answer(None, error(-32600, "send tool calls one by one, not in an array")), 400)
            if isinstance(message, dict) and _is_call(message):
                return await self._call(request, body, message)
        except Malformed as exc:
            return json(answer(exc.about, error(exc.code, str(exc))), 400)
        return await (self._other(request, body, message) if isinstance(message, dict) else self._pass(request, body))

    async def _other(self, request: Request, body: bytes, message: Mapping[str, Any]) -> Response:
        """Pass a message on that is no tool call, unless it is about one, or the answer to a question of ours."""
        method, client = message.get("method"), self._client(request)
        ours = self._questions.answered(client, message) if method is None else method == _CANCELLED and self._cancelled(request, message)
        if ours:
            return Response(None, 202)
        response = await self._pass(request, body)
        if method == "initialize":
            self._questions.greeted((client[0], response.headers.get(_SESSION, "")), message.get("params"))
        return response

    def _client(self, request: Request) -> Place:
        return (tenant_of(request.headers.get("authorization")), request.headers.get(_SESSION, ""))

    def _governor(self, request: Request) -> Governor:
        tenant = tenant_of(request.headers.get("authorization"))
        if tenant not in self._governors:
            self._governors[tenant] = self._make(tenant)
            if len(self._governors) > _MOST_TENANTS:
                self._spawn(self._governors.pop(next(iter(self._governors))).close())
        return self._governors[tenant]

    async def _send(self, request: Request, body: bytes | None, **more: str) -> aiohttp.ClientResponse:
        """Send a client's request to the server."""
        headers = self._headers(request)
        headers += [(name, value) for name, value in more.items() if name not in request.headers]
        path = request.scope["raw_path"].decode("latin-1") if request.scope.get("raw_path") else request.url.path
        query = f"?{request.url.query}" if request.url.query else ""
        return await self._server.send(request.method, f"{self._origin}{path}{query}", headers, body)

    def _headers(self, request: Request) -> list[tuple[str, str]]:
        """Return the headers that pass to the server, and those that it gets from us."""
        headers = onward(request.headers.items(), secrets=self._options.forward_authorization)
        if self._options.authorization is not None:
            headers = [(name, value) for name, value in headers if name.lower() != "authorization"]
            headers.append(("authorization", self._options.authorization))
        return [*headers, ("accept-encoding", "identity")]

    # --- everything else

    async def _pass(self, request: Request, body: bytes | None) -> Response:
        """Pass a request on, and its response back, byte for byte."""
        try:
            found = await self._send(request, body)
        except (NotCommitted, *BROKEN) as exc:
            return Response(f"the server at {self._origin} cannot be reached ({type(exc.__cause__ or exc).__name__})", 502)
        chunks: AsyncIterator[bytes] = found.content.iter_any()
        if request.method == "GET" and is_stream(found):
            chunks = self._watched(request, chunks)
        return self._as_it_came(StreamingResponse(_closing(chunks, found), found.status), found)

    def _as_it_came(self, response: Response, found: aiohttp.ClientResponse) -> Response:
        """Give a response the server's headers, each as often as it came."""
        passing = onward(pairs(found), secrets=self._options.forward_authorization)
        length = [pair for pair in response.raw_headers if pair[0] == b"content-length"]
        response.raw_headers = length + [(name.encode("latin-1"), value.encode("latin-1")) for name, value in passing]
        return response

    async def _watched(self, request: Request, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the events of a stream; the result of a call whose own stream ended before is recorded before it passes."""
        governor, client = self._governor(request), self._client(request)
        async for event in sse.events(chunks):
            about = identity(event.message)
            call_id = self._late.pop((client, about), None) if about is not None else None
            if call_id is not None:
                await governor.landed(call_id, event.message, given=True)
            yield event.raw

    # --- tool calls

    async def _call(self, request: Request, body: bytes, message: Mapping[str, Any]) -> Response:
        about = identity(message)
        if about is None:
            raise Malformed("a tools/call without an id cannot be answered", -32600)
        try:
            asked = Asked.of(message.get("params"), parameters(request.headers.items()))
        except Malformed as exc:
            raise Malformed(str(exc), exc.code, about) from None
        if (why := mismatch(request.headers.items(), asked, message)) is not None:
            raise Malformed(why, MISMATCH, about)
        body = dump(without_answer(message)) if asked.answered else body
        exchange = _Exchange(request, body, about, asked, self._governor(request))
        if request.headers.get(_SESSION) and self._at(exchange.place) is not None:
            raise Malformed("the id of this tools/call is that of one that has no answer yet", -32600, about)
        self._running.add(exchange)
        self._spawn(self._govern(exchange))
        try:
            await self._begun(exchange)
        except asyncio.CancelledError:
            self._leave(exchange)
            raise
        if exchange.asks:
            return StreamingResponse(self._stream(exchange), media_type=STREAM)
        if exchange.stream is not None:
            return self._as_it_came(StreamingResponse(self._stream(exchange), exchange.stream.status), exchange.stream)
        return self._answered(exchange)

    def _at(self, place: tuple[Place, str | int]) -> _Exchange | None:
        return next((one for one in self._running if one.place == place), None)

    async def _begun(self, exchange: _Exchange) -> None:
        """Wait for something to give the client; notice when it goes away meanwhile (AS-45)."""
        begun = asyncio.ensure_future(exchange.begun.wait())
        gone = asyncio.ensure_future(disconnected(exchange.request))
        await asyncio.wait({begun, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            self._leave(exchange)
            await begun
        gone.cancel()

    def _answered(self, exchange: _Exchange) -> Response:
        given = exchange.answer
        assert given is not None  # noqa: S101 - else it had not begun
        if given.reply is not None and given.reply.response is not None:
            found: aiohttp.ClientResponse = given.reply.response
            return self._as_it_came(Response(given.reply.line, found.status), found)
        return json(answer(exchange.about, given.outcome or {}), 200)

    async def _stream(self, exchange: _Exchange) -> AsyncIterator[bytes]:
        """Yield what the server streams; its result only when that is recorded."""
        try:
            while (piece := await exchange.pieces.get()) is not None:
                yield piece
        finally:
            self._leave(exchange)

    def _leave(self, exchange: _Exchange) -> None:
        """Note that the client is gone: the server is told by the end of its connection, unless the call is unsafe (AS-45)."""
        exchange.gone.set()
        while not exchange.pieces.empty():
            exchange.pieces.get_nowait()
        if exchange.replied is not None and not exchange.replied.done() and not exchange.unsafe:
            exchange.replied.cancel()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _govern(self, exchange: _Exchange) -> None:
        """Take a call through its governor; whether its client stays or not, what becomes of it is recorded."""
        try:
            able = not exchange.asked.modern and self._questions.able(exchange.client)
            given = exchange.answer = await exchange.governor.call(
                exchange.asked,
                partial(self._dispatch, exchange),
                partial(self._listed, exchange),
                partial(self._elicit, exchange) if able else None,
            )
            if exchange.left and given.reply is not None and given.call_id is not None:
                await exchange.governor.undelivered(given.call_id)
            if (exchange.asks or exchange.stream is not None) and not exchange.elsewhere:
                await exchange.put(_last(exchange, given))
        finally:
            self._running.discard(exchange)
            exchange.begun.set()
            await exchange.put(None)

    async def _elicit(self, exchange: _Exchange, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Ask the client's user in the middle of a call, on a stream that begins with the question."""
        exchange.asks = True
        exchange.begun.set()
        return await self._questions.ask(exchange.client, exchange.put, exchange.gone, params)

    async def _listed(self, exchange: _Exchange) -> Mapping[str, Any]:
        """Return the server's tools, as it lists them to this client now: over HTTP nobody tells when they change."""

        async def ask(params: Mapping[str, Any]) -> Mapping[str, Any]:
            own = f"surefoot-{uuid.uuid4().hex}"
            headers = {name: value for name, value in self._headers(exchange.request) if name not in {"mcp-name", *exchange.asked.headers}}
            if "mcp-method" in headers:
                headers["mcp-method"] = _LIST
            try:
                found, _ = await self._server.ask(
                    self._options.upstream, headers, {"jsonrpc": "2.0", "id": own, "method": _LIST, "params": params}
                )
            except (NotCommitted, *BROKEN) as exc:
                raise IntegrityError(f"the server cannot be asked for its tools ({type(exc.__cause__ or exc).__name__})") from exc
            return found

        return await all_tools(ask, {"_meta": dict(exchange.asked.envelope)} if exchange.asked.envelope else {})

    async def _dispatch(self, exchange: _Exchange) -> Reply:
        """Send the call to the server and wait for its response: the body of the governed call."""
        active = current_call()
        if exchange.left:
            raise NotCommitted("its client went away before it was sent")
        key = exchange.asked.key or (active.idempotency_key if active else "")
        call_id = active.call_id if active else exchange.asked.effect or ""
        exchange.replied = asyncio.ensure_future(self._reply(exchange, key, call_id))
        try:
            done, _ = await asyncio.wait({exchange.replied}, timeout=self._options.limit)
            if not done:
                raise Lost(f"the server gave no answer within {self._options.limit:g} s")
            return exchange.replied.result()
        except asyncio.CancelledError:
            raise Lost(_LEFT) from None
        finally:
            exchange.replied.cancel()

    async def _reply(self, exchange: _Exchange, key: str, call_id: str) -> Reply:
        try:
            found = await self._send(exchange.request, exchange.body, **{"idempotency-key": key})
            with closing(found):
                if is_stream(found) and found.ok:
                    return await self._streamed(exchange, found, call_id)
                return await self._whole(exchange, found)
        except (*BROKEN, Overlong) as exc:
            raise Died(f"the connection to the server broke ({type(exc).__name__})") from exc

    async def _whole(self, exchange: _Exchange, found: aiohttp.ClientResponse) -> Reply:
        """Return a response that is no stream."""
        body = bytearray()
        async for chunk in found.content.iter_any():
            body += chunk
            if len(body) > LIMIT:
                raise Lost(f"the server's answer is longer than {LIMIT} bytes")
        message = loosely(bytes(body))
        if found.status in REFUSED:
            return Reply(bytes(body), message if isinstance(message, dict) else {}, found, refused=True)
        if not isinstance(message, dict) or identity(message) != exchange.about or not found.ok:
            raise Lost(f"the server answered {found.status}, and not the call")
        return Reply(bytes(body), message, found)

    async def _streamed(self, exchange: _Exchange, found: aiohttp.ClientResponse, call_id: str) -> Reply:
        """Hand the events of a stream on, up to the response."""
        exchange.stream = found
        exchange.begun.set()
        resumable = False
        async for event in sse.events(found.content.iter_any()):
            resumable = resumable or event.resumable
            if identity(event.message) == exchange.about and "method" not in event.message:
                return Reply(event.raw, event.message, found)
            await exchange.put(event.raw)
        if resumable and not exchange.asked.modern:
            exchange.elsewhere = True
            self._late[exchange.place] = call_id
            if len(self._late) > _MOST_LATE:
                del self._late[next(iter(self._late))]
            raise Lost("the server closed the stream, and said that the rest comes on another one")
        raise Died("the server closed the stream before it answered")

    def _cancelled(self, request: Request, message: Mapping[str, Any]) -> bool:
        """Take the cancellation of an unsafe call, which is finished and recorded instead; return whether it was one."""
        params = message.get("params")
        about = identity({"id": params.get("requestId")}) if isinstance(params, dict) else None
        if about is None:
            return False
        found = self._at((self._client(request), about))
        return found is not None and found.unsafe


def _last(exchange: _Exchange, given: Answer) -> bytes:
    """Return the last event of a stream: the response, as it came where it came as one."""
    reply = given.reply
    if reply is None:
        return sse.of(answer(exchange.about, given.outcome or {}))
    if exchange.stream is not None:
        return reply.line
    if identity(reply.message) == exchange.about:
        return sse.of(dump(reply.message))
    text = f"{exchange.asked.tool} was not executed: the server refused the request with the HTTP status {reply.response.status}."
    return sse.of(answer(exchange.about, refusal(exchange.asked, text, "not_executed")))


def _is_call(message: Any) -> bool:
    return isinstance(message, dict) and message.get("method") == CALL


async def _closing(chunks: AsyncIterator[bytes], found: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    with closing(found):
        try:
            async for chunk in chunks:
                yield chunk
        except BROKEN as exc:
            _log.warning("a stream from the server broke: %s", type(exc).__name__)
