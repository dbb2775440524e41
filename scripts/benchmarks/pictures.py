"""Which curves `scripts/bench --plot` draws: a few lines a picture, by keys of figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Picture:
    """One file: a sentence above it, the unit beside it, and keys of figures with their labels.

    Of latencies the 99th percentile is drawn, or the one in the middle.
    """

    file: str
    measurement: str
    title: str
    unit: str
    lines: Mapping[str, str]
    middle: bool = False


_RATE: Final = "a second"
_P99: Final = "ms, 99th percentile"

PICTURES: Final = (
    Picture(
        "enroll",
        "enroll",
        "Contacts enrolled in bulk, beside a COPY of the very same rows and the peers",
        f"contacts {_RATE}",
        {
            "bulk_execute, batches of 1,000": "batches of 1,000",
            "bulk_execute, batches of 100": "batches of 100",
            "bulk_execute, batches of 1,000, SQLite": "batches of 1,000, SQLite",
            "limit: COPY of the same rows, batches of 1,000": "limit: COPY of the same rows",
            "dbos enqueues workflows": "DBOS enqueues workflows",
            "restate enqueues workflows": "Restate enqueues workflows",
        },
    ),
    Picture(
        "encryption",
        "encryption",
        "Speed that bulk enrolment keeps when personal data is encrypted",
        "per cent",
        {"speed kept under encryption": "encrypted, in per cent of off"},
    ),
    Picture(
        "run",
        "run",
        "Runs of six steps lived through from their first step to their end",
        f"runs {_RATE}",
        {
            "runs to their end, PostgreSQL": "PostgreSQL",
            "runs to their end, SQLite": "SQLite",
            "dbos runs workflows of four steps": "DBOS, four trivial steps",
            "restate runs workflows of four steps": "Restate, four trivial steps",
        },
    ),
    Picture(
        "execute",
        "execute",
        "Single runs enrolled and committed, in a database of so many",
        f"runs {_RATE}",
        {
            "execute, one thread": "one thread",
            "execute, 8 threads": "eight threads",
            "the stock library, one thread": "the stock library, one thread",
            "hand-written SQL, one thread": "hand-written SQL, one thread",
        },
    ),
    Picture(
        "execute-latency",
        "execute",
        "How long one enrolment takes until it is committed",
        _P99,
        {"execute, one thread, p99": "execute, one thread"},
    ),
    Picture(
        "lists",
        "lists",
        "A page of 50 runs with its exact total, by filter",
        _P99,
        {
            "list_runs by nothing": "no filter",
            "list_runs by a contact": "a contact",
            "list_runs by a frequent plan": "a frequent plan",
            "list_runs by a frequent plan and started before": "a frequent plan, started before",
            "list_runs by a rare plan and a frequent status": "a rare plan, a frequent status",
            "list_runs by two statuses and started before": "two statuses, started before",
        },
    ),
    Picture(
        "lists-median",
        "lists",
        "The same in the middle: half of all pages are quicker",
        "ms, median",
        {
            "list_runs by nothing": "no filter",
            "list_runs by a contact": "a contact",
            "list_runs by a frequent plan": "a frequent plan",
            "list_runs by a frequent plan and started before": "a frequent plan, started before",
            "list_runs by a rare plan and a frequent status": "a rare plan, a frequent status",
            "list_runs by two statuses and started before": "two statuses, started before",
        },
        middle=True,
    ),
    Picture(
        "lists-offset",
        "lists",
        "A page of 50 runs behind 5,000 others, before and after rows were updated",
        _P99,
        {
            "list_runs by nothing, offset 5,000": "no filter",
            "list_runs by two statuses, offset 5,000": "two statuses",
            "list_runs by nothing, offset 5,000, rows just updated": ("no filter, just updated"),
            "list_runs by two statuses, offset 5,000, rows just updated": (
                "two statuses, just updated"
            ),
        },
    ),
    Picture(
        "replay",
        "replay",
        "A run of 20 events looked at, decided again, and shown as it was",
        _P99,
        {
            "get_run of a run of 20 events": "get_run",
            "replay of a run of 20 events": "replay",
            "run_at, any version of a run of 20 events": "run_at",
        },
    ),
    Picture(
        "replay-all",
        "replay",
        "Every recorded run decided again",
        f"events {_RATE}",
        {
            "replay of the fleet, 1 process": "one process",
            "replay of the fleet, 2 processes": "two processes",
        },
    ),
    Picture(
        "rebuild",
        "rebuild",
        "Projections built anew from the whole log, compared and swapped",
        f"events {_RATE}",
        {
            "run_list rebuilt, compared and swapped": "run list",
            "audit_trail rebuilt, compared and swapped": "audit trail",
            "one statement over the log": "limit: one statement over the log, run list",
            "the library's ProjectionRunner": "the stock library's runner, run list",
        },
    ),
    Picture(
        "rebuild-memory",
        "rebuild",
        "Memory of a process that builds a projection anew, at its peak",
        "MiB",
        {"peak memory of a rebuild": "rebuild of the run list"},
    ),
    Picture(
        "verify",
        "verify",
        "The whole log verified, entry by entry",
        f"entries {_RATE}",
        {
            "the log verified by 1 process": "one process",
            "the log verified by 2 processes": "two processes",
            "a bare SHA-256 chain over the same bytes": "limit: a bare SHA-256 chain",
        },
    ),
    Picture(
        "verify-memory",
        "verify",
        "Memory of a verification of five times as many entries, at its peak",
        "MiB",
        {"peak memory": "the process itself", "peak memory, a helper": "the one that helps it"},
    ),
    Picture(
        "web",
        "web",
        "Pages of the web interface, as the server takes them",
        _P99,
        {
            "runs page, on the server": "runs",
            "runs page by plan, status and time, on the server": "runs by plan, status and time",
            "run page, 20 events, on the server": "a run of 20 events",
            "contact page, on the server": "a contact",
            "audit page, of a contact, on the server": "audit trail of a contact",
        },
    ),
    Picture(
        "web-lists",
        "web",
        "Lists of runs that one server process answers",
        f"requests {_RATE}",
        {
            "GET /api/v1/runs, 1 connection": "JSON, one connection",
            "GET /api/v1/runs, 4 connections": "JSON, four connections",
            "GET /runs, 4 connections": "HTML, four connections",
        },
    ),
    Picture(
        "partitions",
        "partitions",
        "Entries appended to the log's table as it is, and partitioned by position",
        f"entries {_RATE}",
        {
            "the last tenth of that, one table": "one table, the last tenth of all",
            "the last tenth of that, partitions": "partitions, the last tenth of all",
        },
    ),
    Picture(
        "partitions-reading",
        "partitions",
        "Reading from the log's table as it is, and partitioned by position",
        _P99,
        {
            "a stream of 14 entries, one table": "a stream, one table",
            "a stream of 14 entries, partitions": "a stream, partitions",
            "the first entries of 50 runs, one table": "first entries of 50 runs, one table",
            "the first entries of 50 runs, partitions": "first entries of 50 runs, partitions",
        },
    ),
    Picture(
        "memory",
        "memory",
        "Memory of a process that enrols contacts out of a generator, at its peak",
        "MiB",
        {"peak memory of bulk_execute from a generator": "bulk_execute"},
    ),
    Picture(
        "disk",
        "disk",
        "Bytes on disk for an event, without the message's body",
        "bytes",
        {
            "all of it, without the message's body": "all of it",
            "an event in the log, with checksums": "in the log",
            "its indexes": "the log's indexes",
            "its row of the audit trail": "its row of the audit trail",
            "that row's indexes": "that row's indexes",
        },
    ),
)
