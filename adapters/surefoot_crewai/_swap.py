"""Objects guarded in place: the class becomes a subclass that looks like it, everything else stays."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from surefoot import Guard
from surefoot_adapters import is_guarded

__all__ = ["guard_of", "swap"]

_made: WeakKeyDictionary[Guard, dict[type, type]] = WeakKeyDictionary()


def guard_of(target: object) -> Guard | None:
    """Return the guard that an object was guarded with, or ``None``."""
    return getattr(type(target), "surefoot_guard", None)


def swap(target: Any, guard: Guard, namespace: Mapping[str, Any]) -> None:
    """Guard an object in place with the methods and properties of ``namespace``.

    Raises :class:`~surefoot.UsageError` where another guard has it.
    """
    kind = type(target)
    if is_guarded(guard_of(target), guard, f"this {kind.__name__}"):
        return
    classes = _made.setdefault(guard, {})
    if kind not in classes:
        classes[kind] = _subclass(kind, guard, namespace)
    object.__setattr__(target, "__class__", classes[kind])


def _subclass(kind: type, guard: Guard, namespace: Mapping[str, Any]) -> type:
    """Return a subclass of ``kind`` with its name.

    It is named after it was made: CrewAI keeps tools by the name that a class has when it is made, and builds them from there.
    """
    body = {
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "__annotations__": {"surefoot_guard": ClassVar[Any]},
        "surefoot_guard": guard,
    }
    made = types.new_class(f"Surefoot{kind.__name__}", (kind,), exec_body=lambda space: space.update(body))
    for name, value in namespace.items():
        setattr(made, name, value)
    made.__name__, made.__qualname__ = kind.__name__, kind.__qualname__
    return made
