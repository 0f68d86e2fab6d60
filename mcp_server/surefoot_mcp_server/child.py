"""The server's process: started without a shell, in a process group of its own, and gone when the proxy is."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from surefoot import UsageError
from surefoot_mcp_server.lines import Sink

__all__ = ["Child"]

_CHUNK: Final = 256 * 1024
_PR_SET_PDEATHSIG: Final = 1
_STEP: Final = 1.0
"""Seconds between one way to end it and the next."""


class Child:
    """A running server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stopped = False
        assert process.stdout is not None  # noqa: S101 - asked for below
        assert process.stdin is not None  # noqa: S101 - as above
        self.stdout = process.stdout
        self.sink = Sink(process.stdin)
        self.on_lost: Any = None
        """Nobody calls it: a server on a pipe loses all requests or none."""

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Child:
        """Start a server, with this ``environment`` beside our own.

        Raises :class:`~surefoot.UsageError` when there is no such command (I32: nothing but the user names one).
        """
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=pipe,
                stdout=pipe,
                limit=_CHUNK,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=_dies_with_its_parent(),
            )
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise UsageError(f"the server {command[0]!r} cannot be started ({why}); give the command as you would type it") from exc
        return cls(process)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def stop(self, hurry: asyncio.Event, patience: float, /) -> int:
        """End it: by the end of its input, then by SIGTERM, then by SIGKILL, each for its whole process group; return its exit code.

        After the end of its input it has ``patience`` seconds, or one second from when ``hurry`` is set. The code is its own where
        it ended by itself, ``128 + n`` where a signal ended it that was not ours, and 0 where ours did.
        """
        self.sink.close()
        ended = asyncio.ensure_future(self._process.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({ended, hurried}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None and not ended.done():
                self._stopped = True
                self._signal(number)
            await asyncio.wait({ended}, timeout=_STEP)
        if not ended.done():  # it has died, and asyncio waits for pipes that nobody reads
            self.close()
        code = await ended
        self._signal(signal.SIGKILL)  # whom it left behind in its group
        return 0 if self._stopped and code < 0 else 128 - code if code < 0 else code

    def close(self) -> None:
        """Let go of its pipes, which a process that it left behind may hold open for ever."""
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio has no other way

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left, or only processes that are no longer its own
            os.killpg(self._process.pid, number)


def _dies_with_its_parent() -> Callable[[], Any] | None:
    """Return what makes the kernel end the server when the proxy is killed and can do it no more, where a system has that."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: after it, as little as possible
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
