"""A guarded MCP server made with the SDK, 1.x or 2.x. Run with a store and the path of the file that its effects go to.

``SHOP_DIES``: it kills itself after the effect of ``pay``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import surefoot
from surefoot_mcp import _support

server = _support.server_class()("shop")


@server.tool()
@surefoot.tool(effect="unsafe")
def pay(amount: int) -> dict[str, int]:
    """Pay an amount."""
    with Path(sys.argv[2]).open("a") as file:
        file.write(f"pay {amount}\n")
    if os.environ.get("SHOP_DIES"):
        os._exit(1)
    return {"paid": amount}


if __name__ == "__main__":
    surefoot.wrap(server, store=sys.argv[1]).run()
