"""The PostgreSQL store's harness: a schema for each folder, in the database that ``SUREFOOT_TEST_POSTGRES`` names."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surefoot.errors import UsageError
from surefoot_conformance.keepers import Oracle, StoreHarness

if TYPE_CHECKING:
    from surefoot import Store

__all__ = ["PostgresHarness"]

_VARIABLE: Final = "SUREFOOT_TEST_POSTGRES"


class PostgresHarness(StoreHarness):
    """The PostgreSQL store."""

    name = "postgres"
    distribution = "psycopg"
    packages = ("surefoot_stores",)

    def __init__(self) -> None:
        self._mine = f"surefoot_certify_{secrets.token_hex(6)}"
        with contextlib.suppress(ImportError):
            importlib.import_module("psycopg")  # here, so that no child has to
        atexit.register(self._clear)  # in the process that runs the cells: their own end without this

    def _clear(self) -> None:
        """Drop the schemas of this run."""
        if not os.environ.get(_VARIABLE):
            return
        import psycopg

        with contextlib.suppress(psycopg.Error), _connected(self._server(), "pg_catalog") as db:
            for (schema,) in db.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", (self._mine,)).fetchall():
                db.execute(f'DROP SCHEMA "{schema}" CASCADE')

    def _server(self) -> str:
        server = os.environ.get(_VARIABLE)
        if not server:
            raise UsageError(f"set {_VARIABLE} to the URL of a PostgreSQL database in which schemas may be made, to certify this store")
        return server

    def _schema(self, folder: Path) -> str:
        return f"{self._mine}_{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"

    def open(self, folder: Path) -> Store:
        """Open the folder's schema."""
        from surefoot_stores import PostgresStore

        server = self._server()
        return PostgresStore(f"{server}{'&' if '?' in server else '?'}surefoot_schema={self._schema(folder)}")

    def oracle(self, folder: Path) -> Oracle:
        """Return plain SQL on the same schema."""
        return _Sql(self._server(), self._schema(folder))

    def age(self, folder: Path) -> None:
        """Raise the schema's number."""
        with _connected(self._server(), self._schema(folder)) as db:
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


@contextlib.contextmanager
def _connected(server: str, schema: str) -> Iterator[Any]:
    import psycopg

    with psycopg.connect(server, autocommit=True, options=f"-c search_path={schema}") as db:
        yield db


class _Sql(Oracle):
    def __init__(self, server: str, schema: str) -> None:
        self._place = (server, schema)

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with _connected(*self._place) as db:
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
