"""Owners in PostgreSQL: who is there, seen by signs of life and by no clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pg_direct import server

from surefoot_stores import PostgresStore
from surefoot_stores.postgres.presence import Presence

psycopg = pytest.importorskip("psycopg")


def presence(url: str, ttl: float) -> Presence:
    """Return an owner of its own."""
    made = Presence(PostgresStore(url)._open, ttl)
    made._me = f"elsewhere:{id(made)}"
    return made


def test_as_49_an_owner_elsewhere_is_dead_when_its_count_stands_for_a_ttl(postgres_url: str) -> None:
    """An owner of another host is alive while its count moves between two looks, and dead when it stood for a whole TTL."""
    here, there = presence(postgres_url, 10.0), presence(postgres_url, 10.0)
    now = 0.0
    here.clock = lambda: now
    store = PostgresStore(postgres_url)
    there.beat()
    for now in (0.0, 9.0, 18.0, 27.0):
        here.beat()
        assert store.alive(there._me), now
        there.beat()
    for now, expected in ((30.0, True), (39.9, True), (40.0, False)):
        here.beat()
        assert store.alive(there._me) is expected, now
    there.beat()
    assert store.alive(there._me), "an owner that finds its row removed puts it back"
    for one in (here, there, store):
        one.close()


def test_i10_no_wall_clock_says_who_is_alive(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps by a year makes nobody dead and nobody alive."""
    here, there = presence(postgres_url, 10.0), presence(postgres_url, 10.0)
    store = PostgresStore(postgres_url)
    here.clock = lambda: 1.0
    there.beat()
    here.beat()
    monkeypatch.setattr("time.time", lambda: 4e9)
    with server(postgres_url) as db:
        assert not [
            column
            for (column,) in db.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'owners' AND data_type LIKE 'time%%'"
            )
        ]
    here.beat()
    assert store.alive(there._me)
    for one in (here, there, store):
        one.close()


OWNER = """
import sys
from surefoot_stores import PostgresStore
store = PostgresStore(sys.argv[1])
print(store.owner(), flush=True)
sys.stdin.read()
"""


@contextmanager
def owner_of(url: str, host: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start an owner on a host, which is a folder of temporary files; yield it and its id."""
    host.mkdir(exist_ok=True)
    start = [sys.executable, "-c", OWNER, url]
    child = subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(host)})
    assert child.stdout is not None
    try:
        yield child, child.stdout.readline().strip()
    finally:
        child.kill()
        child.communicate()


def until(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Look again and again; return whether it held in time."""
    waited = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if holds():
            return True
        waited.wait(0.05)
    return False


def test_as_49_a_stopped_owner_of_another_host_is_dead_after_the_ttl_and_comes_back(postgres_url: str, tmp_path: Path) -> None:
    """Over hosts a process that is stopped for longer than the TTL counts as dead; when it goes on, it is alive again."""
    url = f"{postgres_url}&surefoot_ttl=1"
    store = PostgresStore(url)
    store.owner()
    with owner_of(url, tmp_path / "other host") as (child, owner):
        assert store.alive(owner)
        child.send_signal(signal.SIGSTOP)
        assert until(lambda: not store.alive(owner))
        child.send_signal(signal.SIGCONT)
        assert until(lambda: store.alive(owner))
    assert until(lambda: not store.alive(owner))
    store.close()
