"""Many more runs than the engine could live through in an hour, out of those that it did.

Every copy of a run is a run of its own: it has its own id and contact, its events are sealed anew,
encrypted and chained as the engine does it, and follow in the log. What follows from the log (heads
of streams, contacts' keys, the run list with its counts, places of the log's head and of the list)
is made by a statement each; other projections are left behind, to be caught up. Only keys are
shared: a copy's contact has the key of the contact it was copied from.

The first runs keep their times. Each copy of all of them falls into an hour of its own, so that an
hour holds as many runs as there were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from typing import Any, Final

import psycopg
from msgspec.structs import replace
from psycopg.types.numeric import Int8Dumper

from dee_es import Engine
from dee_es.core.events import Event, Meta, RunScheduled, RunStarted
from dee_es.core.evidence import chain
from dee_es.core.ids import run_id
from dee_es.engine.log.journal import key_id_of
from dee_es.ports import StoredRow
from projections import RUN_LIST

HOUR: Final = 3_600
"""Ticks into which each copy of all runs is compressed."""
_AT_ONCE: Final = 1_000
"""Runs whose keys and events are in memory at a time."""
_TABLES: Final = ("stored_events", "heads", "contact_keys")
_EVENTS: Final = """
COPY stored_events (notification_id, originator_id, originator_version, topic, state)
FROM STDIN (FORMAT BINARY)
"""
# The events of the first runs by their order, which is their place within each copy of them.
_PLACES: Final = """
CREATE TEMPORARY TABLE places AS
SELECT notification_id AS position, originator_id AS id, originator_version AS version, topic,
    state, row_number() OVER (ORDER BY notification_id) - 1 AS place
FROM stored_events WHERE originator_id >= 'run_' AND originator_id < 'run`'
"""
_BASE: Final = """
CREATE TEMPORARY TABLE base AS
SELECT first.place AS first, last.place AS last, r.*, h.due_tick, h.ended, k.key_id
FROM {runs} AS r
JOIN places AS first ON first.id = r.run_id AND first.version = 1
JOIN places AS last ON last.id = r.run_id AND last.version = r.version
JOIN heads AS h ON h.stream_id = r.run_id
JOIN contact_keys AS k ON k.contact_id = r.contact_id
"""
_SOME: Final = """
SELECT p.position, p.id, p.version, p.topic, p.state, p.place
FROM base AS b JOIN places AS p ON p.id = b.run_id
WHERE b.first >= %s AND b.first < %s ORDER BY b.first, p.version
"""
# The new events beside the run that each is a copy of one of; `_Copier` does the same arithmetic.
_OF: Final = """
FROM (
    SELECT originator_id AS id, substr(state, 37, 32) AS checksum,
        (notification_id - %(head)s - 1) / %(events)s + 1 AS k,
        (notification_id - %(head)s - 1) %% %(events)s AS place
    FROM stored_events WHERE notification_id > %(head)s
) AS e
JOIN base AS b ON b.{which} = e.place
"""
_CONTACT: Final = "'contact_' || substr(contact_id, 9)::bigint + k * %(runs)s"
_TICK: Final = "%(tick)s + (k - 1) * %(hour)s + {0} * %(hour)s / %(tick)s"
_COPIED: Final = {
    "run_id": "id",
    "ordinal": "ordinal + k * %(runs)s",
    "plan_id": "CASE plan_id WHEN %(rare)s THEN %(usual)s ELSE plan_id END",
    "contact_id": _CONTACT,
    **{
        name: _TICK.format(name)
        for name in ("created_tick", "start_tick", "current_tick", "completed_tick", "resume_tick")
    },
}
"""What of a row of the run list is another in a copy."""
_LIST: Final = "INSERT INTO {runs} ({names}) SELECT {values} {of} ORDER BY k, ordinal"
_HEADS: Final = f"""
INSERT INTO heads (stream_id, version, checksum, due_tick, ended, slice, ordinal)
SELECT id, version, checksum, {_TICK.format("due_tick")}, ended,
    (get_byte(digest, 2) & 3) * 256 + get_byte(digest, 3), ordinal + k * %(runs)s
{_OF.format(which="last")}, LATERAL (SELECT sha256(({_CONTACT})::bytea) AS digest) AS d
"""
_KEYS: Final = f"""
INSERT INTO contact_keys (contact_id, key_id) SELECT {_CONTACT}, key_id {_OF.format(which="first")}
"""
_COUNTS: Final = """
INSERT INTO {runs}_counts (plan_id, status, bucket, n)
SELECT p, s, b, CAST(sum(n) AS bigint)
FROM (
    SELECT plan_id, status, ordinal / 4096 AS bucket, count(*) AS n FROM {runs} GROUP BY 1, 2, 3
) AS counted, LATERAL (VALUES (plan_id), ('')) AS plans (p),
    LATERAL (VALUES (status), ('')) AS states (s), LATERAL (VALUES (bucket), (-1)) AS buckets (b)
GROUP BY p, s, b ORDER BY p, s, b
"""
_LOG_HEAD: Final = """
UPDATE log_head SET position = position + %(k)s * %(events)s, ordinal = ordinal + %(k)s * %(runs)s,
    tick = tick + %(k)s * %(hour)s
"""
_BUILD: Final = """
UPDATE projection_builds SET position = log_head.position, ordinal = log_head.ordinal
FROM log_head WHERE name = 'run_list'
"""
_INDEXES: Final = """
SELECT CAST(CAST(i.indexrelid AS regclass) AS text), c.conname, pg_get_constraintdef(c.oid),
    pg_get_indexdef(i.indexrelid)
FROM pg_index AS i LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid
WHERE i.indrelid = %s::regclass ORDER BY i.indexrelid
"""


def multiply(engine: Engine, database: str, times: int, *, rare: str, usual: str) -> int:
    """Leave so many times the runs that `engine` holds in its PostgreSQL database.

    Copies of runs of the plan `rare` are of the plan `usual`, so that the rare one stays rare. The
    engine has to be closed then: it knows nothing of this. Returns how many runs there are.
    """
    runs = engine.list_runs(limit=1).total
    if times < 2:
        return runs
    table = engine._projector.catch_up(RUN_LIST).table
    log = engine._parts.store.log_head()
    assert log.ordinal == runs, f"{runs} runs are numbered up to {log.ordinal}"
    given = {"head": log.position, "runs": runs, "tick": log.tick, "k": times - 1, "hour": HOUR}
    given |= {"rare": rare, "usual": usual}
    with closing(psycopg.connect(database)) as own:
        # Else products of small numbers would be small, too.
        own.adapters.register_dumper(int, Int8Dumper)
        own.execute("SET LOCAL work_mem = '256MB'; SET LOCAL maintenance_work_mem = '512MB'")
        own.execute("SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0")
        own.execute(_PLACES)
        own.execute(_BASE.format(runs=table.physical_name).encode())
        own.execute("CREATE INDEX ON places (id); ANALYZE places; ANALYZE base")
        given["events"] = own.execute("SELECT count(*) FROM places").fetchone()[0]
        again = [each for name in (*_TABLES, table.physical_name) for each in _bare(own, name)]
        _Copier(engine, own, given).write()
        names = [column.name for column in table.columns]
        listed = _LIST.format(
            runs=table.physical_name,
            names=", ".join(names),
            values=", ".join(_COPIED.get(name, name) for name in names),
            of=_OF.format(which="first"),
        )
        for statement in (listed, _HEADS, _KEYS):
            own.execute(statement.encode(), given)
        # All of them, not only those that grew: an empty table is quickest to fill.
        own.execute(f"TRUNCATE {table.physical_name}_counts".encode())
        own.execute(_COUNTS.format(runs=table.physical_name).encode())
        for definition in again:
            own.execute(definition.encode())
        own.execute(_LOG_HEAD, given)
        own.execute(_BUILD)
        own.commit()
    return times * runs


def _bare(own: psycopg.Connection[Any], table: str) -> list[str]:
    """Take the indexes off a table, which is then filled quicker; what makes them again."""
    again = []
    for name, constraint, what, index in own.execute(_INDEXES, (table,)).fetchall():
        if constraint is None:
            own.execute(f"DROP INDEX {name}".encode())
            again.append(index)
        else:
            own.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}".encode())
            again.append(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {what}")
    return again


_Opened = tuple[int, Event, Meta, bytes | None]
"""Place, event, meta data and key of an entry of the first runs."""


class _Copier:
    """Seals the events of every copy and writes them to the log."""

    def __init__(self, engine: Engine, own: psycopg.Connection[Any], given: dict[str, Any]) -> None:
        self._journal = engine._journal
        self._own = own
        self._given = given

    def write(self) -> None:
        """All events of all copies; those of a few runs at a time, so that memory stays flat."""
        for first in range(0, self._given["events"], _AT_ONCE):
            runs = self._opened(first, first + _AT_ONCE)
            with self._own.cursor().copy(_EVENTS) as copy:
                copy.set_types(["int8", "text", "int8", "text", "bytea"])
                for k in range(1, self._given["k"] + 1):
                    for run in runs:
                        for row in self._copied(run, k):
                            copy.write_row(row)

    def _opened(self, first: int, end: int) -> list[list[_Opened]]:
        """The runs whose first events have these places."""
        found = self._own.execute(_SOME, (first, end)).fetchall()
        self._journal.preload(StoredRow(*row[:5]) for row in found)
        runs = []
        for _, group in groupby(found, lambda row: row[1]):
            own = list(group)
            rows = [StoredRow(*row[:5]) for row in own]
            events = self._journal.open(rows)
            runs.append(
                [
                    (place, event.event, event.meta, key_id_of(row))
                    for (*_, place), row, event in zip(own, rows, events, strict=True)
                ]
            )
        return runs

    def _copied(self, run: list[_Opened], k: int) -> Iterator[tuple[int, str, int, str, bytes]]:
        """The entries of the run's k-th copy."""
        given, previous, stream = self._given, chain.GENESIS, ""
        for version, (place, event, meta, key) in enumerate(run):
            if isinstance(event, RunScheduled | RunStarted):
                number = int(event.contact_id.removeprefix("contact_")) + k * given["runs"]
                event = replace(
                    event,
                    plan_id=given["usual"] if event.plan_id == given["rare"] else event.plan_id,
                    contact_id=f"contact_{number}",
                    start_tick=self._tick(event.start_tick, k),
                )
                stream = run_id(event.plan_id, event.contact_id, event.enrollment)
            meta = replace(meta, tick=self._tick(meta.tick, k))
            (sealed,) = self._journal.seal(stream, version, previous, (event,), meta, key)
            previous = sealed.checksum
            position = given["head"] + (k - 1) * given["events"] + place + 1
            yield position, stream, version + 1, sealed.name, sealed.state

    def _tick(self, tick: int, k: int) -> int:
        given = self._given
        return int(given["tick"] + (k - 1) * HOUR + tick * HOUR // given["tick"])
