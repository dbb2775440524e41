"""Databases that set more than one would like for whoever connects to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dee_es import create_plan, steps
from dee_es.adapters.keys import postgres as adapter
from dee_es.adapters.keys import postgres_sql as sql
from dee_es.adapters.keys.key_table import GenerationMoved
from dee_es.adapters.keys.postgres import PostgresKeyTable
from dee_es.adapters.storage.postgres import open_postgres
from dee_es.errors import StoreUnavailable
from dee_es.ports import Suppression, Unit
from tests.support.engines import open_engine
from tests.support.storage.events import run, unit
from tests.support.storage.postgres import FreshPostgres
from tests.support.waiting import eventually

_WAITING = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


_END_KEYS = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'dee-es keys'
"""


def _with(url: str, *settings: str) -> str:
    with psycopg.connect(url, autocommit=True) as admin:
        name = psycopg.sql.Identifier(admin.info.dbname)
        for setting in settings:
            statement = psycopg.sql.SQL(f"ALTER DATABASE {{}} SET {setting}")  # type: ignore[arg-type]
            admin.execute(statement.format(name))
    return url


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_no_key_is_added_behind_a_rotation_that_it_waited_for(
    fresh_postgres: FreshPostgres, isolation: str
) -> None:
    """It would be wrapped by a master key that opens nothing any more."""
    url = _with(fresh_postgres(), f"default_transaction_isolation = '{isolation}'")
    table = PostgresKeyTable(url)
    generation = table.state().generation
    outcome: list[object] = []

    def insert() -> None:
        try:
            outcome.append(table.insert([(b"k" * 16, b"wrapped")], generation))
        except Exception as error:
            outcome.append(error)

    with psycopg.connect(url) as rotation:
        rotation.execute(f"SELECT pg_advisory_xact_lock({sql.ROWS_LOCK})")
        adding = threading.Thread(target=insert)
        adding.start()
        with psycopg.connect(url, autocommit=True) as watcher:
            deadline = time.monotonic() + 10
            while (watcher.execute(_WAITING).fetchone() or (0,))[0] == 0:
                assert time.monotonic() < deadline, "the key has to wait for the rotation"
                time.sleep(0.01)
        rotation.execute(sql.NEXT_GENERATION)
        rotation.commit()
    adding.join(10)
    assert [type(found) for found in outcome] == [GenerationMoved]
    assert table.counts() == (0, 0)
    table.close()


def test_a_time_limit_of_the_database_ends_no_backup(
    fresh_postgres: FreshPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`transaction_timeout` came with PostgreSQL 17, and counts the time that a disk takes."""
    url = _with(fresh_postgres(), "transaction_timeout = '200ms'")
    monkeypatch.setattr(adapter, "PAGE", 1)
    table = PostgresKeyTable(url)
    table.insert([(bytes([n]) * 16, b"wrapped") for n in range(3)], table.state().generation)
    with table.snapshot() as found:
        time.sleep(0.5)
        assert sum(len(page) for page in found.pages) == 3
    table.close()


def test_what_is_missing_is_not_taken_for_a_word(fresh_postgres: FreshPostgres) -> None:
    """Lists of nothing but NULL go as text, in which `array_nulls = off` reads the four letters."""
    url = _with(fresh_postgres(), "array_nulls = off")
    engine = open_engine(url)
    steps_ = [steps.send_email("mail", "hello", "Hello"), steps.end("done", "said")]
    engine.publish_template("hello", text="Hello")
    engine.publish_sender(address="team@example.com", name="The team")
    plan = create_plan(id="plan", name="Plan", steps=steps_)
    people = [{"id": f"c{n}", "email": f"c{n}@example.com"} for n in range(3)]
    engine.bulk_execute(plan, people)
    engine.run_until_idle()
    assert [run.outcome for run in engine.list_runs().runs] == ["said"] * 3
    assert engine.projections.verify("run_list").ok
    engine.close()


@pytest.mark.parametrize("path", ["other", "nowhere", "''"])
def test_keys_are_found_whatever_search_path_is_set_later(
    fresh_postgres: FreshPostgres, path: str
) -> None:
    """Also by who has the store open, and has to connect again."""
    url = fresh_postgres()
    first = PostgresKeyTable(url)
    first.opening(lambda: b"secret")
    with psycopg.connect(_with(url, f"search_path = {path}"), autocommit=True) as admin:
        admin.execute("CREATE SCHEMA other")
        admin.execute(_END_KEYS)
        again = PostgresKeyTable(url)
        for table in (first, again):
            assert table.insert([(b"%016d" % id(table), b"wrapped")], 0)
            assert table.opening(None).secret == b"secret"
        assert again.counts() == (2, 0)
        where = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'key%'"
        assert admin.execute(where).fetchall() == [("public",)]
    first.close()
    again.close()


def test_keys_are_in_the_schema_that_their_url_names(fresh_postgres: FreshPostgres) -> None:
    url = fresh_postgres()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute('CREATE SCHEMA "of keys"')
    PostgresKeyTable(url).close()
    apart = f"{url}&options=-csearch_path%3D%22of%5C%20keys%22"
    for _ in range(2):
        table = PostgresKeyTable(apart)
        table.opening(lambda: b"another")
        table.close()
    led_there = PostgresKeyTable(_with(url, 'search_path = "$user", "of keys"'))
    assert led_there.opening(None).secret == b"another"
    led_there.close()


def test_a_limit_of_the_servers_is_told_in_its_words(fresh_postgres: FreshPostgres) -> None:
    url = _with(fresh_postgres(), "temp_file_limit = '64kB'", "work_mem = '64kB'")
    store, _ = open_postgres(url)
    with pytest.raises(StoreUnavailable, match=r"temporary file size exceeds .temp_file_limit"):
        store.database.query("SELECT n FROM generate_series(1, 100000) AS n ORDER BY -n")
    store.close()


def test_a_migration_takes_as_long_as_it_takes(empty_postgres: FreshPostgres) -> None:
    """What there is may be large: it would be broken off at the same place each time."""
    url = empty_postgres()
    with psycopg.connect(url) as admin:
        admin.execute(
            "CREATE FUNCTION slow_disk() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM pg_sleep(1.5); END $$"
        )
        admin.execute(
            "CREATE EVENT TRIGGER slow_disk ON ddl_command_end WHEN TAG IN ('CREATE FUNCTION')"
            " EXECUTE FUNCTION slow_disk()"
        )
    store, _ = open_postgres(url, connect_timeout_s=1, lock_timeout_s=1, statement_timeout_s=1)
    assert store.commit([unit(run())])
    assert store.database.query("SHOW statement_timeout") == [("1s",)]
    store.close()


def test_an_event_trigger_that_lets_no_tables_be_made_is_told_of(
    fresh_postgres: FreshPostgres,
) -> None:
    url = fresh_postgres()
    with open_engine(url) as engine, psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'not for jane@example.com'; END $$"
        )
        admin.execute("CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl()")
        with pytest.raises(StoreUnavailable, match="a trigger that was added to it") as refused:
            engine.projections.rebuild("run_list")
        assert "jane" not in str(refused.value)
        admin.execute("DROP EVENT TRIGGER no_ddl")
        assert engine.projections.rebuild("run_list").rows == 0


def test_a_standby_that_could_not_wait_for_a_reader_is_told_as_that(
    fresh_postgres: FreshPostgres,
) -> None:
    """A server answers so when it must remove what a snapshot still needs."""
    url = fresh_postgres()
    store, _ = open_postgres(url)
    with psycopg.connect(url) as admin:
        admin.execute(
            "CREATE FUNCTION give_up() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'conflict' USING ERRCODE = 'serialization_failure'; END $$"
        )
    told = pytest.raises(StoreUnavailable, match=r"a standby.*max_standby_streaming_delay")
    with told, store.database.snapshot(lasting=True) as session:
        session.ask("SELECT give_up()").fetchall()
    assert store.log_head().position == 0
    store.close()


def test_who_was_there_before_a_migration_of_newer_code_is_told_so(
    fresh_postgres: FreshPostgres,
) -> None:
    """What has the database open already goes on, as far as its statements still fit."""
    url = fresh_postgres()
    store, _ = open_postgres(url)
    listed = Unit((), suppress=(Suppression("email:1", "global", "", "c-1"),))
    assert store.commit([listed])
    with psycopg.connect(url) as newer:
        newer.execute("INSERT INTO schema_migrations (number) VALUES (99)")
        newer.execute("ALTER TABLE suppressions DROP CONSTRAINT suppressions_pkey")
        newer.execute("ALTER TABLE archives RENAME TO archived")
        newer.execute("ALTER TABLE heads ADD COLUMN more bigint NOT NULL")
    for refused in (
        lambda: store.commit([listed]),
        lambda: store.commit([unit(run())]),
        lambda: store.archived(),
    ):
        with pytest.raises(StoreUnavailable, match=r"migration 99.*upgrade dee-es"):
            refused()
    assert store.log_head().position == 0
    store.close()


@pytest.fixture
def role(postgres_url: str) -> Iterator[str]:
    """A role that may log in, and nothing else; what it was granted has to be taken back."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS modest; CREATE ROLE modest LOGIN")
        yield "modest"


def _as(url: str, role: str, rights: str = "SELECT", only_read: bool = False) -> str:
    """The URL under which the role has these rights on the tables that are there."""
    name = psycopg.sql.Identifier(role)
    with psycopg.connect(url, autocommit=True) as admin:
        grant = psycopg.sql.SQL(f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {{}}")  # type: ignore[arg-type]
        admin.execute(grant.format(name))
    options = "&options=-c%20default_transaction_read_only%3Don" if only_read else ""
    return url.replace("//postgres:@", f"//{role}@") + options


def test_a_key_store_that_is_there_takes_no_right_to_make_tables(
    fresh_postgres: FreshPostgres, role: str
) -> None:
    url = fresh_postgres()
    PostgresKeyTable(url).close()
    table = PostgresKeyTable(_as(url, role, "SELECT, INSERT, UPDATE, DELETE"))
    assert table.opening(lambda: b"secret").secret == b"secret"
    assert table.insert([(b"k" * 16, b"wrapped")], table.state().generation)
    assert table.destroy(b"k" * 16)
    table.close()


def test_what_others_may_do_with_keys_outlives_a_rotation(
    fresh_postgres: FreshPostgres, role: str
) -> None:
    url = fresh_postgres()
    owner = PostgresKeyTable(url)
    owner.opening(lambda: b"secret")
    other = PostgresKeyTable(_as(url, role, "SELECT, INSERT, UPDATE, DELETE"))
    for generation in (owner.state().generation, owner.state().generation + 1):
        assert other.insert([(bytes([generation]) * 16, b"wrapped")], generation)
        owner.begin(b"target", generation)
        owner.swap(list, b"secret", b"target", b"former", generation)
    assert owner.counts() == (2, 0)
    assert other.destroy(bytes([generation]) * 16)
    assert other.counts() == (1, 1)
    owner.close()
    other.close()


def test_who_may_only_read_opens_a_key_store_and_is_told_so_when_writing(
    fresh_postgres: FreshPostgres, role: str
) -> None:
    url = fresh_postgres()
    owner = PostgresKeyTable(url)
    owner.opening(lambda: b"secret")
    owner.insert([(b"k" * 16, b"wrapped")], owner.state().generation)
    owner.close()
    table = PostgresKeyTable(_as(url, role, only_read=True))
    assert table.opening(lambda: b"another").secret == b"secret"
    assert table.fetch([b"k" * 16]) == {b"k" * 16: b"wrapped"}
    with pytest.raises(StoreUnavailable, match="read-only transaction"):
        table.destroy(b"k" * 16)
    table.close()


def test_who_may_only_read_the_log_is_told_so_when_writing(
    fresh_postgres: FreshPostgres, role: str
) -> None:
    url = fresh_postgres()
    open_postgres(url)[0].close()
    store, _ = open_postgres(_as(url, role, only_read=True))
    with pytest.raises(StoreUnavailable, match="can only be read from here"):
        store.commit([unit(run())])
    store.close()


def test_a_worker_says_why_it_cannot_work(
    fresh_postgres: FreshPostgres, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = fresh_postgres()
    open_engine(url).close()
    engine, stop = open_engine(_as(url, role, only_read=True)), threading.Event()
    working = threading.Thread(target=engine.worker, args=(stop,))
    working.start()
    eventually(lambda: any(each.message == "database_unavailable" for each in caplog.records))
    stop.set()
    working.join(60)
    assert not working.is_alive()
    told = next(each for each in caplog.records if each.message == "database_unavailable")
    assert "can only be read from here" in told.__dict__["problem"]
    engine.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"dbname": "missing"}, 'database "missing" does not exist'),
        ({"user": "nobody"}, 'role "nobody" does not exist'),
        ({"host": "127.0.0.1", "port": "1"}, "port 1 failed: Connection refused"),
    ],
)
def test_whoever_cannot_connect_is_told_what_the_server_says(
    wrong: dict[str, str], told: str, fresh_postgres: FreshPostgres
) -> None:
    url = psycopg.conninfo.make_conninfo(fresh_postgres(), password="secret", **wrong)
    with pytest.raises(StoreUnavailable, match=told) as refused:
        open_postgres(url, connect_timeout_s=1)
    assert "secret" not in str(refused.value)
