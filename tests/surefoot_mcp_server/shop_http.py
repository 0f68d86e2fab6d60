"""An MCP server over HTTP, without an SDK: its tools do what their names say, each effect is a line in a file. Prints its port."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

EFFECTS = Path(sys.argv[1])
WAITING: dict[str, Any] = {}
DESCRIPTION = {"pay": "Pays."}


def effect(words: str) -> None:
    """Do something to the world."""
    with EFFECTS.open("a") as file:
        file.write(words + "\n")


def times(words: str) -> int:
    """Return how often something was done."""
    return EFFECTS.read_text().splitlines().count(words)


def event(message: dict[str, Any], about: str = "") -> bytes:
    """Return a message as an event."""
    return (f"id: {about}\n" if about else "").encode() + f"event: message\ndata: {json.dumps({'jsonrpc': '2.0', **message})}\n\n".encode()


def result(about: Any, words: str) -> dict[str, Any]:
    """Return a response."""
    return {"jsonrpc": "2.0", "id": about, "result": {"content": [{"type": "text", "text": words}]}}


async def stream(about: Any, tool: str) -> AsyncIterator[bytes]:
    """Stream what a tool says."""
    yield event({"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}, "1" if tool == "elsewhere" else "")
    effect(tool)
    if tool == "broken" or (tool == "first" and times(tool) == 1):
        raise ConnectionResetError
    if tool == "elsewhere":
        WAITING["about"] = about
        return
    if tool in {"hang", "slow"}:
        try:
            for _ in range(10 if tool == "slow" else 100_000):
                await asyncio.sleep(0.05)
                yield b": still here\n\n"
        except asyncio.CancelledError:
            effect("cancelled")
            raise
    yield event(result(about, f"{tool} done"))


async def mcp(request: Request) -> Response:  # noqa: C901 - one branch for each method
    """Answer one request."""
    if request.method == "GET":
        about = WAITING.get("about")
        lines = [event(result(about, "elsewhere done"), "2")] if about is not None else [b": nothing\n\n"]
        return StreamingResponse(iter(lines), media_type="text/event-stream")
    message = json.loads(await request.body())
    about, params = message.get("id"), message.get("params") or {}
    if about is None:
        return Response(None, 202)
    if message.get("method") == "initialize":
        hello = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "shop", "version": "1"}}
        return JSONResponse({"jsonrpc": "2.0", "id": about, "result": hello}, headers={"mcp-session-id": f"s{about}"})
    if message.get("method") == "server/discover":  # it is of the revision before that
        return JSONResponse({"jsonrpc": "2.0", "id": about, "error": {"code": -32601, "message": "Method not found"}})
    if message.get("method") == "test/describe":
        DESCRIPTION["pay"] = params["description"]
    if message.get("method") == "tools/list":
        tools = {"result": {"tools": [{"name": "pay", "description": DESCRIPTION["pay"], "inputSchema": {"type": "object"}}]}}
        if params:  # a client of the new revision: in a stream
            return StreamingResponse(iter([event({"id": about, **tools})]), media_type="text/event-stream")
        return JSONResponse({"jsonrpc": "2.0", "id": about, **tools})
    if message.get("method") != "tools/call":
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        return JSONResponse(
            {"jsonrpc": "2.0", "id": about, "result": {"headers": headers}}, headers={"set-cookie": "a=1", "mcp-session-id": "s"}
        )
    tool = params["name"]
    if tool == "pay":
        effect(f"pay {request.headers.get('idempotency-key')}")
        return JSONResponse(result(about, "paid"), headers={"x-shop": "1"})
    if tool == "find":  # what became of a call with these arguments
        found = {"outcome": params["arguments"]["became"], "result": result(about, "found it")["result"]}
        return JSONResponse(result(about, json.dumps(found)))
    if tool == "forbidden":
        return JSONResponse({"error": "no"}, 403, headers={"www-authenticate": "Bearer"})
    if tool == "failing":
        effect("failing")
        return Response("trouble", 503)
    return StreamingResponse(stream(about, tool), media_type="text/event-stream")


class Server(uvicorn.Server):
    """Prints its port."""

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)


if __name__ == "__main__":
    app = Starlette(routes=[Route("/mcp", mcp, methods=["GET", "POST", "DELETE"])])
    asyncio.run(Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)).serve())
