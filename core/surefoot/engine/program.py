"""One state machine, two faces.

The engine's protocols are generators that *ask* for what they need: a transaction (:class:`Tx`), user code
(:class:`Do`), time (:class:`Pause`). :func:`drive` answers them from ordinary code, :func:`adrive` from a
coroutine. The protocols themselves exist once and contain no ``await``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from surefoot.engine.unit import Unit

__all__ = ["Do", "Op", "Pause", "Program", "Tx", "adrive", "aenter", "begun", "current", "drive", "enter", "settled"]

T = TypeVar("T")
current: ContextVar[Any] = ContextVar("surefoot_at", default=None)
"""The open step or running call that this code is in (see :mod:`surefoot.engine.frames`)."""


@dataclass(slots=True, eq=False, repr=False)
class Tx:
    """Ask for ``work`` to run in one transaction; the answer is what it returns, once that is durable."""

    work: Callable[[Unit], Any]
    write: bool = True
    rides: bool = False
    """Nobody waits for it: it is done in the next transaction that writes, or lost with the process."""


@dataclass(slots=True, eq=False, repr=False)
class Do:
    """Ask for user code; the answer is what it returns.

    ``plain`` serves the synchronous face, ``coro`` the asynchronous one; where only ``plain`` is given it
    serves both, and an awaitable that it returns is awaited.
    """

    plain: Callable[[], Any]
    coro: Callable[[], Awaitable[Any]] | None = None
    inside: Any = None
    """The step or call that is the current one while it runs; ``None``: whichever is."""


@dataclass(slots=True, eq=False, repr=False)
class Pause:
    """Ask for time to pass, in seconds."""

    seconds: float


Op: TypeAlias = Tx | Do | Pause
Program: TypeAlias = Generator[Op, Any, T]


def drive(program: Program[T], transact: Callable[[Tx], Any]) -> T:
    """Run a program to its end from ordinary code and return its result."""
    answer: Any = None
    error: BaseException | None = None
    thrown: BaseException | None = None
    while True:
        try:
            op = program.send(answer) if error is None else program.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except RuntimeError as exc:
            if exc is not thrown and isinstance(exc.__cause__, StopIteration):
                raise exc.__cause__ from None  # what a body raised, and no generator lets through as it is
            raise
        answer, error = None, None
        try:
            match op:
                case Tx():
                    answer = transact(op)
                case Do():
                    answer = settled(enter(op))
                case Pause():
                    time.sleep(op.seconds)
        except BaseException as exc:  # noqa: BLE001 - everything goes back into the program, which decides
            error = thrown = exc


async def adrive(program: Program[T], transact: Callable[[Tx], Awaitable[Any]]) -> T:
    """Run a program to its end from a coroutine and return its result."""
    import asyncio

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
                    if _cancelling(asyncio):
                        await asyncio.sleep(0)  # a cancellation that waited for a transaction's end arrives here
                    answer = enter(op) if op.coro is None else await aenter(op)
                    if hasattr(type(answer), "__await__"):
                        answer = await answer
                case Pause():
                    await asyncio.sleep(op.seconds)
        except BaseException as exc:  # noqa: BLE001 - as above; cancellation too must reach the program
            error = exc


def enter(op: Do) -> Any:
    """Run user code that is not a coroutine, in its place."""
    if op.inside is None:
        return op.plain()
    op.inside.entered = True
    token = current.set(op.inside)
    try:
        return op.plain()
    finally:
        current.reset(token)


async def aenter(op: Any) -> Any:
    """Like :func:`enter`, for a coroutine."""
    if op.inside is None:
        return await op.coro()
    op.inside.entered = True
    token = current.set(op.inside)
    try:
        return await op.coro()
    finally:
        with suppress(ValueError):  # one that is collected ends in whatever context that happens
            current.reset(token)


def _cancelling(asyncio: Any) -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # driven by something else than asyncio
        return False
    return task is not None and task.cancelling() > 0


def begun(work: Callable[[], Any]) -> Any:
    """Start ``work`` in a thread of its own that knows the caller's context; return its future. The process may end before it."""
    from concurrent.futures import Future

    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()

    def fill() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the caller's
            future.set_exception(exc)

    threading.Thread(target=copy_context().run, args=(fill,), name="surefoot-body", daemon=True).start()
    return future


def settled(answer: Any) -> Any:
    """Return what user code answered; an awaitable is run to its end in a thread of its own: this one may have a running loop."""
    if not hasattr(type(answer), "__await__"):
        return answer
    import asyncio

    async def whole() -> Any:
        return await answer

    return begun(lambda: asyncio.run(whole())).result()
