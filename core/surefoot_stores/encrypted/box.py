"""What is sealed: text under AES-256-GCM, each bound to the place that it was written for."""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, ParamSpec, TypeVar

from surefoot.errors import IntegrityError, UsageError

__all__ = ["VARIABLE", "Box", "keys_of"]

P = ParamSpec("P")
T = TypeVar("T")

VARIABLE: Final = "SUREFOOT_STORE_KEY"
_BYTES: Final = 32
_NONCE: Final = 12
_MARK: Final = "sealed1"


def keys_of(given: Any) -> list[bytes]:
    """Return the keys that were given: 32 bytes, or their base64; several with commas between, or in a list.

    Raises :class:`~surefoot.UsageError`, which does not quote what was given, for anything else.
    """
    if isinstance(given, str):
        parts: Sequence[Any] = [part.strip() for part in given.split(",")]
    else:
        parts = list(given) if isinstance(given, list | tuple) else [given]
    try:
        keys = [part if isinstance(part, bytes) else base64.b64decode(part, validate=True) for part in parts]
    except (TypeError, ValueError, binascii.Error):
        keys = []
    if not keys or any(len(key) != _BYTES for key in keys):
        raise UsageError(
            f"a store's key is 32 random bytes in base64, and several have commas between; make one with: openssl rand -base64 {_BYTES}"
        )
    return keys


class Box:
    """Seals text with the first of several keys, and opens what any of them has sealed.

    A key is known by the first 8 hex digits of its SHA-256, which stand in front of what it has sealed.
    """

    def __init__(self, keys: Sequence[bytes], name: str) -> None:
        """``name`` is the store's, for errors. Raises :class:`~surefoot.UsageError` where cryptography is not installed."""
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as exc:
            raise UsageError(f"an encrypted store needs cryptography ({exc}); install it with: pip install 'surefoot[encryption]'") from exc
        self._wrong = (InvalidTag, ValueError)
        self._keys = {hashlib.sha256(key).hexdigest()[:8]: AESGCM(key) for key in keys}
        self.ids = tuple(self._keys)
        """The ids of the keys; the first one's seals."""
        self.name = name
        self._store = ""
        self._head = f"{_MARK}:{self.ids[0]}:"
        self._seals = self._keys[self.ids[0]]

    def of(self, store: str) -> Box:
        """Return a box whose seals hold in the store of that id alone."""
        bound = copy.copy(self)
        bound._store = store  # noqa: SLF001 - its own copy
        return bound

    def seal(self, text: str, *place: Any) -> str:
        """Return ``text`` sealed for a place: texts, numbers, truth values and ``None``, its kind first and its name second."""
        nonce = os.urandom(_NONCE)
        sealed = self._seals.encrypt(nonce, text.encode("utf-8", "surrogatepass"), self._bound(place))
        return self._head + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: Any, *place: Any) -> str:
        """Return the text that was sealed for this place.

        Raises :class:`~surefoot.IntegrityError` when it was changed, sealed for another place or another state of it, or not sealed at all.
        """
        try:
            mark, key, data = sealed.split(":")
            if mark != _MARK or key not in self._keys:
                raise ValueError(mark)
            raw = base64.b64decode(data, validate=True)
            return self._keys[key].decrypt(raw[:_NONCE], raw[_NONCE:], self._bound(place)).decode("utf-8", "surrogatepass")
        except (*self._wrong, AttributeError) as exc:
            what = f"the {place[0]} {place[1]} in {self.name} is not what was written there: it was changed or moved"
            raise IntegrityError(f"{what}; restore the store from a backup") from exc

    def asked(self, ask: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Return what the store inside answers; a row that it cannot even read was changed too (:class:`~surefoot.IntegrityError`)."""
        try:
            return ask(*args, **options)
        except (TypeError, ValueError) as exc:
            raise IntegrityError(f"a row in {self.name} is not what was written ({exc}); restore the store from a backup") from exc

    def _bound(self, place: tuple[Any, ...]) -> bytes:
        return ascii((self._store, *place)).encode()  # as the links of events are: quoted, and four times faster than JSON
