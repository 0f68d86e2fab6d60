"""``surefoot store``: what an operator does to a store."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import surefoot
from surefoot import Guard, ToolRule
from surefoot_cli.main import cli

NEWEST = {"sqlite": 2, "postgresql": 2}
"""The schema that this surefoot writes."""

DAY = 86_400.0


def agent(guard: Guard) -> Callable[[str], str]:
    """Return an agent that orders something, under a guard."""

    @surefoot.tool()
    def order(number: int) -> str:
        return f"ordered {number} " + "." * 40_000

    return surefoot.wrap(lambda _what: order(7), guard=guard)


@pytest.fixture(params=["sqlite", "postgres", "encrypted"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a store with one run of long ago."""
    made = f"sqlite:///{tmp_path}/s.db" if request.param != "postgres" else request.getfixturevalue("postgres_url")
    if request.param == "encrypted":
        monkeypatch.setenv("SUREFOOT_STORE_KEY", base64.b64encode(bytes(32)).decode())
        made = f"encrypted+{made}"
    guard = Guard(made, tools={"order": ToolRule("unsafe", key=["number"])})
    guard.clock = lambda: 1_000_000.0
    with surefoot.run("r"):
        agent(guard)("go")
    yield made
    guard.close()


def store(url: str, *args: str) -> Result:
    """Run a command on a store."""
    return CliRunner().invoke(cli, ["--store", url, "store", *args])


def test_stats_counts_what_is_there(url: str) -> None:
    """Calls by state, records by namespace, rows and bytes, for people and as JSON."""
    found = json.loads(store(url, "stats", "--json").output)
    assert found["calls"] == {"committed": 1}
    assert found["records"]["runs"] == 1
    assert found["bytes"] > 10_000
    assert found["schema"] == NEWEST[url.removeprefix("encrypted+").partition(":")[0]]
    assert "committed" in store(url, "stats").output


def test_as_74_prune_says_what_it_removed(url: str) -> None:
    """The ages are asked for; what was removed is counted, and a second pass finds nothing."""
    assert store(url, "prune").exit_code == 2
    ages = ("--payload-ttl", "10d", "--dedup-ttl", "100d", "--max-run-age", "50d")
    assert json.loads(store(url, "prune", *ages, "--json").output)["tombstones"] == 1
    assert set(store(url, "prune", *ages).output.split()[1::2]) == {"0"}
    assert store(url, "verify").exit_code == 0


@pytest.mark.parametrize("ages", [("10d", "50d", "50d"), ("ten days", "100d", "50d"), ("10", "100d", "50d")])
def test_prune_refuses_ages_that_make_no_sense(url: str, ages: tuple[str, str, str]) -> None:
    """An age that is none, or that would forget a key too early, is a usage error, and nothing is removed."""
    args = zip(("--payload-ttl", "--dedup-ttl", "--max-run-age"), ages, strict=True)
    assert store(url, "prune", *(word for pair in args for word in pair)).exit_code == 2
    assert json.loads(store(url, "stats", "--json").output)["calls"] == {"committed": 1}


def test_a_sound_store_verifies_and_migrates_to_what_it_is(url: str) -> None:
    """A store that was written by this surefoot is sound and up to date."""
    assert store(url, "verify").output == "the store is sound\n"
    newest = NEWEST[url.removeprefix("encrypted+").partition(":")[0]]
    assert json.loads(store(url, "migrate", "--json").output) == {"schema_version": 1, "before": newest, "schema": newest}


def test_a_memory_store_is_refused() -> None:
    """What ends with its process has nothing to look after."""
    for verb in ("stats", "verify", "migrate"):
        assert store("memory://", verb).exit_code == 2


@pytest.fixture
def path(tmp_path: Path, url: str) -> Path:
    """The file of the store, where it is one."""
    if not url.startswith("sqlite"):
        pytest.skip("only a SQLite store is a file")
    return tmp_path / "s.db"


def test_a_backup_is_a_whole_store_with_its_key(path: Path, url: str, tmp_path: Path) -> None:
    """A copy made while the store is in use opens, verifies and recognises the same request; it overwrites nothing."""
    copy = tmp_path / "copies" / "b.db"
    copy.parent.mkdir()
    assert store(url, "backup", str(copy)).exit_code == 0
    assert store(url, "backup", str(copy)).exit_code == 2
    path.unlink()
    assert store(f"sqlite:///{copy}", "verify").exit_code == 0
    with Guard(f"sqlite:///{copy}", tools={"order": ToolRule("unsafe", key=["number"])}) as guard, surefoot.run("another"):
        assert agent(guard)("go").startswith("ordered 7")
        assert len(guard.calls.list()) == 1
    assert sorted(file.name for file in copy.parent.iterdir() if not file.name.endswith(("-wal", "-shm", ".owners"))) == [
        "b.db",
        "b.db.key",
    ]


def test_a_backup_of_postgres_names_the_tool_for_it(url: str, tmp_path: Path) -> None:
    """PostgreSQL has its own tools; the error says which."""
    if not url.startswith("postgres"):
        pytest.skip("a SQLite store is backed up here")
    result = store(url, "backup", str(tmp_path / "b.db"))
    assert (result.exit_code, "pg_dump" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE payloads SET text = replace(text, 'ordered', 'changed')", "damaged"),
        ("DELETE FROM payloads", "lost"),
        ("UPDATE calls SET state = 'in_doubt'", "in the log"),
        ("UPDATE events SET data = replace(data, 'committed', 'failed')", "chain"),
        ("UPDATE calls SET effect = 'nonsense'", "calls behind"),
    ],
)
def test_verify_finds_what_was_changed(path: Path, url: str, change: str, what: str) -> None:
    """A large value, a row or an event that is not what was written is found; the exit code says so."""
    with sqlite3.connect(path) as db:
        assert db.execute(change).rowcount > 0
    result = store(url, "verify")
    assert (result.exit_code, what in result.output) == (8, True), result.output


def test_verify_finds_a_damaged_page(path: Path, url: str) -> None:
    """Bytes of the file that were overwritten are found."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(root,)] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'calls_path'")
        [(size,)] = db.execute("PRAGMA page_size")
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size + size - 200)
        file.write(b"\0" * 200)
    assert store(url, "verify").exit_code == 8


def test_verify_refuses_a_store_without_its_key(path: Path, url: str) -> None:
    """Without the key no request would be recognised: verify says so, and makes no other."""
    path.with_name("s.db.key").unlink()
    result = store(url, "verify")
    assert (result.exit_code, "is missing" in result.output) == (9, True)
