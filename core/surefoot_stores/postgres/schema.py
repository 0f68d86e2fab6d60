"""The PostgreSQL schema as numbered steps, applied in one transaction together with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from surefoot.errors import StoreUnavailable

if TYPE_CHECKING:
    from surefoot_stores.postgres.session import Session

__all__ = ["MIGRATIONS", "migrate", "version"]

_TEXT: Final = 'TEXT COLLATE "C"'

MIGRATIONS: Final[list[list[str]]] = [
    [
        f"""CREATE TABLE calls (
            ordinal BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, call_id {_TEXT} NOT NULL UNIQUE, key {_TEXT} NOT NULL,
            tenant {_TEXT} NOT NULL, conversation {_TEXT} NOT NULL, run_id {_TEXT} NOT NULL, scope {_TEXT} NOT NULL,
            path {_TEXT} NOT NULL, tool {_TEXT} NOT NULL, args_digest {_TEXT} NOT NULL, arguments TEXT, effect {_TEXT} NOT NULL,
            state {_TEXT} NOT NULL, entry BIGINT NOT NULL, touched BIGINT NOT NULL, owner {_TEXT} NOT NULL, version BIGINT NOT NULL,
            sticky BOOLEAN NOT NULL, entered BOOLEAN NOT NULL, value TEXT, error TEXT, reason TEXT NOT NULL, settled_by TEXT,
            alias TEXT, occurrence {_TEXT} NOT NULL, interrupts TEXT NOT NULL, created DOUBLE PRECISION NOT NULL,
            updated DOUBLE PRECISION NOT NULL)""",
        "CREATE INDEX calls_sticky ON calls (tenant, conversation) WHERE sticky",
        "CREATE INDEX calls_unsettled ON calls (run_id) WHERE state IN ('intent', 'in_doubt')",
        "CREATE INDEX calls_path ON calls (scope, path)",
        f"""CREATE TABLE checkpoints (
            run_id {_TEXT} NOT NULL, path {_TEXT} NOT NULL, branch {_TEXT} NOT NULL, entry BIGINT NOT NULL, attempt BIGINT NOT NULL,
            digest {_TEXT} NOT NULL, output TEXT, verdict TEXT NOT NULL, mark BIGINT, created DOUBLE PRECISION NOT NULL,
            seq BIGINT NOT NULL, PRIMARY KEY (run_id, seq))""",
        f"""CREATE TABLE events (
            run_id {_TEXT} NOT NULL, type {_TEXT} NOT NULL, at DOUBLE PRECISION NOT NULL, data TEXT NOT NULL, step TEXT, call_id TEXT,
            seq BIGINT NOT NULL, monotonic DOUBLE PRECISION NOT NULL, salt TEXT NOT NULL, link TEXT NOT NULL, schema BIGINT NOT NULL,
            PRIMARY KEY (run_id, seq))""",
        f"CREATE TABLE leases (name {_TEXT} PRIMARY KEY, owner {_TEXT} NOT NULL, epoch BIGINT NOT NULL, held BOOLEAN NOT NULL)",
        f"""CREATE TABLE records (
            namespace {_TEXT} NOT NULL, key {_TEXT} NOT NULL, value TEXT NOT NULL, version BIGINT NOT NULL,
            PRIMARY KEY (namespace, key))""",
        f"CREATE TABLE counters (name {_TEXT} PRIMARY KEY, value BIGINT NOT NULL)",
        # Who is there: each owner counts its row up, others watch it (see presence.py).
        f"CREATE TABLE owners (id {_TEXT} PRIMARY KEY, beat BIGINT NOT NULL) WITH (fillfactor = 50)",
        # One number for each turn to write; who finds the one after his own knows that nobody has written meanwhile.
        "CREATE SEQUENCE turns",
    ],
    [
        # One row that the server itself drops when it recovers from a crash, as of any unlogged table, and that no standby has. The
        # same id of a transaction is given twice where a crash came between: only beside the same row it is the same transaction.
        "CREATE UNLOGGED TABLE life (id UUID NOT NULL)",
        "CREATE UNIQUE INDEX life_one ON life ((true))",
    ],
]


def migrate(session: Session) -> None:
    """Bring the schema up to date, in one transaction. Other processes may do the same at the same time.

    Raises :class:`~surefoot.StoreUnavailable` when the tables were written by a newer surefoot; they are not touched then.
    """
    found = version(session)
    if found == len(MIGRATIONS):
        return
    with session.alone():
        found = version(session)
        if found > len(MIGRATIONS):
            msg = f"the store {session.name} was written by a newer surefoot (schema {found}); upgrade surefoot to open it"
            raise StoreUnavailable(msg)
        if found == 0:
            session.create_schema()
            session.execute("CREATE TABLE meta (version BIGINT NOT NULL)")
            session.execute("INSERT INTO meta VALUES (0)")
        for step in MIGRATIONS[found:]:
            for statement in step:
                session.execute(statement)
        session.execute("UPDATE meta SET version = %s", len(MIGRATIONS))


def version(session: Session) -> int:
    """Return how many steps were applied, 0 where there are no tables yet."""
    # The catalogue's own rows: to_regclass answers from what this backend knew before it waited for its turn.
    if not session.rows("SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'meta'", session.schema):
        return 0
    return int(session.rows("SELECT version FROM meta")[0][0])
