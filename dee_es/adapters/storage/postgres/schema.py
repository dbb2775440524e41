"""The schema on PostgreSQL, as migrations that are only ever added.

Texts are collated by bytes: order is then the same on every backend and machine, comparing is
cheap, and a prefix is a range of the index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dee_es.adapters.storage.relational.migrations import Migration
from dee_es.core.projection import ColumnKind

TYPES: Final[Mapping[ColumnKind, str]] = {
    "text": 'text COLLATE "C"',
    "integer": "bigint",
    "boolean": "boolean",
    "bytes": "bytea",
}
# Room on each page lets a changed row stay beside its former self, so that indexes whose columns
# did not change are not written. A run's row changes a dozen times within minutes: vacuum makes
# room again once a twentieth of the rows has, since a fifth, its default, is much of a large table.
TABLE_OPTIONS: Final = "WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05)"
# Rows that never change need no such room. Vacuum only marks their pages as seen by everybody, so
# that counting by an index need not look at rows: those of the last twentieth are still looked at.
LASTING_OPTIONS: Final = "WITH (fillfactor = 100, autovacuum_vacuum_insert_scale_factor = 0.05)"

# The event store library's table; the position is assigned by us, under the append lock.
#
# The primary key serves every load of a stream, and refuses an entry twice: that is the check of
# the expected version. It has the stream's id in every entry, since versions differ (about 90 bytes
# an event). The table is only appended to, so it has no room left on its pages; autovacuum's
# defaults do, since nothing in it dies but what is archived.
_EVENTS: Final = """
CREATE TABLE stored_events (
    originator_id text COLLATE "C" NOT NULL,
    originator_version bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    state bytea NOT NULL,
    notification_id bigint NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
)
"""
# Stored as given: an encrypted state does not get smaller, and trying costs time.
_EVENTS_PLAIN: Final = "ALTER TABLE stored_events ALTER COLUMN state SET STORAGE EXTERNAL"
# Whoever reads the log in order (projections, verification, exports) walks this one; unique, so
# that no position is given twice. Positions only grow: it is written at its right end alone, and
# stays packed (about 23 bytes an event).
_EVENTS_BY_POSITION: Final = """
CREATE UNIQUE INDEX stored_events_notification_id_idx ON stored_events (notification_id)
"""
_REFUSE: Final = """
CREATE FUNCTION stored_events_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'stored_events is append-only: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$
"""
_REFUSE_CHANGE: Final = """
CREATE TRIGGER stored_events_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON stored_events
FOR EACH STATEMENT EXECUTE FUNCTION stored_events_refuse()
"""
# A replicating session skips ordinary triggers; this one always fires.
_REFUSE_ALWAYS: Final = """
ALTER TABLE stored_events ENABLE ALWAYS TRIGGER stored_events_append_only
"""
# One row a stream, changed by every append to it: hence room on the pages and an early vacuum, as
# for projections.
_HEADS: Final = """
CREATE TABLE heads (
    stream_id text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    checksum bytea NOT NULL,
    due_tick bigint,
    ended boolean NOT NULL,
    slice bigint NOT NULL,
    ordinal bigint NOT NULL
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05)
"""
# A pass of the scheduler takes what is due first off its front. Only runs that wait for a time are
# in it, so that it stays small however many have ended. A change of the due tick cannot stay beside
# its former self: that is the price, and why there is no other index here.
_HEADS_DUE: Final = """
CREATE INDEX heads_due ON heads (due_tick, stream_id) WHERE due_tick IS NOT NULL
"""
# One row, changed by every append: a page with room for many former selves is pruned in passing.
_LOG_HEAD: Final = """
CREATE TABLE log_head (
    id integer PRIMARY KEY CHECK (id = 1),
    position bigint NOT NULL,
    ordinal bigint NOT NULL,
    tick bigint NOT NULL,
    suppression_epoch bigint NOT NULL
) WITH (fillfactor = 10)
"""
_FIRST_LOG_HEAD: Final = "INSERT INTO log_head VALUES (1, 0, 0, 0, 0)"
_CONTACT_KEYS: Final = """
CREATE TABLE contact_keys (contact_id text COLLATE "C" PRIMARY KEY, key_id bytea NOT NULL)
"""
_SUPPRESSIONS: Final = """
CREATE TABLE suppressions (
    subject text COLLATE "C" NOT NULL,
    level text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (subject, level, scope)
)
"""
_EVENT_IDS: Final = 'CREATE TABLE channel_event_ids (event_id text COLLATE "C" PRIMARY KEY)'
_LEASES: Final = """
CREATE TABLE leases (
    partition text COLLATE "C" PRIMARY KEY,
    owner text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    expires_at bigint NOT NULL
)
"""
_PROJECTIONS: Final = """
CREATE TABLE projections (
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    ordinal bigint NOT NULL,
    PRIMARY KEY (name, version)
) WITH (fillfactor = 50)
"""
_CONSENTS: Final = """
CREATE TABLE consents (
    contact_id text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    since_tick bigint NOT NULL,
    expires_tick bigint,
    epoch bigint NOT NULL,
    PRIMARY KEY (contact_id, channel)
)
"""
# By slot first: those of a day stand together, and old ones are a range that is quickly pruned. A
# counter changes with every send of its day: hence the room, and the early vacuum.
_COUNTERS: Final = """
CREATE TABLE counters (
    slot bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (slot, key)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05)
"""
_PARTITION_LEASES: Final = """
CREATE TABLE partition_leases (
    part bigint NOT NULL,
    parts bigint NOT NULL,
    owner text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (parts, part)
)
"""
# Intents in the log name epochs of the former table, which was only ever asked for '0/1'. Who holds
# its lease is waited for, but can no longer write.
_KEEP_LEASE: Final = """
INSERT INTO partition_leases (part, parts, owner, epoch, expires_at)
SELECT 0, 1, owner, epoch, expires_at FROM leases WHERE partition = '0/1'
"""
_DROP_LEASES: Final = "DROP TABLE leases"

# What was a projection's place in the log has become that of one build of its tables. Each append
# moves a few of few rows: half a page is room for their former selves until they are pruned.
_BUILDS: Final = """
CREATE TABLE projection_builds (
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    number bigint NOT NULL,
    state text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    ordinal bigint NOT NULL,
    parked bigint NOT NULL,
    PRIMARY KEY (name, version, number)
) WITH (fillfactor = 50)
"""
_FIRST_BUILDS: Final = """
INSERT INTO projection_builds
SELECT name, version, 1, 'serving', position, ordinal, 0 FROM projections
"""
_DROP_PROJECTIONS: Final = "DROP TABLE projections"
# Not for reading: it is what refuses a second build that serves.
_ONE_SERVES: Final = """
CREATE UNIQUE INDEX projection_builds_one_serves ON projection_builds (name)
WHERE state = 'serving'
"""
_PARKED: Final = """
CREATE TABLE parked_streams (
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    number bigint NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    entry bigint NOT NULL,
    event text COLLATE "C" NOT NULL,
    error text COLLATE "C" NOT NULL,
    parked_ms bigint NOT NULL,
    PRIMARY KEY (name, version, number, stream_id)
)
"""
_REBUILDS: Final = """
CREATE TABLE projection_rebuilds (
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    number bigint NOT NULL,
    started_ms bigint NOT NULL,
    finished_ms bigint,
    worked_ms bigint NOT NULL,
    events bigint NOT NULL,
    rows bigint NOT NULL,
    digest text COLLATE "C" NOT NULL,
    code text COLLATE "C" NOT NULL,
    PRIMARY KEY (name, version, number)
)
"""
# What was archived leaves a tombstone, and only what has one can leave the log. By position for
# whoever reads the log's order, by stream and version for whoever verifies a chain with a gap.
_TOMBSTONES: Final = """
CREATE TABLE tombstones (
    position bigint PRIMARY KEY,
    stream_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    checksum bytea NOT NULL,
    archive bigint NOT NULL,
    UNIQUE (stream_id, version)
)
"""
_ARCHIVES: Final = "CREATE TABLE archives (number bigint PRIMARY KEY, entries bigint NOT NULL)"
_REFUSE_STONES: Final = """
CREATE FUNCTION tombstones_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'tombstones is append-only: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$
"""
_TOMBSTONES_STAY: Final = """
CREATE TRIGGER tombstones_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON tombstones
FOR EACH STATEMENT EXECUTE FUNCTION tombstones_refuse()
"""
_TOMBSTONES_ALWAYS: Final = """
ALTER TABLE tombstones ENABLE ALWAYS TRIGGER tombstones_append_only
"""
_DROP_REFUSE_CHANGE: Final = "DROP TRIGGER stored_events_append_only ON stored_events"
_REFUSE_REWRITE: Final = """
CREATE TRIGGER stored_events_append_only
BEFORE UPDATE OR TRUNCATE ON stored_events
FOR EACH STATEMENT EXECUTE FUNCTION stored_events_refuse()
"""
# The checksum stands behind the format tag and the previous one; see `core/evidence/chain.py`.
_ARCHIVED_ONLY: Final = """
CREATE FUNCTION stored_events_archived_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM tombstones WHERE position = OLD.notification_id
            AND stream_id = OLD.originator_id AND version = OLD.originator_version
            AND checksum = substr(OLD.state, 37, 32)
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'stored_events is append-only: DELETE is refused'
        USING ERRCODE = 'restrict_violation';
END
$$
"""
_REFUSE_UNARCHIVED: Final = """
CREATE TRIGGER stored_events_archived_only
BEFORE DELETE ON stored_events
FOR EACH ROW EXECUTE FUNCTION stored_events_archived_only()
"""
_UNARCHIVED_ALWAYS: Final = """
ALTER TABLE stored_events ENABLE ALWAYS TRIGGER stored_events_archived_only
"""

# Requests that may be repeated, with what was answered to them: beside the log, and for a day.
_KEPT_CALLS: Final = """
CREATE TABLE kept_calls (
    call_id text COLLATE "C" PRIMARY KEY,
    digest bytea NOT NULL,
    attempt text COLLATE "C" NOT NULL,
    attempt_until bigint NOT NULL,
    known_until bigint NOT NULL,
    answer bytea
)
"""
# What is no longer known is a range at its front, deleted now and then.
_KEPT_CALLS_BY_END: Final = "CREATE INDEX kept_calls_known_until ON kept_calls (known_until)"

# Runs that came in from elsewhere after younger ones: while there are any, the order of runs is not
# that of their times. A database with such runs from before has 0 for all of them.
_LATE_RUNS: Final = "CREATE TABLE late_runs (ordinal bigint PRIMARY KEY)"
_LATE_BEFORE: Final = """
INSERT INTO late_runs SELECT DISTINCT 0 FROM stored_events
WHERE originator_id = 'system' AND topic = 'LogImported'
"""

# An address that several contacts were suppressed with is on the list once for each of them.
_HELD_SUPPRESSIONS: Final = """
ALTER TABLE suppressions
    DROP CONSTRAINT suppressions_pkey,
    ADD PRIMARY KEY (subject, level, scope, contact_id)
"""

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        _EVENTS,
        _EVENTS_PLAIN,
        _EVENTS_BY_POSITION,
        _REFUSE,
        _REFUSE_CHANGE,
        _REFUSE_ALWAYS,
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
        _REFUSE_STONES,
        _TOMBSTONES_STAY,
        _TOMBSTONES_ALWAYS,
        _DROP_REFUSE_CHANGE,
        _REFUSE_REWRITE,
        _REFUSE_ALWAYS,
        _ARCHIVED_ONLY,
        _REFUSE_UNARCHIVED,
        _UNARCHIVED_ALWAYS,
    ),
    (_KEPT_CALLS, _KEPT_CALLS_BY_END),
    (_LATE_RUNS, _LATE_BEFORE),
    (_HELD_SUPPRESSIONS,),
)
