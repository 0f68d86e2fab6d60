"""A client made with the SDK, 1.x or 2.x, of a server that a command starts, or of one at a URL. Prints what came back, as JSON.

The first argument says what it does: a number, so often it pays under one key; ``talk``, it lets the server tell and ask it something;
a path, it calls a tool that does not end, and kills itself when something stands in that file.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp.client.streamable_http as over_http  # type: ignore[import-not-found,unused-ignore]
from mcp import ClientSession, StdioServerParameters, types  # type: ignore[import-not-found,unused-ignore]
from mcp.client.stdio import stdio_client  # type: ignore[import-not-found,unused-ignore]

META = {"surefoot/idempotencyKey": "order-1"}


@asynccontextmanager
async def connected(target: list[str], **callbacks: Any) -> AsyncIterator[Any]:
    """Connect to the server, and greet it."""
    if target[0].startswith("http"):
        connect: Any = getattr(over_http, "streamablehttp_client", None) or over_http.streamable_http_client
        opened = connect(target[0])
    else:
        opened = stdio_client(StdioServerParameters(command=target[0], args=target[1:], env=dict(os.environ)))
    async with opened as streams, ClientSession(*streams[:2], **callbacks) as session:
        greeting: Any = await session.initialize()
        session.greeting = greeting.model_dump(by_alias=True, mode="json")
        yield session


async def pay(times: int, target: list[str]) -> dict[str, Any]:
    """Call, and call again under the same key."""
    found: dict[str, Any] = {"calls": []}
    async with connected(target) as session:
        found["tools"] = [tool.name for tool in (await session.list_tools()).tools]
        for _ in range(times):
            result: Any = await session.call_tool("pay", {"amount": 7}, meta=META)
            found["calls"].append(result.model_dump(by_alias=True, mode="json"))
    return found


async def talk(target: list[str]) -> dict[str, Any]:
    """Let the server tell and ask something."""
    heard: dict[str, Any] = {"progress": [], "logs": [], "asked": []}

    async def log(params: Any) -> None:
        heard["logs"].append(params.data)

    async def ask(_context: Any, params: Any) -> Any:
        heard["asked"].append(params.message)
        return types.ElicitResult(action="accept", content={"sure": True})

    async def progress(done: float, total: float | None, _words: str | None) -> None:
        heard["progress"].append([done, total])

    async with connected(target, logging_callback=log, elicitation_callback=ask) as session:
        result: Any = await session.call_tool("talk", {}, progress_callback=progress)
        return {**heard, "result": result.model_dump(by_alias=True, mode="json"), "greeting": session.greeting}


def stands_in(file: Path) -> bool:
    """Return whether something stands in a file."""
    return file.exists() and bool(file.read_text())


async def die(effects: Path, target: list[str]) -> None:
    """Call a tool that does not end, and kill this process as soon as it has begun."""
    async with connected(target) as session:
        calling = asyncio.ensure_future(session.call_tool("hang", {}, meta=META))
        async with asyncio.timeout(60):
            while not stands_in(effects):  # noqa: ASYNC110 - a file of another process sets no event
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        await calling


async def main() -> None:
    """Do what the first argument says."""
    what, *target = sys.argv[1:]
    if what.isdecimal():
        print(json.dumps(await pay(int(what), target)))
    elif what == "talk":
        print(json.dumps(await talk(target)))
    else:
        await die(Path(what), target)


asyncio.run(main())
