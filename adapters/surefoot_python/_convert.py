"""Python objects as data: arguments in the form that identifies a request, and converters for what functions return."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from types import FunctionType
from typing import Any, Final

from surefoot import NotStorable, UsageError
from surefoot_adapters import Codec

__all__ = ["data", "register"]

_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})


def data(codec: Codec, name: str, arguments: Mapping[str, Any], unique: Sequence[str] = ()) -> dict[str, Any]:
    """Return a function's arguments as data that is equal in every process for equal arguments.

    Dataclasses, pydantic models, enumerations and paths become their content. An object that compares by identity (a
    client, a session, ``self``) is no value: it counts as its type, and may not be part of the business key (``unique``), which two of
    them would share. Raises :class:`~surefoot.UsageError` for that, and for a value that has no data form, because its
    representation may differ in the process that resumes.
    """
    found, names = {}, frozenset(unique)
    for key, value in arguments.items():
        try:
            found[key] = _data(codec, value, whole=key in names)
            codec.digest(found[key])
        except (NotStorable, RecursionError):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            msg = f"{name} cannot recognise its argument {key!r} again ({kind} has no data form): pass plain data, a dataclass or a model"
            raise UsageError(msg) from None
    return found


def _data(codec: Codec, value: Any, *, whole: bool) -> Any:  # noqa: C901 - one case for each kind of value
    """Return the data form. It never depends on which converters the codec knows by now: that may differ tomorrow."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    match value:
        case Enum():
            return [_name(kind), value.name]
        case str():
            return [_name(kind), "".join(value)]
        case int():
            return [_name(kind), int(value)]
        case float():
            return [_name(kind), float(value)]
        case Mapping():
            return {key: _data(codec, item, whole=whole) for key, item in value.items()}
        case list() | tuple():
            return [_data(codec, item, whole=whole) for item in value]
        case AbstractSet():
            return {"set": sorted(codec.digest(_data(codec, item, whole=whole)) for item in value)}
        case os.PathLike():
            return [_name(kind), os.fspath(value)]
        case type() | FunctionType():
            return _name(value)
    if fields := _fields(kind):
        return [_name(kind), {field: _data(codec, getattr(value, field), whole=whole) for field in fields}]
    if vars(object)["__eq__"] is getattr(kind, "__eq__", None) and not whole:
        return _name(kind)
    codec.digest(value)
    return value


def _name(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _fields(kind: type) -> list[str]:
    """Return the names of the fields of a dataclass or a pydantic model."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return list(getattr(kind, "model_fields", ()))


def register(codec: Codec, function: FunctionType) -> None:
    """Teach the codec the dataclasses, models and enumerations that the function says it returns.

    The code names them, never what is stored (I24). Local classes are left out: two may have one name.
    """
    try:
        hint = typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - a name that exists for type checkers only
        return
    for kind in _kinds(hint, set()):
        fields = _fields(kind)
        codec.register(f"py.{_name(kind)}", kind, *(_by_field(kind, fields) if fields else _by_name(kind)))


def _kinds(hint: Any, seen: set[Any]) -> Iterator[type]:
    """Yield the classes in a type hint that a converter can be made for, and those of their fields."""
    for part in typing.get_args(hint):
        yield from _kinds(part, seen)
    if not isinstance(hint, type) or hint in seen or "<locals>" in hint.__qualname__:
        return
    seen.add(hint)
    if issubclass(hint, Enum):
        yield hint
    elif _fields(hint):
        yield hint
        for inner in typing.get_type_hints(hint).values():
            yield from _kinds(inner, seen)


def _by_name(kind: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return (lambda member: member.name, lambda name: kind[name])  # type: ignore[index]


def _by_field(kind: type, fields: list[str]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def load(found: Mapping[str, Any]) -> Any:
        if hasattr(kind, "model_construct"):
            return kind.model_construct(**found)
        made: Any = object.__new__(kind)
        for name, value in found.items():
            object.__setattr__(made, name, value)  # as it was: no __init__, no __post_init__, frozen or not
        return made

    return (lambda value: {name: getattr(value, name) for name in fields}, load)
