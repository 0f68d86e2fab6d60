"""Is this an SDK that can be guarded? A proof by a call."""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["SECOND", "connected", "error_class", "framework", "of", "result_class", "server_class"]

SECOND: Final = find_spec("mcp") is not None and find_spec("mcp.server.mcpserver") is not None
"""The SDK is of its second major version."""


def of(module: str, name: str) -> Any:
    """Return something of the SDK by name: what only one of its versions has, no checker of types knows in the other."""
    return getattr(import_module(module), name)


def server_class() -> Any:
    """Return the SDK's class for servers."""
    return of("mcp.server.mcpserver", "MCPServer") if SECOND else of("mcp.server.fastmcp", "FastMCP")


def connected(server: Any) -> Any:
    """Return a context manager with a client of a server in this process."""
    return of("mcp", "Client")(server) if SECOND else of("mcp.shared.memory", "create_connected_server_and_client_session")(server)


def error_class() -> Any:
    """Return the SDK's class for JSON-RPC errors; both have the ``error`` with its code."""
    return of("mcp.shared.exceptions", "MCPError" if SECOND else "McpError")


def result_class() -> Any:
    """Return the SDK's class for results of tools."""
    return of("mcp.types", "CallToolResult")


def _canary(guard: Guard) -> None:
    from surefoot_mcp import _server

    def seen() -> str:
        """Prove that the guard sees a call."""
        return "seen"

    server = server_class()("canary")
    server.add_tool(seen, name=CANARY)
    _server.guarded(server, guard)

    async def call() -> None:
        async with connected(server) as client:
            await client.call_tool(CANARY, {})

    asyncio.run(call())


framework = Framework("mcp", _canary)
