"""What an operator asks of a store: how much is in it, whether it is sound, which schema it has, and a copy of it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, cast

from surefoot.contracts import Store, Transaction
from surefoot.errors import IntegrityError, StoreUnavailable, UsageError
from surefoot_stores import migrations
from surefoot_stores.encrypted import EncryptedStore, damaged_seals
from surefoot_stores.owners import write_once
from surefoot_stores.payloads import REFERENCES, Payloads
from surefoot_stores.postgres import PostgresStore, schema
from surefoot_stores.sqlite import SqliteStore

__all__ = ["backup", "damage", "newest_schema", "schema_of", "stats"]

_COUNTS: Final = {
    "calls": "SELECT state, count(*) FROM calls GROUP BY state ORDER BY state",
    "records": "SELECT namespace, count(*) FROM records GROUP BY namespace ORDER BY namespace",
}
_TOTALS: Final = {table: f"SELECT count(*) FROM {table}" for table in ("checkpoints", "events", "leases", "counters")}  # noqa: S608 - constants
_PG_SIZE: Final = (
    "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
)
_MOST: Final = 20
"""So many findings are told."""


class _Readable(Protocol):
    def read(self, query: str, *values: Any) -> Sequence[Any]: ...


def _rows(tx: Transaction, query: str, *values: Any) -> Sequence[Any]:
    return cast("_Readable", tx).read(query, *values)


def _ours(store: Store) -> SqliteStore | PostgresStore:
    kept = store.store if isinstance(store, EncryptedStore) else store
    if isinstance(kept, SqliteStore | PostgresStore):
        return kept
    raise UsageError(f"the store {store.url} is not one database: give the URL of a SQLite or PostgreSQL store")


def stats(store: Store) -> dict[str, Any]:
    """Return how much is in a store: rows by table, calls by state, records by namespace, and bytes.

    Raises :class:`~surefoot.UsageError` for a store that is not one database, as everything here does.
    """
    kept = _ours(store)

    def look(tx: Transaction) -> dict[str, Any]:
        found: dict[str, Any] = {name: dict(map(tuple, _rows(tx, query))) for name, query in _COUNTS.items()}
        found |= {name: _rows(tx, query)[0][0] for name, query in _TOTALS.items()}
        if isinstance(kept, PostgresStore):
            found["bytes"] = int(_rows(tx, _PG_SIZE)[0][0] or 0)
        else:
            found["payloads"] = _rows(tx, "SELECT count(*) FROM payloads")[0][0]
            found["bytes"] = sum(file.stat().st_size for file in (kept.path, kept.path.with_name(f"{kept.path.name}-wal")) if file.exists())
        return found

    return {"url": store.url, "schema": schema_of(kept), **kept.run(look, write=False)}


def newest_schema(store: Store) -> int:
    """Return the schema that this surefoot writes to such a store."""
    return len(migrations.MIGRATIONS) if isinstance(_ours(store), SqliteStore) else len(schema.MIGRATIONS)


def schema_of(store: Store) -> int:
    """Return the schema that a store has, without bringing it up to date; 0 where there are no tables yet."""
    kept = _ours(store)
    if isinstance(kept, PostgresStore):
        return kept.schema()
    try:
        with closing(sqlite3.connect(f"{kept.path.as_uri()}?mode=ro", uri=True)) as db:
            return migrations.version(db)
    except sqlite3.Error as exc:
        raise StoreUnavailable(f"the store {kept.path} cannot be read ({exc}): check its path and the rights on it") from exc


def damage(store: Store) -> list[str]:
    """Return what is wrong with a store's tables: pages, rows and large values. The event logs are ``surefoot audit verify``'s."""
    kept = _ours(store)
    found = kept.run(_damaged_file, write=False) if isinstance(kept, SqliteStore) else []
    if isinstance(store, EncryptedStore):
        namespaces = kept.run(lambda tx: [name for (name,) in _rows(tx, "SELECT DISTINCT namespace FROM records")], write=False)
        found = found or store.run(partial(damaged_seals, namespaces), write=False)
    return found or store.run(_damaged_rows, write=False)


def _damaged_file(tx: Transaction) -> list[str]:
    pages = [f"the file: {text}" for (text,) in _rows(tx, f"PRAGMA integrity_check({_MOST})") if text != "ok"]
    return pages or _damaged_payloads(tx)


def _damaged_payloads(tx: Transaction) -> list[str]:
    payloads = Payloads(lambda query, *values: list(_rows(tx, query, *values)), lambda _statement, _values: 0)
    found = []
    for table, columns in REFERENCES.items():
        for column in columns:
            for (reference,) in _rows(tx, f"SELECT DISTINCT {column} FROM {table} WHERE {column} GLOB 'sha256:*'"):  # noqa: S608 - constants
                try:
                    payloads.get(reference)
                except IntegrityError as exc:
                    found.append(f"{table}.{column}: {exc}")
    return found


def _damaged_rows(tx: Transaction) -> list[str]:
    """Read every call once: a row that the store itself cannot read is damaged."""
    after = None
    try:
        while page := tx.calls.list(after=after, limit=500):
            after = page[-1].call_id
    except (IntegrityError, ValueError) as exc:
        return [f"the calls behind {after}: {exc}"]
    return []


def backup(store: Store, target: Path) -> None:
    """Copy a SQLite store that may be in use, with the key of its digests, to a new file; the copy is whole and durable.

    An encrypted one has that key inside, and its copy needs the same key as it does.

    Raises :class:`~surefoot.UsageError` where the file exists, and for PostgreSQL, which has tools of its own for that.
    """
    kept = _ours(store)
    if isinstance(kept, PostgresStore):
        raise UsageError(f"a PostgreSQL store is backed up with the server's own tools: pg_dump --schema={kept.schema_name!r} DATABASE")
    if target.exists():
        raise UsageError(f"{target} exists; a backup never overwrites anything")
    store.digest_key()  # which makes the file of the key where there is none yet
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(f"{kept.path.as_uri()}?mode=ro", uri=True)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            if copy.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                raise IntegrityError(f"the store {kept.path} is damaged, and so would be its backup; run surefoot store verify")
        key = kept.path.with_name(f"{kept.path.name}.key")
        if key.exists():
            write_once(target.with_name(f"{target.name}.key"), key.read_text(encoding="ascii"))
        _sync(part)
        part.rename(target)
        _sync(target.parent)
    except (sqlite3.Error, OSError) as exc:
        part.unlink(missing_ok=True)
        raise StoreUnavailable(f"the backup to {target} failed ({exc}): check the disk and the rights on its folder") from exc


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
