"""Several servers behind one endpoint: each has a relay of its own, and its tools have its name before theirs."""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, Protocol

from surefoot_mcp_server.lines import Hose, Reads, Writes, lines
from surefoot_mcp_server.wire import CALL, Asked, Malformed, answer, dump, error, identity, loosely, parse, refusal

__all__ = ["Relays", "Switch", "shown", "told"]

_log = logging.getLogger("surefoot.mcp")
_BETWEEN: Final = "__"
_CANCELLED: Final = "notifications/cancelled"
_MOST_PAGES: Final = 100
_OLDEST: Final = "2024-11-05"
_NO_METHOD: Final = -32601
_ENDED: Final = -32000


def shown(server: str, tool: str) -> str:
    """Return the name under which a client sees a tool. No two are equal, because a server's name has no ``_`` (AS-63)."""
    return f"{server}{_BETWEEN}{tool}"


def told(name: str) -> tuple[str, str]:
    """Return server and tool of a name that a client sees; no server ``""`` where it has none."""
    server, between, tool = name.partition(_BETWEEN)
    return (server, tool) if between else ("", name)


class Relays(Protocol):
    """What carries the messages of one client to one server."""

    @abstractmethod
    async def run(self) -> int:
        """Relay until one side ends; return the exit code."""

    @abstractmethod
    def end(self) -> None:
        """End it soon."""


class _Side:
    """What one server's relay says to the client."""

    def __init__(self, switch: Switch, server: str) -> None:
        self._switch = switch
        self._server = server

    async def write(self, line: bytes) -> bool:
        """Take a line of the server's."""
        return await self._switch.said(self._server, line)

    async def watch(self) -> None:
        """Return when the client is gone."""
        await self._switch.sink.watch()

    def close(self) -> None:
        """Do nothing: the client has other servers."""


class Switch:
    """One client, several servers. A tool call goes to the server that its name begins with; nothing but tools is offered.

    ``relays`` makes the relay of a server between what the client tells it and what it says. Each governs as it does alone, so that a
    tool is the same in the ledger whether its server stands alone or beside others.
    """

    def __init__(self, relays: Mapping[str, Callable[[Reads, Writes], Relays]], client: Reads, sink: Writes) -> None:
        self.sink = sink
        self._client = client
        self._hoses = {name: Hose() for name in relays}
        self._relays = {name: made(self._hoses[name], _Side(self, name)) for name, made in relays.items()}
        self._running: dict[str, asyncio.Task[int]] = {}
        self._prefix = f"surefoot-{uuid.uuid4().hex[:12]}-"
        self._numbers = itertools.count(1)
        self._own: dict[str, tuple[str, asyncio.Future[Mapping[str, Any]]]] = {}
        """Requests of our own, and the server that each was sent to."""
        self._calls: dict[str | int, str] = {}
        """Tool calls without an answer, and the names that they were asked for by."""
        self._questions: dict[str, tuple[str, str | int]] = {}
        """Requests of servers to the client: whose, and under which id."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        """The client is gone, or somebody wants us to end."""

    def end(self) -> None:
        """End it soon."""
        self._over = True
        for relay in self._relays.values():
            relay.end()

    async def run(self) -> int:
        """Relay until the client or every server ends; return 0, or the exit code of a server that failed."""
        loop = asyncio.get_running_loop()
        self._running = {name: loop.create_task(relay.run()) for name, relay in self._relays.items()}
        inward = loop.create_task(self._from_client())
        everyone: asyncio.Future[list[int]] = asyncio.gather(*(self._until_ended(name, task) for name, task in self._running.items()))
        try:
            ends: set[asyncio.Future[Any]] = {inward, everyone}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not everyone.done() and self._tasks:  # lists that the client still waits for
                await asyncio.wait(self._tasks, timeout=5.0)
            self._over = True
            for hose in self._hoses.values():
                hose.end()
            return max(await everyone)
        finally:
            inward.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(inward, *self._tasks, return_exceptions=True)
            self._client.close()
            self.sink.close()

    async def _until_ended(self, name: str, relay: asyncio.Task[int]) -> int:
        code = await relay
        self._hoses[name].close()
        for server, waiting in list(self._own.values()):
            if server == name and not waiting.done():
                waiting.set_result(error(_ENDED, f"the server {name} ended"))
        for about in [about for about, called in self._calls.items() if told(called)[0] == name]:
            del self._calls[about]
            await self.sink.write(answer(about, error(_ENDED, f"the server {name} ended before it answered; ask again")))
        if self._live() and not self._over:
            _log.error("the server %s ended with the exit code %s; its tools are gone", name, code)
            await self.sink.write(dump({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
        return code

    def _live(self) -> list[str]:
        return [name for name, task in self._running.items() if not task.done()]

    # --- from the client

    async def _from_client(self) -> None:
        async for line in lines(self._client.reader):
            try:
                message = parse(line) if line.strip() else None
                if message is not None:
                    await self._take(line, message)
            except Malformed as exc:
                await self.sink.write(answer(exc.about, error(exc.code, str(exc))))

    async def _take(self, line: bytes, message: Any) -> None:
        if not isinstance(message, dict):
            raise Malformed("send messages one by one, not in an array", -32600)
        method, about = message.get("method"), identity(message)
        if method is None:
            await self._answered(message)
        elif about is None:
            await self._notified(method, line, message)
        elif method == CALL:
            await self._called(about, message)
        elif method in _OURS:
            self._spawn(self._asked(method, about, message.get("params")))
        else:
            text = f"several servers stand behind this endpoint, and of {method} it is not known whose it is; only tools are offered"
            await self.sink.write(answer(about, error(_NO_METHOD, text)))

    async def _answered(self, message: Mapping[str, Any]) -> None:
        """Give a server the answer to what it asked the client."""
        asked = self._questions.pop(str(identity(message)), None)
        if asked is not None:
            await self._hoses[asked[0]].write(dump({**message, "id": asked[1]}))

    async def _notified(self, method: str, line: bytes, message: Mapping[str, Any]) -> None:
        params = message.get("params")
        about = identity({"id": params.get("requestId")}) if isinstance(params, dict) and method == _CANCELLED else None
        names = self._live() if method != _CANCELLED else [told(self._calls[about])[0]] if about in self._calls else []
        for name in names:
            await self._hoses[name].write(line)

    async def _called(self, about: str | int, message: Mapping[str, Any]) -> None:
        params = message.get("params")
        name = params.get("name") if isinstance(params, dict) else None
        if not isinstance(params, dict) or not isinstance(name, str):
            raise Malformed("tools/call needs params with the name of a tool", -32602, about)
        if about in self._calls:
            raise Malformed("the id of this tools/call is that of a tool call that has no answer yet", -32600, about)
        server, tool = told(name)
        if server not in self._relays:
            raise Malformed(f"no server here has a tool {name!r}; the servers are {', '.join(sorted(self._relays))}", -32602, about)
        self._calls[about] = name
        if not await self._hoses[server].write(dump({**message, "params": {**params, "name": tool}})):
            self._calls.pop(about, None)
            text = f"{name} was not executed: the server {server} has ended."
            await self.sink.write(answer(about, refusal(Asked.of(params), text, "not_executed")))

    # --- what is asked of all of them

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _asked(self, method: str, about: str | int, params: Any) -> None:
        found = {}
        for name in self._live():  # all have the question before one of them is waited for
            found[name] = asyncio.ensure_future(self._all_of(name, method, params if isinstance(params, dict) else None))
        results = dict(zip(found, await asyncio.gather(*found.values()), strict=True))
        failed = next(((name, one["error"]) for name, one in results.items() if "error" in one), None)
        if failed is not None:
            name, why = failed
            why = why if isinstance(why, dict) else {"code": _NO_METHOD, "message": str(why)}
            await self.sink.write(answer(about, {"error": {**why, "message": f"{name}: {why.get('message')}"}}))
            return
        merged = _OURS[method]({name: one["result"] for name, one in results.items()})
        await self.sink.write(answer(about, {"result": merged}))

    async def _all_of(self, name: str, method: str, params: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Ask one server; return its answer, of a list all pages."""
        asked = {key: value for key, value in (params or {}).items() if key != "cursor"}
        whole: dict[str, Any] = {}
        for _ in range(_MOST_PAGES):
            response = await self._ask(name, method, asked if params is not None or asked else None)
            result = response.get("result")
            if not isinstance(result, dict):
                return {"error": response.get("error", "the answer has neither a result nor an error")}
            if method != "tools/list":
                return {"result": result}
            whole = {**result, "tools": [*whole.get("tools", []), *_tools(result)]}
            cursor = whole.pop("nextCursor", None)
            if cursor is None:
                return {"result": whole}
            asked["cursor"] = cursor
        return {"error": f"its list of tools has more than {_MOST_PAGES} pages"}

    async def _ask(self, name: str, method: str, params: Mapping[str, Any] | None) -> Mapping[str, Any]:
        about = f"{self._prefix}{next(self._numbers)}"
        waiting: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._own[about] = (name, waiting)
        try:
            asked = {"jsonrpc": "2.0", "id": about, "method": method, **({"params": params} if params is not None else {})}
            return await waiting if await self._hoses[name].write(dump(asked)) else error(_ENDED, f"the server {name} ended")
        finally:
            del self._own[about]

    # --- from the servers

    async def said(self, server: str, line: bytes) -> bool:
        """Take one line of a server's; return whether the client is there to read it."""
        message = loosely(line)
        about = identity(message)
        if not isinstance(message, dict) or about is None:
            return await self.sink.write(line)
        if "method" in message:
            number = f"{server}{_BETWEEN}{next(self._numbers)}"
            self._questions[number] = (server, about)
            return await self.sink.write(dump({**message, "id": number}))
        own = self._own.get(str(about))
        if own is not None:
            if not own[1].done():
                own[1].set_result(message)
            return True
        self._calls.pop(about, None)
        return await self.sink.write(line)


def _tools(result: Mapping[str, Any]) -> Sequence[Any]:
    tools = result.get("tools")
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def _listed(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one list of all tools, as fresh as the least fresh of them may be taken for."""
    tools = [{**tool, "name": shown(name, str(tool.get("name")))} for name, result in results.items() for tool in _tools(result)]
    return {**_cached(results.values()), "tools": tools}


def _cached(results: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the new revision wants to have said of a result, where any of them says it."""
    found = list(results)
    kinds = {"resultType": "complete"} if any("resultType" in one for one in found) else {}
    if not any("ttlMs" in one for one in found):
        return kinds
    public = all(one.get("cacheScope") == "public" for one in found)
    return {**kinds, "ttlMs": min(one.get("ttlMs", 0) for one in found), "cacheScope": "public" if public else "private"}


def _introduced(results: Mapping[str, Mapping[str, Any]], tools: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of the endpoint: that it has tools, and what each server has to say."""
    words = [f"{name}: {result['instructions']}" for name, result in results.items() if result.get("instructions")]
    return {"capabilities": {"tools": tools}, **({"instructions": "\n\n".join(words)} if words else {})}


def _greeted(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one greeting, in the oldest revision that one of them chose."""
    oldest = min((str(result.get("protocolVersion", _OLDEST)) for result in results.values()), default=_OLDEST)
    return {
        "protocolVersion": oldest,
        **_introduced(results, {"listChanged": True}),
        "serverInfo": {"name": "surefoot", "version": version("surefoot")},
    }


def _discovered(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all of them can do, in the revisions that all of them know."""
    known = [result.get("supportedVersions") or [] for result in results.values()]
    common = [one for one in (known[0] if known else []) if all(one in versions for versions in known)]
    return {**_cached(results.values()), "supportedVersions": common, **_introduced(results, {})}


_OURS: Final[Mapping[str, Callable[[Mapping[str, Mapping[str, Any]]], dict[str, Any]]]] = {
    "initialize": _greeted,
    "server/discover": _discovered,
    "tools/list": _listed,
    "ping": lambda _: {},
}
"""What is asked of every server, and how one answer is made of theirs."""
