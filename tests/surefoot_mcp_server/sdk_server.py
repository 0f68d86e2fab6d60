"""An MCP server made with the SDK, 1.x or 2.x. Run with the path of the file that its effects go to, and a port to serve it over HTTP.

``SHOP_DIES`` as in the shop; ``SHOP_SAYS`` is the description of ``pay``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio
from pydantic import BaseModel

try:
    from mcp.server.mcpserver import Context  # type: ignore[import-not-found,unused-ignore]
    from mcp.server.mcpserver import MCPServer as Server  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from mcp.server.fastmcp import Context  # type: ignore[import-not-found,unused-ignore,no-redef]
    from mcp.server.fastmcp import FastMCP as Server  # type: ignore[import-not-found,unused-ignore]

server: Any = Server("shop")


class Sure(BaseModel):
    """What the user is asked for."""

    sure: bool


def effect(words: str) -> None:
    """Do something to the world."""
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"{words}\n")


@server.tool(description=os.environ.get("SHOP_SAYS") or "Pay an amount.")
def pay(amount: int) -> dict[str, int]:
    """Pay an amount."""
    effect(f"pay {amount}")
    if os.environ.get("SHOP_DIES") == "after":
        os._exit(1)
    return {"paid": amount}


@server.tool()
async def hang() -> str:
    """Do something that does not end; say whose process it is, and whose child."""
    effect(f"hang {os.getpid()} {os.getppid()}")
    try:
        await anyio.sleep_forever()
    except BaseException:
        effect("cancelled")
        raise
    return ""


@server.tool()
async def talk(ctx: Context) -> str:
    """Tell the client how far it is, log something, and ask its user."""
    await ctx.report_progress(1, 2)
    await ctx.info("half-way")
    said: Any = await ctx.elicit("Are you sure?", Sure)
    return f"{said.action} {said.data.sure}"


def main() -> None:
    """Serve."""
    if len(sys.argv) == 2:
        server.run()
    elif hasattr(server.settings, "port"):
        server.settings.port = int(sys.argv[2])
        server.run("streamable-http")
    else:
        server.run(transport="streamable-http", port=int(sys.argv[2]))


if __name__ == "__main__":
    main()
