"""An MCP server made with the SDK, 1.x or 2.x. Run with the path of the file that its effects go to; ``SHOP_DIES`` as in the shop."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

try:
    from mcp.server.mcpserver import MCPServer as Server  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server  # type: ignore[import-not-found,unused-ignore]

server: Any = Server("shop")


@server.tool()
def pay(amount: int) -> dict[str, int]:
    """Pay an amount."""
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"pay {amount}\n")
    if os.environ.get("SHOP_DIES") == "after":
        os._exit(1)
    return {"paid": amount}


if __name__ == "__main__":
    server.run()
