"""MCP adapter: ``surefoot.wrap(server)`` for a server made with the Python SDK, ``surefoot.wrap(session)`` for a client, 1.x and 2.x.

``wrap`` changes the object in place and returns it. Covered: every ``tools/call`` that reaches a ``FastMCP``, an ``MCPServer`` or a
low-level ``Server``, over whatever transport, governed as the proxy governs it; every ``call_tool`` of a ``ClientSession``, or of a
``Client`` that has been entered. Not covered: tools of a server that its own code calls without the protocol, resources, prompts, tasks.
"""

from __future__ import annotations

from typing import Any, Final

from surefoot import Adapter, Capabilities, Guard, hookimpl

__all__ = ["MCPAdapter", "surefoot_adapter"]

_SERVERS: Final = {"mcp.server.fastmcp.server.FastMCP", "mcp.server.mcpserver.server.MCPServer", "mcp.server.lowlevel.server.Server"}
_CLIENTS: Final = {"mcp.client.session.ClientSession", "mcp.client.client.Client"}


class MCPAdapter(Adapter):
    """Wraps servers and client sessions of the SDK."""

    name = "mcp"
    capabilities = Capabilities(copies=False, outer_guard=True, sync=False, streaming=False)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is a server or a client of the SDK, importing nothing."""
        from surefoot_adapters import kinds_of

        return not (_SERVERS | _CLIENTS).isdisjoint(kinds_of(target))

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Guard a server's tools, or what a client calls (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_adapters import kinds_of
        from surefoot_mcp import _support

        _support.framework.ready()
        if not _SERVERS.isdisjoint(kinds_of(target)):
            from surefoot_mcp import _server

            _server.guarded(target, guard)
            guard.announce(f"MCP server {target.name}")
        else:
            from surefoot_mcp import _client

            _client.guarded(target, guard)
        return target


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return MCPAdapter()
