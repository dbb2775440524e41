"""PostgreSQL alone: bounded waits, lost connections, plans, and settings that are refused."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dee_es import Contact, Engine, EngineConfig
from dee_es.adapters import postgres_waits
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys import postgres_sql
from dee_es.adapters.keys.postgres import PostgresKeyTable
from dee_es.adapters.storage.postgres import PostgresStore, open_postgres
from dee_es.adapters.storage.relational import statements
from dee_es.core.views import RunStatus
from dee_es.errors import IntegrityViolation, StoreUnavailable
from dee_es.ports import Head, LogHead, Situation, Unit, beside
from tests.support.engines import open_engine, outreach, publish_basics
from tests.support.storage.events import committed_at, run, unit
from tests.support.storage.postgres import FreshPostgres, server_folder, start_server
from tests.support.storage.rows import RUNS, add_runs, prepare, run_row
from tests.support.waiting import PATIENCE_S, eventually

# It returns when they are gone, and not when they have only been told to go.
CUT = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type = 'client backend'
"""


@pytest.fixture
def url(fresh_postgres: FreshPostgres) -> str:
    """An empty database."""
    return fresh_postgres()


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    """A store on it, with short waits."""
    store, _ = open_postgres(url, lock_timeout_s=0.5, statement_timeout_s=5)
    yield store
    store.close()


def test_the_connection_used_last_is_used_next(store: PostgresStore) -> None:
    def process() -> int:
        found: int = store.database.query("SELECT pg_backend_pid()")[0][0]
        return found

    with store.database.snapshot():
        other = process()
    # The pool has two by now at the least.
    assert {process() for _ in range(5)} != {other}
    assert len({process() for _ in range(5)}) == 1


def test_the_main_thread_alone_stays_awake(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    look = postgres_waits._soon

    def told(*asked: Any) -> int:
        threads.append(threading.current_thread().name)
        return look(*asked)

    monkeypatch.setattr(postgres_waits, "_soon", told)
    # Whoever runs the tests may have put them into another one.
    monkeypatch.setattr(postgres_waits, "_MAIN", threading.get_ident())
    store.commit([unit(run())])
    assert threads
    threads.clear()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(store.commit, [unit(run(2))]).result() == [committed_at(2)]
    assert threads == []


@pytest.mark.parametrize("value", ["y", "true", "1"])
def test_the_librarys_functions_are_refused(
    url: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", value)
    with pytest.raises(StoreUnavailable, match="unset it"):
        open_postgres(url)


def test_a_server_that_is_not_there_is_reported_in_bounded_time() -> None:
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        open_postgres("postgresql://me:s3cret@127.0.0.1:1/dee", connect_timeout_s=1)
    assert time.monotonic() - begun < 10
    assert "s3cret" not in str(caught.value)


def test_a_url_that_cannot_be_parsed_is_not_repeated() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        open_postgres("postgresql://me:s3cret@[half/dee")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.fixture
def directory() -> Iterator[Path]:
    """A folder for a server of the test's own."""
    with server_folder() as made:
        yield made


def test_a_stopped_server_is_reported_in_bounded_time_and_found_again(directory: Path) -> None:
    server = start_server(directory)
    try:
        store, _ = open_postgres(server.get_uri(), connect_timeout_s=1)
        store.commit([unit(run())])
        server.cleanup()
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.commit([unit(run(2))])
            with pytest.raises(StoreUnavailable):
                store.log_head()
            assert time.monotonic() - begun < 10
        server = start_server(directory)
        assert _patiently(store) == LogHead(1, 1, 0, 0)
        assert store.commit([unit(run(2))]) == [committed_at(2)]
        store.close()
    finally:
        server.cleanup()


@pytest.mark.parametrize("streams", [1, 100])
def test_what_was_committed_outlives_its_server_whatever_the_database_sets(
    directory: Path, streams: int
) -> None:
    """A message leaves once its intent is committed: without that it would leave again."""
    server = start_server(directory)
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as admin:
            admin.execute("ALTER DATABASE postgres SET synchronous_commit = off")
            # The server itself writes what nobody waits for so rarely that it cannot be in time.
            admin.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            admin.execute("SELECT pg_reload_conf()")
        store, _ = open_postgres(server.get_uri(), connect_timeout_s=1)
        store.commit([unit(run(number)) for number in range(streams)])
        postmaster = server.get_pid()
        assert postmaster is not None
        os.kill(postmaster, signal.SIGQUIT)
        eventually(lambda: not (directory / "data" / "postmaster.pid").exists())
        server.cleanup()
        server = start_server(directory)
        assert _patiently(store).position == streams
        store.close()
    finally:
        server.cleanup()


def test_what_a_database_sets_beyond_that_is_left(url: str) -> None:
    """Whoever waits for a standby goes on doing so."""
    with psycopg.connect(url, autocommit=True) as admin:
        name = psycopg.sql.Identifier(admin.info.dbname)
        for value in ("remote_apply", "local"):
            statement = psycopg.sql.SQL("ALTER DATABASE {} SET synchronous_commit = {}")
            admin.execute(statement.format(name, psycopg.sql.SQL(value)))
            store, _ = open_postgres(url)
            assert store.database.query("SHOW synchronous_commit") == [(value,)]
            store.close()


def _patiently(store: PostgresStore) -> LogHead:
    """The pool tries again at growing intervals, so the first answer may take a few seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return store.log_head()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise


def test_waiting_for_the_append_lock_is_bounded(store: PostgresStore, url: str) -> None:
    other, other_views = open_postgres(url)
    with other_views.transaction():
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="append lock"):
            store.commit([unit(run())])
        assert time.monotonic() - begun < 5
        assert store.log_head().position == 0
    assert store.commit([unit(run())]) == [committed_at(1)]
    other.close()


def test_a_statement_without_end_is_cancelled(url: str) -> None:
    store, _ = open_postgres(url, statement_timeout_s=0.2)
    with pytest.raises(StoreUnavailable, match="statement timeout"):
        store.database.query("SELECT pg_sleep(60)")
    assert store.log_head().position == 0
    store.close()


@pytest.mark.parametrize("begun", [False, True], ids=["waited_for", "begun"])
@pytest.mark.parametrize("streams", [1, 100], ids=["pipelined", "batch"])
def test_a_server_that_says_nothing_any_more_is_given_up_and_found_again(
    directory: Path, streams: int, begun: bool
) -> None:
    """As with a disk that hangs: the server is there and takes in what is sent."""
    server = start_server(directory)
    units = [unit(run(number)) for number in range(streams)]
    try:
        url = server.get_uri()
        store, _ = open_postgres(
            url, connect_timeout_s=1, lock_timeout_s=1, statement_timeout_s=0.5
        )
        assert store.log_head().position == 0

        def commit() -> object:
            return store.commit(units)

        with stopped(_backends(url)):
            since = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"did not answer within 1.5 s"):
                beside.begin(commit).result() if begun else commit()
            with pytest.raises(StoreUnavailable):
                store.log_head()
            assert time.monotonic() - since < 10
        # What the server was sent it may still do.
        assert _patiently(store).position in (0, streams)
        store.close()
    finally:
        server.cleanup()


def test_keys_on_a_server_that_says_nothing_any_more_are_given_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_sql, "PATIENCE_S", 0.5)
    table = PostgresKeyTable(url)
    with (
        stopped(_backends(url)),
        pytest.raises(StoreUnavailable, match=r"did not answer within 0.5 s"),
    ):
        table.counts()
    assert table.counts() == (0, 0)
    table.close()


def _backends(url: str) -> list[int]:
    """The server's processes that serve this database."""
    with psycopg.connect(url) as admin:
        found = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s",
            (admin.info.backend_pid,),
        ).fetchall()
    return [pid for (pid,) in found]


@contextmanager
def stopped(processes: list[int]) -> Iterator[None]:
    """Have these stand still, for 20 s at most: who waits for them for ever is then seen."""
    assert processes

    def tell(what: signal.Signals) -> None:
        for process in processes:
            os.kill(process, what)

    tell(signal.SIGSTOP)
    end = threading.Timer(20, tell, (signal.SIGCONT,))
    end.start()
    try:
        yield
    finally:
        end.cancel()
        tell(signal.SIGCONT)


@pytest.mark.parametrize("streams", [1, 100])
def test_who_is_stopped_inside_a_transaction_is_cut_off(url: str, streams: int) -> None:
    store, _ = open_postgres(url, lock_timeout_s=1, statement_timeout_s=1)

    def units_of(_: Situation) -> list[Unit]:
        time.sleep(1.5)
        return [unit(run())]

    with pytest.raises(StoreUnavailable):
        store.decide([run(number) for number in range(streams)], [], units_of)
    assert store.commit([unit(run())]) == [committed_at(1)]
    store.close()


def test_a_server_that_takes_no_changes_is_unavailable(store: PostgresStore, url: str) -> None:
    """As one is that a failover has left behind."""
    _read_only(url, "on")
    assert store.log_head().position == 0
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="it can only be read from here"):
            store.commit([unit(run())])
    _read_only(url, "off")
    assert store.log_head().position == 0
    assert store.commit([unit(run())]) == [committed_at(1)]


def _read_only(url: str, value: str) -> None:
    with psycopg.connect(url, options="-c default_transaction_read_only=off") as connection:
        connection.execute(
            psycopg.sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(
                psycopg.sql.Identifier(connection.info.dbname), psycopg.sql.Identifier(value)
            )
        )
    _cut(url)


def test_reads_survive_a_lost_connection(store: PostgresStore, url: str) -> None:
    store.commit([unit(run())])
    _cut(url)
    assert store.log_head().position == 1
    _cut(url)
    assert len(store.read_stream(run())) == 1


@pytest.mark.parametrize("events", [1, 100])
def test_a_connection_lost_inside_a_commit_leaves_nothing(
    store: PostgresStore, url: str, events: int
) -> None:
    with pytest.raises(StoreUnavailable, match="may or may not"):
        store.commit([unit(run(), 0, events)], inline=lambda *_: _cut(url))
    assert store.log_head().position == 0
    assert store.commit([unit(run(), 0, events)]) == [committed_at(events)]


def _cut(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(CUT)


def test_connections_that_were_cut_meanwhile_are_noticed_before_they_are_used(
    url: str,
) -> None:
    """As after a restart of the server: what is asked next is answered, and what is appended is."""
    people = [Contact(id=f"c{n}", email=f"c{n}@example.com", firstName="Ada") for n in range(60)]
    with open_engine(url) as engine:
        publish_basics(engine)
        _cut(url)
        assert engine.execute(outreach(), people[0])
        _cut(url)
        assert engine.list_runs().total == 1
        _cut(url)
        assert engine.bulk_execute(outreach(), people).created == 59
        _cut(url)
        assert engine.tick().delivered == 60
        _cut(url)
        assert engine.audit.query(limit=1).total > 60
        _cut(url)
        assert engine.count_runs()[RunStatus.WAITING] == 60


def test_a_connection_that_is_handed_on_between_transactions_is_told_of(
    store: PostgresStore,
) -> None:
    """As by a pooler in that mode: what was prepared on it is another session's, or gone."""
    pool = store.database.pool

    def look_often() -> None:
        # A connection that the pool has made meanwhile has nothing to miss.
        for _ in range(20):
            assert store.log_head().position == 0

    look_often()
    with ExitStack() as taken:
        for _ in range(pool.get_stats()["pool_size"]):
            connection = taken.enter_context(pool.connection())
            connection.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
    with pytest.raises(StoreUnavailable, match="pool_mode = session"):
        look_often()


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_no_kind_of_session_may_change_the_log(store: PostgresStore, url: str, role: str) -> None:
    store.commit([unit(run())])
    for statement in ("DELETE FROM stored_events", "TRUNCATE stored_events"):
        with psycopg.connect(url) as connection:
            connection.execute(f"SET session_replication_role = {role}")
            with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
                connection.execute(statement)
    assert len(store.read_log(0, 9)) == 1


def test_a_contradiction_is_named_without_values(store: PostgresStore, url: str) -> None:
    store.commit([unit(run())])
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM heads")
    with pytest.raises(IntegrityViolation, match="stored_events") as caught:
        store.commit([unit(run())])
    assert run() not in str(caught.value)


def test_look_ups_planned_on_empty_tables_go_by_key(store: PostgresStore) -> None:
    for statement in (
        statements.READ_HEADS,
        statements.READ_FIRST,
        statements.READ_FIRST_NEAR,
        statements.READ_STREAMS,
        statements.READ_CONTACT_KEYS,
        statements.READ_EVENT_IDS,
        statements.CHANGED_SINCE,
        statements.READ_CONSENTS,
        statements.DUE,
        statements.NEXT_DUE,
        statements.DUE_LAG,
        statements.DUE_LAG_OF_ALL,
        statements.PRUNE_COUNTERS,
        statements.READ_LOG,
        statements.STREAM_IDS,
    ):
        plan = _generic_plan(store, statement)
        assert "Seq Scan" not in plan, f"{statement}\n{plan}"
    plan = _generic_plan(store, statements.READ_SITUATION)
    # These two have a row, and a row for each projection.
    whole = set(re.findall(r"Seq Scan on (\w+)", plan)) - {"log_head", "projection_builds"}
    assert not whole, plan
    # Neighbours are found by their ends, and between these by their positions.
    plan = _generic_plan(store, statements.READ_FIRST_NEAR)
    indexes = re.findall(r"stored_events_(notification_id_idx|pkey)", plan)
    assert sorted(indexes) == ["notification_id_idx", "pkey"], plan


def _generic_plan(store: PostgresStore, statement: str) -> str:
    explain = f"EXPLAIN (GENERIC_PLAN) {_numbered(statement)}".encode()
    with store.database.pool.connection() as connection:
        explained = connection.execute(explain).fetchall()
    return "\n".join(str(row["QUERY PLAN"]) for row in explained)


def _numbered(statement: str) -> str:
    numbers = iter(range(1, 20))
    listed = statement.replace("IN ??", "= ANY(?::text[])")
    return re.sub(r"\?", lambda _: f"${next(numbers)}", listed)


@pytest.mark.parametrize("rows", [1, 3, 100, 5_003])
def test_rows_are_written_and_changed_however_many_there_are(url: str, rows: int) -> None:
    store, views = open_postgres(url)
    prepare(views, [RUNS])
    made = [run_row(ordinal) for ordinal in range(1, rows + 1)]
    moved = [run_row(ordinal, status="paused", tick=9) for ordinal in range(1, rows + 1)]
    with views.transaction() as tables:
        add_runs(tables, made)
        tables.write(RUNS, [], moved[: rows // 2])
        tables.write(RUNS, [], moved[rows // 2 :])
        assert list(tables.rows(RUNS, [row.run_id for row in made]).values()) == moved
    store.commit([unit(run(number)) for number in range(rows)])
    store.commit([unit(run(number), 1, due_tick=5, slice=3) for number in range(rows)])
    heads = store.heads([run(number) for number in range(rows)])
    assert all((head.version, head.due_tick, head.slice) == (2, 5, 3) for head in heads.values())
    assert all(isinstance(head, Head) for head in heads.values())
    store.close()


def test_a_schema_of_its_own(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA apart")
    store, _ = open_postgres(url, schema="apart")
    other, _ = open_postgres(url)
    assert store.commit([unit(run())]) == [committed_at(1)]
    assert store.max_notification_id() == 1
    assert other.log_head().position == 0
    store.close()
    other.close()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused(url: str, encoding: str) -> None:
    name = f"encoded_{encoding.lower()}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            psycopg.sql.SQL(
                "CREATE DATABASE {} ENCODING {} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
            ).format(psycopg.sql.Identifier(name), encoding)
        )
        there = psycopg.conninfo.make_conninfo(url, dbname=name)
        try:
            with pytest.raises(StoreUnavailable, match=f"encoding {encoding}"):
                open_postgres(there)
            with psycopg.connect(there) as connection:
                assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = "
                    "'public'").fetchone() == (0,)  # fmt: skip
        finally:
            dropped = psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)")
            admin.execute(dropped.format(psycopg.sql.Identifier(name)))


def test_keys_are_counted_in_a_database_of_any_encoding(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE encoded_keys ENCODING SQL_ASCII TEMPLATE template0 "
            "LC_COLLATE 'C' LC_CTYPE 'C'")  # fmt: skip
        try:
            table = PostgresKeyTable(psycopg.conninfo.make_conninfo(url, dbname="encoded_keys"))
            assert table.bury([b"k" * 16]) == 1
            assert table.state().destroyed == 1
            table.close()
        finally:
            admin.execute("DROP DATABASE encoded_keys WITH (FORCE)")


def test_what_a_client_would_speak_otherwise_does_not_matter(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what else a database sets for whoever connects."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with psycopg.connect(url, autocommit=True) as admin:
        name = psycopg.sql.Identifier(admin.info.dbname)
        for setting in (
            "client_encoding = 'LATIN1'",
            "bytea_output = 'escape'",
            "default_transaction_isolation = 'serializable'",
            "search_path = 'nowhere'",
            "statement_timeout = '1ms'",
            "standard_conforming_strings = off",
            "array_nulls = off",
        ):
            statement = psycopg.sql.SQL(f"ALTER DATABASE {{}} SET {setting}")  # type: ignore[arg-type]
            admin.execute(statement.format(name))
    store, _ = open_postgres(url)
    stream = "plan:漢ü"
    for version in range(40):
        assert store.commit([unit(stream, version, 1)]) == [committed_at(version + 1)]
    assert store.read_stream(stream)[-1].stream_id == stream
    store.close()


def test_a_role_without_rights_is_told_which_and_needs_none_to_make_tables(
    empty_postgres: FreshPostgres,
) -> None:
    url = empty_postgres()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS lowly")
        admin.execute("CREATE ROLE lowly LOGIN")
        lowly = psycopg.conninfo.make_conninfo(url, user="lowly")
        try:
            with pytest.raises(StoreUnavailable, match="permission denied for schema public"):
                open_postgres(lowly)
            owner, _ = open_postgres(url)
            owner.commit([unit(run())])
            owner.close()
            admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public "
                "TO lowly")  # fmt: skip
            store, _ = open_postgres(lowly)
            assert store.commit([unit(run(2))]) == [committed_at(2)]
            assert store.commit([unit(run(n)) for n in range(3, 60)])[-1] == committed_at(59)
            store.close()
        finally:
            admin.execute("DROP OWNED BY lowly; DROP ROLE lowly")


def test_a_role_without_the_right_to_make_tables_can_do_a_days_work(
    url: str, tmp_path: Path
) -> None:
    """Not even temporary ones; with its keys in the database, too."""
    master = str(tmp_path / "master")

    def opened(there: str) -> Engine:
        channels = {"email": MemoryChannel(), "voice": MemoryChannel()}
        config = EngineConfig(
            there,
            clock="manual",
            keys=there,
            master_key_file=master,
            audit_key_file=str(tmp_path / "audit.key"),
        )
        return Engine(config, channels=channels)

    with opened(url) as owner:
        publish_basics(owner)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS daily")
        admin.execute("CREATE ROLE daily LOGIN")
        try:
            admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public "
                "TO daily")  # fmt: skip
            name = psycopg.sql.Identifier(admin.info.dbname)
            admin.execute(
                psycopg.sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(name)
            )
            with opened(f"{url}{'&' if '?' in url else '?'}user=daily") as engine:
                ada = Contact(id="ada", email="ada@example.com", firstName="Ada")
                run = engine.execute(outreach(), ada)
                people = ({"id": f"c{n}", "email": f"c{n}@example.com"} for n in range(250))
                engine.bulk_execute(outreach(), people, batch_size=250)
                engine.tick()
                assert engine.list_runs().total == 251
                assert [each.action for each in engine.get_logs(run.id)]
                with pytest.raises(StoreUnavailable, match="permission denied for schema"):
                    engine.projections.verify("audit_trail")
                engine.erase_contact("ada", reason="asked", certificate=str(tmp_path))
        finally:
            admin.execute("DROP OWNED BY daily; DROP ROLE daily")
