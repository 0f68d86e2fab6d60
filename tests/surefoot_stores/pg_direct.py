"""A connection to PostgreSQL past the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from surefoot_stores.postgres import session

psycopg = pytest.importorskip("psycopg")


@contextmanager
def server(url: str) -> Iterator[Any]:
    """Yield a plain connection to a store's tables."""
    place = session.Place.of(url)
    with psycopg.connect(place.conninfo, autocommit=True, options=f"-c search_path={place.schema}") as db:
        yield db
