"""Chains: a guarded copy whose invocations are runs, and in which functions and chat models are steps."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any

from langchain_core.language_models import BaseChatModel, BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableLambda, RunnableSerializable
from langchain_core.runnables.config import ensure_config, merge_configs

from surefoot import Guard, UsageError
from surefoot_adapters import (
    Do,
    Frame,
    Instead,
    Opened,
    Program,
    RunSpec,
    StepSpec,
    alike,
    called,
    done,
    element,
    here,
    in_run,
    is_guarded,
    named_run,
    nested_step,
    opaque,
    step,
    thread_of,
)
from surefoot_adapters.streams import Items, Live, asynchronous, register, spoken, stream
from surefoot_langgraph import _convert, _graph
from surefoot_langgraph._steps import hinted

__all__ = ["guarded"]


@dataclass(frozen=True, slots=True)
class _Binding:
    guard: Guard
    original: Any


def guarded(chain: Any, guard: Guard) -> Any:
    """Return a guarded copy of a chain, with the same type, schemas and drawing.

    Raises :class:`~surefoot.UsageError` for one that another guard has.
    """
    known = getattr(type(chain), "surefoot_binding", None)
    if is_guarded(known and known.guard, guard, f"chain {chain.get_name()!r}"):
        return chain
    _convert.register(guard.codec)
    register(guard.codec)
    inner = _graph.within(chain, guard, partial(_leaf, guard))
    return _become(_copied(inner), _whole(inner, _Binding(guard, chain)))


def _leaf(guard: Guard, part: Any) -> Any:
    """Return a function or a chat model in a chain as a step of it; other parts as they are."""
    if hasattr(type(part), "surefoot_binding"):
        return part
    if isinstance(part, BaseChatModel):
        return _become(_copied(part), _model(type(part), _Binding(guard, part)))
    if not isinstance(part, RunnableLambda):
        return part
    made = copy.copy(part)
    for name in ("func", "afunc"):
        function = getattr(part, name, None)
        if function is not None and _is_ordinary(function):
            setattr(made, name, _stepped(guard, part.get_name(), function))
    return made


def _is_ordinary(function: Callable[..., Any]) -> bool:
    """Return whether LangChain runs it as one call; a generator is a part of the step around it."""
    ordinary = inspect.isfunction(function) or inspect.ismethod(function)
    return ordinary and not inspect.isgeneratorfunction(function) and not inspect.isasyncgenfunction(function)


def _copied(part: Any) -> Any:
    return part.model_copy() if isinstance(part, RunnableSerializable | BaseLanguageModel) else copy.copy(part)


def _become(part: Any, kind: type) -> Any:
    part.__class__ = kind
    return part


# --- steps


def _instead(given: Any) -> Instead:
    return lambda function, frame: done(function, hinted(given, frame.hint))


def _in_one_piece(given: Any, *, is_async: bool) -> Instead:
    """Return what has a fallback stream its answer: all of it at once."""

    def attempt(function: Callable[..., Any], frame: Frame) -> Do:
        it = hinted(given, frame.hint)

        async def asked() -> list[Any]:
            return [await called(function, it)]

        return spoken(asked if is_async else lambda: [function(it)], is_async=is_async)

    return attempt


def _nested(guard: Guard, name: str, given: Any, body: Callable[[Any], Do], instead: Callable[[Any], Instead] = _instead) -> Program[Any]:
    """Be a step of what runs here; ``body`` returns what to do with an input."""
    place = here()
    if place is None:  # a part that was taken out of its chain
        return (yield body(given))
    digest = _convert.digest(guard.codec, given)
    return (
        yield from nested_step(guard, place, name, given, digest, lambda frame: body(hinted(given, frame.hint)), instead=instead(given))
    )


def _stepped(guard: Guard, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose calls are steps; LangChain looks at its signature and its kind."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coro(given: Any, *args: Any, **kwargs: Any) -> Any:
            body = lambda it: Do(lambda: None, lambda: function(it, *args, **kwargs))  # noqa: E731 - one line
            return await guard.adrive(_nested(guard, name, given, body))

        return coro

    @functools.wraps(function)
    def plain(given: Any, *args: Any, **kwargs: Any) -> Any:
        return guard.drive(_nested(guard, name, given, lambda it: Do(lambda: function(it, *args, **kwargs))))

    return plain


def _model(kind: type[Any], binding: _Binding) -> type[Any]:
    guard = binding.guard

    def _program(self: Any, given: Any, config: Any, kwargs: Mapping[str, Any]) -> Program[Any]:
        def body(it: Any) -> Do:
            return Do(lambda: kind.invoke(self, it, config, **kwargs), lambda: kind.ainvoke(self, it, config, **kwargs))

        return _nested(guard, binding.original.get_name(), given, body)

    def invoke(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return guard.drive(_program(self, input, config, kwargs))

    async def ainvoke(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return await guard.adrive(_program(self, input, config, kwargs))

    return alike(kind, {"surefoot_binding": binding, "invoke": invoke, "ainvoke": ainvoke})


# --- the whole


def _whole(inner: Any, binding: _Binding) -> type[Any]:
    """Return the class of a chain that runs ``inner``: LangChain's own methods call one another, and each would be a run."""
    guard = binding.guard

    def _program(given: Any, config: Any, body: Callable[[Any], Do], instead: Callable[[Any], Instead] = _instead) -> Program[Any]:
        if here() is not None:
            return _nested(guard, binding.original.get_name(), given, body, instead)
        return _run(binding, given, merge_configs(getattr(inner, "config", None), ensure_config(config)), body, instead)

    def _called(input: Any, config: Any, kwargs: Mapping[str, Any]) -> Program[Any]:
        def body(it: Any) -> Do:
            return Do(lambda: inner.invoke(it, config, **kwargs), lambda: inner.ainvoke(it, config, **kwargs))

        found = yield from _program(input, config, body)
        return reduce(add, found.all()) if isinstance(found, Items) else found  # killed as a stream, and resumed

    def _streamed(input: Any, config: Any, bare: Callable[[Any], Any], *, is_async: bool) -> Program[Items]:
        instead = partial(_in_one_piece, is_async=is_async)
        found = yield from _program(input, config, lambda it: Do(lambda: Live(bare(it))), instead)
        return found if isinstance(found, Items) else Items([found])

    def invoke(_self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return guard.drive(_called(input, config, kwargs))

    async def ainvoke(_self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return await guard.adrive(_called(input, config, kwargs))

    def stream_(_self: Any, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:
        return stream(guard, _streamed(input, config, lambda it: inner.stream(it, config, **kwargs), is_async=False))

    def astream(_self: Any, input: Any, config: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        return asynchronous(lambda: (guard, _streamed(input, config, lambda it: inner.astream(it, config, **kwargs), is_async=True)))()

    methods = {
        "invoke": invoke,
        "ainvoke": ainvoke,
        "stream": stream_,
        "astream": astream,
        # LangChain's own forms of these go through a chain part by part, past what is above; the plain ones call it
        "batch": Runnable.batch,
        "abatch": Runnable.abatch,
        "transform": Runnable.transform,
        "atransform": Runnable.atransform,
        "get_graph": lambda _self, *args, **kwargs: binding.original.get_graph(*args, **kwargs),
    }
    return alike(type(inner), {"surefoot_binding": binding, **methods})


def _run(
    binding: _Binding, given: Any, config: Mapping[str, Any], body: Callable[[Any], Do], instead: Callable[[Any], Instead]
) -> Program[Any]:
    """Open the run that an invocation belongs to, be its outermost step, and close it."""
    guard, name, named = binding.guard, binding.original.get_name(), named_run()
    durable = config.get("configurable", {}).get("thread_id")
    thread = thread_of(named, None if durable is None else str(durable))
    if thread is None and guard.strict:
        raise UsageError(f"strict=True needs a name for the run: invoke {name} in 'with surefoot.run(name):', or with a thread_id")
    digest = _convert.digest(guard.codec, given)
    known = digest or opaque()
    spec = RunSpec("langchain", named.tenant, thread, "input", given, known, joins=named.name is not None and named.thread is None)

    def attempt(frame: Frame) -> Do:
        return body(hinted(given, frame.hint))

    def outermost(opened: Opened) -> Program[Any]:
        return step(guard, StepSpec(opened.run, None, element(name, 1), name, given, digest), attempt, instead=instead(given))

    return in_run(guard, spec, outermost)
