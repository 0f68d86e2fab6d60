"""Stores that come with surefoot, registered through the hook that anybody's store uses."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from surefoot.contracts import Store
from surefoot.hookspecs import hookimpl

if TYPE_CHECKING:
    from surefoot_stores.memory import MemoryStore
    from surefoot_stores.postgres import PostgresStore
    from surefoot_stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "PostgresStore", "SqliteStore", "surefoot_store"]

_HOME: Final = {"MemoryStore": "memory", "PostgresStore": "postgres", "SqliteStore": "sqlite"}


def __getattr__(name: str) -> Any:
    """Return a store's class from its module, which is imported when it is first asked for: a process uses one store."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"surefoot_stores.{_HOME[name]}"), name)


@hookimpl
def surefoot_store(url: str) -> Store | None:
    """Answer for ``sqlite:///path``, ``postgresql://host/database`` and ``memory://``."""
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
