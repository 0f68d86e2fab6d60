"""Subclasses made on demand, for views that share the state of the object that they stand for, and for objects changed in place."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar

from surefoot import AdapterUnavailable

__all__ = ["Kinds", "alike", "become", "view"]

T = TypeVar("T")
_OF_MODELS: Final = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def alike(kind: type[T], own: Mapping[str, Any]) -> type[T]:
    """Return a subclass of ``kind`` that looks like it and overrides what ``own`` has."""
    looks = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    ours = {name: ClassVar[Any] for name in own if name.startswith("surefoot_")}  # else fields of a pydantic model
    body = {**looks, "__annotations__": ours, **own}
    made: type[T] = types.new_class(kind.__name__, (kind,), exec_body=lambda space: space.update(body))
    return made


class Kinds:
    """Subclasses made on demand, one for each class: they look like it and override what ``namespace`` returns for it."""

    def __init__(self, namespace: Callable[[type], Mapping[str, Any]]) -> None:
        self._namespace = namespace
        self._made: dict[type, type] = {}

    def of(self, kind: type[T]) -> type[T]:
        """Return the subclass of ``kind``; of one that was made here, itself."""
        if self.made(kind):
            return kind
        if kind not in self._made:
            self._made[kind] = alike(kind, {"surefoot_kinds": self, **self._namespace(kind)})
        return self._made[kind]

    def made(self, kind: type) -> bool:
        """Return whether ``kind`` was made here."""
        return getattr(kind, "surefoot_kinds", None) is self


def view(target: T, kinds: Kinds) -> T:
    """Return a view of ``target``: what either of them sets, both have.

    Raises :class:`~surefoot.AdapterUnavailable` for an object that keeps its state elsewhere than in ``__dict__``, or where
    pydantic's models do.
    """
    kind = type(target)
    if kinds.made(kind):
        return target
    made = object.__new__(kinds.of(kind))
    try:
        for name in ("__dict__", *(name for name in _OF_MODELS if hasattr(target, name))):
            object.__setattr__(made, name, getattr(target, name))
    except AttributeError:
        msg = f"{kind.__qualname__} keeps its state in slots and cannot be guarded; give it a __dict__"
        raise AdapterUnavailable(msg) from None
    return made


def become(target: T, kinds: Kinds) -> T:
    """Make ``target`` itself one of these, and return it: whoever has it has the guarded one.

    Raises :class:`~surefoot.AdapterUnavailable` for an object whose class cannot be exchanged.
    """
    kind = type(target)
    if not kinds.made(kind):
        try:
            object.__setattr__(target, "__class__", kinds.of(kind))
        except TypeError:
            msg = f"{kind.__qualname__} keeps its state in slots and cannot be guarded; give it a __dict__"
            raise AdapterUnavailable(msg) from None
    return target
