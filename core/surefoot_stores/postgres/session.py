"""One connection to PostgreSQL: how it is opened, its limits on waiting, and the transactions on it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from surefoot.errors import IntegrityError, StoreUnavailable, UsageError

__all__ = ["Place", "Session", "driver", "error", "lost"]

_log = logging.getLogger("surefoot.store")
_OLDEST: Final = 130000
_SECONDS: Final = 30.0
"""How long one statement may take, the wait for the turn to write included."""
_IDLE: Final = 10.0
"""How long a transaction may do nothing before the server ends it: a stopped process would keep all others from writing."""
_MARGIN: Final = 5.0
"""Seconds behind a statement's limit after which the server counts as lost, because it should have answered."""
_OURS: Final = "surefoot_"
_KEEPALIVE: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_ADVICE: Final = {
    "28": "check the user and the password in its URL",
    "3D": "create that database, or give another one",
    "42501": "grant its user CREATE on the database, or on its schema",
    "53100": "free some disk space on the server",
    "53300": "raise max_connections, or start fewer processes: each needs two connections",
    "55P03": "another process keeps the turn to write; find and end that process",
    "57014": "the server took too long; look at its load and its locks",
    "25006": "this is a standby, or read-only; give the URL of the primary",
}
_abandoned: list[Any] = []
"""Connections of a parent process: kept, so that nothing is ever sent on them from here."""


def driver() -> Any:
    """Return psycopg. Raises :class:`~surefoot.UsageError` where it is not installed."""
    try:
        import psycopg
    except ImportError as exc:
        raise UsageError(f"the PostgreSQL store needs psycopg ({exc}); install it with: pip install 'surefoot[postgres]'") from exc
    return psycopg


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tables are, and how long to wait: what a URL says.

    ``postgresql://user@host/database?surefoot_schema=name&surefoot_ttl=15&surefoot_wait=10``; whatever else stands there is
    libpq's.
    """

    conninfo: str
    """What libpq is given."""
    name: str
    """Host, database and schema, without a password."""
    schema: str
    ttl: float
    """Seconds without a sign of life after which an owner on another host counts as dead."""
    wait: float
    """Seconds to wait for a server that was there before to come back."""

    @classmethod
    def of(cls, url: str) -> Place:
        """Read a URL. Raises :class:`~surefoot.UsageError` for one that cannot work."""
        parts = urlsplit(url)
        if parts.scheme not in {"postgresql", "postgres"}:
            raise UsageError(f"{url!r} is no PostgreSQL URL: write postgresql://user@host/database")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        ours = {key: options.pop(key) for key in list(options) if key.startswith(_OURS)}
        schema = ours.pop("surefoot_schema", "surefoot")
        try:
            ttl, wait = (float(ours.pop(key, default)) for key, default in (("surefoot_ttl", 15), ("surefoot_wait", 10)))
        except ValueError as exc:
            raise UsageError(f"surefoot_ttl and surefoot_wait are numbers of seconds ({exc})") from exc
        if ours or not 0.1 <= ttl <= 86_400 or wait < 0 or not 0 < len(schema.encode()) < 64 or "\0" in schema:  # noqa: PLR2004 - stated in the sentence
            msg = (
                "the options of its URL are surefoot_schema (1 to 63 bytes), surefoot_ttl (0.1 to 86400 s) and surefoot_wait (0 s or more)"
            )
            raise UsageError(f"the PostgreSQL store cannot be opened with {sorted(ours) or [schema, ttl, wait]}: {msg}")
        host = f"{parts.hostname or options.get('host', 'localhost')}:{parts.port or options.get('port', 5432)}"
        conninfo = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(options, quote_via=quote), ""))
        return cls(conninfo, f"{host}{parts.path}/{schema}", schema, ttl, wait)


@cache
def _connection() -> Any:
    """Return the class of connections that do not wait for ever."""
    psycopg = driver()

    class Connection(psycopg.Connection[Any]):  # type: ignore[misc, name-defined]
        """A connection whose waiting has an end, even where the network swallows every packet."""

        def wait(self, gen: Generator[Any, Any, Any], interval: float = 0.1) -> Any:
            """Wait for an answer. Raises OperationalError when there is none in time, and gives the connection up."""
            return super().wait(self._until(gen, time.monotonic() + _SECONDS + _MARGIN), interval)

        def _until(self, gen: Generator[Any, Any, Any], end: float) -> Generator[Any, Any, Any]:
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    if time.monotonic() > end:
                        self.pgconn.finish()
                        raise psycopg.OperationalError("the server does not answer")
                    wanted = gen.send(ready)
            except StopIteration as stop:
                return stop.value

    return Connection


def lost(exc: BaseException) -> bool:
    """Return whether an error may be over once there is another connection: it says nothing about the statement."""
    psycopg = driver()
    state = getattr(exc, "sqlstate", None) or ""
    if isinstance(exc, psycopg.InterfaceError):
        return True
    return isinstance(exc, psycopg.OperationalError) and (not state or (state[:2] in {"08", "57"} and state != "57014") or state == "25P03")


class Session:
    """A connection on which the tables are found by their bare names."""

    def __init__(self, place: Place) -> None:
        self.name, self.schema = place.name, place.schema
        self._place = place
        self.turn = 0
        """Number of the last turn to write that this session had or saw the end of."""
        self.xid = ""
        """The server's id of the transaction that is open."""
        self.life = ""
        """In which life of the server it was given; ``""`` where nobody has asked."""
        self._lock = int.from_bytes(hashlib.sha256(f"surefoot/{place.schema}".encode()).digest()[:8], signed=True)
        self._begin = {
            True: "BEGIN; WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock(%s))"
            " SELECT nextval('turns'), pg_current_xact_id()::text FROM held".replace("%s", str(self._lock)),
            False: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT last_value, '' FROM turns",
        }
        self.db: Any = _connection().connect(place.conninfo, autocommit=True, application_name=f"surefoot {os.getpid()}", **_KEEPALIVE)
        self._cursor = self.db.cursor()
        try:
            self._set_up()
        except BaseException:
            self.db.close()
            raise

    def _set_up(self) -> None:
        from psycopg import sql

        if self.db.info.server_version < _OLDEST:
            raise UsageError(f"PostgreSQL {self.db.info.server_version // 10000} at {self.name} is too old; surefoot needs 13 or newer")
        limits = {"statement_timeout": _SECONDS, "lock_timeout": _SECONDS, "idle_in_transaction_session_timeout": _IDLE}
        settings = {name: f"{seconds * 1000:.0f}" for name, seconds in limits.items()}
        settings |= {"search_path": sql.Identifier(self._place.schema).as_string(None), "client_encoding": "UTF8", "TimeZone": "UTC"}
        # Every statement looks rows up by an index. Told so, the planner does not read a whole table that it has no statistics of yet.
        settings |= dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off")
        self.rows("SELECT set_config(key, value, false) FROM json_each_text(%s::json)", json.dumps(settings))
        # A commit that is only with the operating system would be lost in a power cut.
        self.db.execute("SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")
        [(encoding, fsync)] = self.rows("SELECT current_setting('server_encoding'), current_setting('fsync')")
        if encoding != "UTF8":
            raise UsageError(f"the database at {self.name} has the encoding {encoding}; create one with ENCODING 'UTF8'")
        if fsync != "on":
            _log.warning("the server at %s runs with fsync=%s: a power cut loses what it has confirmed; set fsync = on", self.name, fsync)

    def recognise(self) -> None:
        """Note which life of the server this is: it ends with a crash or a failover, after which ids of transactions are given anew."""
        self.execute("INSERT INTO life VALUES (gen_random_uuid()) ON CONFLICT DO NOTHING")
        [(self.life,)] = self.rows("SELECT id::text FROM life")

    # --- statements

    def execute(self, statement: str, *values: Any) -> int:
        """Run a statement; return how many rows it changed."""
        return self._cursor.execute(statement, values or None).rowcount  # type: ignore[no-any-return]

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        return self._cursor.execute(query, values or None).fetchall()  # type: ignore[no-any-return]

    def create_schema(self) -> None:
        """Make the schema where there is none."""
        from psycopg import sql

        self.db.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._place.schema)))

    # --- transactions

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Open a transaction that no other one of the store writes beside; undone when the block raises."""
        self.db.execute("BEGIN")
        try:
            self.execute("SELECT pg_advisory_xact_lock(%s)", self._lock)
            yield
            self.commit()
        except BaseException:
            self.rollback()
            raise

    def begin(self, *, write: bool) -> bool:
        """Open a transaction, waiting for the turn to write; return whether nobody has written since this session's last one."""
        cursor = self._cursor.execute(self._begin[write])
        cursor.nextset()
        turn, self.xid = cursor.fetchone()
        known = bool(turn == self.turn + write)
        self.turn = turn if write or known else -1
        return known

    def commit(self) -> None:
        """Make the open transaction durable."""
        if self.db.execute("COMMIT").statusmessage != "COMMIT":
            raise StoreUnavailable(f"the store {self.name} has undone the transaction; look into the server's log")

    def rollback(self) -> None:
        """Undo the open transaction. Where that fails the connection is closed, which undoes it too."""
        try:
            if not self.db.closed and self.db.info.transaction_status:
                self.db.execute("ROLLBACK")
        except driver().Error:
            self.close()

    def fate(self, xid: str, life: str) -> bool | None:
        """Return whether a transaction was committed; ``None`` while that is open, or nobody can know any more."""
        if life != self.life:
            return None
        [(told,)] = self.rows("SELECT pg_xact_status(%s::xid8)", xid)
        return {"committed": True, "aborted": False}.get(told)

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return bool(self.db.closed or self.db.broken)

    @property
    def failed(self) -> bool:
        """Whether the server takes nothing more in the open transaction."""
        from psycopg.pq import TransactionStatus

        return bool(self.db.info.transaction_status in {TransactionStatus.INERROR, TransactionStatus.UNKNOWN})

    def close(self) -> None:
        """Close the connection."""
        with suppress(driver().Error):
            self.db.close()

    def abandon(self) -> None:
        """Leave the connection to the parent process: give its file descriptor back, and send nothing on it."""
        _abandoned.append(self.db)
        with suppress(OSError, driver().Error):
            os.close(self.db.fileno())

    # --- errors

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raise the driver's errors as surefoot's."""
        try:
            yield
        except driver().Error as exc:
            raise error(self.name, exc) from exc


def error(name: str, exc: Exception) -> Exception:
    """Return surefoot's error for one of the driver's."""
    psycopg = driver()
    first = str(exc).partition("\n")[0]
    if isinstance(exc, psycopg.IntegrityError):
        return IntegrityError(f"a row does not fit the store ({first})")
    if isinstance(exc, psycopg.DataError | psycopg.errors.ProgramLimitExceeded):
        return UsageError(
            f"a name or number cannot be stored ({first}); give valid Unicode, integers of 64 bits, and names under 2000 bytes"
        )
    state = getattr(exc, "sqlstate", None) or ""
    advice = _ADVICE.get(state) or _ADVICE.get(state[:2]) or "check that the server runs and can be reached"
    return StoreUnavailable(f"the store {name} cannot be used ({first}): {advice}")
