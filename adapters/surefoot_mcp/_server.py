"""Servers: every ``tools/call`` goes through the governor that the proxy has, in the server's own process."""

from __future__ import annotations

import asyncio
import re
import weakref
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any, Final

from surefoot import Guard, UsageError
from surefoot_adapters import declared_rule, is_guarded
from surefoot_mcp import _support
from surefoot_mcp_server.governor import Governor, Reply
from surefoot_mcp_server.headers import tenant_of
from surefoot_mcp_server.rules import Rules
from surefoot_mcp_server.wire import CALL, Asked, Malformed

__all__ = ["guarded"]

_UNNAMEABLE: Final = re.compile(r"[^A-Za-z0-9._-]")
_guarded: weakref.WeakKeyDictionary[Any, _Served] = weakref.WeakKeyDictionary()


class _Served:
    """One server's tools, and the governors of those who call them."""

    def __init__(self, guard: Guard, name: str, tools: Any) -> None:
        self.guard = guard
        self._rules = Rules(_UNNAMEABLE.sub("-", name)[:64] or "server", qualifies=False)
        self._tools = tools
        self._known: set[str] = set()
        self._governors: dict[str, Governor] = {}
        self._opening = asyncio.Lock()
        for tool in tools.list_tools() if tools is not None else ():
            self._meet(tool)

    def _meet(self, tool: Any) -> None:
        """Make a tool of the high-level server known: what its author declared, and what a model is told of it."""
        schema = {"description": tool.description, "parameters": tool.parameters}
        self.guard.register(tool.name, f"{tool.fn.__module__}.{tool.fn.__qualname__}", declared_rule(tool, tool.fn), lambda: schema)
        self._known.add(tool.name)

    async def call(self, params: Mapping[str, Any], dispatch: Callable[[], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        """Return the outcome of a ``tools/call``: ``{"result": …}`` or ``{"error": …}``. Raises :class:`Malformed`."""
        asked = Asked.of(params)
        if self._tools is not None and asked.tool not in self._known and (tool := self._tools.get_tool(asked.tool)) is not None:
            self._meet(tool)

        async def sent() -> Reply:
            return Reply(b"", await dispatch())

        given = await (await self._governor()).call(asked, sent, _nothing)
        return given.reply.message if given.reply is not None else given.outcome or {}

    async def _governor(self) -> Governor:
        from mcp.server.auth.middleware.auth_context import get_access_token

        token = get_access_token()
        tenant = tenant_of(token.token if token is not None else None)
        async with self._opening:
            if tenant not in self._governors:
                governor = Governor(self.guard, self._rules, tenant, inside=True)
                await governor.recover()
                self._governors[tenant] = governor
            return self._governors[tenant]


async def _nothing() -> Mapping[str, Any]:
    return {}


def guarded(server: Any, guard: Guard) -> None:
    """Guard a server in place. Raises :class:`~surefoot.UsageError` where another guard has it, or where it has no tools to guard."""
    low = server
    if hasattr(server, "_tool_manager"):  # owner: test_private_names
        low = server._lowlevel_server if _support.SECOND else server._mcp_server  # noqa: SLF001 - as above
    known = _guarded.get(low)
    if is_guarded(known.guard if known else None, guard, f"the MCP server {server.name}"):
        return
    served = _guarded[low] = _Served(guard, server.name, getattr(server, "_tool_manager", None))
    (_second if _support.SECOND else _first)(low, served)


def _second(low: Any, served: _Served) -> None:
    """Guard a server of the SDK's second version: as the innermost of its middleware."""
    from mcp.shared.exceptions import MCPError

    async def middleware(ctx: Any, call_next: Any) -> Any:
        if ctx.method != CALL or ctx.request_id is None:
            return await call_next(ctx)
        failed: list[Exception] = []

        async def dispatch() -> Mapping[str, Any]:
            try:
                return {"result": await call_next(ctx)}
            except MCPError as exc:
                failed.append(exc)
                return {"error": {"code": exc.code, "message": exc.message, "data": exc.data}}
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is raised again below
                failed.append(exc)
                return {"error": {"code": -32603, "message": str(exc)}}

        try:
            outcome = await served.call(ctx.params or {}, dispatch)
        except Malformed as exc:
            raise MCPError(exc.code, str(exc)) from None
        if "error" not in outcome:
            return outcome["result"]
        raise failed[0] if failed else MCPError(**outcome["error"])

    low.middleware.append(middleware)


def _first(low: Any, served: _Served) -> None:
    """Guard a server of the SDK's first version: around the handler of tool calls."""
    types, error_class = import_module("mcp.types"), _support.error_class()
    handler = low.request_handlers.get(types.CallToolRequest)
    if handler is None:
        raise UsageError(f"the MCP server {low.name} has no handler for tool calls yet; wrap it below its @call_tool")

    async def governed(request: Any) -> Any:
        failed: list[Exception] = []

        async def dispatch() -> Mapping[str, Any]:
            try:
                return {"result": _dumped((await handler(request)).root)}
            except error_class as exc:
                failed.append(exc)
                return {"error": _dumped(exc.error)}

        try:
            outcome = await served.call(_dumped(request.params), dispatch)
        except Malformed as exc:
            raise error_class(types.ErrorData(code=exc.code, message=str(exc))) from None
        if "error" in outcome:
            raise failed[0] if failed else error_class(types.ErrorData(**outcome["error"]))
        kind = types.CreateTaskResult if "task" in outcome["result"] else types.CallToolResult
        return types.ServerResult(kind.model_validate(outcome["result"]))

    low.request_handlers[types.CallToolRequest] = governed


def _dumped(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = model.model_dump(by_alias=True, mode="json", exclude_none=True)
    return found
