"""One state machine, two faces.

The engine's protocols are generators that *ask* for what they need: a transaction (:class:`Tx`), user code
(:class:`Do`), time (:class:`Pause`). :func:`drive` answers them from ordinary code, :func:`adrive` from a
coroutine. The protocols themselves exist once and contain no ``await``.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from surefoot.engine.unit import Unit

__all__ = ["Do", "Op", "Pause", "Program", "Tx", "adrive", "drive"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tx:
    """Ask for ``work`` to run in one transaction; the answer is what it returns, once that is durable."""

    work: Callable[[Unit], Any]
    write: bool = True


@dataclass(frozen=True, slots=True)
class Do:
    """Ask for user code; the answer is what it returns.

    ``plain`` serves the synchronous face, ``coro`` the asynchronous one; where only ``plain`` is given it
    serves both, and an awaitable that it returns is awaited.
    """

    plain: Callable[[], Any]
    coro: Callable[[], Awaitable[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Ask for time to pass, in seconds."""

    seconds: float


Op: TypeAlias = Tx | Do | Pause
Program: TypeAlias = Generator[Op, Any, T]


def drive(program: Program[T], transact: Callable[[Tx], Any]) -> T:
    """Run a program to its end from ordinary code and return its result."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            op = program.send(answer) if error is None else program.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        answer, error = None, None
        try:
            match op:
                case Tx():
                    answer = transact(op)
                case Do():
                    answer = op.plain()
                    if inspect.isawaitable(answer):
                        answer = _await(answer)
                case Pause():
                    time.sleep(op.seconds)
        except BaseException as exc:  # noqa: BLE001 - everything goes back into the program, which decides
            error = exc


async def adrive(program: Program[T], transact: Callable[[Tx], Awaitable[Any]]) -> T:
    """Run a program to its end from a coroutine and return its result."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            op = program.send(answer) if error is None else program.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        answer, error = None, None
        try:
            match op:
                case Tx():
                    answer = await transact(op)
                case Do():
                    answer = op.plain() if op.coro is None else await op.coro()
                    if inspect.isawaitable(answer):
                        answer = await answer
                case Pause():
                    await asyncio.sleep(op.seconds)
        except BaseException as exc:  # noqa: BLE001 - as above; cancellation too must reach the program
            error = exc


def _await(awaitable: Awaitable[T]) -> T:
    """Run an awaitable to its end from ordinary code, in a thread of its own: this one may have a running loop."""

    async def whole() -> T:
        return await awaitable

    with ThreadPoolExecutor(1, "surefoot-await") as pool:
        return pool.submit(copy_context().run, asyncio.run, whole()).result()
