"""Values as data: a total, type-exact JSON form for storing, and canonical bytes for digests.

Loading builds only what a fixed table of constructors builds: no pickle, no import, no attribute looked up by a
stored name (I24, AS-54). A stored tag is an object with the single key ``$tag``; user data that looks like one is
stored escaped, so a tag cannot be forged from inside a value.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

import rfc8785

from surefoot.errors import IntegrityError, NotStorable, UsageError

__all__ = ["Codec"]

T = TypeVar("T")
_DEPTH: Final = 200
_SAFE: Final = 2**53 - 1


class Codec:
    """Turns values into JSON text and back, and into digests.

    Covers ``None bool int float str bytes list tuple dict set frozenset Decimal datetime date time timedelta
    UUID`` and whatever is registered. Anything else is :class:`~surefoot.errors.NotStorable`.
    """

    def __init__(self, redact: Callable[[str], str] | None = None) -> None:
        self._redact = redact
        self._dump: dict[type, tuple[str, Callable[[Any], Any]]] = {}
        self._load: dict[str, Callable[[Any], Any]] = {}
        for tag, kind, dump, load in _BUILTIN:
            self.register(tag, kind, dump, load)

    def register(self, tag: str, kind: type, dump: Callable[[Any], Any], load: Callable[[Any], Any]) -> None:
        """Add a type: ``dump`` returns storable data, ``load`` rebuilds the value from it.

        Only values of exactly that type are stored with it: a subclass would come back as something else. Raises
        :class:`~surefoot.UsageError` when another type has the tag.
        """
        if tag in self._load and self._dump.get(kind, ("",))[0] != tag:
            raise UsageError(f"the codec tag {tag!r} is taken; choose another one for {kind.__name__}")
        self._dump[kind] = (tag, dump)
        self._load[tag] = load

    def dumps(self, value: Any, *, whole: bool = False) -> str:
        """Return the JSON text of ``value``, with every string redacted.

        Raises :class:`~surefoot.errors.NotStorable` naming the offending part; with ``whole`` a string that would be
        redacted is one: what is given back as the truth is stored as it is or not at all (AS-68).
        """
        encoded = _on_this_stack(lambda: self._encode(value, "$", _DEPTH))
        text = json.dumps(encoded, separators=(",", ":"), allow_nan=False)
        if self._redact is None:
            return text
        clean = json.dumps(_mapped(encoded, self._redact), separators=(",", ":"), allow_nan=False)
        if whole and clean != text:
            raise NotStorable("$", "text that must be redacted")
        return clean

    def loads(self, text: str) -> Any:
        """Return the value that :meth:`dumps` made ``text`` from. Raises :class:`~surefoot.IntegrityError` for junk."""
        try:
            return self._decode(json.loads(text))
        except IntegrityError:
            raise
        except Exception as exc:  # a loader may raise anything; damaged is damaged
            raise IntegrityError(f"a stored value is damaged ({type(exc).__name__}); run 'surefoot calls show' on its call") from exc

    def canonical(self, value: Any) -> bytes:
        """Return canonical bytes (RFC 8785 of a tagged form): equal for equal meaning, whatever the spelling.

        Key order, ``1`` and ``1.0``, ``-0.0`` and ``0``, tuple and list do not matter; ``{1: …}`` and ``{"1": …}`` differ.
        """
        if _on_this_stack(lambda: _plain(value, _DEPTH)):
            return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        return _on_this_stack(lambda: rfc8785.dumps(self._canonical(value, "$", _DEPTH)))

    def digest(self, value: Any) -> str:
        """Return the SHA-256 (hex) of :meth:`canonical`."""
        return hashlib.sha256(self.canonical(value)).hexdigest()

    def _registered(self, value: Any, path: str) -> tuple[str, Any]:
        if type(value) in self._dump:
            tag, dump = self._dump[type(value)]
            return tag, dump(value)
        raise NotStorable(path, f"{type(value).__module__}.{type(value).__qualname__}")

    def _encode(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool or (kind is float and math.isfinite(value)) or (kind is int and abs(value) <= _SAFE):
            return value
        if kind is str:
            return value if _text(value) else {"$str": [ord(c) for c in value]}
        if not depth:
            raise NotStorable(path, "a value nested this deeply, or in itself")
        if kind is list:
            return [self._encode(item, f"{path}[{i}]", depth - 1) for i, item in enumerate(value)]
        if kind is dict:
            return self._encode_dict(value, path, depth)
        tag, data = self._registered(value, path)
        return {f"${tag}": self._encode(data, path, depth - 1)}

    def _encode_dict(self, value: dict[Any, Any], path: str, depth: int) -> Any:
        if all(type(key) is str and _text(key) for key in value):
            body = {key: self._encode(item, f"{path}.{key}", depth - 1) for key, item in value.items()}
            forged = len(body) == 1 and next(iter(body)).startswith("$")
            return {"$dict": [[key, item] for key, item in body.items()]} if forged else body
        pairs = [
            [self._encode(key, f"{path}.<key>", depth - 1), self._encode(item, f"{path}[{key!r}]", depth - 1)]
            for key, item in value.items()
        ]
        return {"$dict": pairs}

    def _decode(self, data: Any) -> Any:
        if type(data) is list:
            return [self._decode(item) for item in data]
        if type(data) is not dict:
            return data
        if len(data) == 1 and (tag := next(iter(data))).startswith("$"):
            return self._decode_tag(tag[1:], data[tag])
        return {key: self._decode(item) for key, item in data.items()}

    def _decode_tag(self, tag: str, body: Any) -> Any:
        if tag == "dict":
            return {self._decode(key): self._decode(item) for key, item in body}
        if tag == "str":
            return "".join(map(chr, body))
        load = self._load.get(tag)
        if load is None:
            raise IntegrityError(f"a stored value has the unknown tag {tag!r}; install the plugin that wrote it")
        return load(self._decode(body))

    def _canonical(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int or kind is float:
            return _number(value)
        if kind is str:
            return value if _text(value) else {"$str": [ord(c) for c in value]}
        if not depth:
            raise NotStorable(path, "a value nested this deeply, or in itself")
        if kind is list or kind is tuple:
            return [self._canonical(item, f"{path}[{i}]", depth - 1) for i, item in enumerate(value)]
        if kind is dict:
            return self._canonical_dict(value, path, depth)
        if kind is set or kind is frozenset:
            return {"$set": sorted(rfc8785.dumps(self._canonical(item, path, depth - 1)).decode() for item in value)}
        tag, data = self._registered(value, path)
        return {f"${tag}": self._canonical(data, path, depth - 1)}

    def _canonical_dict(self, value: dict[Any, Any], path: str, depth: int) -> Any:
        body = {key: self._canonical(item, f"{path}.{key!s}", depth - 1) for key, item in value.items()}
        if all(type(key) is str and _text(key) and not key.startswith("$") for key in body):
            return body
        pairs = [(rfc8785.dumps(self._canonical(key, path, depth - 1)).decode(), item) for key, item in body.items()]
        return {"$dict": [list(pair) for pair in sorted(pairs, key=lambda pair: pair[0])]}


def _mapped(data: Any, change: Callable[[str], str]) -> Any:
    """Return JSON data with every string, keys included, changed."""
    if isinstance(data, str):
        return change(data)
    if isinstance(data, list):
        return [_mapped(item, change) for item in data]
    if isinstance(data, dict):
        return {key if key.startswith("$") else change(key): _mapped(item, change) for key, item in data.items()}
    return data


def _on_this_stack(walk: Callable[[], T]) -> T:
    """Return what ``walk`` returns; a caller may have left less room than :data:`_DEPTH` levels need."""
    try:
        return walk()
    except RecursionError:
        raise NotStorable("$", "a value nested deeper than the stack has room for") from None


def _text(value: str) -> bool:
    """Return whether a string is valid Unicode (no lone surrogates)."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _number(value: float) -> Any:
    """Return a number as RFC 8785 can write it; what it cannot is tagged."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return {"$float": repr(value)}
        if value.is_integer():
            value = int(value)
    if isinstance(value, int) and abs(value) > _SAFE:
        return {"$int": format(value, "x")}
    return value


def _plain(value: Any, depth: int) -> bool:
    """Return whether the standard JSON encoder writes ``value`` exactly as RFC 8785 would."""
    kind = type(value)
    if isinstance(value, str):
        return kind is str and _text(value)
    if value is None or kind is bool:
        return True
    if kind is int:
        return bool(-_SAFE <= value <= _SAFE)
    if not depth:
        return False
    if kind is dict:
        return all(type(k) is str and k.isascii() and not k.startswith("$") and _plain(v, depth - 1) for k, v in value.items())
    if kind is list:
        return all(_plain(item, depth - 1) for item in value)
    return False


_BUILTIN: Final[list[tuple[str, type, Callable[[Any], Any], Callable[[Any], Any]]]] = [
    ("int", int, lambda v: format(v, "x"), lambda d: int(d, 16)),  # Python refuses to read decimals of over 4,300 digits
    ("float", float, repr, float),
    ("bytes", bytes, lambda v: base64.b64encode(v).decode(), base64.b64decode),
    ("tuple", tuple, list, tuple),
    ("set", set, list, set),
    ("frozenset", frozenset, list, frozenset),
    ("decimal", Decimal, str, Decimal),
    ("datetime", datetime, lambda v: [v.isoformat(), v.fold], lambda d: datetime.fromisoformat(d[0]).replace(fold=d[1])),
    ("date", date, date.isoformat, date.fromisoformat),
    ("time", time, lambda v: [v.isoformat(), v.fold], lambda d: time.fromisoformat(d[0]).replace(fold=d[1])),
    ("timedelta", timedelta, lambda v: [v.days, v.seconds, v.microseconds], lambda d: timedelta(*d)),
    ("uuid", UUID, str, UUID),
]
