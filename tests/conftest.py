"""What every test leaves as it found it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from surefoot import redaction


@pytest.fixture(autouse=True)
def no_secrets_left() -> Iterator[None]:
    """Forget the secrets that a test registered."""
    yield
    redaction._forms.clear()
    redaction._pattern = None


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
