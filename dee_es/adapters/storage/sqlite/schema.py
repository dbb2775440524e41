"""The schema on SQLite, as migrations that are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dee_es.adapters.storage.relational.migrations import Migration
from dee_es.core.projection import ColumnKind

TYPES: Final[Mapping[ColumnKind, str]] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "boolean": "INTEGER",
    "bytes": "BLOB",
}

# The event store library's table; the position is a column of ours, so that SQLite cannot hand out
# a number again.
_EVENTS: Final = """
CREATE TABLE stored_events (
    notification_id INTEGER PRIMARY KEY,
    originator_id TEXT NOT NULL,
    originator_version INTEGER NOT NULL,
    topic TEXT NOT NULL,
    state BLOB NOT NULL,
    UNIQUE (originator_id, originator_version)
)
"""
_REFUSE_UPDATE: Final = """
CREATE TRIGGER stored_events_refuse_update BEFORE UPDATE ON stored_events
BEGIN
    SELECT RAISE(ABORT, 'stored_events is append-only: UPDATE is refused');
END
"""
_REFUSE_DELETE: Final = """
CREATE TRIGGER stored_events_refuse_delete BEFORE DELETE ON stored_events
BEGIN
    SELECT RAISE(ABORT, 'stored_events is append-only: DELETE is refused');
END
"""
# INSERT OR REPLACE deletes what is in its way without asking the trigger above.
_REFUSE_REPLACE: Final = """
CREATE TRIGGER stored_events_refuse_replace BEFORE INSERT ON stored_events
WHEN EXISTS (SELECT 1 FROM stored_events WHERE notification_id >= NEW.notification_id)
    OR EXISTS (SELECT 1 FROM stored_events WHERE originator_id = NEW.originator_id
        AND originator_version = NEW.originator_version)
BEGIN
    SELECT RAISE(ABORT, 'stored_events is append-only: a row is there already');
END
"""
_HEADS: Final = """
CREATE TABLE heads (
    stream_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    due_tick INTEGER,
    ended INTEGER NOT NULL,
    slice INTEGER NOT NULL,
    ordinal INTEGER NOT NULL
) WITHOUT ROWID
"""
_HEADS_DUE: Final = """
CREATE INDEX heads_due ON heads (due_tick, stream_id) WHERE due_tick IS NOT NULL
"""
_LOG_HEAD: Final = """
CREATE TABLE log_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    position INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    suppression_epoch INTEGER NOT NULL
)
"""
_FIRST_LOG_HEAD: Final = "INSERT INTO log_head VALUES (1, 0, 0, 0, 0)"
_CONTACT_KEYS: Final = """
CREATE TABLE contact_keys (
    contact_id TEXT PRIMARY KEY, key_id BLOB NOT NULL
) WITHOUT ROWID
"""
_SUPPRESSIONS: Final = """
CREATE TABLE suppressions (
    subject TEXT NOT NULL,
    level TEXT NOT NULL,
    scope TEXT NOT NULL,
    contact_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (subject, level, scope)
) WITHOUT ROWID
"""
_EVENT_IDS: Final = "CREATE TABLE channel_event_ids (event_id TEXT PRIMARY KEY) WITHOUT ROWID"
_LEASES: Final = """
CREATE TABLE leases (
    partition TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID
"""
_PROJECTIONS: Final = """
CREATE TABLE projections (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    position INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) WITHOUT ROWID
"""
_CONSENTS: Final = """
CREATE TABLE consents (
    contact_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    state TEXT NOT NULL,
    since_tick INTEGER NOT NULL,
    expires_tick INTEGER,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (contact_id, channel)
) WITHOUT ROWID
"""
# By slot first: those of a day stand together, and old ones are a range that is quickly pruned.
_COUNTERS: Final = """
CREATE TABLE counters (
    slot INTEGER NOT NULL,
    key TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (slot, key)
) WITHOUT ROWID
"""
_PARTITION_LEASES: Final = """
CREATE TABLE partition_leases (
    part INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (parts, part)
) WITHOUT ROWID
"""
# Intents in the log name epochs of the former table, which was only ever asked for '0/1'. Who holds
# its lease is waited for, but can no longer write.
_KEEP_LEASE: Final = """
INSERT INTO partition_leases (part, parts, owner, epoch, expires_at)
SELECT 0, 1, owner, epoch, expires_at FROM leases WHERE partition = '0/1'
"""
_DROP_LEASES: Final = "DROP TABLE leases"

# What was a projection's place in the log has become that of one build of its tables.
_BUILDS: Final = """
CREATE TABLE projection_builds (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    position INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    parked INTEGER NOT NULL,
    PRIMARY KEY (name, version, number)
) WITHOUT ROWID
"""
_FIRST_BUILDS: Final = """
INSERT INTO projection_builds
SELECT name, version, 1, 'serving', position, ordinal, 0 FROM projections
"""
_DROP_PROJECTIONS: Final = "DROP TABLE projections"
_ONE_SERVES: Final = """
CREATE UNIQUE INDEX projection_builds_one_serves ON projection_builds (name)
WHERE state = 'serving'
"""
_PARKED: Final = """
CREATE TABLE parked_streams (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    number INTEGER NOT NULL,
    stream_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    event TEXT NOT NULL,
    error TEXT NOT NULL,
    parked_ms INTEGER NOT NULL,
    PRIMARY KEY (name, version, number, stream_id)
) WITHOUT ROWID
"""
_REBUILDS: Final = """
CREATE TABLE projection_rebuilds (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    number INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    finished_ms INTEGER,
    worked_ms INTEGER NOT NULL,
    events INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    digest TEXT NOT NULL,
    code TEXT NOT NULL,
    PRIMARY KEY (name, version, number)
) WITHOUT ROWID
"""
# What was archived leaves a tombstone, and only what has one can leave the log.
_TOMBSTONES: Final = """
CREATE TABLE tombstones (
    position INTEGER PRIMARY KEY,
    stream_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    archive INTEGER NOT NULL,
    UNIQUE (stream_id, version)
)
"""
_ARCHIVES: Final = "CREATE TABLE archives (number INTEGER PRIMARY KEY, entries INTEGER NOT NULL)"
_TOMBSTONES_STAY: Final = """
CREATE TRIGGER tombstones_refuse_{verb} BEFORE {verb} ON tombstones
BEGIN
    SELECT RAISE(ABORT, 'tombstones is append-only: {verb} is refused');
END
"""
_DROP_REFUSE_DELETE: Final = "DROP TRIGGER stored_events_refuse_delete"
# The checksum stands behind the format tag and the previous one; see `core/evidence/chain.py`.
_REFUSE_UNARCHIVED: Final = """
CREATE TRIGGER stored_events_refuse_delete BEFORE DELETE ON stored_events
WHEN NOT EXISTS (
    SELECT 1 FROM tombstones WHERE position = OLD.notification_id
        AND stream_id = OLD.originator_id AND version = OLD.originator_version
        AND checksum = substr(OLD.state, 37, 32)
)
BEGIN
    SELECT RAISE(ABORT, 'stored_events is append-only: DELETE is refused');
END
"""

# Requests that may be repeated, with what was answered to them: beside the log, and for a day.
_KEPT_CALLS: Final = """
CREATE TABLE kept_calls (
    call_id TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    attempt TEXT NOT NULL,
    attempt_until INTEGER NOT NULL,
    known_until INTEGER NOT NULL,
    answer BLOB
) WITHOUT ROWID
"""
_KEPT_CALLS_BY_END: Final = "CREATE INDEX kept_calls_known_until ON kept_calls (known_until)"

# Runs that came in from elsewhere after younger ones: while there are any, the order of runs is not
# that of their times. A database with such runs from before has 0 for all of them.
_LATE_RUNS: Final = "CREATE TABLE late_runs (ordinal INTEGER PRIMARY KEY)"
_LATE_BEFORE: Final = """
INSERT INTO late_runs SELECT DISTINCT 0 FROM stored_events
WHERE originator_id = 'system' AND topic = 'LogImported'
"""

# An address that several contacts were suppressed with is on the list once for each of them.
_OLD_SUPPRESSIONS: Final = "ALTER TABLE suppressions RENAME TO old_suppressions"
_HELD_SUPPRESSIONS: Final = """
CREATE TABLE suppressions (
    subject TEXT NOT NULL,
    level TEXT NOT NULL,
    scope TEXT NOT NULL,
    contact_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (subject, level, scope, contact_id)
) WITHOUT ROWID
"""
_KEEP_SUPPRESSIONS: Final = """
INSERT INTO suppressions SELECT subject, level, scope, contact_id, epoch FROM old_suppressions
"""
_DROP_SUPPRESSIONS: Final = "DROP TABLE old_suppressions"

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        _EVENTS,
        _REFUSE_UPDATE,
        _REFUSE_DELETE,
        _REFUSE_REPLACE,
        _HEADS,
        _HEADS_DUE,
        _LOG_HEAD,
        _FIRST_LOG_HEAD,
        _CONTACT_KEYS,
        _SUPPRESSIONS,
        _EVENT_IDS,
        _LEASES,
        _PROJECTIONS,
    ),
    (
        _CONSENTS,
        _COUNTERS,
        _PARTITION_LEASES,
        _KEEP_LEASE,
        _DROP_LEASES,
    ),
    (
        _BUILDS,
        _FIRST_BUILDS,
        _DROP_PROJECTIONS,
        _ONE_SERVES,
        _PARKED,
        _REBUILDS,
    ),
    (
        _TOMBSTONES,
        _ARCHIVES,
        _TOMBSTONES_STAY.format(verb="UPDATE"),
        _TOMBSTONES_STAY.format(verb="DELETE"),
        _DROP_REFUSE_DELETE,
        _REFUSE_UNARCHIVED,
    ),
    (_KEPT_CALLS, _KEPT_CALLS_BY_END),
    (_LATE_RUNS, _LATE_BEFORE),
    (_OLD_SUPPRESSIONS, _HELD_SUPPRESSIONS, _KEEP_SUPPRESSIONS, _DROP_SUPPRESSIONS),
)
