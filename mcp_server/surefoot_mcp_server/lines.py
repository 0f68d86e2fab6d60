"""Lines over pipes: any length up to the limit, at the pace of whoever reads them."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from abc import abstractmethod
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final, Protocol

from surefoot_mcp_server.wire import LIMIT

__all__ = ["Hose", "Overlong", "Reads", "Sink", "Source", "Writes", "lines", "sink_of", "source_of"]

_CHUNK: Final = 256 * 1024


class Reads(Protocol):
    """Where a relay's lines come from."""

    reader: asyncio.StreamReader

    @abstractmethod
    def close(self) -> None:
        """Read no more."""


class Writes(Protocol):
    """Where a relay's lines go."""

    @abstractmethod
    async def write(self, line: bytes) -> bool:
        """Write a line and wait until there is room for the next; return whether somebody is there to read it."""

    @abstractmethod
    async def watch(self) -> None:
        """Return when nobody reads it any more."""

    @abstractmethod
    def close(self) -> None:
        """Say that there is no more."""


class Overlong(ValueError):
    """A line is longer than a message may be."""


async def lines(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """Yield lines with their ends, the last one as it is; reads no further while its consumer is busy. Raises :class:`Overlong`."""
    rest = bytearray()
    while chunk := await reader.read(_CHUNK):
        start = 0
        while (end := chunk.find(b"\n", start) + 1) > 0:
            yield bytes(rest + chunk[start:end])
            rest.clear()
            start = end
        rest += chunk[start:]
        if len(rest) >= LIMIT:
            raise Overlong(f"a message is longer than {LIMIT} bytes")
    if rest:
        yield bytes(rest)


class Sink:
    """Where lines go: whole, one after the other, at the pace of whoever reads them."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.gone = asyncio.Event()
        """Nobody reads it any more."""

    async def write(self, line: bytes) -> bool:
        """Write a line and wait until there is room for the next; return whether somebody is there to read it."""
        if self.gone.is_set() or self._writer.is_closing():
            self.gone.set()
            return False
        self._writer.write(line if line.endswith(b"\n") else line + b"\n")
        try:
            await self._writer.drain()
        except (ConnectionError, OSError):
            self.gone.set()
            return False
        return True

    async def watch(self) -> None:
        """Return when nobody reads it any more."""
        with suppress(ConnectionError, OSError):
            await self._writer.wait_closed()
        self.gone.set()

    def close(self) -> None:
        """Write what is left and say that there is no more."""
        self._writer.close()


class Source:
    """Where lines come from."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.BaseTransport) -> None:
        self.reader = reader
        self._transport = transport

    def close(self) -> None:
        """Read no more."""
        self._transport.close()


class Hose(asyncio.ReadTransport):
    """Lines from one task to another in this process, at the pace of the one that reads: a source to that one."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = asyncio.StreamReader(limit=_CHUNK)
        self.reader.set_transport(self)  # so it says here when it has enough
        self._room = asyncio.Event()
        self._room.set()
        self._over = False

    async def write(self, line: bytes) -> bool:
        """Write a line when there is room for it; return whether somebody is there to read it."""
        await self._room.wait()
        if self._over:
            return False
        self.reader.feed_data(line if line.endswith(b"\n") else line + b"\n")
        return True

    def end(self) -> None:
        """Say that there is no more."""
        self.close()
        self.reader.feed_eof()

    def close(self) -> None:
        """Read no more."""
        self._over = True
        self._room.set()

    def pause_reading(self) -> None:
        """Have whoever writes wait."""
        if not self._over:
            self._room.clear()

    def resume_reading(self) -> None:
        """Let whoever writes go on."""
        self._room.set()


async def source_of(fd: int) -> Source:
    """Return one of this process's own files as a source."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    if not _is_pipe(fd):
        ours, theirs = os.pipe()
        threading.Thread(target=_pump, args=(fd, theirs), name="surefoot-stdin", daemon=True).start()
        fd = ours
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    return Source(reader, transport)


async def sink_of(fd: int) -> Sink:
    """Return a sink into one of this process's own files."""
    loop = asyncio.get_running_loop()
    if not _is_pipe(fd):
        theirs, ours = os.pipe()
        threading.Thread(target=_pump, args=(theirs, fd), name="surefoot-stdout").start()  # ends with the pipe
        fd = ours
    unread = asyncio.StreamReader()
    transport, protocol = await loop.connect_write_pipe(lambda: asyncio.StreamReaderProtocol(unread), os.fdopen(fd, "wb", 0))
    return Sink(asyncio.StreamWriter(transport, protocol, None, loop))


def _is_pipe(fd: int) -> bool:
    """Return whether the event loop may wait for it; a terminal is shared with processes that do not expect it to be switched over."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _pump(source: int, target: int) -> None:
    try:
        while chunk := os.read(source, _CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[os.write(target, view) :]
    except OSError:  # the other end is gone
        pass
    finally:
        os.close(target if target > 2 else source)  # noqa: PLR2004 - never one of the three that every process has
