"""Stores that come with surefoot, registered through the hook that anybody's store uses."""

from __future__ import annotations

from surefoot.contracts import Store
from surefoot.hookspecs import hookimpl
from surefoot_stores.memory import MemoryStore
from surefoot_stores.postgres import PostgresStore
from surefoot_stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "PostgresStore", "SqliteStore", "surefoot_store"]


@hookimpl
def surefoot_store(url: str) -> Store | None:
    """Answer for ``sqlite:///path``, ``postgresql://host/database`` and ``memory://``."""
    if url.startswith("memory://"):
        return MemoryStore(url)
    if url.startswith(("postgresql://", "postgres://")):
        return PostgresStore(url)
    return SqliteStore(url) if url.startswith("sqlite:///") else None
