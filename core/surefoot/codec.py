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
from functools import cache, partial
from itertools import repeat
from typing import Any, Final, TypeVar
from uuid import UUID

from surefoot.errors import IntegrityError, NotStorable, UsageError

__all__ = ["Codec"]

T = TypeVar("T")
_DEPTH: Final = 200
_SAFE: Final = 2**53 - 1
_SMALL: Final = 1e-4
_text_of: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_sorted_text_of: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, sort_keys=True, ensure_ascii=False).encode


class Codec:
    """Turns values into JSON text and back, and into digests.

    ``redact`` returns what takes secrets out of a text, or ``None`` while there are none; ``key`` returns the key of the digests.

    Covers ``None bool int float str bytes list tuple dict set frozenset Decimal datetime date time timedelta
    UUID`` and whatever is registered. Anything else is :class:`~surefoot.errors.NotStorable`.
    """

    def __init__(self, redact: Callable[[], Callable[[str], str] | None] = lambda: None, key: Callable[[], bytes] = bytes) -> None:
        self._redactor = redact
        self._key = cache(lambda: hashlib.sha256(key()).digest())
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
        text = self._text(value)
        if (redact := self._redactor()) is None:
            return text
        clean = self._text(_on_this_stack(self._redacted, value, redact))
        if whole and clean != text:
            raise NotStorable("$", "text that must be redacted")
        return clean

    def _text(self, value: Any) -> str:
        return _text_of(value if _on_this_stack(_plain, value) else _on_this_stack(self._encode, value, "$", _DEPTH))

    def _redacted(self, value: Any, redact: Callable[[str], str]) -> Any:
        """Return a storable value without secrets; one whose written form has any is replaced as a whole."""
        kind = type(value)  # exactly: a registered subclass is stored in a form of its own
        if kind is str:
            return redact(value)
        if kind is dict:
            return {self._redacted(key, redact): self._redacted(item, redact) for key, item in value.items()}
        if kind in {list, tuple, set, frozenset}:
            return kind(self._redacted(item, redact) for item in value)
        written = str(value) if kind in {int, float} else self._text(value)
        clean = redact(written)
        return value if clean == written else clean

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
        if _on_this_stack(_plain, value):
            return _sorted_text_of(value).encode()
        return _on_this_stack(lambda: _rfc8785(self._canonical(value, "$", _DEPTH)))

    def digest(self, value: Any) -> str:
        """Return the keyed BLAKE2b-256 (RFC 7693, hex) of :meth:`canonical`: nobody without the key can try values out (AS-67)."""
        return self._digest_of(self.canonical(value))

    def _digest_of(self, data: bytes) -> str:
        return hashlib.blake2b(data, key=self._key(), digest_size=32).hexdigest()

    def identify(self, value: Any) -> tuple[str, str]:
        """Return :meth:`digest` and :meth:`dumps` of a value; where one text serves both, it is made once."""
        if self._redactor() is None and _on_this_stack(_plain, value):
            text = _sorted_text_of(value)
            return self._digest_of(text.encode()), text
        return self.digest(value), self.dumps(value)

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
        encode = partial(self._encode, depth=depth - 1)
        if all(type(key) is str and _text(key) for key in value):
            body = {key: encode(item, f"{path}.{key}") for key, item in value.items()}
            forged = len(body) == 1 and next(iter(body)).startswith("$")
            return {"$dict": [[key, item] for key, item in body.items()]} if forged else body
        return {"$dict": [[encode(key, f"{path}.<key>"), encode(item, f"{path}[{key!r}]")] for key, item in value.items()]}

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
            return {"$set": sorted(_rfc8785(self._canonical(item, path, depth - 1)).decode() for item in value)}
        tag, data = self._registered(value, path)
        return {f"${tag}": self._canonical(data, path, depth - 1)}

    def _canonical_dict(self, value: dict[Any, Any], path: str, depth: int) -> Any:
        body = {key: self._canonical(item, f"{path}.{key!s}", depth - 1) for key, item in value.items()}
        if all(type(key) is str and _text(key) and not key.startswith("$") for key in body):
            return body
        pairs = [(_rfc8785(self._canonical(key, path, depth - 1)).decode(), item) for key, item in body.items()]
        return {"$dict": [list(pair) for pair in sorted(pairs, key=lambda pair: pair[0])]}


def _on_this_stack(walk: Callable[..., T], *args: Any) -> T:
    """Return what ``walk`` returns; a caller may have left less room than :data:`_DEPTH` levels need."""
    try:
        return walk(*args)
    except RecursionError:
        raise NotStorable("$", "a value nested deeper than the stack has room for") from None


def _rfc8785(value: Any) -> bytes:
    import rfc8785

    return rfc8785.dumps(value)


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


def _plain(value: Any, depth: int = _DEPTH) -> bool:
    """Return whether the standard JSON encoder writes ``value`` exactly as RFC 8785 would, and reads it back as it was."""
    kind = type(value)
    if kind is str:
        return value.isascii() or _text(value)
    if kind is dict:
        for key, item in value.items():
            if not depth or type(key) is not str or not key.isascii() or key[:1] == "$":
                return False
            if not (item is None or type(item) is bool or (type(item) is str and item.isascii()) or _plain(item, depth - 1)):
                return False
        return True
    if kind is list:
        return all(map(_plain, value, repeat(depth - 1))) if depth else not value
    if kind is int:
        return -_SAFE <= value <= _SAFE  # type: ignore[no-any-return]
    if kind is float:  # between these, Python and ECMAScript write the same digits: neither writes an exponent
        return _SMALL <= abs(value) < _SAFE and not value.is_integer()
    return value is None or kind is bool


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
