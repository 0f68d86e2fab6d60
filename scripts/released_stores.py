"""Write a store of the newest schema, as SQL, to ``tests/surefoot_stores/released``: once for each schema, before its release.

Needs ``SUREFOOT_TEST_POSTGRES`` and ``pg_dump`` for the PostgreSQL one. What is there is never overwritten: it is what users have.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

import surefoot
from surefoot import Guard, InDoubt, ToolRule
from surefoot_stores.care import newest_schema

FOLDER = Path(__file__).parent.parent / "tests" / "surefoot_stores" / "released"
SCHEMA = "surefoot_released"


def fill(url: str) -> Guard:
    """Put something of everything into a new store: results small and large, an error, a doubt that holds its run, an open run."""
    guard = Guard(url, tools={"order": ToolRule("unsafe", key=["number"]), "pay": ToolRule("unsafe")}, reads=["look"])

    @surefoot.tool()
    def order(number: int) -> str:
        return f"ordered {number}"

    @surefoot.tool()
    def look(what: str) -> str:
        return what * 33_000

    @surefoot.tool()
    def pay(what: str) -> str:
        raise KeyboardInterrupt(what)

    def shopping(_what: str) -> list[str]:
        return [order(7), look(".")]

    def paying(_what: str) -> list[str]:
        return [order(8), pay("bill")]

    with surefoot.run("shopping"):
        surefoot.wrap(shopping, guard=guard)("é😀 'quoted'")
    for error in (KeyboardInterrupt, InDoubt):
        try:
            with surefoot.run("paying"):
                surefoot.wrap(paying, guard=guard)("bill")
        except error as exc:
            print(f"as it should: {exc}")
    return guard


def write(name: str, lines: list[str]) -> None:
    """Write a new file; leave one that is there."""
    if (FOLDER / name).exists():
        print(f"{name} is there")
        return
    with (FOLDER / name).open("x", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    print(f"wrote {name}")


def sqlite() -> None:
    """Write the SQLite one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        guard = fill(f"sqlite:///{path}")
        version = newest_schema(guard.store)
        guard.close()
        with sqlite3.connect(path) as db:
            write(f"sqlite-{version}.sql", [*db.iterdump(), f"PRAGMA user_version = {version};"])


def postgres(server: str) -> None:
    """Write the PostgreSQL one."""
    guard = fill(f"{server}{'&' if '?' in server else '?'}surefoot_schema={SCHEMA}")
    version = newest_schema(guard.store)
    guard.close()
    dump = ["pg_dump", "--no-owner", "--no-privileges", "--inserts", f"--schema={SCHEMA}", f"--dbname={server}"]
    text = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
    session = re.compile(r"(--|SET |\\|SELECT pg_catalog\.set_config)")
    write(f"postgres-{version}.sql", [line for line in text.splitlines() if line and not session.match(line)])
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


if __name__ == "__main__":
    os.environ["SUREFOOT_DIGEST_KEY"] = "released"
    if "SUREFOOT_TEST_POSTGRES" not in os.environ:
        sys.exit("set SUREFOOT_TEST_POSTGRES to the URL of a PostgreSQL database")
    sqlite()
    postgres(os.environ["SUREFOOT_TEST_POSTGRES"])
