"""The relay between a client and a server over standard input and output."""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from surefoot import Effect, NotCommitted, current_call
from surefoot_mcp_server.governor import Governor, Reply
from surefoot_mcp_server.lines import Overlong, Reads, Writes, lines
from surefoot_mcp_server.lost import Died, Lost
from surefoot_mcp_server.people import can_ask
from surefoot_mcp_server.pins import all_tools
from surefoot_mcp_server.wire import CALL, LIMIT, Asked, Malformed, answer, dump, error, identity, loosely, onward, parse, refusal

__all__ = ["Relay", "Server"]

_log = logging.getLogger("surefoot.mcp")
_CANCELLED: Final = "notifications/cancelled"
_LIST: Final = "tools/list"
_HELLO: Final = "initialize"
_LIST_CHANGED: Final = "notifications/tools/list_changed"
_MOST_CALLS: Final = 1024
_MOST_BYTES: Final = 4 * LIMIT
_MOST_LATE: Final = 10_000
_GONE: Final = 1.0
"""Seconds that what is under way may go on for when the client is gone."""
_OWN: Final = 10.0
"""Seconds that the server has to answer what we ask ourselves."""
_LEFT: Final = "its client went away"
_NO_ANSWER: Final = -32000
Id: TypeAlias = str | int


class Told(Protocol):
    """Where lines for the server go."""

    gone: asyncio.Event
    """Nobody reads it any more."""

    @abstractmethod
    async def write(self, line: bytes) -> bool:
        """Write a line and wait until there is room for the next; return whether somebody is there to read it."""


class Server(Protocol):
    """The server's side of a relay: a process of our own, or one that is reached over HTTP."""

    on_lost: Any
    """Called with a request's id and the reason where it gets no answer although the server goes on; the relay sets it."""

    @property
    @abstractmethod
    def stdout(self) -> asyncio.StreamReader:
        """What it says."""

    @property
    @abstractmethod
    def sink(self) -> Told:
        """What it is told."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it has not ended."""

    @abstractmethod
    async def stop(self, hurry: asyncio.Event, patience: float, /) -> int:
        """End it, within ``patience`` seconds or as soon as there is hurry; return its exit code."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is left of it."""


@dataclass(slots=True)
class _InFlight:
    """A call that the client waits for."""

    asked: Asked
    effect: Effect
    size: int
    replied: asyncio.Future[Reply] | None = None
    call_id: str | None = None
    wanted: bool = True
    """The client still wants the answer."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """It does not any more."""
    came: int = 0
    """Bytes of its response."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """What became of it is recorded."""


class Relay:
    """One client, one server, and every message between them; it touches tool calls only.

    Both directions flow at the pace of whoever reads, and neither waits for the other, so that a server may ask its client
    something in the middle of a call. A tool call in flight holds up nothing: it is a task of its own.
    """

    def __init__(self, governor: Governor, server: Server, client: Reads, sink: Writes, *, limit: float | None, grace: float) -> None:
        self._governor = governor
        self._server = server
        self._client = client
        self._to_client = sink
        self._to_server = server.sink
        server.on_lost = self._lost
        self._limit = limit
        self._grace = grace
        self._calls: dict[Id, _InFlight] = {}
        self._unanswered = 0
        """Bytes of the requests that these are."""
        self._left: list[_InFlight] = []
        """Those that the client does not want any more."""
        self._others: set[Id] = set()
        """Requests of the client that pass, and have no response yet."""
        self._late: dict[Id, str] = {}
        """Requests that nobody waits for any more, and their calls."""
        self._own: dict[Id, asyncio.Future[Mapping[str, Any]]] = {}
        """Requests of our own to the server."""
        self._questions: dict[Id, asyncio.Future[Mapping[str, Any]]] = {}
        """Requests of our own to the client."""
        self._elicits = False
        """The client can ask its user."""
        self._prefix = f"surefoot-{uuid.uuid4().hex[:12]}-"
        self._numbers = itertools.count(1)
        self._tools: Mapping[str, Any] | None = None
        """The server's tools, as far as they are known not to have changed."""
        self._asked_for: object = None
        self._listing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()
        """The client is gone, or somebody wants us to end."""
        self._room = asyncio.Event()
        self._room.set()
        self._undelivered = 0
        """Bytes of responses that came and that the client has not got yet."""

    async def run(self) -> int:
        """Relay until one side ends; return the exit code."""
        loop = asyncio.get_running_loop()
        inward = loop.create_task(self._from_client())
        outward = loop.create_task(self._from_server())
        helpers = [loop.create_task(self._watch()), loop.create_task(self._hurry.wait())]
        try:
            await asyncio.wait({inward, outward, helpers[1]}, return_when=asyncio.FIRST_COMPLETED)
            if not outward.done():
                await self._finish(outward)
            inward.cancel()  # what is read from here on would be begun by nobody
            await self._end_calls(Died("the server ended before it answered") if outward.done() else Lost(_LEFT))
            code = await self._server.stop(self._hurry, 0 if outward.done() else self._grace)
            await asyncio.wait({outward}, timeout=_GONE)  # what it said at the end
            self._server.close()
            for pump in (inward, outward):
                if pump.done() and not pump.cancelled() and isinstance(pump.exception(), Overlong):
                    _log.error("%s; the connection ends here", pump.exception())
                    code = code or 1
            return code
        finally:
            for task in (inward, outward, *helpers):
                task.cancel()
            await asyncio.gather(inward, outward, *helpers, return_exceptions=True)
            self._client.close()
            self._to_client.close()

    def end(self) -> None:
        """End it soon."""
        self._hurry.set()

    async def _watch(self) -> None:
        await self._to_client.watch()
        self._hurry.set()

    async def _finish(self, outward: asyncio.Task[None]) -> None:
        """Let calls under way end: for long where the client has only said that there is no more, for a moment where it is gone."""
        hurry: asyncio.Future[Any] = asyncio.ensure_future(self._hurry.wait())
        everything: asyncio.Future[Any] = asyncio.gather(*self._tasks)
        await asyncio.wait({everything, hurry, outward}, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        for about, call in list(self._calls.items()):
            if call.effect in {Effect.READ, Effect.IDEMPOTENT}:
                await self._cancel_upstream(about, call)
        await asyncio.wait({everything, outward}, timeout=_GONE, return_when=asyncio.FIRST_COMPLETED)
        for about, call in list(self._calls.items()):
            if call.effect is not Effect.UNSAFE:
                await self._cancel_upstream(about, call)

    async def _end_calls(self, why: Lost) -> None:
        """Stop waiting for calls, and record that; one that waits for somebody else's is not begun."""
        for about, call in self._calls.items():
            self._lose(about, call, why)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GONE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ask(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the server something ourselves. Raises :class:`TimeoutError` when it does not answer."""
        about = f"{self._prefix}{next(self._numbers)}"
        self._own[about] = asyncio.get_running_loop().create_future()
        try:
            await self._to_server.write(dump({"jsonrpc": "2.0", "id": about, "method": method, "params": params}))
            return await asyncio.wait_for(self._own[about], _OWN)
        except TimeoutError:
            raise TimeoutError(f"the server did not answer {method} within {_OWN:g} s") from None
        finally:
            del self._own[about]

    # --- from the client

    async def _from_client(self) -> None:
        async for line in lines(self._client.reader):
            await self._ask(line)

    async def _ask(self, line: bytes) -> None:
        """Pass one line of the client's on, or take it as a tool call."""
        if not line.strip():
            await self._to_server.write(line)
            return
        try:
            message = parse(line)
            batch = message if isinstance(message, list) else None
            if batch is None or not any(_is_call(one) for one in batch):
                await self._one(line, message)
                return
            for one in batch:  # what is asked in one array may be answered one by one, and a tool call must be
                await self._one(dump(one), one)
        except Malformed as exc:
            await self._to_client.write(answer(exc.about, error(exc.code, str(exc))))

    async def _one(self, line: bytes, message: Any) -> None:
        about = identity(message)
        method = message.get("method") if isinstance(message, dict) else None
        if method == CALL:
            self._start(line, message, about)
            return
        if method == _LIST:
            self._changed()
        if method == _HELLO:
            self._elicits = can_ask((message.get("params") or {}).get("capabilities"))
        if method is None and isinstance(about, str) and about.startswith(self._prefix):
            if (asked := self._questions.pop(about, None)) is not None:
                asked.set_result(message)
            return
        if method == _CANCELLED and await self._cancelled(line, message):
            return
        if method is not None and about is not None:
            if about in self._calls:
                raise Malformed("the id of this request is that of a tool call that has no answer yet", -32600, about)
            self._others.add(about)
        await self._to_server.write(line)

    def _start(self, line: bytes, message: Mapping[str, Any], about: Id | None) -> None:
        """Begin a tool call. Raises :class:`Malformed` for one that could not be answered."""
        if about is None:
            _log.warning("a tools/call without an id was not passed on: nobody could learn what became of it")
            return
        if about in self._calls or about in self._others:
            raise Malformed("the id of this tools/call is that of a request that has no answer yet", -32600, about)
        try:
            asked = Asked.of(message.get("params"))
        except Malformed as exc:
            raise Malformed(str(exc), exc.code, about) from None
        line = dump(onward(message)) if asked.answered else line
        call = _InFlight(asked, self._governor.effect(asked.tool), len(line))
        if len(self._calls) >= _MOST_CALLS or self._unanswered + call.size > _MOST_BYTES:
            self._spawn(self._refuse(about, asked))
            return
        self._calls[about] = call
        self._unanswered += call.size
        self._spawn(self._call(about, line, call))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            _log.error("what became of a tool call could not be noted: %s", exc)

    async def _refuse(self, about: Id, asked: Asked) -> None:
        text = f"{asked.tool} was not executed: too many tool calls are in flight. Ask again when one of them has ended."
        await self._to_client.write(answer(about, refusal(asked, text, "busy")))

    async def _call(self, about: Id, line: bytes, call: _InFlight) -> None:
        """Take one tool call through the governor and answer it; the outcome is durable before the client sees it (I3)."""
        try:
            await self._left_before(call)
            given = await self._governor.call(
                call.asked,
                partial(self._dispatch, about, line, call),
                partial(self._listed, call.asked),
                partial(self._elicit, call) if self._elicits else None,
            )
            seen = False
            if call.wanted:
                seen = await self._to_client.write(given.reply.line if given.reply else answer(about, given.outcome or {}))
            if not seen and given.reply is not None and given.call_id is not None:
                await self._governor.undelivered(given.call_id)
        finally:
            call.ended.set()
            del self._calls[about]
            self._left = [one for one in self._left if one is not call]
            self._unanswered -= call.size
            self._undelivered -= call.came
            if self._undelivered < LIMIT:
                self._room.set()

    async def _listed(self, asked: Asked) -> Mapping[str, Any]:
        """Return the server's tools; asked for once, and again whenever it says that they have changed or the client asks."""
        async with self._listing:
            if self._tools is None:
                asking = self._asked_for = object()
                tools = await all_tools(partial(self.ask, _LIST), {"_meta": dict(asked.envelope)} if asked.envelope else {})
                if asking is not self._asked_for:  # they have changed meanwhile
                    return tools
                self._tools = tools
            return self._tools

    async def _left_before(self, call: _InFlight) -> None:
        """Wait for an equal call that the client has cancelled and that has not ended: what became of it is this one's answer."""
        for other in self._left:
            if other is not call and other.asked.tool == call.asked.tool and other.asked.arguments == call.asked.arguments:
                await other.ended.wait()

    async def _dispatch(self, about: Id, line: bytes, call: _InFlight) -> Reply:
        """Send the call to the server and wait for its response: the body of the governed call."""
        if not self._server.running or self._to_server.gone.is_set():
            raise NotCommitted("the server has ended")
        if not call.wanted:
            raise NotCommitted("its client cancelled it before it was sent")
        active = current_call()
        call.call_id = active.call_id if active else None
        call.replied = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(self._limit, self._overdue, about, call) if self._limit else None
        try:
            if not await self._to_server.write(line):
                raise Died("the server stopped reading")
            return await call.replied
        finally:
            call.replied.cancel()
            if timer is not None:
                timer.cancel()

    async def _elicit(self, call: _InFlight, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Ask the client's user in the middle of a call; ``None`` where the client does not want the call any more, or cannot ask."""
        about = f"{self._prefix}{next(self._numbers)}"
        asked: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._questions[about] = asked
        left: asyncio.Future[Any] = asyncio.ensure_future(call.left.wait())
        try:
            await self._to_client.write(dump({"jsonrpc": "2.0", "id": about, "method": "elicitation/create", "params": params}))
            await asyncio.wait([asked, left], return_when=asyncio.FIRST_COMPLETED)
            return asked.result().get("result") if asked.done() else None
        finally:
            left.cancel()
            self._questions.pop(about, None)

    def _overdue(self, about: Id, call: _InFlight) -> None:
        self._lose(about, call, Lost(f"the server gave no answer within {self._limit:g} s"))

    def _lose(self, about: Id, call: _InFlight, why: Lost) -> None:
        """Stop waiting for a call; what the server still says about it lands late."""
        if call.replied is None:
            self._leave(call)
        elif not call.replied.done():
            call.replied.set_exception(why)
            if call.call_id is not None:
                self._late[about] = call.call_id
                if len(self._late) > _MOST_LATE:
                    del self._late[next(iter(self._late))]

    def _lost(self, about: Id, why: Exception) -> None:
        """Take it that a request gets no answer: a doubt where ``why`` is a :class:`.lost.Lost`, else the server has not got it."""
        call, own = self._calls.get(about), self._own.get(about)
        if own is not None:
            if not own.done():
                own.set_exception(why)
        elif call is not None and isinstance(why, Lost):
            self._lose(about, call, why)
        elif call is not None and call.replied is not None and not call.replied.done():
            call.replied.set_exception(why)
        elif about in self._others:
            self._others.discard(about)
            self._spawn(self._to_client.write(answer(about, error(_NO_ANSWER, str(why)))))

    def _leave(self, call: _InFlight) -> None:
        call.wanted = False
        call.left.set()
        self._left = [*self._left, call]

    async def _cancelled(self, line: bytes, message: Mapping[str, Any]) -> bool:
        """Take the cancellation of a tool call; return whether it was one.

        A declared unsafe call is finished and recorded: stopped half-way, nobody could say what it did.
        """
        params = message.get("params")
        about = identity({"id": params.get("requestId")}) if isinstance(params, dict) else None
        call = self._calls.get(about) if about is not None else None
        if about is None or call is None:
            self._others -= {about}
            return False
        self._leave(call)
        if call.effect is not Effect.UNSAFE and call.replied is not None:
            await self._to_server.write(line)
            self._lose(about, call, Lost("its client cancelled it"))
        return True

    async def _cancel_upstream(self, about: Id, call: _InFlight) -> None:
        """Tell the server what a client that is gone did not (AS-45)."""
        if call.replied is not None and not call.replied.done():
            await self._to_server.write(dump({"jsonrpc": "2.0", "method": _CANCELLED, "params": {"requestId": about, "reason": _LEFT}}))
        self._lose(about, call, Lost(_LEFT))

    # --- from the server

    async def _from_server(self) -> None:
        async for line in lines(self._server.stdout):
            if self._calls or self._others or self._late or self._own or self._tools is not None:
                await self._told(line)
            else:
                await self._to_client.write(line)

    def _changed(self) -> None:
        self._tools = self._asked_for = None

    async def _told(self, line: bytes) -> None:
        """Take one line of the server's: the response to a tool call goes through its governor, anything else on to the client."""
        message = loosely(line)
        if isinstance(message, list) and any(identity(one) in self._calls for one in message if _is_response(one)):
            for one in message:
                await self._told(dump(one))
            return
        if isinstance(message, dict) and message.get("method") == _LIST_CHANGED:
            self._changed()
        about = identity(message) if _is_response(message) else None
        if about is None or not isinstance(message, dict):
            await self._to_client.write(line)
            return
        await self._responded(about, line, message)

    async def _responded(self, about: Id, line: bytes, message: Mapping[str, Any]) -> None:
        call, own = self._calls.get(about), self._own.get(about)
        if own is not None:
            if not own.done():
                own.set_result(message)
        elif call is not None and call.replied is not None and not call.replied.done():
            call.came = len(line)
            self._undelivered += call.came
            if self._undelivered >= LIMIT:
                self._room.clear()
            call.replied.set_result(Reply(line, message))
            await self._room.wait()
        elif (call_id := self._late.pop(about, None)) is not None:
            self._spawn(self._governor.landed(call_id, message))
        elif call is None:
            self._others.discard(about)
            await self._to_client.write(line)


def _is_call(message: Any) -> bool:
    return isinstance(message, dict) and message.get("method") == CALL


def _is_response(message: Any) -> bool:
    return isinstance(message, dict) and "method" not in message and ("result" in message or "error" in message)
