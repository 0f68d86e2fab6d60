"""A server made with the MCP SDK, guarded, and a client that sends its call again. Runs with SDK 1.x and 2.x, in one process."""

from __future__ import annotations

import asyncio
from typing import Any

import surefoot

try:
    from mcp import Client as Connected
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server  # type: ignore[import-not-found,no-redef,unused-ignore] # SDK 1.x
    from mcp.shared.memory import create_connected_server_and_client_session as Connected  # type: ignore[no-redef,unused-ignore] # noqa: N812 - stands for a class

shop: Any = Server("shop")


@shop.tool()
@surefoot.tool(effect="unsafe")
def charge(amount: int) -> str:
    """Charge an amount, once whatever happens: hand the key of the call to the provider."""
    call = surefoot.current_call()
    assert call is not None  # noqa: S101 - called through the guarded server
    print(f"charging {amount} as {call.idempotency_key[:16]}")
    return f"charged {amount}"


async def main() -> None:
    """Lose the answer, connect again, and send the call again, as the protocol says."""
    for _ in range(2):
        async with Connected(shop) as client:
            result: Any = await client.call_tool("charge", {"amount": 42}, meta={"surefoot/idempotencyKey": "order-7"})
        print(result.content[0].text)


if __name__ == "__main__":
    surefoot.wrap(shop, store="memory://")
    asyncio.run(main())
