"""The write side's tables as relations: the log, the indexes that are written with it, and how
projections stand. Tables of projections are declared by each of them."""

from __future__ import annotations

from typing import Final

from dee_es.adapters.storage.relational.session import Relation

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
    key=("subject", "level", "scope", "contact_id"),
)
CONSENTS: Final = Relation(
    "consents",
    (
        ("contact_id", "text"),
        ("channel", "text"),
        ("state", "text"),
        ("since_tick", "integer"),
        ("expires_tick", "integer"),
        ("epoch", "integer"),
    ),
    key=("contact_id", "channel"),
)
COUNTERS: Final = Relation(
    "counters", (("slot", "integer"), ("key", "text"), ("n", "integer")), key=("slot", "key")
)
EVENT_IDS: Final = Relation("channel_event_ids", (("event_id", "text"),), key=("event_id",))
BUILDS: Final = Relation(
    "projection_builds",
    (
        ("name", "text"),
        ("version", "integer"),
        ("number", "integer"),
        ("state", "text"),
        ("position", "integer"),
        ("ordinal", "integer"),
        ("parked", "integer"),
    ),
    key=("name", "version", "number"),
)
PARKED: Final = Relation(
    "parked_streams",
    (
        ("name", "text"),
        ("version", "integer"),
        ("number", "integer"),
        ("stream_id", "text"),
        ("position", "integer"),
        ("entry", "integer"),
        ("event", "text"),
        ("error", "text"),
        ("parked_ms", "integer"),
    ),
    key=("name", "version", "number", "stream_id"),
)
REBUILDS: Final = Relation(
    "projection_rebuilds",
    (
        ("name", "text"),
        ("version", "integer"),
        ("number", "integer"),
        ("started_ms", "integer"),
        ("finished_ms", "integer"),
        ("worked_ms", "integer"),
        ("events", "integer"),
        ("rows", "integer"),
        ("digest", "text"),
        ("code", "text"),
    ),
    key=("name", "version", "number"),
)
TOMBSTONES: Final = Relation(
    "tombstones",
    (
        ("position", "integer"),
        ("stream_id", "text"),
        ("version", "integer"),
        ("checksum", "bytes"),
        ("archive", "integer"),
    ),
    key=("position",),
)
ARCHIVES: Final = Relation(
    "archives", (("number", "integer"), ("entries", "integer")), key=("number",)
)
LATE_RUNS: Final = Relation("late_runs", (("ordinal", "integer"),), key=("ordinal",))
