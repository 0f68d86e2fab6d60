"""The governing MCP proxy: a relay between a client and a server that makes re-issuing a tool call safe.

The Model Context Protocol tells a client to send a lost ``tools/call`` again under a new request id, and has no idempotency key:
a duplicate is the protocol's own recovery. This package stands on the wire between the two, imports no MCP SDK, touches
``tools/call`` and ``tools/list`` and passes every other message on byte for byte. Each tool call goes through the same guard and
ledger as the in-process adapters'.
"""

from __future__ import annotations

from typing import Any

from surefoot import hookimpl

__all__ = ["surefoot_cli"]


@hookimpl
def surefoot_cli(group: Any) -> None:
    """Add ``surefoot mcp``."""
    import surefoot_mcp_server.command

    group.add_command(surefoot_mcp_server.command.mcp)
