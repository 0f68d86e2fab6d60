"""The SQLite schema as numbered steps. A step is applied in one transaction; ``PRAGMA user_version`` counts them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from surefoot.errors import StoreUnavailable

__all__ = ["MIGRATIONS", "migrate", "refuse_foreign", "version"]

MIGRATIONS: Final[list[list[str]]] = [
    [
        """CREATE TABLE calls (
            ordinal INTEGER PRIMARY KEY, call_id TEXT NOT NULL UNIQUE, key TEXT NOT NULL, tenant TEXT NOT NULL, conversation TEXT NOT NULL,
            run_id TEXT NOT NULL, scope TEXT NOT NULL, path TEXT NOT NULL, tool TEXT NOT NULL, args_digest TEXT NOT NULL,
            arguments TEXT, effect TEXT NOT NULL, state TEXT NOT NULL, entry INTEGER NOT NULL, touched INTEGER NOT NULL,
            owner TEXT NOT NULL, version INTEGER NOT NULL, sticky INTEGER NOT NULL, entered INTEGER NOT NULL, value TEXT,
            error TEXT, reason TEXT NOT NULL, settled_by TEXT, alias TEXT, occurrence TEXT NOT NULL, interrupts TEXT NOT NULL,
            created REAL NOT NULL, updated REAL NOT NULL) STRICT""",
        "CREATE INDEX calls_sticky ON calls (tenant, conversation, tool, args_digest) WHERE sticky = 1",
        "CREATE INDEX calls_unsettled ON calls (run_id) WHERE state IN ('intent', 'in_doubt')",
        "CREATE INDEX calls_path ON calls (scope, path)",
        """CREATE TABLE checkpoints (
            run_id TEXT NOT NULL, seq INTEGER NOT NULL, path TEXT NOT NULL, branch TEXT NOT NULL, entry INTEGER NOT NULL,
            attempt INTEGER NOT NULL, digest TEXT NOT NULL, output TEXT, verdict TEXT NOT NULL, mark INTEGER,
            created REAL NOT NULL, PRIMARY KEY (run_id, seq)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX checkpoints_path ON checkpoints (run_id, path)",
        """CREATE TABLE events (
            run_id TEXT NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, at REAL NOT NULL, data TEXT NOT NULL, step TEXT,
            call_id TEXT, monotonic REAL NOT NULL, salt TEXT NOT NULL, link TEXT NOT NULL, schema INTEGER NOT NULL,
            PRIMARY KEY (run_id, seq)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE leases (
            name TEXT PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL, held INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
        """CREATE TABLE records (
            namespace TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, version INTEGER NOT NULL,
            PRIMARY KEY (namespace, key)) STRICT, WITHOUT ROWID""",
        # Values over 32 KiB, by their SHA-256; what refers to one says "sha256:<hex>" in its place.
        "CREATE TABLE payloads (digest TEXT NOT NULL UNIQUE, text TEXT NOT NULL) STRICT",
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "PRAGMA user_version = 1",
    ],
    [
        # Both pages of a call's commits that it had are saved: what is open in a run is looked for by its slot space, which is
        # the run itself unless that was forked; only then the run has to be found.
        "DROP INDEX calls_unsettled",
        "CREATE INDEX calls_forked ON calls (run_id) WHERE run_id <> scope",
        "PRAGMA user_version = 2",
    ],
]


def refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    """Raise :class:`~surefoot.StoreUnavailable` when another program or a newer surefoot wrote the file. Nothing is changed."""
    theirs = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name LIMIT 20")]
    found = version(db)
    if theirs and not {"calls", "leases", "payloads"} <= set(theirs):
        raise StoreUnavailable(
            f"{path} is the database of another program (it has {', '.join(theirs[:3])}); give surefoot a file of its own"
        )
    if found > len(MIGRATIONS):
        raise StoreUnavailable(f"the store {path} was written by a newer surefoot (schema {found}); upgrade surefoot to open it")


def migrate(db: sqlite3.Connection) -> None:
    """Bring the schema up to date, one transaction a step. Another process may do the same at the same time."""
    while (found := version(db)) < len(MIGRATIONS):
        db.execute("BEGIN IMMEDIATE")
        try:
            if version(db) == found:
                for statement in MIGRATIONS[found]:
                    db.execute(statement)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def version(db: sqlite3.Connection) -> int:
    """Return how many steps were applied to a file."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])
