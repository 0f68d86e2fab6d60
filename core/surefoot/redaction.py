"""Registered secrets: text that must never reach a row, an event, a log or an error of surefoot (I23, AS-67)."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from typing import Final

from surefoot.errors import UsageError

__all__ = ["any_registered", "redact", "register_secret"]

_SHORTEST: Final = 6
_lock: Final = threading.Lock()
_forms: dict[str, str] = {}
"""Every form of every secret → what stands in its place."""
_pattern: re.Pattern[str] | None = None


def register_secret(value: str, *, name: str = "secret") -> None:
    """Keep ``value`` out of everything that surefoot writes from now on; ``[redacted:<name>]`` stands in its place.

    It is found as it is, JSON-escaped, URL-encoded, and in hex and base64, also inside other text. Calls with equal
    arguments are still recognised: their digests are keyed, and made before. Raises :class:`~surefoot.UsageError` for
    a value of less than 6 characters, which ordinary text would contain.
    """
    global _pattern  # noqa: PLW0603 - one registry a process
    if len(value) < _SHORTEST:
        raise UsageError(f"the secret {name!r} is shorter than {_SHORTEST} characters; ordinary text would be redacted with it")
    with _lock:
        _forms.update(dict.fromkeys(_spellings(value), f"[redacted:{name}]"))
        longest_first = sorted(_forms, key=len, reverse=True)
        _pattern = re.compile("|".join(map(re.escape, longest_first)))


def any_registered() -> bool:
    """Return whether there is a secret to look for."""
    return _pattern is not None


def redact(text: str) -> str:
    """Return ``text`` without the registered secrets."""
    return _pattern.sub(lambda found: _forms[found[0]], text) if _pattern is not None else text


def _spellings(value: str) -> Iterator[str]:
    from urllib.parse import quote, quote_plus

    data = value.encode("utf-8", "surrogatepass")
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    for quoted in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield quoted
        yield re.sub("%..", lambda code: code[0].lower(), quoted)
    yield data.hex()
    yield data.hex().upper()
    for offset in range(3):  # base64 of text that has it inside starts it at one of three places
        coded = base64.b64encode(b"\0" * offset + data).decode()
        inner = coded[(offset * 4 + 2) // 3 : (offset + len(data)) * 8 // 6]
        yield inner
        yield inner.translate(str.maketrans("+/", "-_"))
