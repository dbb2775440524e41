"""PostgreSQL: many processes, one append lock, binary COPY for what is large."""

from dee_es.adapters.storage.postgres.store import PostgresStore, PostgresViews, open_postgres

__all__ = ["PostgresStore", "PostgresViews", "open_postgres"]
