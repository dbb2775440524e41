"""A log in the hands of who owns its database: reads and changes it past the engine."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psycopg

from dee_es.adapters.anchors import load_signer
from dee_es.adapters.anchors.files import file_name
from dee_es.core.evidence import chain, checkpoint
from dee_es.core.evidence.checkpoint import Checkpoint

Kind = Literal["sqlite", "postgres"]
PROTECTED = (
    ("stored_events", "stored_events_append_only"),
    ("stored_events", "stored_events_archived_only"),
    ("tombstones", "tombstones_append_only"),
)
"""Tables of PostgreSQL with the triggers that keep them as they are."""
_READ = (
    "SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events "
    "ORDER BY notification_id, originator_id, originator_version"
)
INSERT = (
    "INSERT INTO stored_events (notification_id, originator_id, originator_version, topic, state) "
    "VALUES (?, ?, ?, ?, ?)"
)
THIS = "WHERE originator_id = ? AND originator_version = ?"


class Row(NamedTuple):
    """A row of the log, as the database has it."""

    position: int
    stream: str
    version: int
    name: str
    state: bytes

    @property
    def this(self) -> tuple[str, int]:
        """What tells it from all others."""
        return self.stream, self.version

    def named(self) -> str:
        """How verification names it."""
        return f"{self.stream} entry {self.version} (position {self.position})"


@dataclass(frozen=True)
class Owner:
    """A log in the hands of the owner of its database, who also gets at the places of its
    checkpoints; `key` is the file of the signing key, which only a fork makes use of."""

    kind: Kind
    url: str
    folder: Path
    repository: Path
    key: Path

    def query(self, statement: str, *values: Any) -> list[Any]:
        """The rows of a statement."""
        with self._raw() as ask:
            return list(ask(statement, values))

    def change(self, *statements: tuple[str, Sequence[Any]]) -> None:
        """Change the database, with its protections switched off meanwhile."""
        with self._raw() as ask:
            if self.kind == "postgres":
                for table in dict.fromkeys(table for table, _ in PROTECTED):
                    ask(f"ALTER TABLE {table} DISABLE TRIGGER USER", ())
                triggers = []
            else:
                triggers = list(
                    ask("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'", ())
                )
                for name, _ in triggers:
                    ask(f"DROP TRIGGER {name}", ())
            for statement, values in statements:
                ask(statement, values)
            for _, sql in triggers:
                ask(sql, ())
            if self.kind == "postgres":
                for table, trigger in PROTECTED:
                    ask(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}", ())

    @contextmanager
    def _raw(self) -> Iterator[Callable[[str, Sequence[Any]], Any]]:
        if self.kind == "sqlite":
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as raw, raw:
                raw.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
                yield raw.execute
        else:
            with psycopg.connect(self.url) as raw:
                yield lambda statement, values: _asked(raw, statement, values)

    def without_constraints(self) -> None:
        """Take off whatever keeps two rows from having one key."""
        if self.kind == "postgres":
            self.change(
                ("ALTER TABLE stored_events DROP CONSTRAINT stored_events_pkey", ()),
                ("DROP INDEX stored_events_notification_id_idx", ()),
            )
        else:
            self.change(
                ("CREATE TABLE plain AS SELECT * FROM stored_events", ()),
                ("DROP TABLE stored_events", ()),
                ("ALTER TABLE plain RENAME TO stored_events", ()),
            )

    # --- what there is ----------------------------------------------------------------------------

    def rows(self, stream: str | None = None) -> list[Row]:
        """The log, or a stream of it."""
        found = [Row(p, s, v, n, bytes(state)) for p, s, v, n, state in self.query(_READ)]
        return [row for row in found if stream in (None, row.stream)]

    def runs(self) -> list[str]:
        """The runs, the oldest first."""
        ids = (row.stream for row in self.rows() if row.stream.startswith("run_"))
        return list(dict.fromkeys(ids))

    @property
    def victim(self) -> list[Row]:
        """The rows of a run in the middle of what was signed."""
        return self.rows(self.runs()[2])

    def newest(self) -> Path:
        """The newest checkpoint in the folder."""
        return max(self.folder.glob("checkpoint-*"))

    def size(self) -> int:
        """How many entries the newest checkpoint is of; 0 if there is none."""
        sizes = (path.stem.split("-")[1] for path in self.folder.glob("checkpoint-*"))
        return int(max(sizes, default="0"))

    # --- what is often done -----------------------------------------------------------------------

    def set(self, row: Row, column: str, value: object) -> None:
        """Change a column of a row."""
        self.change((f"UPDATE stored_events SET {column} = ? {THIS}", (value, *row.this)))

    def delete(self, *rows: Row) -> None:
        """Take rows out of the log."""
        self.change(*((f"DELETE FROM stored_events {THIS}", row.this) for row in rows))

    def rewrite(self, rows: Sequence[Row], heads: bool = True) -> None:
        """Put these rows in place of the whole log, with positions from 1 on and, if asked for,
        with all that the write side keeps about them."""
        numbered = [row._replace(position=n) for n, row in enumerate(rows, start=1)]
        statements: list[tuple[str, Sequence[Any]]] = [("DELETE FROM stored_events", ())]
        statements += [(INSERT, row) for row in numbered]
        if heads:
            ends = {row.stream: row for row in numbered}
            gone = {row.stream for row in self.rows()} - ends.keys()
            statements += [("DELETE FROM heads WHERE stream_id = ?", (each,)) for each in gone]
            for end in ends.values():
                own = chain.unseal(end.state, "").checksum
                moved = "UPDATE heads SET version = ?, checksum = ? WHERE stream_id = ?"
                statements.append((moved, (end.version, own, end.stream)))
            statements.append(("UPDATE log_head SET position = ?", (len(numbered),)))
        self.change(*statements)

    def replace_note(self, size: int, note: str, *, git: bool = False) -> None:
        """Put a checkpoint in the place of whatever is kept under this size."""
        folder = self.repository if git else self.folder
        (folder / file_name(size)).write_text(note)
        if git:
            command = [
                "git",
                "-C",
                str(folder),
                "-c",
                "user.name=x",
                "-c",
                "user.email=x@localhost",
            ]
            subprocess.run([*command, "add", "."], check=True)
            subprocess.run([*command, "commit", "--quiet", "--amend", "-m", "x"], check=True)

    def signed(self, size: int, root: bytes, origin: str | None = None) -> str:
        """A checkpoint by the log's own key, as another copy of its database would get it."""
        own = checkpoint.origin_of(chain.unseal(self.rows()[0].state, "").checksum)
        signer = load_signer(self.key, own)
        return checkpoint.signed(Checkpoint(origin or own, size, root), signer.key, signer.sign)


def _asked(raw: psycopg.Connection[Any], statement: str, values: Sequence[Any]) -> Any:
    done = raw.execute(statement.replace("?", "%s").encode(), values)
    return done.fetchall() if done.description is not None else []


def resealed(rows: Sequence[Row], change: Callable[[Row, bytes], bytes]) -> list[Row]:
    """Rows with other payloads, and all checksums computed anew as the engine does."""
    previous: dict[str, bytes] = {}
    done = []
    for row in rows:
        payload = change(row, chain.unseal(row.state, "").payload)
        before = previous.get(row.stream, chain.GENESIS)
        own, state = chain.seal(row.stream, row.version, row.name, before, payload)
        previous[row.stream] = own
        done.append(row._replace(state=state))
    return done


def other(payload: bytes) -> bytes:
    """A payload that says something else."""
    return payload.replace(b'"outreach"', b'"outreacH"').replace(b'"tick":0', b'"tick":1')
