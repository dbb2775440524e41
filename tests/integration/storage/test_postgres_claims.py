"""The right to rebuild a projection, on PostgreSQL: nothing ends it in silence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from dee_es import Contact, Engine
from dee_es.adapters.storage.postgres import PostgresViews, open_postgres
from dee_es.engine.projecting.models import RebuildProgress
from dee_es.errors import ConcurrencyConflict, StoreUnavailable
from dee_es.ports import BuildKey
from tests.support.engines import open_engine, outreach, publish_basics
from tests.support.storage.postgres import FreshPostgres
from tests.support.storage.rows import RUNS, add_runs, prepare, run_row
from tests.support.waiting import PATIENCE_S, eventually

# It returns when they are gone, and not when they have only been told to go.
_END_CLAIMS = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_locks
JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND datname = current_database() AND classid = 446654
"""


_WAITS = """
SELECT pid FROM pg_locks WHERE NOT granted AND locktype = 'relation'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND clock_timestamp() - waitstart > interval '50 ms'
"""


@pytest.fixture
def url(fresh_postgres: FreshPostgres) -> str:
    """An empty database."""
    return fresh_postgres()


@pytest.fixture
def views(url: str) -> Iterator[PostgresViews]:
    """Views on it."""
    store, views = open_postgres(url)
    prepare(views, [RUNS])
    yield views
    store.close()


def _end_claims(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        assert admin.execute(_END_CLAIMS).fetchall() == [(True,)]


def _set(url: str, setting: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        name = psycopg.sql.Identifier(admin.info.dbname)
        statement = psycopg.sql.SQL(f"ALTER DATABASE {{}} SET {setting}")  # type: ignore[arg-type]
        admin.execute(statement.format(name))


def test_a_claim_outlasts_what_a_database_lets_idle_sessions_have(url: str) -> None:
    _set(url, "idle_session_timeout = '200ms'")
    (store, views), (another, others) = open_postgres(url), open_postgres(url)
    with views.rebuilding("run_list"):
        time.sleep(1)
        with pytest.raises(ConcurrencyConflict), others.rebuilding("run_list"):
            raise AssertionError("nobody else may begin")
    store.close()
    another.close()


def test_housekeeping_outlasts_what_a_database_lets_statements_have(
    url: str, views: PostgresViews
) -> None:
    with views.transaction() as tx:
        add_runs(tx, [run_row(ordinal) for ordinal in range(1, 2_000)])
    _set(url, "statement_timeout = '1ms'")
    with views.rebuilding("run_list"):
        views.settle([RUNS])


def test_housekeeping_waits_for_a_table_whatever_a_database_lets_others_wait(
    url: str, views: PostgresViews
) -> None:
    """What looks after tables by itself has one of them at times, for longer than that."""
    _set(url, "lock_timeout = '1ms'")
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SET lock_timeout = 0")
        other.execute(f"LOCK TABLE {RUNS.physical_name} IN SHARE UPDATE EXCLUSIVE MODE")
        settling = pool.submit(views.settle, [RUNS])
        with psycopg.connect(url, autocommit=True) as watcher:

            def waits_or_is_over() -> bool:
                row = watcher.execute(_WAITS).fetchone()
                return settling.done() or row is not None

            eventually(waits_or_is_over)
        assert not settling.done()
        other.rollback()
        settling.result(PATIENCE_S)


def test_who_has_a_table_is_told_from_who_has_the_append_lock(url: str) -> None:
    store, views = open_postgres(url, lock_timeout_s=0.5)
    prepare(views, [RUNS])
    with psycopg.connect(url) as reader:
        reader.execute(f"SELECT * FROM {RUNS.physical_name}")
        with pytest.raises(StoreUnavailable, match="another session has a table") as refused:
            views.drop([RUNS])
    assert "append lock" not in str(refused.value)
    views.drop([RUNS])
    store.close()


def test_who_gets_no_connection_of_their_own_is_told_what_the_server_says(
    url: str, postgres_url: str, views: PostgresViews
) -> None:
    """As when all that it allows are in use: the pool has its own, and works on."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        closing = psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false")
        admin.execute(closing.format(psycopg.sql.Identifier(str(name))))
    with (
        pytest.raises(StoreUnavailable, match="not currently accepting connections") as refused,
        views.rebuilding("run_list"),
    ):
        raise AssertionError("nobody may begin")
    assert "commit" not in str(refused.value)
    assert views.standing().head == 0


def test_the_end_of_a_claim_tells_that_it_was_lost(url: str, views: PostgresViews) -> None:
    with (
        pytest.raises(StoreUnavailable, match="others from run_list was lost"),
        views.rebuilding("run_list"),
    ):
        _end_claims(url)
    with views.rebuilding("run_list"):
        pass


def test_an_error_under_a_lost_claim_is_told_as_it_is(url: str, views: PostgresViews) -> None:
    def fail() -> None:
        with views.rebuilding("run_list"):
            _end_claims(url)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.parametrize("lasting", [False, True])
def test_nothing_is_written_under_a_claim_that_was_lost(
    url: str, views: PostgresViews, lasting: bool
) -> None:
    def write() -> None:
        with views.rebuilding("run_list"):
            with views.building() if lasting else views.transaction() as tx:
                add_runs(tx, [run_row(1)])
            _end_claims(url)
            with views.building() if lasting else views.transaction() as tx:
                add_runs(tx, [run_row(2)])

    with pytest.raises(StoreUnavailable, match="others from run_list was lost"):
        write()
    assert views.size([RUNS])[0] == 1


def test_others_write_although_somebodys_claim_was_lost(url: str, views: PostgresViews) -> None:
    def write() -> None:
        with views.transaction() as tx:
            add_runs(tx, [run_row(1)])

    def lose() -> None:
        with views.rebuilding("run_list"), ThreadPoolExecutor(1) as pool:
            _end_claims(url)
            pool.submit(write).result(PATIENCE_S)

    with pytest.raises(StoreUnavailable, match="others from run_list was lost"):
        lose()
    assert views.size([RUNS])[0] == 1


def test_what_the_server_tells_everybody_ends_no_claim(url: str, views: PostgresViews) -> None:
    with views.rebuilding("run_list"), psycopg.connect(url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET TimeZone = 'Europe/Vienna'")
        try:
            admin.execute("SELECT pg_reload_conf()")
            time.sleep(0.5)
            with views.transaction() as tx:
                add_runs(tx, [run_row(1)])
        finally:
            admin.execute("ALTER SYSTEM RESET TimeZone")
            admin.execute("SELECT pg_reload_conf()")
    assert views.size([RUNS])[0] == 1


def _serving(engine: Engine) -> set[BuildKey]:
    rows = engine._parts.views.standing().builds
    return {row.key for row in rows if row.state == "serving"}


@pytest.mark.parametrize("phase", ["reading", "indexing", "swapping"])
def test_a_rebuild_that_lost_its_claim_swaps_nothing_in(url: str, phase: str) -> None:
    """Runs may have been archived meanwhile, which it has folded."""
    people = [Contact(id=f"c{n}", email=f"c{n}@example.com", firstName="Ada") for n in range(20)]
    lost: list[str] = []

    def on_progress(told: RebuildProgress) -> None:
        if told.phase == phase and not lost:
            lost.append(told.phase)
            _end_claims(url)

    with open_engine(url) as engine:
        publish_basics(engine)
        engine.bulk_execute(outreach(), people)
        before = _serving(engine)
        with pytest.raises(StoreUnavailable, match="others from run_list was lost"):
            engine.projections.rebuild("run_list", on_progress=on_progress)
        assert lost == [phase]
        assert _serving(engine) == before
        assert engine.projections.rebuild("run_list").rows == 20
