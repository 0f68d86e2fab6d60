"""A client made with the SDK, 1.x or 2.x: calls ``pay`` as often as it is told, by the command it is given, and prints what came back."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from mcp import ClientSession, StdioServerParameters  # type: ignore[import-not-found,unused-ignore]
from mcp.client.stdio import stdio_client  # type: ignore[import-not-found,unused-ignore]

META = {"surefoot/idempotencyKey": "order-1"}


async def main() -> None:
    """Call, and call again under the same key."""
    times, *command = sys.argv[1:]
    parameters: Any = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    found: dict[str, Any] = {"calls": []}
    async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
        await session.initialize()
        found["tools"] = [tool.name for tool in (await session.list_tools()).tools]
        for _ in range(int(times)):
            result: Any = await session.call_tool("pay", {"amount": 7}, meta=META)
            found["calls"].append(result.model_dump(by_alias=True, mode="json"))
    print(json.dumps(found))


asyncio.run(main())
