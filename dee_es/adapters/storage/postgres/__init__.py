"""PostgreSQL: many processes, one append lock, rows as arrays down a pipeline."""

from dee_es.adapters.storage.postgres.clock import PostgresClock
from dee_es.adapters.storage.postgres.store import PostgresStore, PostgresViews, open_postgres

__all__ = ["PostgresClock", "PostgresStore", "PostgresViews", "open_postgres"]
