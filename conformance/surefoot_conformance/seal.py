"""The suite as it was before a harness was imported: what a harness changed in it afterwards voids what it finds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Final, TypeAlias

__all__ = ["Seal", "broken", "seal"]

_OWN: Final = "surefoot_conformance"
_PLAIN: Final = (dict, list, tuple, set, frozenset, str, int, float)

Seal: TypeAlias = dict[str, tuple[Any, ...]]
"""Where something of the suite stands → the thing itself, and what of it could be changed in place."""


def seal() -> Seal:
    """Return what the suite is made of now: every function, class and table of its loaded modules."""
    import surefoot_conformance.checks  # noqa: F401 - fills the table

    return {f"{module.__name__}.{name}": mark for module in _modules() for name, mark in _marks(module)}


def broken(sealed: Seal) -> list[str]:
    """Return the places at which the suite is not what it was."""
    now = seal()
    return sorted(place for place, mark in sealed.items() if place not in now or not _same(mark, now[place]))


def _modules() -> list[ModuleType]:
    return [module for name, module in sorted(sys.modules.items()) if name == "__main__" or name.partition(".")[0] == _OWN]


def _marks(owner: ModuleType | type) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for name, value in list(vars(owner).items()):
        if name.startswith("__") and name.endswith("__") and not callable(value):
            continue
        yield name, _mark(value)
        if isinstance(value, type) and value.__module__ in {"__main__", owner.__module__ if isinstance(owner, type) else owner.__name__}:
            yield from ((f"{name}.{inner}", mark) for inner, mark in _marks(value))


def _mark(value: Any) -> tuple[Any, ...]:
    inner = value.__func__ if isinstance(value, staticmethod | classmethod) else value.fget if isinstance(value, property) else value
    if isinstance(inner, FunctionType):
        return value, inner.__code__, inner.__defaults__, inner.__kwdefaults__
    return (repr(value),) if isinstance(value, _PLAIN) else (value,)


def _same(mark: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(mark) == len(now) and all(was is here or (isinstance(was, str) and was == here) for was, here in zip(mark, now, strict=True))
