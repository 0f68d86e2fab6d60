"""Redaction by a policy: secrets in whatever encoding, and patterns, kept out of everything that surefoot writes (I23, AS-67).

Digests are keyed and made of the values themselves, so equal calls are still recognised. What a tool returned is stored as it is or not at
all: a result that would have to be redacted is withheld, never replayed in part (AS-68).
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import json
import math
import os
import quopri
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

import surefoot
from surefoot import UsageError, hookimpl
from surefoot.plugins import Plugins

if TYPE_CHECKING:
    from surefoot_policy.model import Redaction

__all__ = ["Patterns", "forget", "plugin", "register_secret", "spellings"]

_NAME: Final = "redaction"
_SHORTEST: Final = 6
"""Characters; what is shorter, ordinary text would contain."""
_MEMORY: Final = 8 << 20
"""Bytes that one pattern may take."""
_lock: Final = threading.Lock()


class _Redactor:
    """The plugin that redacts. It is registered when there is something to look for: without, no text is looked at."""

    def __init__(self) -> None:
        self.forms: dict[str, str] = {}
        """Every spelling of every secret → what stands in its place."""
        self._secrets: re.Pattern[str] | None = None

    def compile(self) -> None:
        """Look for all forms from now on, longest first."""
        found = sorted(self.forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, found))) if found else None

    @hookimpl
    def surefoot_redact(self, text: str) -> str:
        """Return ``text`` without secrets."""
        return self._secrets.sub(lambda found: self.forms[found[0]], text) if self._secrets is not None else text


plugin: Final = _Redactor()
"""For a guard with plugins of its own: ``plugins.register(redaction.plugin, "redaction")``. The default ones get it by themselves."""


def register_secret(value: str, *, name: str = "secret") -> None:
    """Keep a secret out of everything that surefoot writes from now on, in all of :func:`spellings`.

    It does what :func:`surefoot.register_secret` does, and finds more encodings. Raises :class:`~surefoot.UsageError` as that does.
    """
    surefoot.register_secret(value, name=name)
    with _lock:
        plugin.forms.update(dict.fromkeys(spellings(value).values(), f"[redacted:{name}]"))
        plugin.compile()
        _install()


def forget() -> None:
    """Forget all secrets that were registered here; for tests."""
    with _lock:
        plugin.forms.clear()
        plugin.compile()


def _install() -> None:
    plugins = Plugins.default()
    if _NAME not in plugins.names():
        plugins.register(plugin, _NAME)


class Patterns:
    """The ``redaction:`` of a policy file: its secrets are the process's, its patterns its guards'.

    RE2 matches in time linear in the text, whatever the pattern.
    """

    def __init__(self, entries: Sequence[Redaction], where: str) -> None:
        """Compile the entries, and register the secrets that they name. Raises :class:`~surefoot.UsageError`, and says which is wrong."""
        self._compiled: list[tuple[Any, str]] = []
        self._secrets = False
        for index, entry in enumerate(entries):
            place = f"{where}: redaction[{index}]"
            if entry.pattern is not None:
                self._compiled.append((_compiled(entry.pattern, place), f"[redacted:{entry.name}]"))
                continue
            value = os.environ.get(str(entry.env))
            if not value:
                raise UsageError(f"{place}: there is no {entry.env} in the environment, so nobody would know what to redact")
            register_secret(value, name=entry.name)
            self._secrets = True

    def reaches(self, plugins: Plugins) -> bool:
        """Return whether the secrets are found in what is written under these plugins."""
        return not self._secrets or plugins is Plugins.default() or _NAME in plugins.names()

    def after(self, redact: Callable[[str], str] | None) -> Callable[[str], str] | None:
        """Return what redacts first as ``redact`` does, and then what the patterns match."""
        if not self._compiled:
            return redact
        return self.redact if redact is None else lambda text: self.redact(redact(text))

    def redact(self, text: str) -> str:
        """Return ``text`` with what the patterns match replaced."""
        for pattern, instead in self._compiled:
            text = pattern.sub(lambda _found, instead=instead: instead, text)
        return text


def _compiled(pattern: str, place: str) -> Any:
    try:
        import re2
    except ImportError as exc:
        raise UsageError(f"{place}: patterns are matched by RE2: pip install 'surefoot[policy]'") from exc
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        made = re2.compile(pattern, options)
    except re2.error as exc:
        why = exc.args[0].decode() if exc.args and isinstance(exc.args[0], bytes) else str(exc)
        raise UsageError(f"{place}: {pattern!r} is no RE2 pattern: {why}") from None
    if made.search("") is not None:
        raise UsageError(f"{place}: {pattern!r} matches an empty text, so it would redact everything")
    return made


def spellings(value: str) -> dict[str, str]:
    """Return the encodings in which a secret is found, by name; of those that depend on what is around it, the part that does not."""
    data = value.encode("utf-8", "surrogatepass")
    found = dict(_texts(value, data))
    for name, alphabet in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode), ("base32", base64.b32encode)):
        found |= {f"{name} at {offset}": form for offset, form in enumerate(_aligned(data, alphabet, 6 if "64" in name else 5))}
    found |= {f"{name} in a string": json.dumps(form, ensure_ascii=False)[1:-1] for name, form in found.items()}
    return {name: form for name, form in found.items() if len(form) >= _SHORTEST}


def _texts(value: str, data: bytes) -> Iterator[tuple[str, str]]:
    pairs = [f"{byte:02x}" for byte in data]
    once, plain = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    twice = json.dumps(once)[1:-1]
    yield from {"raw": value, "reversed": value[::-1], "rot13": codecs.encode(value, "rot13")}.items()
    yield from {"json": once, "json utf-8": plain, "json in json": twice, "json in json in json": json.dumps(twice)[1:-1]}.items()
    yield "json utf-8 in json", json.dumps(plain, ensure_ascii=False)[1:-1]
    yield "repr", repr(value)[1:-1]
    yield "ascii", ascii(value)[1:-1]
    units = value.encode("utf-16-be", "surrogatepass").hex()
    yield "unicode escapes", "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    yield "unicode escapes upper", "".join(f"\\u{units[at : at + 4].upper()}" for at in range(0, len(units), 4))
    urls: dict[str, Callable[[bytes], str]] = {"url": lambda d: quote(d, safe=""), "url path": quote, "url form": quote_plus}
    for name, spell in urls.items():
        yield name, spell(data)
        yield f"{name} lower", re.sub("%..", lambda code: code[0].lower(), spell(data))
        yield f"{name} twice", quote(spell(data), safe="")
    yield "every byte percent", "".join(f"%{pair}" for pair in pairs)
    yield "every byte percent upper", "".join(f"%{pair.upper()}" for pair in pairs)
    for name, between in {"hex": "", "hex with colons": ":", "hex with spaces": " ", "hex with dashes": "-"}.items():
        yield name, between.join(pairs)
        yield f"{name} upper", between.join(pairs).upper()
    yield "hex escapes", "".join(f"\\x{pair}" for pair in pairs)
    yield "octal escapes", "".join(f"\\{byte:03o}" for byte in data)
    yield "hex utf-16", value.encode("utf-16-le", "surrogatepass").hex()
    yield from {"html": html.escape(value), "html without quotes": html.escape(value, quote=False)}.items()
    yield "html decimal", "".join(f"&#{ord(char)};" for char in value)
    yield "html hex", "".join(f"&#x{ord(char):x};" for char in value)
    yield "quoted printable", quopri.encodestring(data, quotetabs=True).decode().replace("=\n", "")
    yield "base85", base64.b85encode(data[: len(data) // 4 * 4]).decode()
    yield "ascii85", base64.a85encode(data[: len(data) // 4 * 4]).decode()
    yield "uuencoded", "\n".join(binascii.b2a_uu(data[at : at + 45]).decode().rstrip("\n") for at in range(0, len(data), 45))
    yield "base64 twice", base64.b64encode(base64.b64encode(data[: len(data) // 9 * 9])).decode()


def _aligned(data: bytes, encode: Callable[[bytes], bytes], bits: int) -> Iterator[str]:
    """Yield what an encoding of text that has ``data`` inside has of it alone, for every place at which it may start."""
    for offset in range(math.lcm(8, bits) // 8):
        coded = encode(b"\0" * offset + data).decode()
        yield coded[-(-offset * 8 // bits) : (offset + len(data)) * 8 // bits]
