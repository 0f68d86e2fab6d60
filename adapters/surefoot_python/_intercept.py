"""Functions of the same kind as the user's, whose calls are what :meth:`Subject.asked` makes of them."""

from __future__ import annotations

import asyncio
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from surefoot import Guard, UsageError
from surefoot_adapters import Do, Program, is_guarded
from surefoot_adapters.streams import Live, asynchronous, only, register, stream
from surefoot_python import _convert

__all__ = ["Asked", "Subject", "again", "guarded", "subject_of"]

Asked: TypeAlias = tuple[Guard, Program[Any]] | None
"""The guard and its program for one call; ``None``: the function itself."""


class Subject(ABC):
    """A user's function, and what a call of it is to a guard."""

    def __init__(self, function: FunctionType, guard: Guard | None) -> None:
        self.function = function
        self.guard = guard
        self.name = function.__qualname__.rpartition("<locals>.")[2]
        """Its name, with the class before it where it is a method."""
        self.identity = f"{function.__module__}.{function.__qualname__}"
        """Tells it from another function of that name."""
        self.signature = inspect.signature(function)
        self._known_to: WeakSet[Guard] = WeakSet()

    @abstractmethod
    def asked(self, body: Do, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
        """Return what this call is, asked for here and now."""

    def meet(self, guard: Guard) -> None:
        """Make the function and the types that it returns known to a guard, once."""
        if guard not in self._known_to:
            self.introduce(guard)
            register(guard.codec)
            _convert.register(guard.codec, self.function)
            self._known_to.add(guard)

    @abstractmethod
    def introduce(self, guard: Guard) -> None:
        """Say to a guard what it must know before the first call."""

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the final arguments by name, defaults filled in, or ``None`` where Python itself will refuse them."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:
            return None
        bound.apply_defaults()
        given = dict(bound.arguments)
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD and given.keys().isdisjoint(given[name]):
                given.update(given.pop(name))  # else it has the name of a positional-only one, and both count
        return given


_subjects: WeakKeyDictionary[Any, Subject] = WeakKeyDictionary()
"""Guarded function → what it guards. Not an attribute: other decorators copy those."""


def guarded(kind: type[Subject], target: Any, guard: Guard | None) -> Any:
    """Return a function like ``target`` whose calls are what ``kind`` makes of them.

    Raises :class:`~surefoot.UsageError` for one that another guard has already, and for what is not a function yet.
    """
    if isinstance(target, (staticmethod, classmethod)):
        decorator = f"@{type(target).__name__}"
        raise UsageError(f"{decorator} gives no function to guard: put {decorator} above surefoot's decorator, not below it")
    if isinstance(target, MethodType):
        return MethodType(guarded(kind, target.__func__, guard), target.__self__)
    known = _subjects.get(target)
    if isinstance(known, kind):
        if known.guard is guard or is_guarded(known.guard, guard, known.name):
            return target
        target = known.function
    subject = kind(target, guard)
    made = functools.wraps(target)(_alike(target, subject))
    _subjects[made] = subject
    return made


def subject_of(target: Any) -> Subject | None:
    """Return what a guarded function guards, ``None`` for another object."""
    return _subjects.get(getattr(target, "__func__", target))


def subjects() -> list[Subject]:
    """Return everything that is guarded in this process."""
    return list(_subjects.values())


def again(target: Any, given: Mapping[str, Any]) -> Any:
    """Call a guarded function with arguments by name, as :meth:`Subject.arguments` made them, to its end.

    Raises :class:`~surefoot.UsageError` where they do not fit.
    """
    args: list[Any] = []
    kwargs = dict(given)
    for name, parameter in inspect.signature(getattr(target, "__func__", target)).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            kwargs.update(kwargs.pop(name, {}))
        elif name not in kwargs:
            raise UsageError(f"the recorded input has no {name!r}, which {target.__qualname__} takes; is this the function that was run?")
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            args.extend(kwargs.pop(name))
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            args.append(kwargs.pop(name))
    result = getattr(target, "__func__", target)(*args, **kwargs)
    if inspect.isawaitable(result):
        return asyncio.run(_awaited(result))
    if inspect.isasyncgen(result):
        return asyncio.run(_drained(result))
    return list(result) if inspect.isgenerator(result) else result


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


async def _drained(items: Any) -> list[Any]:
    return [item async for item in items]


def _alike(function: FunctionType, subject: Subject) -> Callable[..., Any]:
    """Return a function of the same kind: plain, coroutine, generator or asynchronous generator function."""
    if inspect.iscoroutinefunction(function):

        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            body: Callable[[], Awaitable[Any]] = partial(function, *args, **kwargs)
            asked = subject.asked(Do(body, body), args, kwargs)
            return await (body() if asked is None else asked[0].adrive(asked[1]))

        return coroutine
    if inspect.isasyncgenfunction(function):

        def ask(*args: Any, **kwargs: Any) -> tuple[Guard | None, Program[Any]]:
            body = Do(lambda: Live(function(*args, **kwargs)))
            return subject.asked(body, args, kwargs) or (None, only(body))

        return asynchronous(ask)
    if inspect.isgeneratorfunction(function):

        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            asked = subject.asked(Do(lambda: Live(function(*args, **kwargs))), args, kwargs)
            return (yield from (function(*args, **kwargs) if asked is None else stream(*asked)))

        return generator

    def plain(*args: Any, **kwargs: Any) -> Any:
        body = partial(function, *args, **kwargs)
        asked = subject.asked(Do(partial(_result, subject.name, body)), args, kwargs)
        return body() if asked is None else asked[0].drive(asked[1])

    return plain


def _result(name: str, body: Callable[[], Any]) -> Any:
    value = body()
    if inspect.isawaitable(value):
        raise UsageError(f"{name} is a plain function and returned something to await: make it 'async def'")
    return value
