"""The stock `eventsourcing` library: one aggregate of the same event, saved on PostgreSQL.

Its application, aggregate and PostgreSQL module are used as its tutorial has them, with JSON
and without compression and encryption (which the engine does have). The pool is as large as there
are threads, and connections are not asked for their health before each use, which is its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from psycopg.conninfo import conninfo_to_dict

from scripts.benchmarks.harness import person


def settings(database: str) -> dict[str, str]:
    """The library's settings for a PostgreSQL URL."""
    place = conninfo_to_dict(database)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(place["dbname"]),
        "POSTGRES_HOST": str(place["host"]),
        "POSTGRES_PORT": str(place.get("port") or 5432),
        "POSTGRES_USER": str(place["user"]),
        "POSTGRES_PASSWORD": str(place.get("password") or "none"),
    }


class Run(Aggregate):
    """A run as its first event begins it: plan, contact and what is known of the contact."""

    def __init__(
        self, plan: str, plan_version: int, contact: dict[str, str], steps_remaining: int
    ) -> None:
        self.plan = plan
        self.plan_version = plan_version
        self.contact = contact
        self.enrollment = 1
        self.start_tick = 0
        self.steps_remaining = steps_remaining


@contextmanager
def application(database: str, threads: int) -> Iterator[Application[UUID]]:
    """An application that stores there."""
    pool = {"POSTGRES_POOL_SIZE": str(threads), "POSTGRES_MAX_OVERFLOW": "0"}
    app: Application[UUID] = Application(env={**settings(database), **pool})
    try:
        yield app
    finally:
        app.close()


def enrol(app: Application[UUID], n: int) -> None:
    """Make and save one run; it is committed when this returns."""
    app.save(Run("spring", 1, person(n), 5))
