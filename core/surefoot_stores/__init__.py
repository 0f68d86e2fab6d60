"""Stores that come with surefoot, registered through the hook that anybody's store uses."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any, Final

from surefoot.contracts import Store
from surefoot.errors import SurefootWarning, UsageError
from surefoot.hookspecs import hookimpl

if TYPE_CHECKING:
    from surefoot_stores.encrypted import EncryptedStore
    from surefoot_stores.memory import MemoryStore
    from surefoot_stores.postgres import PostgresStore
    from surefoot_stores.sqlite import SqliteStore

__all__ = ["EncryptedStore", "MemoryStore", "PostgresStore", "SqliteStore", "surefoot_store"]

_HOME: Final = {"EncryptedStore": "encrypted", "MemoryStore": "memory", "PostgresStore": "postgres", "SqliteStore": "sqlite"}
_ENCRYPTED: Final = "encrypted+"
_REDIS: Final = ("redis://", "rediss://", "valkey://")


def __getattr__(name: str) -> Any:
    """Return a store's class from its module, which is imported when it is first asked for: a process uses one store."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"surefoot_stores.{_HOME[name]}"), name)


@hookimpl(trylast=True)
def surefoot_store(url: str) -> Store | None:
    """Answer for ``sqlite:///path``, ``postgresql://host/database`` and ``memory://``, and for each of them behind ``encrypted+``.

    Raises :class:`~surefoot.UsageError` for Redis, unless another plugin has answered for it.
    """
    from surefoot_stores.encrypted.box import VARIABLE as _VARIABLE

    plain = url.removeprefix(_ENCRYPTED)
    if plain.startswith(_REDIS):
        raise UsageError(
            "Redis is no ledger: unless it syncs every write (appendfsync always) it forgets what it confirmed, and nothing that it keeps"
            " is undone with the call that it belongs to; use sqlite:///path, or postgresql://host/database for several hosts"
        )
    made = _made(plain)
    if made is not None and plain != url:
        from surefoot_stores.encrypted import EncryptedStore

        return EncryptedStore(made)
    if os.environ.get(_VARIABLE) and not url.startswith("memory://") and made is not None:
        warnings.warn(f"{_VARIABLE} is set, and {made.url} is not encrypted: write {_ENCRYPTED}{made.url}", SurefootWarning, stacklevel=2)
    return made


def _made(url: str) -> Store | None:
    if url.startswith("memory://"):
        from surefoot_stores.memory import MemoryStore

        return MemoryStore(url)
    if url.startswith(("postgresql://", "postgres://")):
        from surefoot_stores.postgres import PostgresStore

        return PostgresStore(url)
    if url.startswith("sqlite:///"):
        from surefoot_stores.sqlite import SqliteStore

        return SqliteStore(url)
    return None
