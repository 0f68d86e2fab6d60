"""The MCP server that ``mcp`` measures with and without a proxy: no SDK, one tool, which takes as long as its arguments say.

Run as a program it serves standard input and output (``stdio``), or HTTP on a port that it prints (``http``).
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

__all__ = ["main"]


async def answered(line: bytes) -> bytes:
    """Return the response to a request."""
    asked: dict[str, Any] = json.loads(line)
    if seconds := asked["params"]["arguments"]["seconds"]:
        await asyncio.sleep(seconds)
    return b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"paid"}]}}\n' % asked["id"]


async def _stdio() -> None:
    async def take(line: bytes) -> None:
        sys.stdout.buffer.write(await answered(line))
        sys.stdout.buffer.flush()

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        task = asyncio.create_task(take(line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _http() -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
            body = await answered(await reader.readexactly(length))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Return the head of the next request; nothing where there is none."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def main(transport: str) -> None:
    """Serve until the input ends, or until the process is ended."""
    asyncio.run({"stdio": _stdio, "http": _http}[transport]())


if __name__ == "__main__":
    main(sys.argv[1])
