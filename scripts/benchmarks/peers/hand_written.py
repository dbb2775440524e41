"""Hand-written SQL: what a careful programmer writes to store one run, and nothing that decides.

One prepared statement, one round trip and one commit for each run: it inserts the event, as many
bytes as the engine stores, and the run's row, into tables with the keys and indexes that the job
cannot do without. Each thread has a connection of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import psycopg

_TABLES = """
CREATE TABLE hand_events (
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    run_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    name text NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (run_id, version)
);
CREATE TABLE hand_runs (
    run_id text COLLATE "C" PRIMARY KEY,
    plan_id text NOT NULL,
    contact_id text NOT NULL,
    status text NOT NULL,
    due_tick bigint,
    UNIQUE (plan_id, contact_id)
);
CREATE INDEX ON hand_runs (due_tick) WHERE due_tick IS NOT NULL;
"""
_INSERT = """
WITH stored AS (
    INSERT INTO hand_events (run_id, version, name, state) VALUES (%s, 1, 'RunStarted', %s)
)
INSERT INTO hand_runs VALUES (%s, 'spring', %s, 'active', 0)
"""


def make_tables(database: str) -> None:
    """Empty tables."""
    with closing(psycopg.connect(database, autocommit=True)) as own:
        own.execute(_TABLES)


@contextmanager
def opened(database: str, state: bytes) -> Iterator[Callable[[int], object]]:
    """What commits a run of this number, on a connection of its own."""
    with closing(psycopg.connect(database, autocommit=True)) as own:
        yield partial(_insert, own, state)


def _insert(own: psycopg.Connection[Any], state: bytes, n: int) -> None:
    run = f"run_{n}"
    own.execute(_INSERT, (run, state, run, f"contact_{n}"), prepare=True)
