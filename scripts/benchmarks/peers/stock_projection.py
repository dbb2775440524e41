"""The stock `eventsourcing` library's way to a projection: its runner and a materialised view.

It follows the engine's own log on PostgreSQL and makes the same run list with the same fold, rows
and counts in one transaction for each event, as the library works.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from eventsourcing.application import Application
from eventsourcing.persistence import Notification, Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner

from dee_es import Engine
from dee_es.core.projection import Build
from dee_es.core.registry import CREATING
from dee_es.engine.projecting.pages import numbered
from dee_es.ports import StoredRow
from projections import RUN_LIST
from scripts.benchmarks.peers import stock_library

_VERSION = 99
"""Of the tables that it fills, beside those of the engine."""


def rate(database: str, engine: Engine, events: int) -> float:
    """Events a second over so many of the log's first."""
    build = Build(RUN_LIST, _VERSION)
    with engine._parts.views.building() as tx:
        tx.create(build.tables)
    settings = {
        **stock_library.settings(database),
        "POSTGRES_ORIGINATOR_ID_TYPE": "text",
        "STORED_CREATE_TABLE": "no",
    }
    start = time.perf_counter()
    with ProjectionRunner(
        application_class=_log_of(engine),
        projection_class=_Runs,
        view_class=_view_of(build),
        env=settings,
    ) as runner:
        runner.wait(events, timeout=600)
        return events / (time.perf_counter() - start)


class _Mapper:
    """Reads our entries where the library would read its own."""

    def __init__(self, engine: Engine) -> None:
        self._journal = engine._journal
        self._ordinal = 0

    def to_domain_event(self, notification: Notification) -> Any:
        row = StoredRow(
            notification.id,
            str(notification.originator_id),
            notification.originator_version,
            notification.topic,
            notification.state,
        )
        (event,) = self._journal.open_public([row])
        if event.version == 1 and event.name in CREATING:
            self._ordinal += 1
            event = numbered(event, self._ordinal)
        return event


def _log_of(engine: Engine) -> type[Application[Any]]:
    class Stored(Application[Any]):
        """The log, by the name that its table has."""

        name = "stored"

        def construct_mapper(self) -> Any:
            return _Mapper(engine)

    return Stored


class _Rows(PostgresTrackingRecorder):
    """Rows and counts, written with the place they are from."""

    build: Build[Any]
    upsert: str
    select: str
    add: str

    def save(self, row: Any, deltas: Mapping[Any, int], tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            if row is not None:
                cursor.execute(self.upsert, self.build.table.values(row), prepare=True)
                for key, n in deltas.items():
                    if n:
                        cursor.execute(self.add, (*key, n), prepare=True)

    def row(self, run_id: str) -> Any:
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute(self.select, (run_id,), prepare=True)
            found = cursor.fetchone()
        return None if found is None else self.build.table.row_type(*found.values())


def _view_of(made: Build[Any]) -> type[_Rows]:
    # Names of our own tables and columns; values are always bound.
    table = made.table.physical_name
    names = [column.name for column in made.table.columns]

    class RunsView(_Rows):
        build = made
        upsert = (
            f"INSERT INTO {table} ({', '.join(names)}) "
            f"VALUES ({', '.join(['%s'] * len(names))}) ON CONFLICT (run_id) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        )
        select = f"SELECT {', '.join(names)} FROM {table} WHERE run_id = %s"
        add = (
            f"INSERT INTO {table}_counts AS c (plan_id, status, bucket, n) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (plan_id, status, bucket) DO UPDATE SET n = c.n + excluded.n"
        )

    return RunsView


class _Runs(Projection[_Rows]):
    """The same fold as ours."""

    name = "runs"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:  # type: ignore[override]
        deltas: dict[Any, int] = {}
        after = None
        if RUN_LIST.key(domain_event) is not None:
            before = self.view.row(domain_event.stream_id)
            after = RUN_LIST.fold(before, domain_event)
            for row, n in ((after, 1), (before, -1)):
                for key in () if row is None else RUN_LIST.tally(row):
                    deltas[key] = deltas.get(key, 0) + n
        self.view.save(after, deltas, tracking)
