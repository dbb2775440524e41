"""How many bytes on disk an event takes, with its indexes and its row of the audit trail.

Runs are lived through to their end, the audit trail is brought up to date and the database is
vacuumed; then the tables are asked for their size. Message bodies are subtracted: they are as long
as somebody writes them. Beside it stands the payload alone: what an event says, encrypted, without
checksums, keys and indexes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import psycopg

from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.evidence.chain import HEADER_BYTES
from scripts.benchmarks.figures import Figure, Finding
from scripts.benchmarks.harness import beside, engine_on, is_sqlite, people, plan, settle

BAR: Final = 900
"""Bytes for an event, without the message's body."""
_SIZES = """
SELECT relname, pg_table_size(relid), pg_indexes_size(relid) FROM pg_stat_user_tables
WHERE schemaname = 'public'
"""
_SQLITE_SIZES = """
SELECT m.tbl_name, sum(CASE WHEN m.type = 'table' THEN s.pgsize ELSE 0 END),
    sum(CASE WHEN m.type = 'index' THEN s.pgsize ELSE 0 END)
FROM dbstat AS s JOIN sqlite_master AS m ON m.name = s.name GROUP BY m.tbl_name
"""
_PAYLOAD = f"SELECT count(*), sum(length(state) - {HEADER_BYTES}) FROM stored_events"


def measure(url: str, folder: Path, runs: int, repeats: int) -> Iterator[Finding]:
    """Bytes for an event by table; sizes do not vary, so there are no repetitions."""
    channel = MemoryChannel()
    with engine_on(url, folder, "disk", channels={"email": channel}) as engine:
        engine.bulk_execute(plan("disk"), people(runs), batch_size=1_000)
        engine.run_until_idle()
        engine.audit.query(limit=1)
        settle(url, "disk")
    bodies = sum(len((action.message.text or "").encode()) for action in channel.actions)
    found = _of_sqlite(folder / "disk.db") if is_sqlite(url) else _of_postgres(beside(url, "disk"))
    if found is None:
        return
    events, payload, sizes = found
    log_table, log_indexes = sizes["stored_events"]
    audit = [size for name, size in sizes.items() if name.startswith("audit_")]
    audit_table, audit_indexes = (sum(column) for column in zip(*audit, strict=True))
    whole = (log_table + log_indexes + audit_table + audit_indexes - bodies) / events
    raw = (payload - bodies) / events
    yield Figure("an event's payload, raw", raw, "bytes")
    yield Figure("an event in the log, with checksums", (log_table - bodies) / events, "bytes")
    yield Figure("its indexes", log_indexes / events, "bytes")
    yield Figure("its row of the audit trail", audit_table / events, "bytes")
    yield Figure("that row's indexes", audit_indexes / events, "bytes")
    yield Figure("all of it, without the message's body", whole, "bytes", None, BAR, False)
    yield Figure("all of it to the raw payload", whole / raw, "times", None, None, False)
    everything = sum(map(sum, sizes.values())) - bodies
    yield Figure("the whole database for an event", everything / events, "bytes")


Sizes = tuple[int, int, dict[str, tuple[int, int]]]


def _of_postgres(database: str) -> Sizes:
    with closing(psycopg.connect(database)) as own:
        events, payload = own.execute(_PAYLOAD.encode()).fetchone() or (0, 0)
        sizes = {name: (table, index) for name, table, index in own.execute(_SIZES).fetchall()}
    return int(events), int(payload), sizes


def _of_sqlite(file: Path) -> Sizes | None:
    with closing(sqlite3.connect(file)) as own:
        events, payload = own.execute(_PAYLOAD).fetchone()
        try:
            rows = own.execute(_SQLITE_SIZES).fetchall()
        except sqlite3.OperationalError:
            # This build of SQLite was made without the table that tells sizes.
            return None
    return events, payload, {name: (table, index) for name, table, index in rows}
