"""PostgreSQL: many processes, one append lock, rows as arrays down a pipeline."""

from dee_es.adapters.storage.postgres.store import PostgresStore, PostgresViews, open_postgres

__all__ = ["PostgresStore", "PostgresViews", "open_postgres"]
