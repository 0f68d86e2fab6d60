"""The PostgreSQL store's harness: a schema for each folder, in the database that ``SUREFOOT_TEST_POSTGRES`` names."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot_conformance import hosts
from surefoot_conformance.keepers import Oracle, StoreHarness

if TYPE_CHECKING:
    from surefoot import Store

__all__ = ["PostgresHarness"]


class PostgresHarness(StoreHarness):
    """The PostgreSQL store."""

    name = "postgres"
    distribution = "psycopg"
    packages = ("surefoot_stores",)

    has_hosts = True

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):
            importlib.import_module("psycopg")  # here, so that no child has to

    def open(self, folder: Path) -> Store:
        """Open the folder's schema."""
        from surefoot_stores import PostgresStore

        return PostgresStore(hosts.url(folder))

    def oracle(self, folder: Path) -> Oracle:
        """Return plain SQL on the same schema."""
        return _Sql(hosts.schema(folder))

    def age(self, folder: Path) -> None:
        """Raise the schema's number."""
        with hosts.connected(hosts.schema(folder)) as db:
            db.execute("UPDATE meta SET version = 9999")

    def migrate(self, folder: Path, before: Callable[[], None]) -> None:
        """Watch what the driver's cursors execute."""
        import psycopg

        execute = psycopg.Cursor.execute

        def watched(*args: Any, **options: Any) -> Any:
            before()
            return execute(*args, **options)

        psycopg.Cursor.execute = watched  # type: ignore[method-assign]
        try:
            self.open(folder).run(lambda tx: tx.records.put("n", "k", 1))
        finally:
            psycopg.Cursor.execute = execute  # type: ignore[method-assign]

    def synced(self, folder: Path) -> bool:
        """Ask the server for ``fsync``, and each of the store's connections for ``synchronous_commit``."""
        import psycopg

        made: list[Any] = []
        connect = psycopg.Connection.connect.__func__  # type: ignore[attr-defined]

        def noted(kind: Any, *args: Any, **options: Any) -> Any:
            made.append(connect(kind, *args, **options))
            return made[-1]

        psycopg.Connection.connect = classmethod(noted)  # type: ignore[assignment, method-assign]
        try:
            self.open(folder).run(lambda tx: tx.records.put("n", "k", 1))
        finally:
            psycopg.Connection.connect = classmethod(connect)  # type: ignore[assignment, method-assign]
        asked = "SELECT current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'"
        return bool(made) and all(db.execute(asked).fetchone()[0] for db in made)


class _Sql(Oracle):
    def __init__(self, schema: str) -> None:
        self._schema = schema

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with hosts.connected(self._schema) as db:
            found: list[Any] = db.execute(sql, values or None).fetchall()
            return found

    def calls(self) -> dict[str, tuple[str, int]]:
        return {name: (state, version) for name, state, version in self._rows("SELECT call_id, state, version FROM calls")}

    def events(self, run_id: str) -> list[int]:
        return [seq for (seq,) in self._rows("SELECT seq FROM events WHERE run_id = %s ORDER BY at, seq", run_id)]

    def value(self, namespace: str, key: str) -> Any:
        rows = self._rows("SELECT value FROM records WHERE namespace = %s AND key = %s", namespace, key)
        return json.loads(rows[0][0]) if rows else None

    def counter(self, name: str) -> int:
        return sum(value for (value,) in self._rows("SELECT value FROM counters WHERE name = %s", name))

    def sound(self) -> str:
        """Return how the numbers of rows that must be one chain have a gap."""
        gaps = self._rows("SELECT run_id FROM events GROUP BY run_id HAVING max(seq) <> count(*) OR min(seq) <> 1")
        gaps += self._rows("SELECT run_id FROM checkpoints GROUP BY run_id HAVING max(seq) <> count(*) OR min(seq) <> 1")
        return f"the runs {gaps} have gaps" if gaps else ""
