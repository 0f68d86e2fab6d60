"""Asking a server for its tools on our own account, to approve them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from surefoot import IntegrityError, NotCommitted
from surefoot_mcp_server.child import Child
from surefoot_mcp_server.lines import lines
from surefoot_mcp_server.pins import all_tools
from surefoot_mcp_server.probe import Ask
from surefoot_mcp_server.wire import dump, identity, loosely

__all__ = ["tools_at", "tools_of"]

Say: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]

_CLIENT: Final = {"name": "surefoot", "version": "1"}
_HELLO: Final = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _CLIENT}
_REVISION: Final = "io.modelcontextprotocol/protocolVersion"
_ENVELOPE: Final[dict[str, Any]] = {
    _REVISION: "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}
_PATIENCE: Final = 30.0


async def tools_of(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Start a server, list its tools and end it. Raises :class:`~surefoot.IntegrityError` when it does not list them."""
    child = await Child.start(command, environment)
    told = lines(child.stdout)
    numbers = itertools.count(1)

    async def say(message: Mapping[str, Any]) -> None:
        await child.sink.write(dump(message))

    async def ask(method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        about = f"surefoot-{next(numbers)}"
        await say({"jsonrpc": "2.0", "id": about, "method": method, "params": params})
        async for line in told:
            message = loosely(line)
            if isinstance(message, dict) and identity(message) == about and "method" not in message:
                return message
        raise IntegrityError(f"the server {command[0]!r} ended before it listed its tools")

    try:
        return await _listed(command[0], say, ask)
    finally:
        await told.aclose()
        hurry = asyncio.Event()
        hurry.set()
        await child.stop(hurry, 0)
        child.close()


async def tools_at(upstream: str, authorization: str | None) -> dict[str, Any]:
    """List the tools of a server that speaks HTTP. Raises :class:`~surefoot.IntegrityError` when it does not list them."""
    from surefoot_mcp_server.upstream import BROKEN, Upstream

    numbers = itertools.count(1)
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    if authorization is not None:
        headers["authorization"] = authorization

    async with Upstream() as server:

        async def say(message: Mapping[str, Any]) -> None:
            await server.ask(upstream, headers, message)

        async def ask(method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
            modern = {"mcp-method": method, "mcp-protocol-version": _ENVELOPE[_REVISION]} if params.get("_meta") else {}
            body = {"jsonrpc": "2.0", "id": f"surefoot-{next(numbers)}", "method": method, "params": params}
            message, told = await server.ask(upstream, headers | modern, body)
            if "mcp-session-id" in told:
                headers["mcp-session-id"] = told["mcp-session-id"]
            return message

        try:
            return await _listed(upstream, say, ask)
        except (NotCommitted, *BROKEN) as exc:
            raise IntegrityError(f"the server {upstream} cannot be asked for its tools ({type(exc.__cause__ or exc).__name__})") from exc


async def _listed(server: str, say: Say, ask: Ask) -> dict[str, Any]:
    async def listed() -> dict[str, Any]:
        hello = await ask("initialize", _HELLO)
        if "result" in hello:
            await say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        params = {} if "result" in hello else {"_meta": _ENVELOPE}  # a server of the revision that has no such greeting
        return await all_tools(lambda more: ask("tools/list", more), params)

    try:
        return await asyncio.wait_for(listed(), _PATIENCE)
    except TimeoutError:
        raise IntegrityError(f"the server {server} did not list its tools within {_PATIENCE:g} s") from None
