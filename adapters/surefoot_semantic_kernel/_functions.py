"""Functions of plugins: the claim is made at a function's own method, below every filter and every conversion of arguments."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from semantic_kernel.contents import FunctionCallContent
from semantic_kernel.functions.function_result import FunctionResult
from semantic_kernel.functions.kernel_function_from_method import KernelFunctionFromMethod
from semantic_kernel.functions.kernel_function_from_prompt import KernelFunctionFromPrompt

from surefoot import Guard, SurefootError
from surefoot_adapters import Do, Frame, Program, Request, call, declared_rule, frame_at, here, identity, plain, returned, storable
from surefoot_adapters.streams import Live, asynchronous, only
from surefoot_semantic_kernel import _convert, _processes
from surefoot_semantic_kernel._invocation import invocation_at
from surefoot_semantic_kernel._runs import Door, surfaced

__all__ = ["claiming", "register", "requesting"]


@dataclass(eq=False)
class _Requested:
    """A call that a model has asked for, on its way to the function."""

    content: FunctionCallContent
    stop: BaseException | None = None
    """What must get past the framework, which would make it words for the model."""


_requested: ContextVar[_Requested | None] = ContextVar("surefoot_semantic_kernel_requested", default=None)


def register(guard: Guard, function: Any) -> str:
    """Make a function known to the guard; return its qualified name, which is the one that the model calls."""
    name = str(function.fully_qualified_name)
    if isinstance(function, KernelFunctionFromPrompt):
        return name
    method = getattr(function, "method", type(function))
    given = method.func if isinstance(method, partial) else method
    given = getattr(given, "__func__", given)
    body = inspect.unwrap(given)
    guard.register(name, identity(body), declared_rule(given, body), lambda: _convert.definition(function.metadata))
    return name


def requesting(inner: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Return what stands innermost of the filters of a model's request: it says whose request the function's call is."""

    async def invoke(context: Any) -> None:
        asked = _Requested(context.function_call_content)
        token = _requested.set(asked)
        try:
            await inner(context)
        finally:
            _requested.reset(token)
        if asked.stop is not None:
            raise asked.stop

    return invoke


def claiming(guard: Guard, inner: Any) -> Callable[[Any], Awaitable[None]]:
    """Return what stands innermost of a function's filters: ``inner``, bound to a function whose method makes the claim."""
    function, run = inner.__self__, inner.__func__

    async def invoke(context: Any) -> None:
        asked = _requested.get()
        claim = _Claim(guard, function, asked.content if asked is not None else None)
        try:
            if isinstance(function, KernelFunctionFromPrompt):
                await _prompted(guard, function, context, partial(run, function, context))
            elif isinstance(function, KernelFunctionFromMethod):
                await run(claim.function(), context)
            else:
                await claim.around(context, partial(run, function, context))
        except Exception as exc:
            stop = claim.stop(exc)
            if stop is not None and asked is not None:
                asked.stop = stop
            raise

    return invoke


async def _prompted(guard: Guard, function: Any, context: Any, run: Callable[[], Awaitable[None]]) -> None:
    """Run a prompt function: a run of its own, or a step of the run around it. Its stream is one where it is read."""
    if context.is_streaming:
        await run()
        return
    name = _convert.prompt_name(function)
    given = [function.prompt_template.prompt_template_config.template, plain(dict(context.arguments))]

    async def once(frame: Frame) -> Any:
        invocation_at(frame, guard, name).hint = frame.hint
        await run()
        return context.result

    door = Door(guard, name, given)
    with _nobody():
        context.result = await door.run(once, lambda result: None if result is None else str(result))


@dataclass(eq=False)
class _Claim:
    """One call of a function, asked for by a model or by code."""

    guard: Guard
    of: Any
    content: FunctionCallContent | None
    raised: list[BaseException] = field(default_factory=list)
    """What the body raised."""

    def function(self) -> Any:
        """Return a function like this one, whose method makes the claim."""
        made = self.of.model_copy()
        method, streams = self.of.method, self.of.stream_method

        async def claimed(**arguments: Any) -> Any:
            step = _processes.Step.of(method, arguments)
            return await self._run(arguments, partial(method, **arguments), step)

        def streamed(**arguments: Any) -> Any:
            return asynchronous(lambda: (self.guard, self._streamed(arguments, lambda: streams(**arguments))))()

        vars(made).update(method=claimed, stream_method=None if streams is None else streamed)
        return made

    async def around(self, context: Any, run: Callable[[], Awaitable[None]]) -> None:
        """Claim the call of a function that is made of no method, and run it where the claim lets it."""

        async def body() -> Any:
            await run()
            return None if context.result is None else context.result.value

        value = await self._run(dict(context.arguments), body)
        if context.result is None:
            context.result = FunctionResult(function=self.of.metadata, value=value)

    def stop(self, exc: BaseException) -> BaseException | None:
        """Return what stops the run: surefoot's own, here or in what the body ran; ``None`` for an answer of the function."""
        found = surfaced(exc)
        return found if isinstance(found, SurefootError) else None

    # --- the call

    @property
    def _waits(self) -> bool:
        """Whether the body is a coroutine's: a plain one runs in its caller's thread, or past a deadline of its own in another."""
        method = inspect.unwrap(getattr(self.of, "method", None) or _gathered)
        return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)

    async def _run(self, arguments: dict[str, Any], body: Callable[[], Any], step: _processes.Step | None = None) -> Any:
        def kept(value: Any) -> Any:
            value = storable(self.guard.codec, value, _convert.Shown)
            return value if step is None else step.entered(self.guard.codec, value)

        async def coro(found: Any = None) -> Any:
            with _nobody():
                return kept(await _gathered(body() if found is None else found))

        def plain() -> Any:
            with _nobody():
                found = body()
            return coro(found) if inspect.isawaitable(found) else kept(list(found) if inspect.isgenerator(found) else found)

        do = Do(plain, coro if self._waits else None)

        async def within(frame: Frame) -> Any:
            program = call(self.guard, frame, self._request(frame, arguments), do)
            return await (self.guard.adrive(program) if self._waits else _at_once(self.guard, program))

        place = here()
        name = self.of.fully_qualified_name
        if place is None:
            found = await Door(self.guard, name, self._final(arguments)).run(within)
        else:
            found = await within(frame_at(place, self.guard, name))
        return returned(found if step is None else await step.done(found))

    def _streamed(self, arguments: dict[str, Any], body: Callable[[], Any]) -> Program[Any]:
        """Return the program of a function that yields: its items pass as they come, and are recorded."""
        place, name = here(), self.of.fully_qualified_name

        def live() -> Live:
            found = body()
            return Live(found if inspect.isasyncgen(found) else _items(found))

        if place is not None:
            frame = frame_at(place, self.guard, name)
            return call(self.guard, frame, self._request(frame, arguments), Do(live))

        def once(frame: Frame) -> Do:
            request = self._request(frame, arguments)
            return Do(lambda: Live(asynchronous(lambda: (self.guard, call(self.guard, frame, request, Do(live))))()))

        return Door(self.guard, name, self._final(arguments)).program(once)

    def _request(self, frame: Frame, arguments: dict[str, Any]) -> Request:
        name = register(self.guard, self.of)
        final = self._final(arguments)
        if self.content is None:
            return Request(name, final, self.of.metadata)
        current = invocation_at(frame, self.guard)
        return Request(name, final, self.of.metadata, self.content.id, current.position(self.content), str)

    def _final(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return _convert.final_arguments(self.of.metadata, arguments)


class _nobody:  # noqa: N801 - a context manager, used as one
    """What a body asks for by itself is no request of the model."""

    def __enter__(self) -> None:
        self._token = _requested.set(None)

    def __exit__(self, *_exc: object) -> None:
        _requested.reset(self._token)


async def _at_once(guard: Guard, program: Program[Any]) -> Any:
    """Run the call of a plain function, which has the loop's thread to itself: its outcome is durable before a sibling's body has it."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            op = program.send(answer) if error is None else program.throw(error)
        except StopIteration as stop:
            return stop.value
        answer = error = None
        try:
            answer = await guard.adrive(only(op)) if isinstance(op, Do) else guard.drive(only(op))
        except BaseException as exc:  # noqa: BLE001 - everything goes back into the program, which decides
            error = exc


async def _gathered(found: Any) -> Any:
    """Return what a method returned, as the framework would gather it."""
    if inspect.isasyncgen(found):
        return [item async for item in found]
    return await found if inspect.isawaitable(found) else found


async def _items(found: Any) -> Any:
    for item in found:
        yield item
