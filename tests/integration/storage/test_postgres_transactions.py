"""Small transactions on PostgreSQL, which no BEGIN begins and no COMMIT ends: all or nothing."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from types import FrameType
from typing import Any

import psycopg
import pytest
from psycopg.waiting import Wait

from dee_es.adapters import postgres_waits
from dee_es.adapters.storage.postgres import PostgresStore, open_postgres
from dee_es.adapters.storage.postgres.session import COPY_ROWS, MANY_ROWS, PostgresSession
from dee_es.adapters.storage.relational import relations
from dee_es.adapters.storage.relational import statements as sql
from dee_es.adapters.storage.relational.session import Session
from dee_es.errors import IntegrityViolation, StoreUnavailable
from dee_es.ports import beside
from tests.support.storage.postgres import FreshPostgres
from tests.support.waiting import eventually

FEW, SOME, MANY = 1, MANY_ROWS + 4, COPY_ROWS + 4
_LOCK_IS_WANTED = b"""
SELECT bool_or(NOT granted) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND datname = current_database()
"""
_TELL_HOW_ANSWERS_ARE_KEPT = """
CREATE TABLE told (n bigint GENERATED ALWAYS AS IDENTITY, how text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO told (how) VALUES (current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER UPDATE ON kept_calls FOR EACH ROW EXECUTE FUNCTION tell();
"""
_LOCK_IS_FREE = b"SELECT pg_try_advisory_xact_lock(4466543286)"


class _Broken(Exception):
    """What goes wrong."""


@pytest.fixture
def url(fresh_postgres: FreshPostgres) -> str:
    """An empty database."""
    return fresh_postgres()


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    """A store on it."""
    store, _ = open_postgres(url)
    yield store
    store.close()


@pytest.fixture
def other(url: str) -> Iterator[psycopg.Connection]:
    """Somebody else on the same database."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _add(session: Session, rows: int, first: int = 0) -> None:
    """Write so many rows, and have them sent before anything else is."""
    session.insert(relations.EVENT_IDS, [(f"event {n}",) for n in range(first, first + rows)])
    found = session.ask(sql.READ_EVENT_IDS, ([f"event {first}"],)).fetchall()
    assert found == [(f"event {first}",)]


def _there(other: psycopg.Connection) -> int:
    row = other.execute("SELECT count(*) FROM channel_event_ids").fetchone()
    assert row is not None
    return int(row[0])


def _is_wanted(other: psycopg.Connection) -> bool:
    """Whether somebody waits for the lock, as this thread may once it has looked."""
    beside.go_on()
    return other.execute(_LOCK_IS_WANTED).fetchone() == (True,)


def _lock_is_free(other: psycopg.Connection) -> bool:
    return other.execute(_LOCK_IS_FREE).fetchone() == (True,)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize(
    "rows", [(FEW,), (SOME,), (MANY,), (FEW, SOME, MANY), (MANY, SOME, FEW), (FEW, FEW)]
)
def test_nobody_sees_a_part_and_nobody_comes_between(
    store: PostgresStore, other: psycopg.Connection, rows: tuple[int, ...], small: bool
) -> None:
    with store.database.appending(small) as session:
        written = 0
        for count in rows:
            _add(session, count, written)
            written += count
            assert _there(other) == 0
            assert not _lock_is_free(other)
    assert _there(other) == sum(rows)
    assert _lock_is_free(other)


@pytest.mark.parametrize("contended", [True, False])
def test_who_had_to_wait_for_the_lock_does_nothing_else_while_it_has_it(
    store: PostgresStore, other: psycopg.Connection, contended: bool
) -> None:
    held = threading.Event()

    def append() -> None:
        with store.database.appending() as session:
            held.set()
            session.ask("SELECT pg_sleep(0.05)")
            _add(session, MANY)

    with other.transaction() if contended else nullcontext():
        if contended:
            assert _lock_is_free(other), "and is taken by asking"
        begun = beside.begin(append)
        if contended:
            eventually(lambda: _is_wanted(other), "nobody wanted the lock")
            assert not begun.done
    did_something_else = False
    while not begun.done:
        time.sleep(0.001)
        beside.go_on()
        did_something_else |= held.is_set() and not begun.done
    assert begun.exception() is None
    assert _there(other) == MANY
    assert did_something_else is not contended


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("rows", [FEW, SOME, MANY])
@pytest.mark.parametrize("error", [_Broken, KeyboardInterrupt])
def test_what_was_sent_before_an_error_is_taken_back(
    store: PostgresStore,
    other: psycopg.Connection,
    rows: int,
    small: bool,
    error: type[BaseException],
) -> None:
    def broken_off() -> None:
        with store.database.appending(small) as session:
            _add(session, rows)
            session.insert(relations.EVENT_IDS, [("yet to be sent",)])
            raise error

    with pytest.raises(error):
        broken_off()
    assert _there(other) == 0
    assert _lock_is_free(other)
    _goes_on(store, other)


def test_an_interruption_while_an_error_is_dealt_with_takes_back_all(
    store: PostgresStore, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: PostgresSession) -> None:
        raise KeyboardInterrupt

    def broken_off() -> None:
        with store.database.appending(small=True) as session:
            _add(session, FEW)
            monkeypatch.setattr(PostgresSession, "_make_explicit", interrupted)
            raise _Broken

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    monkeypatch.undo()
    _goes_on(store, other)


def test_an_interruption_at_the_last_statement_takes_back_those_before_it(
    store: PostgresStore, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def broken_off() -> None:
        with store.database.appending(small=True) as session:
            _add(session, FEW)
            session.insert(relations.EVENT_IDS, [("yet to be sent",)])
            monkeypatch.setattr(PostgresSession, "_execute", interrupted)

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    monkeypatch.undo()
    assert _there(other) == 0
    _goes_on(store, other)


@pytest.mark.parametrize("rows", [FEW, SOME, MANY])
def test_what_the_server_refuses_takes_all_with_it(
    store: PostgresStore, other: psycopg.Connection, rows: int
) -> None:
    with store.database.appending(small=True) as session:
        _add(session, FEW)
    again = [(f"event {n}",) for n in range(rows)]

    def refused_at_the_end() -> None:
        with store.database.appending(small=True) as session:
            _add(session, FEW, first=1_000)
            session.insert(relations.EVENT_IDS, again)

    def refused_before_the_end() -> None:
        with store.database.appending(small=True) as session:
            session.insert(relations.EVENT_IDS, again)
            session.ask(sql.LOG_HEAD).fetchall()

    for refused in (refused_at_the_end, refused_before_the_end):
        with pytest.raises(IntegrityViolation, match="channel_event_ids"):
            refused()
        assert _there(other) == FEW
        assert _lock_is_free(other)


def _goes_on(store: PostgresStore, other: psycopg.Connection) -> None:
    with store.database.appending(small=True) as session:
        _add(session, FEW)
    assert _there(other) == FEW


def test_plans_are_kept_for_the_transaction_alone(store: PostgresStore) -> None:
    shown = "SHOW plan_cache_mode"
    for small in (True, False):
        with store.database.appending(small) as session:
            assert session.ask(shown).fetchall() == [("force_generic_plan",)]
    assert store.database.query(shown) == [("auto",)]


def test_an_interruption_on_the_way_out_of_the_pipeline_takes_back_what_was_sent_in_it(
    store: PostgresStore, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor, broken = PostgresSession._cursor, [KeyboardInterrupt]

    def interrupted(session: PostgresSession) -> psycopg.Cursor[Any]:
        if broken:
            raise broken.pop()
        return cursor(session)

    def broken_off() -> None:
        with store.database.appending(small=True) as session:
            _add(session, FEW)
            monkeypatch.setattr(PostgresSession, "_cursor", interrupted)
            session.insert(relations.EVENT_IDS, [(f"more {n}",) for n in range(MANY)])

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    monkeypatch.undo()
    assert _there(other) == 0
    _goes_on(store, other)


def test_what_is_forgotten_for_an_erasure_is_on_the_disk_before_it_is_certified(
    store: PostgresStore, other: psycopg.Connection
) -> None:
    """Other transactions beside the log may be lost with the power."""
    other.execute(_TELL_HOW_ANSWERS_ARE_KEPT)
    store.begin_request("c", b"digest", "a", 60_000, 60_000)
    assert store.end_request("c", "a", b"about somebody")
    assert store.forget_answers() == 1
    assert other.execute("SELECT how FROM told ORDER BY n").fetchall() == [("off",), ("on",)]


@pytest.mark.parametrize("begun", [False, True], ids=["waited_for", "begun"])
@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("rows", [FEW, SOME, MANY])
def test_an_interruption_is_told_at_whatever_answer_it_comes(
    store: PostgresStore,
    other: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    small: bool,
    begun: bool,
) -> None:
    look = "_in_turns" if begun else "_soon"

    def append(first: int) -> None:
        with store.database.appending(small) as session:
            _add(session, rows, first)

    for at in range(1, 30):
        before, left = _there(other), _interrupt(monkeypatch, look, at)
        work = partial(append, at * 1_000)
        try:
            beside.begin(work).result() if begun else work()
        except KeyboardInterrupt:
            assert not left
        else:
            assert left
            break
        finally:
            monkeypatch.undo()
        eventually(partial(_lock_is_free, other), "the lock was never given back")
        assert _there(other) - before in (0, rows), "all or nothing"
        assert not beside.takes_turns()
    assert at > 5
    assert _there(other) - before == rows


def _interrupt(monkeypatch: pytest.MonkeyPatch, look: str, at: int) -> list[None]:
    """Have the `at`-th look for an answer interrupted; returns the looks that are left, the last
    one of which is that."""
    whole, left = getattr(postgres_waits, look), [None] * at

    def interrupted(socket: int, wanted: Wait) -> int:
        if left:
            left.pop()
            if not left:
                raise KeyboardInterrupt
        found: int = whole(socket, wanted)
        return found

    monkeypatch.setattr(postgres_waits, look, interrupted)
    return left


def _is_within(thread: int, function: Callable[..., object]) -> bool:
    frame: FrameType | None = sys._current_frames()[thread]
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


@pytest.mark.parametrize("begun", [False, True], ids=["waited_for", "begun"])
@pytest.mark.parametrize("small", [True, False])
def test_who_waits_for_the_lock_can_be_interrupted(
    url: str, other: psycopg.Connection, small: bool, begun: bool
) -> None:
    """What was begun is seen through first: nobody may ever come back to it."""
    store, _ = open_postgres(url, lock_timeout_s=4 if begun else 30)
    waits = True

    def append() -> None:
        with store.database.appending(small) as session:
            _add(session, FEW)

    def interrupt() -> None:
        eventually(lambda: watch.execute(_LOCK_IS_WANTED).fetchone() == (True,))
        eventually(lambda: _is_within(main, beside.Begun.result if begun else append))
        signal.pthread_kill(main, signal.SIGINT)

    def interrupted(*_: object) -> None:
        # Behind the wait it would end all tests, not this one.
        if waits:
            raise KeyboardInterrupt

    main = threading.get_ident()
    interrupting = threading.Thread(target=interrupt)
    # Connected before: who waits for the lock gives up after a while.
    with psycopg.connect(url, autocommit=True) as watch, other.transaction():
        assert _lock_is_free(other), "and is taken by asking"
        former = signal.signal(signal.SIGINT, interrupted)
        interrupting.start()
        work = beside.begin(append) if begun else None
        try:
            with pytest.raises(KeyboardInterrupt):
                append() if work is None else work.result()
        finally:
            waits = False
            interrupting.join()
            signal.signal(signal.SIGINT, former)
        assert not beside.takes_turns()
        assert work is None or isinstance(work.exception(), StoreUnavailable)
        eventually(lambda: other.execute(_LOCK_IS_WANTED).fetchone() == (False,))
    _goes_on(store, other)
    store.close()
