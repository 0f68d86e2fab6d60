"""What tests share, and what every test leaves as it found it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash import Children, Effects

from surefoot import Guard, redaction


@pytest.fixture(autouse=True)
def no_secrets_left() -> Iterator[None]:
    """Forget the secrets that a test registered."""
    yield
    redaction._forms.clear()
    redaction._pattern = None


@pytest.fixture(scope="module", autouse=True)
def no_children_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the processes that a module forked for its tests, its ``children``."""
    yield
    if isinstance(children := getattr(request.module, "children", None), Children):
        children.close()


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    """An empty effects file."""
    return Effects(tmp_path / "effects")


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    """A guard over a new SQLite store."""
    with Guard(f"sqlite:///{tmp_path}/surefoot.db") as made:
        yield made


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """URL of a PostgreSQL store of the test's own, in a schema that is dropped after it."""
    server = os.environ.get("SUREFOOT_TEST_POSTGRES")
    if not server:
        pytest.skip("set SUREFOOT_TEST_POSTGRES to the URL of a PostgreSQL database to run this")
    psycopg = pytest.importorskip("psycopg")
    schema = f"surefoot_test_{uuid.uuid4().hex}"
    yield f"{server}{'&' if '?' in server else '?'}surefoot_schema={schema}"
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
