"""The event store and the views on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import Notification, NotSupportedError, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder

from dee_es.adapters.storage.relational.migrations import migrate
from dee_es.adapters.storage.relational.projection_tables import Dialect
from dee_es.adapters.storage.relational.statements import READ_MIGRATION
from dee_es.adapters.storage.relational.store import RelationalStore
from dee_es.adapters.storage.relational.views import RelationalViews
from dee_es.adapters.storage.sqlite.database import SqliteDatabase
from dee_es.adapters.storage.sqlite.schema import MIGRATIONS, TYPES

_DIALECT = Dialect(TYPES)
_HAS_MIGRATIONS = "SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'"


def open_sqlite(path: str, *, lock_timeout_s: float = 10.0) -> tuple[SqliteStore, SqliteViews]:
    """Open the database at `path`, made or migrated where needed.

    `lock_timeout_s` bounds every wait for another thread or process. Raises `StoreUnavailable` if
    the file cannot be opened or was written by a newer version of this code.
    """
    if path == ":memory:":
        raise ValueError("an SQLite database needs a path; ':memory:' is another backend")
    database = SqliteDatabase(path, lock_timeout_s=lock_timeout_s)
    try:
        store = SqliteStore(database)
    except BaseException:
        database.close()
        raise
    return store, SqliteViews(database)


class SqliteStore(RelationalStore, SQLiteApplicationRecorder):
    """Implements `EventStore`. The library's selects work beside it; its insert is refused."""

    database: SqliteDatabase
    dialect = _DIALECT

    def __init__(self, database: SqliteDatabase) -> None:
        SQLiteApplicationRecorder.__init__(self, database)
        self.database = database
        self.create_table()

    def create_table(self) -> None:
        """Bring the schema up to date.

        One that is up to date is only looked at: whoever reads waits for nobody who writes.
        """
        if self._is_current():
            return
        with self.database.appending(makes_tables=True) as session:
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

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The library's view of the log; its own statement does not fit a table with our column."""
        first = 1 if start is None else start
        after = first - 1 if inclusive_of_start else first
        # A filter leaves rows out, so the limit is then applied afterwards.
        rows = self.read_log(after, -1 if topics else limit)
        return [
            Notification(row.stream_id, row.version, row.name, row.state, row.position)
            for row in rows
            if (stop is None or row.position <= stop) and (not topics or row.name in topics)
        ][:limit]

    def close(self) -> None:
        """See `EventStore.close`."""
        self.database.close()


class SqliteViews(RelationalViews):
    """Implements `Views`."""

    dialect = _DIALECT

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
