"""Connections to PostgreSQL: the library's pool, with bounded waits and pinned plans."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from eventsourcing.persistence import InterfaceError, OperationalError
from eventsourcing.postgres import PostgresDatastore
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow
from psycopg_pool import PoolClosed, PoolTimeout

from dee_es.adapters.postgres_connections import (
    HANDED_ON,
    LEFT_OPEN,
    OURS,
    is_direct,
    is_handed_on,
    named,
    refusal,
    seconds_for,
)
from dee_es.adapters.postgres_waits import PatientConnection
from dee_es.adapters.storage.postgres.connecting import KEEPALIVE, Bounds, Telling, set_up
from dee_es.adapters.storage.postgres.faults import (
    APPENDING,
    BUSY,
    LENT,
    MISFITS,
    TABLE_IN_USE,
    is_lost,
    reason,
    state_of,
)
from dee_es.adapters.storage.postgres.schema import MIGRATIONS
from dee_es.adapters.storage.postgres.session import BEGIN, PostgresSession
from dee_es.adapters.storage.postgres.turns import Turns
from dee_es.adapters.storage.relational.migrations import newer
from dee_es.adapters.storage.relational.session import Session, quoted
from dee_es.adapters.storage.relational.statements import READ_MIGRATION
from dee_es.adapters.storage.rules import claimed
from dee_es.errors import DeeError, IntegrityViolation, StoreUnavailable, TableGone
from dee_es.ports import beside

IdleT = TypeVar("IdleT")

# One number for one purpose; any other user of advisory locks in this database must avoid it.
# What follows in the transaction looks up by keys, so it is planned once and not for every list of
# them, which would take longer than the look-up.
_APPEND_LOCK: Final = b"""
SELECT pg_advisory_xact_lock(4466543286),
    set_config('plan_cache_mode', 'force_generic_plan', true)
"""
# The same for a migration, which makes the tables that others look things up in.
_KEEP_OTHERS_OUT: Final = "SELECT pg_advisory_xact_lock(4466543286)"
# The same for whoever wants to know whether it was free; OFFSET has it tried but once.
_TRY_APPEND_LOCK: Final = """
SELECT free, CASE WHEN NOT free THEN pg_advisory_xact_lock(4466543286) END,
    set_config('plan_cache_mode', 'force_generic_plan', true)
FROM (SELECT pg_try_advisory_xact_lock(4466543286) AS free OFFSET 0) AS tried
"""
_BEGIN_SNAPSHOT: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# What is long on purpose; a connection that does nothing inside it is still cut off.
_UNBOUNDED: Final = b"""
SET LOCAL statement_timeout = 0;
SELECT set_config('transaction_timeout', '0', true)
    WHERE current_setting('server_version_num')::int >= 170000
"""
_BEGIN_KEPT: Final = b";".join([BEGIN, _UNBOUNDED])
# What is lost with the power is folded again, and nobody waits for the disk.
_BEGIN_LASTING: Final = b";".join([_BEGIN_KEPT, b"SET LOCAL synchronous_commit = off"])
_BEGIN_LONG_SNAPSHOT: Final = b";".join([_BEGIN_SNAPSHOT, _UNBOUNDED])
_LOST_CONNECTIONS: Final = 2
_CLAIMS: Final = 446654
_CLAIM: Final = "SELECT pg_try_advisory_lock(%s::int, %s::int) AS claimed"
_OWN: Final = "SET statement_timeout = 0; SET lock_timeout = 0; SET search_path = {}"
# Those that there are: one came with PostgreSQL 14, the other with 17.
_BOUNDLESS: Final = """
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name IN ('idle_session_timeout', 'transaction_timeout')
"""
_BYTES: Final = """
SELECT CAST(coalesce(sum(pg_total_relation_size(to_regclass(name))), 0) AS bigint)
FROM unnest(CAST(? AS text[])) AS name
"""

_BEYOND_S: Final = 0.5
"""How long a connection is waited for when it is as good as known why there is none."""

# A quarter of the usual sample tells frequent values from rare ones; autovacuum takes its own.
_SAMPLE: Final = b"SET default_statistics_target = 25"

# Internal errors are what a server says that is only read from, and to who was idle too long.
_FAULTS: Final = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)


class _LastUsedFirst(deque[IdleT]):
    """Idle connections in a pool, which takes from the left. The pool would use all in turns, and
    each time wait for a server process that has been asleep and has nothing at hand any more."""

    def append(self, idle: IdleT) -> None:
        """Put one where it is taken next."""
        self.appendleft(idle)


class _Claims(threading.local):
    """What a thread has claimed, and the connections by which it has that."""

    def __init__(self) -> None:
        self.held: dict[str, PatientConnection[DictRow]] = {}


class PostgresDatabase(PostgresDatastore):
    """Implements `Database` on the library's datastore."""

    now_ms: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"

    def __init__(self, url: str, bounds: Bounds, *, schema: str = "public") -> None:
        self._bounds = bounds
        self._turns = Turns()
        self._claims = _Claims()
        self._search_path = schema
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # libpq's own message repeats the URL, password included.
            raise StoreUnavailable("the PostgreSQL URL cannot be parsed; check it") from None
        self._where = f"PostgreSQL {named(given)}"
        super().__init__(
            dbname="",
            host="",
            port="",
            user="",
            password="",
            connect_timeout=bounds.connect_timeout_s,
            pool_size=bounds.pool_size,
            max_overflow=bounds.max_overflow,
            schema=schema,
            originator_id_type="text",
        )
        # All of the URL counts, TLS settings too, not only the five parts the library knows.
        each_s, all_s = seconds_for(given, bounds.connect_timeout_s)
        self._connect_with = self.pool.kwargs = {
            "row_factory": psycopg.rows.dict_row,
            **KEEPALIVE,
            **LEFT_OPEN,
            **given,
            **OURS,
            "connect_timeout": each_s,
        }
        self._connect_s = all_s + _BEYOND_S
        # Whoever wants a connection has one tried for anew: the pool's own pauses double each time.
        self.pool.reconnect_timeout = bounds.connect_timeout_s
        self._telling = Telling()
        self.pool.connection_class = self._telling.connection_class()
        # A pool that keeps them elsewhere one day goes back to turns.
        self.pool._pool = _LastUsedFirst(self.pool._pool)

    def after_connect_func(self) -> Callable[[psycopg.Connection[Any]], None]:
        """What the pool does with a new connection."""
        return set_up(self._bounds, self._search_path)

    def require_utf8(self) -> None:
        """Raises `StoreUnavailable` if the database cannot hold every text there is."""
        with self._unavailable(), self._connection() as connection:
            encoding = connection.info.parameter_status("server_encoding")
        if encoding not in (None, "UTF8"):
            raise StoreUnavailable(
                f"{self._where} has the encoding {encoding}, which cannot hold every text; make "
                "one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
            )

    def require_sessions(self) -> None:
        """Raises `StoreUnavailable` if what is set for a connection counts for others: locks and
        limits would be somebody else's, without any error."""
        with self._unavailable(), self._connection() as one:
            if is_direct(one):
                return
            # A pooler that has no more than one is told of when more are wanted.
            with contextlib.suppress(PoolTimeout), self._connection() as other:
                if is_handed_on(one, other):
                    raise StoreUnavailable(f"{self._where}: {HANDED_ON}")

    def register_type_adapters(self) -> None:
        """Nothing to register: the library's composite type is not used."""

    @contextmanager
    def appending(self, small: bool = False, makes_tables: bool = False) -> Iterator[Session]:
        """See `Database.appending`. A small one has fewer round trips."""
        turn = self._turns.turn(self._bounds.lock_timeout_s)
        with self._unavailable(APPENDING), turn as free, self._connection() as connection:
            # When tables change, the driver prepares all statements anew, and loses count of those
            # that are under way.
            session = PostgresSession(connection, pipelined=not makes_tables)
            first = _APPEND_LOCK if small else BEGIN
            with self._rollback(connection), session.open(first, begins=not small):
                # A statement of its own: what follows must see what the last holder committed.
                if not small and not (session.ask(_TRY_APPEND_LOCK).fetchall()[0][0] and free):
                    # Somebody else wants it again before long.
                    beside.hurry()
                yield session
                self._require_claims()

    @contextmanager
    def lasting(self, kept: bool = False) -> Iterator[Session]:
        """See `Database.lasting`."""
        first = _BEGIN_KEPT if kept else _BEGIN_LASTING
        with self._unavailable(), self._connection() as connection:
            session = PostgresSession(connection, pipelined=False)
            with self._rollback(connection), _unhurried(connection), session.open(first):
                yield session
                self._require_claims()

    @contextmanager
    def migrating(self) -> Iterator[Session]:
        """A transaction that holds the append lock for as long as it takes: tables may be large."""
        with self.lasting(kept=True) as session:
            session.ask(_KEEP_OTHERS_OUT)
            yield session

    @contextmanager
    def snapshot(self, lasting: bool = False, lenient: bool = False) -> Iterator[Session]:
        """See `Database.snapshot`; here no text can be edited into what is none."""
        with self._unavailable(), self._connection() as connection:
            session = PostgresSession(connection, pipelined=not lasting)
            patient = _unhurried(connection) if lasting else contextlib.nullcontext()
            first = _BEGIN_LONG_SNAPSHOT if lasting else _BEGIN_SNAPSHOT
            with self._rollback(connection), patient, session.open(first):
                yield session

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """See `Database.claim`: a lock of a connection of its own, so that it ends with it.

        Whoever has lost that connection has lost the claim. So its thread changes nothing any more
        in `appending` and `lasting`, which raise `StoreUnavailable`, as the end of the claim does.
        """
        keys = (_CLAIMS, zlib.crc32(f"{self._search_path}.{name}".encode()) - 2**31)
        with self._unavailable(), self._own() as own:
            row = own.execute(_CLAIM, keys).fetchone()
            if row is None or not row["claimed"]:
                raise claimed(name)
            held = self._claims.held
            held[name] = own
            try:
                yield
                self._require_claims()
            finally:
                del held[name]
                # Closing the connection gives it up as well, but only a moment later.
                with contextlib.suppress(psycopg.Error):
                    own.execute("SELECT pg_advisory_unlock_all()")

    def _require_claims(self) -> None:
        """Raise `StoreUnavailable` if this thread has lost a claim: somebody else may have it."""
        for name, own in self._claims.held.items():
            try:
                # What the server says unasked need not be that it ends.
                if own.told_unasked():
                    own.execute("SELECT 1")
            except psycopg.Error as error:
                raise StoreUnavailable(
                    f"{self._where}: the connection that kept others from {name} was lost; try "
                    "again"
                ) from error

    def settle(self, tables: Sequence[str]) -> None:
        """See `Database.settle`: afterwards counting an edge of a range need not look at rows."""
        with self._unavailable(), self._own() as own:
            own.execute(_SAMPLE)
            own.execute(f"VACUUM (ANALYZE) {', '.join(map(quoted, tables))}".encode())

    @contextmanager
    def _own(self) -> Iterator[PatientConnection[DictRow]]:
        """A connection outside the pool, without any of its bounds, nor those of the database."""
        first = psycopg.sql.SQL(_OWN).format(psycopg.sql.Identifier(self._search_path))
        try:
            connected = PatientConnection[DictRow].connect(**self._connect_with, autocommit=True)
        except psycopg.OperationalError as error:
            raise StoreUnavailable(f"{self._where}: {refusal(error)}") from error
        with connected as own:
            own.execute(first)
            own.execute(_BOUNDLESS)
            yield own

    def bytes_of(self, tables: Sequence[str], cheaply: bool = False) -> int | None:
        """See `Database.bytes_of`; the sizes of files are at hand."""
        return int(self.query(_BYTES, ([quoted(table) for table in tables],))[0][0])

    def query(self, sql: str, params: Sequence[object] = ()) -> list[Any]:
        """See `Database.query`. Tried again if the connection had been lost meanwhile: a server
        that ends several of them may not have come to the next one yet when it is tried."""
        with self._unavailable():
            for _ in range(_LOST_CONNECTIONS):
                try:
                    return self._query_once(sql, params)
                except psycopg.OperationalError as error:
                    if not is_lost(error):
                        raise
                    self.pool.check()
            return self._query_once(sql, params)

    def _query_once(self, sql: str, params: Sequence[object]) -> list[Any]:
        with self._connection() as connection:
            return PostgresSession(connection, pipelined=False).ask(sql, params).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[PatientConnection[DictRow]]:
        """One of the pool's that is not known to be lost: as far as can be told without asking."""
        self.pool.open()
        for looks_left in range(_LOST_CONNECTIONS, -1, -1):
            with self.pool.connection(self._connect_s) as connection:
                assert isinstance(connection, PatientConnection), "the pool makes no others"
                if not (looks_left and connection.told_unasked()):
                    yield connection
                    return
            self.pool.check()

    @contextmanager
    def _rollback(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """After an error, leave no transaction behind; a broken connection has none."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(psycopg.Error):
                connection.rollback()
            raise

    @contextmanager
    def _unavailable(self, locked: str = TABLE_IN_USE) -> Iterator[None]:
        """Turn errors of the database into errors of ours; messages never hold values or URLs.

        `locked` is what to tell of a lock that was not free.
        """
        try:
            yield
        except PoolClosed as error:
            raise StoreUnavailable(f"{self._where}: the store is closed") from error
        except PoolTimeout as error:
            raise StoreUnavailable(f"{self._where}: {self._telling.refused or BUSY}") from error
        except _FAULTS as error:
            raise StoreUnavailable(f"{self._where}: {reason(error, locked)}") from error
        except (OperationalError, InterfaceError) as error:
            raise StoreUnavailable(f"{self._where}: the connection failed") from error
        except psycopg.errors.InsufficientPrivilege as error:
            # That names what was asked for, and never a value.
            raise StoreUnavailable(
                f"{self._where}: {error.diag.message_primary}; grant its role what it needs"
            ) from error
        except LENT as error:
            raise StoreUnavailable(f"{self._where}: {HANDED_ON}") from error
        except psycopg.errors.RaiseException as error:
            # Its text is somebody else's, and may hold values.
            raise StoreUnavailable(
                f"{self._where}: a trigger that was added to it refused this; the server's log "
                "says which"
            ) from error
        except MISFITS as error:
            raise self._misfit(error) from error

    def _misfit(self, error: psycopg.Error) -> DeeError:
        """What to tell of a statement and tables that do not fit each other."""
        current = 0
        with contextlib.suppress(psycopg.Error):
            current = int(self._query_once(READ_MIGRATION, ())[0][0])
        if current > len(MIGRATIONS):
            # Who has had the database open since before has been told nothing of it.
            return newer(current, len(MIGRATIONS))
        if isinstance(error, psycopg.errors.UndefinedTable):
            return TableGone(
                f"{self._where}: a table that was to be read is gone; see `dee projections status`"
            )
        if isinstance(error, psycopg.IntegrityError):
            relation = error.diag.table_name or "a table"
            return IntegrityViolation(
                f"{self._where}: {relation} contradicts the log, nothing was written "
                f"({state_of(error)})"
            )
        return IntegrityViolation(
            f"{self._where}: a table is not as it was made ({state_of(error)}); if it is that of "
            "a projection, rebuild that with --no-compare"
        )


@contextmanager
def _unhurried(connection: PatientConnection[Any]) -> Iterator[None]:
    """What is done inside may take as long as it takes."""
    patience_s, connection.patience_s = connection.patience_s, None
    try:
        yield
    finally:
        connection.patience_s = patience_s
