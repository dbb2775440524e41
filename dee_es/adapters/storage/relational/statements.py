"""The statements on the write side's tables that both backends use, in one place."""

from __future__ import annotations

from typing import Final

# --- the log --------------------------------------------------------------------------------------

_STORED = """
SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
"""
READ_STREAM: Final = (
    _STORED
    + """
WHERE originator_id = ? AND originator_version > ? AND originator_version <= ?
ORDER BY originator_version
"""
)
READ_STREAMS: Final = (
    _STORED
    + """
WHERE originator_id IN ??
ORDER BY originator_id, originator_version
"""
)
READ_FIRST: Final = (
    _STORED
    + """
WHERE originator_id IN ?? AND originator_version = 1
"""
)
# Ids are as good as random: in a large log each of them is on a page of its own of the index, which
# has to come from the disk as often as not. Positions of runs that were enrolled together are next
# to each other. Appending nothing to a column keeps the planner from its index. Where the two ends
# are too far apart, only one of them is found.
READ_FIRST_NEAR: Final = """
WITH ends AS (
    SELECT min(notification_id) AS low, max(notification_id) AS high FROM stored_events
    WHERE originator_id IN (?, ?) AND originator_version = 1
)
SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
WHERE notification_id >= (SELECT low FROM ends)
    AND notification_id <= (SELECT CASE WHEN high - low < ? THEN high ELSE low END FROM ends)
    AND originator_version = 1 AND originator_id || '' IN ??
"""
_STONE = "SELECT position, stream_id, version, checksum, archive FROM tombstones "
READ_TOMBSTONES: Final = _STONE + "WHERE position > ? AND position <= ? ORDER BY position"
READ_TOMBSTONES_OF: Final = _STONE + "WHERE stream_id IN ?? ORDER BY stream_id, version"
ANY_ARCHIVE: Final = "SELECT number FROM archives LIMIT 1"
READ_ORDINALS: Final = "SELECT stream_id, ordinal FROM heads WHERE stream_id IN ??"
COUNT_ARCHIVED: Final = "SELECT CAST(coalesce(sum(entries), 0) AS bigint) FROM archives"
# The tombstones are there already: without them the database refuses.
TAKE_OUT: Final = """
DELETE FROM stored_events WHERE notification_id IN (
    SELECT position FROM tombstones WHERE position >= ? AND position <= ? AND archive = ?
)
RETURNING notification_id
"""
READ_LOG: Final = (
    _STORED
    + """
WHERE notification_id > ?
ORDER BY notification_id LIMIT ?
"""
)
READ_ENTRIES: Final = (
    _STORED
    + """
WHERE notification_id > ? AND notification_id <= ?
ORDER BY notification_id
"""
)

# --- the head of the log --------------------------------------------------------------------------

LOG_HEAD: Final = "SELECT position, ordinal, tick, suppression_epoch FROM log_head"
MOVE_LOG_HEAD: Final = """
UPDATE log_head SET position = ?, ordinal = ?, tick = ?, suppression_epoch = ?
"""
ADVANCE_CLOCK: Final = "UPDATE log_head SET tick = ? WHERE tick < ?"

# --- heads of streams -----------------------------------------------------------------------------

READ_HEADS: Final = """
SELECT stream_id, version, checksum, due_tick, ended, slice, ordinal FROM heads
WHERE stream_id IN ??
"""
STREAM_ENDS: Final = """
SELECT stream_id, version, checksum FROM heads WHERE stream_id > ? ORDER BY stream_id LIMIT ?
"""
STREAM_IDS: Final = """
SELECT stream_id FROM heads
WHERE stream_id > ? AND stream_id >= ? AND stream_id < ?
ORDER BY stream_id LIMIT ?
"""
DUE: Final = """
SELECT stream_id, version, checksum, due_tick, ended, slice, ordinal FROM heads
WHERE due_tick IS NOT NULL AND due_tick <= ? AND (due_tick, stream_id) > (?, ?)
    AND slice % ? = ?
ORDER BY due_tick, stream_id LIMIT ?
"""
NEXT_DUE: Final = """
SELECT due_tick FROM heads
WHERE due_tick IS NOT NULL AND slice % ? = ?
ORDER BY due_tick, stream_id LIMIT 1
"""
DUE_LAG: Final = """
SELECT count(*) FROM (
    SELECT 1 FROM heads WHERE due_tick IS NOT NULL AND due_tick <= ? AND slice % ? = ? LIMIT ?
) AS due
"""
# Where the slice does not matter, the index alone has the answer.
DUE_LAG_OF_ALL: Final = """
SELECT count(*) FROM (
    SELECT 1 FROM heads WHERE due_tick IS NOT NULL AND due_tick <= ? LIMIT ?
) AS due
"""

# --- indexes that are written with the log --------------------------------------------------------

READ_CONTACT_KEYS: Final = "SELECT contact_id, key_id FROM contact_keys WHERE contact_id IN ??"
CONTACT_KEY_PAGE: Final = """
SELECT contact_id, key_id FROM contact_keys WHERE contact_id > ? ORDER BY contact_id LIMIT ?
"""
# One statement instead of four: each costs a small append about as much as a row that is written.
READ_SITUATION: Final = """
SELECT 0 AS kind, '' AS id, position AS version, CAST(NULL AS bytea) AS bytes,
    CAST(NULL AS bigint) AS due_tick, false AS ended, tick AS slice, ordinal, suppression_epoch,
    '' AS state
FROM log_head
UNION ALL
SELECT 1, stream_id, version, checksum, due_tick, ended, slice, ordinal, 0, ''
FROM heads WHERE stream_id IN ??
UNION ALL
SELECT 2, contact_id, 0, key_id, NULL, false, 0, 0, 0, ''
FROM contact_keys WHERE contact_id IN ??
UNION ALL
SELECT 3, name, version, NULL, position, false, number, ordinal, parked, state
FROM projection_builds
"""
READ_EVENT_IDS: Final = "SELECT event_id FROM channel_event_ids WHERE event_id IN ??"
EVENT_ID_PAGE: Final = """
SELECT event_id FROM channel_event_ids WHERE event_id > ? ORDER BY event_id LIMIT ?
"""
READ_SUPPRESSIONS: Final = """
SELECT subject, level, scope, contact_id FROM suppressions
WHERE subject IN ??
ORDER BY subject, level, scope, contact_id
"""
# Consents too, so that a guard costs one statement; their rows are those without a level.
CHANGED_SINCE: Final = """
SELECT subject, level, scope, contact_id, epoch FROM suppressions
WHERE subject IN ?? AND epoch > ?
UNION ALL
SELECT 'id:' || contact_id, NULL, channel, contact_id, epoch FROM consents
WHERE contact_id IN ?? AND epoch > ?
"""
SUPPRESSION_PAGE: Final = """
SELECT subject, level, scope, contact_id FROM suppressions
WHERE (subject, level, scope, contact_id) > (?, ?, ?, ?)
ORDER BY subject, level, scope, contact_id LIMIT ?
"""
LIFT_SUPPRESSION: Final = """
DELETE FROM suppressions WHERE subject = ? AND level = ? AND scope = ? AND contact_id = ?
"""
READ_CONSENTS: Final = """
SELECT contact_id, channel, state, since_tick, expires_tick FROM consents
WHERE contact_id IN ??
ORDER BY contact_id, channel
"""
CONSENT_PAGE: Final = """
SELECT contact_id, channel, state, since_tick, expires_tick FROM consents
WHERE (contact_id, channel) > (?, ?)
ORDER BY contact_id, channel LIMIT ?
"""
# Every pair of a slot and a key: as a rule all keys of a commit are of one slot.
READ_COUNTERS: Final = "SELECT key, slot, n FROM counters WHERE slot IN ?? AND key IN ??"
COUNTER_PAGE: Final = """
SELECT key, slot FROM counters WHERE (slot, key) > (?, ?) ORDER BY slot, key LIMIT ?
"""
# A piece at a time, so that nobody waits long for the append lock.
PRUNE_COUNTERS: Final = """
DELETE FROM counters WHERE (slot, key) IN (
    SELECT slot, key FROM counters WHERE slot < ? AND slot <> 0 ORDER BY slot, key LIMIT ?
)
RETURNING 1
"""

# --- leases ---------------------------------------------------------------------------------------

READ_LEASE: Final = "SELECT owner, epoch FROM partition_leases WHERE part = ? AND parts = ?"
READ_LEASES: Final = """
SELECT part, parts, owner, epoch, expires_at - {now_ms} FROM partition_leases
ORDER BY parts, part
"""
SAVE_LEASE: Final = """
INSERT INTO partition_leases (part, parts, owner, epoch, expires_at)
VALUES (?, ?, ?, ?, {now_ms} + ?)
ON CONFLICT (parts, part) DO UPDATE SET
    owner = excluded.owner, epoch = excluded.epoch, expires_at = excluded.expires_at
"""
# Whose clock was set back: the holder, if there still is one, renews it before it runs out.
SHORTEN_LEASES: Final = """
UPDATE partition_leases SET expires_at = {now_ms} + ? WHERE expires_at > {now_ms} + ?
"""
# The row stays, without an owner, so that the next holder's epoch is higher than this one's.
RELEASE_LEASE: Final = """
UPDATE partition_leases SET owner = '', expires_at = 0
WHERE part = ? AND parts = ? AND owner = ? AND epoch = ?
"""
END_OVERTAKEN_LEASES: Final = """
UPDATE partition_leases SET owner = '', expires_at = 0 WHERE parts <> ?
"""

# --- projections ----------------------------------------------------------------------------------

READ_BUILDS: Final = """
SELECT name, version, number, state, position, ordinal, parked FROM projection_builds
ORDER BY name, version, number
"""
READ_BUILDS_OF: Final = """
SELECT name, version, number, state, position, ordinal, parked FROM projection_builds
WHERE name = ? ORDER BY version, number
"""
# Whoever changes a row, if only to the same, keeps it from all others until the end.
HOLD_BUILD: Final = """
UPDATE projection_builds SET position = position WHERE name = ? AND version = ? AND number = ?
RETURNING name, version, number, state, position, ordinal, parked
"""
MOVE_BUILD: Final = """
UPDATE projection_builds SET position = ?, ordinal = ?
WHERE name = ? AND version = ? AND number = ?
"""
REMOVE_BUILD: Final = """
DELETE FROM projection_builds WHERE name = ? AND version = ? AND number = ?
"""
# The head of the log and builds, from the snapshot of the page that is read with them.
HEAD_AND_BUILD: Final = """
SELECT log_head.position, b.name, b.version, b.number, b.state, b.position, b.ordinal, b.parked
FROM log_head LEFT JOIN projection_builds AS b
ON b.name = ? AND b.version = ? AND b.number = ?
"""
HEAD_AND_BUILDS: Final = """
SELECT log_head.position, b.name, b.version, b.number, b.state, b.position, b.ordinal, b.parked
FROM log_head LEFT JOIN projection_builds AS b ON true
ORDER BY b.name, b.version, b.number
"""
READ_PARKED: Final = """
SELECT name, version, number, stream_id, position, entry, event, error, parked_ms
FROM parked_streams ORDER BY name, version, number, position
"""
PARKED_OF_BUILD: Final = """
SELECT stream_id FROM parked_streams
WHERE name = ? AND version = ? AND number = ? AND stream_id IN ??
"""
UNPARK: Final = """
DELETE FROM parked_streams WHERE name = ? AND version = ? AND number = ? AND stream_id IN ??
"""
UNPARK_ALL: Final = """
DELETE FROM parked_streams WHERE name = ? AND version = ? AND number = ?
"""
READ_REBUILDS: Final = """
SELECT name, version, number, started_ms, finished_ms, worked_ms, events, rows, digest, code
FROM projection_rebuilds ORDER BY name, version, number
"""

# --- schema ---------------------------------------------------------------------------------------

CREATE_MIGRATIONS: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY)
"""
READ_MIGRATION: Final = "SELECT coalesce(max(number), 0) FROM schema_migrations"
SAVE_MIGRATION: Final = "INSERT INTO schema_migrations (number) VALUES (?)"
