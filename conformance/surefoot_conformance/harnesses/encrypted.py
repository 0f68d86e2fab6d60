"""The encrypted store's harness: around a SQLite file, whose seals its oracle opens by code of its own."""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surefoot_conformance.keepers import Oracle, SqliteHarness, SqliteOracle

if TYPE_CHECKING:
    from surefoot import Store

__all__ = ["EncryptedHarness"]

_KEY: Final = b"a key for tests, 32 bytes long.."
_NONCE: Final = 12


class EncryptedHarness(SqliteHarness):
    """The SQLite store, encrypted."""

    name = "encrypted"
    distribution = "cryptography"

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):
            importlib.import_module("cryptography.hazmat.primitives.ciphers.aead")  # here, so that no child has to

    def open(self, folder: Path) -> Store:
        """Open the file in the folder."""
        from surefoot_stores import EncryptedStore

        return EncryptedStore(super().open(folder), key=_KEY)

    def oracle(self, folder: Path) -> Oracle:
        """Return plain SQL on the same file, and what opens a seal."""
        return _Sql(folder / "s.db")

    def version(self) -> str:
        """Return the driver's version, and SQLite's."""
        import cryptography

        return f"{cryptography.__version__} on SQLite {sqlite3.sqlite_version}"


class _Sql(SqliteOracle):
    def value(self, namespace: str, key: str) -> Any:
        rows = self.rows("SELECT value, version FROM records WHERE namespace = ? AND key = ?", namespace, key)
        if not rows:
            return None
        [(marker,)] = self.rows("SELECT value FROM records WHERE namespace = 'surefoot.encryption'")
        store = _opened(marker, "", "record", "surefoot.encryption", "keys")["store"]
        return _opened(rows[0][0], store, "record", key, namespace, rows[0][1])


def _opened(value: str, *place: Any) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed = base64.b64decode(json.loads(value)["sealed"].rpartition(":")[2])
    return json.loads(AESGCM(_KEY).decrypt(sealed[:_NONCE], sealed[_NONCE:], ascii(place).encode()))
