"""What the key store in PostgreSQL says to its server."""

from __future__ import annotations

from typing import Any, Final

LOCK: Final = 0x6465656B65
"""Advisory lock under which one process at a time makes tables and the store's secret."""
ROWS_LOCK: Final = 0x6465656B66
"""Advisory lock of the rows: shared by who adds some, held alone by who destroys or rotates."""

# A key must be durable before anything is encrypted with it, whatever the database's default is.
# Who waited for a lock has to see what was committed meanwhile: a snapshot from before a rotation
# would let a key in that is wrapped by the former master key. What a transaction may take as a
# whole follows from the other limits; a backup's may last.
SETTINGS: Final = """
SET synchronous_commit = on;
SET default_transaction_isolation = 'read committed';
SET statement_timeout = '10s';
SET lock_timeout = '10s';
SET idle_in_transaction_session_timeout = '10s';
SELECT set_config('transaction_timeout', '0', false)
    WHERE current_setting('server_version_num')::int >= 170000
"""
# Where the tables are, whatever search path a role or a database is given one day: another would
# lead to an empty store beside this one. New ones are made where the path leads.
PLACE: Final = """
SELECT set_config('search_path', coalesce(
    (SELECT CAST(CAST(relnamespace AS regnamespace) AS text) FROM pg_class
    WHERE oid = coalesce(to_regclass('key_meta'), to_regclass('public.key_meta'))),
    quote_ident(current_schema()), 'public'
), false)
"""
# Longer than a statement may take, so that the server is the first to say so.
PATIENCE_S: Final = 15.0
# A backup waits for the disk it is written to; nobody but the end of a rotation waits for it.
PATIENT: Final = "SET idle_in_transaction_session_timeout = '10min'"
CONNECT_S: Final = 5.0
CONNECT: Final[dict[str, Any]] = {
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "application_name": "dee-es keys",
}

# Of the meta table, `store` holds the secret and counts destroyed keys, `generation` counts in its
# counter; `target` is of a rotation under way, `retired:<fingerprint>` of a former master key.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS keys (
    key_id bytea PRIMARY KEY,
    wrapped bytea
);
CREATE TABLE IF NOT EXISTS key_stage (
    key_id bytea PRIMARY KEY,
    wrapped bytea
);
CREATE TABLE IF NOT EXISTS key_meta (
    name text PRIMARY KEY,
    secret bytea,
    counter bigint NOT NULL DEFAULT 0
);
INSERT INTO key_meta (name) VALUES ('store'), ('generation') ON CONFLICT DO NOTHING
"""

HAS_TABLES: Final = """
SELECT to_regclass('keys') IS NOT NULL AND to_regclass('key_stage') IS NOT NULL
    AND to_regclass('key_meta') IS NOT NULL
"""
HAS_ROWS: Final = "SELECT count(*) = 2 FROM key_meta WHERE name IN ('store', 'generation')"
SECRET: Final = "SELECT secret FROM key_meta WHERE name = 'store' FOR UPDATE"  # noqa: S105
SET_SECRET: Final = "UPDATE key_meta SET secret = %b WHERE name = 'store'"  # noqa: S105
COPY: Final = "COPY {} (key_id, wrapped) FROM STDIN (FORMAT BINARY)"
ADD: Final = """
INSERT INTO keys (key_id, wrapped) SELECT * FROM unnest(%b::bytea[], %b::bytea[])
ON CONFLICT DO NOTHING
"""
FETCH: Final = "SELECT key_id, wrapped FROM keys WHERE key_id = ANY(%b)"
ALL: Final = "SELECT key_id, wrapped FROM keys ORDER BY key_id"
COUNTS: Final = "SELECT count(wrapped), count(*) - count(wrapped) FROM keys"
DESTROY: Final = "UPDATE keys SET wrapped = NULL WHERE key_id = %b"
BURY: Final = """
INSERT INTO keys (key_id, wrapped) SELECT unnest(%b::bytea[]), NULL
ON CONFLICT (key_id) DO UPDATE SET wrapped = NULL WHERE keys.wrapped IS NOT NULL
"""
EMPTY_STAGED: Final = "UPDATE key_stage SET wrapped = NULL WHERE key_id = ANY(%b)"
COUNT: Final = "UPDATE key_meta SET counter = counter + %s WHERE name = 'store'"
STATE: Final = "SELECT name, counter FROM key_meta WHERE name IN ('store', 'generation')"
META: Final = "SELECT secret FROM key_meta WHERE name = %s"
SET_META: Final = """
INSERT INTO key_meta (name, secret) VALUES (%s, %b)
ON CONFLICT (name) DO UPDATE SET secret = excluded.secret
"""
FORGET_META: Final = "DELETE FROM key_meta WHERE name = %s"
NEXT_GENERATION: Final = "UPDATE key_meta SET counter = counter + 1 WHERE name = 'generation'"
LAST_STAGED: Final = "SELECT key_id FROM key_stage ORDER BY key_id DESC LIMIT 1"
NEXT: Final = "SELECT key_id, wrapped FROM keys WHERE key_id > %b ORDER BY key_id LIMIT %s"
STAGED: Final = "SELECT key_id FROM key_stage WHERE key_id = ANY(%b)"
UNSTAGED: Final = """
SELECT key_id, wrapped FROM keys
WHERE NOT EXISTS (SELECT 1 FROM key_stage WHERE key_stage.key_id = keys.key_id) LIMIT %s
"""
# The tables change places, so that whoever may use them still may; emptied like this, the former
# one's rows are gone as with the table.
SWAP: Final = """
ALTER TABLE keys RENAME TO key_former;
ALTER TABLE key_stage RENAME TO keys;
ALTER TABLE key_former RENAME TO key_stage;
TRUNCATE key_stage
"""
