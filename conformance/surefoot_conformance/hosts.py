"""Several hosts, played on this machine: processes with temporary files and clocks of their own, and one PostgreSQL database.

The database is the one that ``SUREFOOT_TEST_POSTGRES`` names. Each folder has a schema of its own in it; the process that
runs the cells drops them all when it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from surefoot.errors import UsageError
from surefoot_conformance.forks import Child
from surefoot_conformance.table import Broken

__all__ = ["connected", "missing", "play", "schema", "server", "stop", "stopped", "url"]

_VARIABLE: Final = "SUREFOOT_TEST_POSTGRES"
_MINE: Final = f"surefoot_certify_{secrets.token_hex(6)}"
"""What the names of this run's schemas begin with, in the children as well."""
_TTL: Final = 1
"""Seconds without a sign of life after which a played host counts as dead."""


def missing() -> str:
    """Return why several hosts cannot be played here; ``""``: they can."""
    if not os.environ.get(_VARIABLE):
        return f"{_VARIABLE} names no PostgreSQL database that several hosts could share"
    return "" if importlib.util.find_spec("psycopg") else "psycopg is not installed: pip install 'surefoot[postgres]'"


def server() -> str:
    """Return the database. Raises :class:`~surefoot.UsageError` where none is named."""
    if found := os.environ.get(_VARIABLE):
        return found
    raise UsageError(f"set {_VARIABLE} to the URL of a PostgreSQL database in which schemas may be made, to certify this store")


def schema(folder: Path) -> str:
    """Return the name of a folder's schema."""
    return f"{_MINE}_{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"


def url(folder: Path, *, ttl: int = _TTL) -> str:
    """Return the URL of a store in a folder's schema; ``ttl`` in seconds."""
    database = server()
    return f"{database}{'&' if '?' in database else '?'}surefoot_schema={schema(folder)}&surefoot_ttl={ttl}"


def play(files: Path) -> None:
    """Make this process one of another host, whose temporary files are below ``files``: it sees no lock of the others."""
    files.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(files)


def stop() -> None:
    """Stop this process where it stands, all its threads, as a long pause of its machine would."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # sent to the process, another thread takes it, and this one runs on


@contextlib.contextmanager
def stopped(child: Child) -> Iterator[Child]:
    """Wait until a child has stopped itself, and yield it; it does not outlive the block."""
    try:
        found = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if found is None or found.si_code != os.CLD_STOPPED:
            ended = child.wait()
            raise Broken(f"the first host ended before it came to where it stops: {ended.error} {ended.message}")
        yield child
    finally:
        child.kill()


@contextlib.contextmanager
def connected(place: str) -> Iterator[Any]:
    """Yield a plain connection that sees the schema ``place``."""
    import psycopg

    with psycopg.connect(server(), autocommit=True, options=f"-c search_path={place}") as db:
        yield db


@atexit.register
def _clear() -> None:
    """Drop the schemas of this run: children end without this."""
    if missing():
        return
    import psycopg

    with contextlib.suppress(psycopg.Error), connected("pg_catalog") as db:
        for (name,) in db.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", (_MINE,)).fetchall():
            db.execute(f'DROP SCHEMA "{name}" CASCADE')
