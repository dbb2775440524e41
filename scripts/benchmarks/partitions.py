"""What partitions of the log's table would gain and cost: the same rows in both forms of it.

One is the table as it is, made by the engine's own schema. The other is partitioned by ranges of
positions, ten in all. A unique key of a partitioned table has to hold the column it is partitioned
by, so that form cannot refuse a second entry with the version of another: heads alone would.
Rows, batches, connections and their settings are the same; the two forms take turns.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from dee_es.adapters.storage.relational import statements as sql
from dee_es.core.ids import run_id
from scripts.benchmarks.figures import Figure, spread_of, timed_ms
from scripts.benchmarks.harness import beside, is_sqlite, prepare
from scripts.benchmarks.rebuilding import EVENTS_OF_A_RUN

WHOLE, PARTED = "stored_events", "parted_events"
TOLD: Final = {WHOLE: "one table", PARTED: "partitions"}
PARTS: Final = 10
BATCH: Final = 1_000
STATE_BYTES: Final = 400
_AT_WORK: Final = 2_000
"""Runs that are at work between each other's entries, as in a tick."""
_TURN: Final = 200
"""Batches of one form before those of the other."""
_PAGE: Final = 10_000
_PAGES: Final = 100
_CALLS: Final = 2_000
_NAMES: Final = ("RunStarted", "StepEntered", "StepDispatched", "StepCompleted", "WaitStarted")
_ALL: Final = 2**62

_PARTED: Final = f"""
CREATE TABLE {PARTED} (LIKE {WHOLE} INCLUDING STORAGE) PARTITION BY RANGE (notification_id);
CREATE INDEX ON {PARTED} (originator_id, originator_version);
CREATE UNIQUE INDEX ON {PARTED} (notification_id);
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON {PARTED}
FOR EACH STATEMENT EXECUTE FUNCTION stored_events_refuse();
CREATE TRIGGER archived_only BEFORE DELETE ON {PARTED}
FOR EACH ROW EXECUTE FUNCTION stored_events_archived_only();
"""
_PART: Final = "CREATE TABLE {0}_{1} PARTITION OF {0} FOR VALUES FROM ({2}) TO ({3})"
_COPY: Final = """
COPY {table} (notification_id, originator_id, originator_version, topic, state)
FROM STDIN (FORMAT BINARY)
"""
_STONES: Final = f"""
INSERT INTO tombstones (position, stream_id, version, checksum, archive)
SELECT notification_id, originator_id, originator_version, substr(state, 37, 32), 1
FROM {WHOLE} WHERE notification_id <= %s
"""
_SIZES: Final = """
SELECT sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid)) FROM pg_class AS c
WHERE c.relkind = 'r' AND (c.relname = %(table)s OR c.relname LIKE %(table)s || '\\_%%')
"""
# As the engine sets its connections, so that plans are those that it would get.
_SETTINGS: Final = """
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
SET max_parallel_workers_per_gather = 0; SET jit = off; SET statement_timeout = 0
"""


def measure(url: str, folder: Path, events: int, repeats: int) -> Iterator[Figure]:
    """Appending, reading, size and taking out, of both forms, at about so many entries."""
    if is_sqlite(url):
        return
    part = max(events // PARTS, 1)
    prepare(url, folder, "partitions")
    with closing(psycopg.connect(beside(url, "partitions"), autocommit=True)) as own:
        own.prepared_max = 100
        own.execute(_SETTINGS)
        own.execute(f"ALTER TABLE {WHOLE} DISABLE TRIGGER ALL; TRUNCATE {WHOLE}".encode())
        own.execute(f"ALTER TABLE {WHOLE} ENABLE TRIGGER ALL".encode())
        own.execute(_PARTED)
        for number in range(PARTS + 1):
            bounds = (number * part, (number + 1) * part if number < PARTS else _ALL)
            own.execute(_PART.format(PARTED, number, *bounds).encode())
        written = yield from _append(own, events)
        for table in TOLD:
            own.execute(f"VACUUM (ANALYZE) {table}".encode())
        own.execute("CHECKPOINT")
        yield from _read(own, written)
        yield from _sizes(own, written)
        yield from _take_out(own, part - 1)


# --- appending ------------------------------------------------------------------------------------


def _append(own: psycopg.Connection[Any], events: int) -> Iterator[Figure]:
    """Rates of a COPY of 1,000 entries a transaction, over all and over the last tenth."""
    log = _log(events)
    seconds: dict[str, list[float]] = {table: [] for table in TOLD}
    turn = max(1, min(_TURN, events // BATCH // 10))
    written = 0
    while batches := [batch for batch in (next(log, None) for _ in range(turn)) if batch]:
        order = list(TOLD)
        # Neither form always comes first.
        if written // (turn * BATCH) % 2:
            order.reverse()
        for table in order:
            statement = _COPY.format(table=table).encode()
            for data, _ in batches:
                start = time.perf_counter()
                with own.transaction(), own.cursor().copy(statement) as copy:
                    copy.write(data)
                seconds[table].append(time.perf_counter() - start)
        written += sum(rows for _, rows in batches)
    for table, told in TOLD.items():
        rate = written / sum(seconds[table])
        last = seconds[table][-max(1, len(seconds[table]) // 10) :]
        yield Figure(f"appended by COPY of {BATCH:,}, {told}", rate, "events/s")
        rate = len(last) * BATCH / sum(last)
        yield Figure(f"the last tenth of that, {told}", rate, "events/s")
    return written


def _stream(number: int) -> str:
    return run_id("parted", str(number), 1)


def _log(events: int) -> Iterator[tuple[bytes, int]]:
    """Batches of a log as rows of a binary COPY, with how many they are: runs at work between each
    other's entries, states that cannot be compressed."""
    chance = random.Random(0)
    noise = chance.randbytes(2 * STATE_BYTES + _AT_WORK)
    rows: list[bytes] = []
    position = 0
    for first in range(0, max(events // EVENTS_OF_A_RUN, 1), _AT_WORK):
        count = min(_AT_WORK, max(events // EVENTS_OF_A_RUN, 1) - first)
        streams = [_stream(first + n).encode() for n in range(count)]
        for version in range(1, EVENTS_OF_A_RUN + 1):
            name = _NAMES[version % len(_NAMES)].encode()
            middle = struct.pack(">iqi", 8, version, len(name)) + name
            for n, stream in enumerate(streams):
                position += 1
                state = noise[n : n + STATE_BYTES - 8] + position.to_bytes(8, "big")
                head = struct.pack(">hiqi", 5, 8, position, len(stream))
                rows.append(b"".join((head, stream, middle, struct.pack(">i", STATE_BYTES), state)))
                if len(rows) == BATCH:
                    yield _HEAD + b"".join(rows) + _END, len(rows)
                    rows = []
    if rows:
        yield _HEAD + b"".join(rows) + _END, len(rows)


_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"


# --- reading --------------------------------------------------------------------------------------


def _read(own: psycopg.Connection[Any], written: int) -> Iterator[Figure]:
    """A stream, the first entries of a page of runs, and the log page by page."""
    chance = random.Random(1)
    runs = written // EVENTS_OF_A_RUN
    calls = min(_CALLS, runs)
    streams = [_stream(chance.randrange(runs)) for _ in range(calls)]
    firsts = [chance.randrange(max(runs - 50, 1)) for _ in range(max(calls // 10, 1))]
    pages = [[_stream(first + n) for n in range(50)] for first in firsts]
    for table, told in TOLD.items():
        ask = _asking(own, table)
        for stream in streams[:20]:
            assert len(ask(sql.READ_STREAM, (stream, 0, _ALL))) == EVENTS_OF_A_RUN
        times = [timed_ms(partial(ask, sql.READ_STREAM, (each, 0, _ALL))) for each in streams]
        yield spread_of(f"a stream of {EVENTS_OF_A_RUN} entries, {told}", times)
        times = [timed_ms(partial(ask, sql.READ_FIRST, (each,))) for each in pages]
        yield spread_of(f"the first entries of 50 runs, {told}", times)
        start, read = time.perf_counter(), 0
        for page in range(min(_PAGES, max(written // _PAGE, 1))):
            read += len(ask(sql.READ_ENTRIES, (page * _PAGE, (page + 1) * _PAGE)))
        rate = read / (time.perf_counter() - start)
        yield Figure(f"the log in pages of {_PAGE:,}, {told}", rate, "events/s")


def _asking(
    own: psycopg.Connection[Any], table: str
) -> Callable[[str, Sequence[object]], list[Any]]:
    """Asks a statement of the engine's of one of the forms."""

    def ask(statement: str, values: Sequence[object]) -> list[Any]:
        text = statement.replace(WHOLE, table).replace("IN ??", "= ANY(%s)").replace("?", "%s")
        return own.cursor(binary=True).execute(text.encode(), values, prepare=True).fetchall()

    return ask


def _sizes(own: psycopg.Connection[Any], written: int) -> Iterator[Figure]:
    for table, told in TOLD.items():
        found = own.execute(_SIZES, {"table": table}).fetchone()
        assert found is not None, "a sum has a row"
        for what, size in zip(("rows", "indexes"), found, strict=True):
            value = float(size) / written
            yield Figure(f"{what} of an entry, {told}", value, "bytes", None, None, False)


# --- taking out -----------------------------------------------------------------------------------


def _take_out(own: psycopg.Connection[Any], last: int) -> Iterator[Figure]:
    """The entries up to a position, which is where the first partition ends, and what is left to
    clean up: deleted as the archive does it, or dropped with their partition."""
    own.execute(_STONES, (last,))
    ask = _asking(own, WHOLE)
    deleted: list[Any] = []
    took = timed_ms(lambda: deleted.extend(ask(sql.TAKE_OUT, (1, last, 1))))
    assert len(deleted) == last, f"deleted {len(deleted)} of {last} entries"
    swept = timed_ms(lambda: own.execute(f"VACUUM {WHOLE}".encode()))
    yield from _taken(TOLD[WHOLE], "deleted", last, took, swept)
    took = timed_ms(lambda: own.execute(f"DROP TABLE {PARTED}_0".encode()))
    swept = timed_ms(lambda: own.execute(f"VACUUM {PARTED}".encode()))
    yield from _taken(TOLD[PARTED], "dropped", last, took, swept)


def _taken(told: str, how: str, count: int, took: float, swept: float) -> Iterator[Figure]:
    work = f"{count:,} entries {how}"
    yield Figure(f"{work}, {told}", took / 1000, "s", None, None, False, f"a tenth {how}, {told}")
    yield Figure(f"VACUUM after that, {told}", swept / 1000, "s", None, None, False)
