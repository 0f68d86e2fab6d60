"""Generators: items pass to the consumer as they come and are recorded; a recording is replayed as a generator."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from surefoot import Guard, ResultUnavailable
from surefoot_adapters import ActiveCall, Codec, Do, Frame, Op, Program, at, here
from surefoot_adapters.timing import overdue

__all__ = ["Items", "Live", "Passing", "asynchronous", "only", "register", "seeing", "spoken", "stream"]


class Items(list[Any]):
    """What a generator yielded: a list, and how it ended."""

    returned: Any = None
    """What it returned after the last item."""
    closed: bool = False
    """Its consumer stopped before the end."""

    def all(self) -> Iterator[Any]:
        """Yield the recorded items. Raises :class:`~surefoot.ResultUnavailable` where more were asked for than recorded."""
        yield from self
        if self.closed:
            raise ResultUnavailable(f"only {len(self)} items are recorded: the consumer stopped there, and now asks for more")


def register(codec: Codec) -> None:
    """Teach the codec recordings."""
    codec.register("py.items", Items, lambda items: [list(items), items.returned, items.closed], _items)


def _items(data: list[Any]) -> Items:
    items = Items(data[0])
    items.returned, items.closed = data[1:]
    return items


class Live:
    """A generator whose body the engine has entered, and what it has yielded so far."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.items = Items()
        self.place = here()

    def keep(self, item: Any) -> Any:
        """Record an item as it is now, whatever its consumer makes of it; return it."""
        try:
            self.items.append(copy.deepcopy(item))
        except Exception:  # noqa: BLE001 - what cannot be copied cannot be stored either, which is reported where it is
            self.items.append(item)
        return item

    def outcome(self) -> Any:
        """Return what it came to, once it has ended."""
        return self.items

    def left(self) -> bool:
        """Note that its consumer stopped; return whether that is how it ended, as a tool's call may and a step may not."""
        self.items.closed = isinstance(self.place, ActiveCall)
        return self.items.closed

    def pauses(self) -> bool:
        """Return whether nothing of it goes on while its consumer has an item."""
        return True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that a stream waits for its consumer: a run's own gives way to a new invocation, and a step's time stands still."""
        frame = self.place if isinstance(self.place, Frame) and self.pauses() else None
        run = frame.run if frame is not None and frame.parent is None else None
        remaining = self.remaining() if frame is not None else None
        if run is not None:
            run.paused = True
        try:
            yield
        finally:
            if run is not None:
                run.paused = False
            if frame is not None and remaining is not None:
                frame.deadline = frame.run.guard.clock() + remaining

    def remaining(self) -> float | None:
        """Return how many seconds the step has left whose body this is; ``None``: as many as it takes."""
        if not isinstance(self.place, Frame) or self.place.deadline is None:
            return None
        return max(0.0, self.place.deadline - self.place.run.guard.clock())

    def in_time(self) -> None:
        """Raise :class:`TimeoutError` where the step has no time left: plain code cannot be stopped on its way to an item."""
        if isinstance(self.place, Frame) and self.remaining() == 0:
            raise overdue(self.place)


class Passing(Live):
    """A generator whose items are its consumer's alone: what it came to is something else, which ``ended`` returns."""

    def __init__(self, generator: Any, ended: Callable[[], Any], pauses: Callable[[], bool] = lambda: True) -> None:
        super().__init__(generator)
        self._ended = ended
        self._pauses = pauses

    def keep(self, item: Any) -> Any:
        """Return the item."""
        return item

    def outcome(self) -> Any:
        """Return what ``ended`` says."""
        return self._ended()

    def left(self) -> bool:
        """Return that it did not end: what it would have come to is not known."""
        return False

    def pauses(self) -> bool:
        """Return whether nothing of it goes on while its consumer has an item."""
        return self._pauses()


class _Flow:
    """A program on its way, one operation at a time."""

    def __init__(self, program: Program[Items]) -> None:
        self._program = program
        self.answer: Any = None
        self.error: BaseException | None = None
        self.live: Live | None = None
        self.recorded = Items()

    def op(self) -> Op | None:
        """Return what the program asks for next, or ``None`` when it has ended."""
        answer, error = self.answer, self.error
        self.answer = self.error = None
        try:
            return self._program.send(answer) if error is None else self._program.throw(error)
        except StopIteration as stop:
            self.recorded = stop.value
            return None

    def left(self, exc: GeneratorExit) -> None:
        """Note that the consumer stopped: that is how a tool's call ended; a step has not ended."""
        if self.live is not None and self.live.left():
            self.answer = self.live.outcome()
        else:
            self.error = exc


def spoken(ask: Callable[[], Any], *, is_async: bool) -> Do:
    """Return an attempt whose items are what ``ask`` returns: those of a list or a generator, in the stream's own kind."""

    def items() -> Generator[Any, Any, Any]:
        return (yield from ask())

    async def aitems() -> AsyncGenerator[Any, None]:
        found = ask()
        found = await found if inspect.isawaitable(found) else found
        if inspect.isasyncgen(found):
            async with aclosing(found):
                async for item in found:
                    yield item
        else:
            for item in found:
                yield item

    return Do(lambda: Live(aitems() if is_async else items()))


def only(op: Op) -> Program[Any]:
    """Return a program that asks for this alone."""
    return (yield op)


def stream(guard: Guard, program: Program[Items]) -> Generator[Any, Any, Any]:
    """Run a program whose body is a generator, and yield the items."""
    flow = _Flow(program)
    while (op := flow.op()) is not None:
        try:
            flow.answer = guard.drive(only(op))
            if isinstance(flow.answer, Live):
                flow.live = flow.answer
                flow.answer = yield from _passed(flow.live)
        except GeneratorExit as exc:
            flow.left(exc)
        except BaseException as exc:  # noqa: BLE001 - everything goes back into the program, which decides
            flow.error = exc
    if flow.live is None:
        yield from flow.recorded.all()
    return flow.recorded.returned


def _passed(live: Live) -> Generator[Any, Any, Any]:
    """Yield the items of a body as they come; what the consumer sends or throws reaches it."""
    resume = partial(live.generator.send, None)
    while True:
        try:
            with at(live.place):
                item = resume()
            live.in_time()
        except StopIteration as stop:
            live.in_time()
            live.items.returned = stop.value
            return live.outcome()
        try:
            with live.waiting():
                sent = yield live.keep(item)
        except GeneratorExit:
            with at(live.place):
                live.generator.close()
            raise
        except BaseException as exc:  # noqa: BLE001 - the body decides, as it would unguarded
            resume = partial(live.generator.throw, exc)
        else:
            resume = partial(live.generator.send, sent)


def asynchronous(  # noqa: C901 - the loop of `stream` and `_passed` in one
    ask: Callable[..., tuple[Guard | None, Program[Any]]],
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an asynchronous generator function that runs what ``ask`` returns for a call, and yields the items.

    Without a guard nothing is recorded. The loop stands in the function itself: ``yield from`` does not exist here.
    """

    async def generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:  # noqa: C901 - as above
        guard, program = ask(*args, **kwargs)
        flow = _Flow(program)
        while (op := flow.op()) is not None:
            try:
                flow.answer = await guard.adrive(only(op)) if guard is not None else _plain(op)
                if isinstance(flow.answer, Live):
                    flow.live = live = flow.answer
                    resume = partial(live.generator.asend, None)
                    while (item := await _anext(live, resume)) is not _END:
                        try:
                            with live.waiting():
                                sent = yield live.keep(item) if guard is not None else item
                        except GeneratorExit:
                            with at(live.place):
                                await live.generator.aclose()
                            raise
                        except BaseException as exc:  # noqa: BLE001 - the body decides, as it would unguarded
                            resume = partial(live.generator.athrow, exc)
                        else:
                            resume = partial(live.generator.asend, sent)
                    flow.answer = live.outcome()
            except GeneratorExit as exc:
                flow.left(exc)
            except BaseException as exc:  # noqa: BLE001 - everything goes back into the program; cancellation too must reach it
                flow.error = exc
        if flow.live is None:
            for item in flow.recorded.all():
                yield item

    return generator


async def seeing(variable: ContextVar[Any], value: Any, generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, None]:
    """Yield the items of a generator that sees ``value`` in a context variable, and its consumer does not."""
    async with aclosing(generator):
        while True:
            token = variable.set(value)
            try:
                item = await anext(generator, _END)
            finally:
                variable.reset(token)
            if item is _END:
                return
            yield item


_END: Final = object()


def _plain(op: Op) -> Any:
    assert isinstance(op, Do)  # noqa: S101 - without a guard there is nothing else to ask for
    return op.plain()


async def _anext(live: Live, resume: Callable[[], Awaitable[Any]]) -> Any:
    limit = asyncio.timeout(live.remaining())
    try:
        async with limit:
            with at(live.place):
                return await resume()
    except StopAsyncIteration:
        return _END
    except TimeoutError:
        if limit.expired():
            live.in_time()
        raise
