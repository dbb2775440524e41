"""The test server itself: a real PostgreSQL 18, and databases that know nothing of each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from tests.support.storage.postgres import FreshPostgres


@pytest.fixture
def left_open() -> Iterator[ExitStack]:
    """Closes what a test left open; asked for first, it does so after the databases are dropped."""
    with ExitStack() as stack:
        yield stack


def test_server_is_postgresql_18(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.info.server_version // 10_000 == 18


def test_each_call_gives_another_empty_database(fresh_postgres: FreshPostgres) -> None:
    first, second = fresh_postgres(), fresh_postgres()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE here (a integer)")
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT to_regclass('here')").fetchone() == (None,)


def test_database_is_dropped_while_somebody_is_connected(
    left_open: ExitStack, fresh_postgres: FreshPostgres
) -> None:
    connection = psycopg.connect(fresh_postgres())
    left_open.callback(connection.close)
    assert connection.execute("SELECT 1").fetchone() == (1,)
