"""Threads: where the bodies of plain tools run beside an event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

__all__ = ["in_thread"]


async def in_thread(function: Callable[[], Any], begun: Callable[[asyncio.Future[Any]], object] = id) -> Any:
    """Run a plain function in a thread of the loop's own, in this context, and return what it returns.

    It brings home the very error: of a ``TimeoutError`` that leaves a thread asyncio makes another one. ``begun`` gets the
    future that stands for the thread.
    """
    raised: list[BaseException] = []

    def body() -> Any:
        try:
            return function()
        except BaseException as exc:  # noqa: BLE001 - raised below
            raised.append(exc)

    future = asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, body)
    begun(future)
    value = await future
    if raised:
        raise raised[0]
    return value
