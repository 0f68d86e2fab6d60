"""What is made once: for each guard, and of each object."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from surefoot import Guard

__all__ = ["Copies", "each_guard"]

T = TypeVar("T")


def each_guard(make: Callable[[Guard], T]) -> Callable[[Guard], T]:
    """Return a function that makes something for a guard when it is first asked for, and returns that from then on."""
    made: weakref.WeakKeyDictionary[Guard, T] = weakref.WeakKeyDictionary()

    @functools.wraps(make, updated=())
    def of(guard: Guard) -> T:
        if guard not in made:
            made[guard] = make(guard)
        return made[guard]

    return of


class Copies:
    """The guarded copy of each object, the same one each time, for as long as the object lives."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def get(self, target: Any) -> Any:
        """Return the copy of an object, ``None`` where there is none yet."""
        return self._made.get(id(target), (None, None))[1]

    def put(self, target: Any, copy: T) -> T:
        """Keep the copy of an object, and return it."""
        key = id(target)
        self._made[key] = (weakref.ref(target, lambda _gone: self._made.pop(key, None)), copy)
        return copy
