"""The event store and the views on PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from eventsourcing.persistence import Notification, NotSupportedError, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder
from eventsourcing.utils import strtobool

from dee_es.adapters.storage.postgres.connecting import Bounds
from dee_es.adapters.storage.postgres.database import PostgresDatabase
from dee_es.adapters.storage.postgres.schema import (
    LASTING_OPTIONS,
    MIGRATIONS,
    TABLE_OPTIONS,
    TYPES,
)
from dee_es.adapters.storage.relational.migrations import migrate
from dee_es.adapters.storage.relational.projection_tables import Dialect
from dee_es.adapters.storage.relational.statements import READ_MIGRATION
from dee_es.adapters.storage.relational.store import RelationalStore
from dee_es.adapters.storage.relational.views import RelationalViews
from dee_es.errors import StoreUnavailable

# What its owner may do is told as well: the new table may be somebody else's.
_RIGHTS = """
SELECT format(
    'GRANT %s ON %s TO %s%s', string_agg(privilege_type, ', '), CAST(? AS text),
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
)
FROM pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))
WHERE oid = coalesce(to_regclass(?), to_regclass(?))
GROUP BY grantee, is_grantable
"""
_DIALECT = Dialect(TYPES, TABLE_OPTIONS, LASTING_OPTIONS, shares_entries=True, rights=_RIGHTS)
_DB_FUNCTIONS = "POSTGRES_ENABLE_DB_FUNCTIONS"
_HAS_MIGRATIONS = "SELECT to_regclass('schema_migrations') IS NOT NULL"


def open_postgres(
    url: str,
    *,
    connect_timeout_s: float = 5.0,
    lock_timeout_s: float = 10.0,
    statement_timeout_s: float = 30.0,
    pool_size: int = 2,
    max_overflow: int = 14,
    schema: str = "public",
) -> tuple[PostgresStore, PostgresViews]:
    """Open the database behind `url`, whose tables are made or migrated where needed.

    The timeouts bound how long anything may block: getting a connection, waiting for the append
    lock, and any one statement. Between `pool_size` and `pool_size + max_overflow` connections are
    kept. Raises `StoreUnavailable` if the server cannot be reached, if the database was written by
    a newer version of this code, or if the library's database functions are switched on.
    """
    _refuse_db_functions()
    bounds = Bounds(connect_timeout_s, lock_timeout_s, statement_timeout_s, pool_size, max_overflow)
    database = PostgresDatabase(url, bounds, schema=schema)
    try:
        store = PostgresStore(database)
    except BaseException:
        database.close()
        raise
    return store, PostgresViews(database)


def _refuse_db_functions() -> None:
    """The library's insert functions take no lock, so position 2 could be seen before 1."""
    if strtobool(os.environ.get(_DB_FUNCTIONS) or "no"):
        raise StoreUnavailable(
            f"{_DB_FUNCTIONS} is set: its inserts break the order of the log; unset it"
        )


class PostgresStore(RelationalStore, PostgresApplicationRecorder):
    """Implements `EventStore`. The library's selects work beside it, without its blocking retries;
    its insert is refused."""

    database: PostgresDatabase
    dialect = _DIALECT

    def __init__(self, database: PostgresDatabase) -> None:
        if database.enable_db_functions:
            raise StoreUnavailable("the library's database functions break the order of the log")
        PostgresApplicationRecorder.__init__(self, database)
        self.database = database
        self.create_table()

    def create_table(self) -> None:
        """Bring the schema up to date.

        One that is up to date is only looked at: a role that may not create tables can work there.
        """
        self.database.require_utf8()
        self.database.require_sessions()
        if self._is_current():
            return
        with self.database.migrating() as session:
            migrate(session, MIGRATIONS)

    def _is_current(self) -> bool:
        if not self.database.query(_HAS_MIGRATIONS)[0][0]:
            return False
        return int(self.database.query(READ_MIGRATION)[0][0]) == len(MIGRATIONS)

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Refused: positions, heads and indexes are written by `commit` alone."""
        raise NotSupportedError("events are appended with commit()")

    def select_events(self, *args: Any, **kwargs: Any) -> Sequence[StoredEvent]:
        """The library's view of a stream, tried once."""
        select = _once(PostgresApplicationRecorder.select_events)
        found: list[StoredEvent] = select(self, *args, **kwargs)
        return found

    def select_notifications(self, *args: Any, **kwargs: Any) -> Sequence[Notification]:
        """The library's view of the log, tried once."""
        select = _once(PostgresApplicationRecorder.select_notifications)
        found: list[Notification] = select(self, *args, **kwargs)
        return found

    def max_notification_id(self) -> int | None:
        """The library's view of the last position, tried once."""
        found: int | None = _once(PostgresApplicationRecorder.max_notification_id)(self)
        return found

    def close(self) -> None:
        """See `EventStore.close`."""
        self.database.close()


def _once(method: Callable[..., Any]) -> Callable[..., Any]:
    """What the library wrapped in up to ten blocking attempts, without the wrapping."""
    plain: Callable[..., Any] = method.__wrapped__  # type: ignore[attr-defined]
    return plain


class PostgresViews(RelationalViews):
    """Implements `Views`."""

    dialect = _DIALECT
    # A row whose indexed columns change costs an entry in every index there is.
    indexes_later = True
    queues = True

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database
