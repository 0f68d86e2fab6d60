"""Large values beside the tables: kept once by their digest, checked when they are read, collected when nothing refers to them.

A column holds the value's JSON text, or ``sha256:<hex>`` where that is longer than :data:`INLINE` bytes. JSON text never
starts with an ``s``, so no value can pass for a reference (I24).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from surefoot.errors import IntegrityError

__all__ = ["INLINE", "REFERENCES", "Payloads"]

INLINE: Final = 32 * 1024
_MARK: Final = "sha256:"
REFERENCES: Final = {"calls": ("arguments", "value", "error"), "checkpoints": ("output",), "records": ("value",)}
"""Table → columns whose text may be a reference."""
_PUT: Final = "INSERT OR IGNORE INTO payloads VALUES (?, ?)"
_GET: Final = "SELECT text FROM payloads WHERE digest = ?"
_REFERRED: Final = " UNION ALL ".join(
    f"SELECT substr({column}, {len(_MARK) + 1}) FROM {table} WHERE {column} GLOB '{_MARK}*'"  # noqa: S608 - constants
    for table, columns in REFERENCES.items()
    for column in columns
)
_COLLECT: Final = f"DELETE FROM payloads WHERE digest NOT IN ({_REFERRED})"  # noqa: S608 - constants


class Payloads:
    """The payloads table, seen from inside one transaction."""

    def __init__(self, read: Callable[..., list[Any]], write: Callable[[str, Sequence[Any]], int]) -> None:
        self._read = read
        self._write = write

    def put(self, text: str | None) -> str | None:
        """Return what to store in a column for ``text``: itself, or a reference to where it is now."""
        if text is None or len(text) <= INLINE // 4 or len(data := text.encode()) <= INLINE:
            return text
        digest = hashlib.sha256(data).hexdigest()
        self._write(_PUT, (digest, text))
        return _MARK + digest

    def get(self, stored: str | None) -> str | None:
        """Return the text that a column stands for. Raises :class:`~surefoot.IntegrityError` when it is lost or damaged."""
        if stored is None or not stored.startswith(_MARK):
            return stored
        digest = stored.removeprefix(_MARK)
        rows = self._read(_GET, digest)
        if not rows or hashlib.sha256(rows[0][0].encode()).hexdigest() != digest:
            raise IntegrityError(f"the stored value {digest[:12]} is {'damaged' if rows else 'lost'}; restore the store from a backup")
        text: str = rows[0][0]
        return text

    def collect(self) -> int:
        """Delete what nothing refers to; return how many values that were."""
        return self._write(_COLLECT, ())
