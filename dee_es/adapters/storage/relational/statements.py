"""The write side's tables and the statements both backends use, in one place."""

from __future__ import annotations

from typing import Final

from dee_es.adapters.storage.relational.session import Relation

# --- relations ------------------------------------------------------------------------------------

EVENTS: Final = Relation(
    "stored_events",
    (
        ("notification_id", "integer"),
        ("originator_id", "text"),
        ("originator_version", "integer"),
        ("topic", "text"),
        ("state", "bytes"),
    ),
    key=("notification_id",),
)
HEADS: Final = Relation(
    "heads",
    (
        ("stream_id", "text"),
        ("version", "integer"),
        ("checksum", "bytes"),
        ("due_tick", "integer"),
        ("ended", "boolean"),
        ("slice", "integer"),
        ("ordinal", "integer"),
    ),
    key=("stream_id",),
)
CONTACT_KEYS: Final = Relation(
    "contact_keys", (("contact_id", "text"), ("key_id", "bytes")), key=("contact_id",)
)
SUPPRESSIONS: Final = Relation(
    "suppressions",
    (
        ("subject", "text"),
        ("level", "text"),
        ("scope", "text"),
        ("contact_id", "text"),
        ("epoch", "integer"),
    ),
    key=("subject", "level", "scope"),
)
EVENT_IDS: Final = Relation("channel_event_ids", (("event_id", "text"),), key=("event_id",))
PROJECTIONS: Final = Relation(
    "projections",
    (("name", "text"), ("version", "integer"), ("position", "integer"), ("ordinal", "integer")),
    key=("name", "version"),
)

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
READ_LOG: Final = (
    _STORED
    + """
WHERE notification_id > ?
ORDER BY notification_id LIMIT ?
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
STREAM_IDS: Final = """
SELECT stream_id FROM heads
WHERE stream_id > ? AND stream_id >= ? AND stream_id < ?
ORDER BY stream_id LIMIT ?
"""
DUE: Final = """
SELECT stream_id FROM heads
WHERE due_tick IS NOT NULL AND due_tick <= ? AND slice % ? = ?
ORDER BY due_tick, stream_id LIMIT ?
"""
NEXT_DUE: Final = """
SELECT due_tick FROM heads
WHERE due_tick IS NOT NULL AND slice % ? = ?
ORDER BY due_tick, stream_id LIMIT 1
"""

# --- indexes that are written with the log --------------------------------------------------------

READ_CONTACT_KEYS: Final = "SELECT contact_id, key_id FROM contact_keys WHERE contact_id IN ??"
READ_EVENT_IDS: Final = "SELECT event_id FROM channel_event_ids WHERE event_id IN ??"
READ_SUPPRESSIONS: Final = """
SELECT subject, level, scope, contact_id FROM suppressions
WHERE subject IN ??
ORDER BY subject, level, scope
"""
SUPPRESSED_SINCE: Final = """
SELECT subject, level, scope, epoch FROM suppressions
WHERE subject IN ?? AND epoch > ?
"""
LIFT_SUPPRESSION: Final = """
DELETE FROM suppressions WHERE subject = ? AND level = ? AND scope = ?
"""

# --- leases ---------------------------------------------------------------------------------------

READ_LEASE: Final = "SELECT owner, epoch FROM leases WHERE partition = ?"
# The epoch grows unless the same owner renews in time: only then has nobody else had the right.
ACQUIRE_LEASE: Final = """
INSERT INTO leases (partition, owner, epoch, expires_at) VALUES (?, ?, 1, {now_ms} + ?)
ON CONFLICT (partition) DO UPDATE SET
    epoch = leases.epoch + CASE
        WHEN leases.owner = excluded.owner AND leases.expires_at > {now_ms} THEN 0 ELSE 1 END,
    owner = excluded.owner,
    expires_at = excluded.expires_at
WHERE leases.owner = excluded.owner OR leases.expires_at <= {now_ms}
RETURNING epoch
"""
# The row stays, without an owner, so that the next holder's epoch is higher than this one's.
RELEASE_LEASE: Final = """
UPDATE leases SET owner = '', expires_at = 0 WHERE partition = ? AND owner = ? AND epoch = ?
"""

# --- projections ----------------------------------------------------------------------------------

READ_CHECKPOINT: Final = "SELECT position, ordinal FROM projections WHERE name = ? AND version = ?"
READ_CHECKPOINTS: Final = "SELECT name, version, position, ordinal FROM projections"

# --- schema ---------------------------------------------------------------------------------------

CREATE_MIGRATIONS: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY)
"""
READ_MIGRATION: Final = "SELECT coalesce(max(number), 0) FROM schema_migrations"
SAVE_MIGRATION: Final = "INSERT INTO schema_migrations (number) VALUES (?)"
