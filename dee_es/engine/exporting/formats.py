"""The records of an export as bytes: JSON, JSON lines and CSV, each piece by piece."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any, Final

import msgspec

from dee_es.core.printing import defused
from dee_es.errors import IntegrityViolation

FORMAT: Final = "dee-export/1"
Record = Mapping[str, Any]
_SECTIONS: Final = {
    "context": "context",
    "entry": "entries",
    "proof": "proof",
    "checkpoint": "checkpoints",
}
"""Records by kind, in the order in which they come, and what a JSON document calls them."""
COLUMNS: Final = (
    "id", "position", "stream", "version", "name", "tick", "timestamp", "action", "runId", "planId",
    "contactId", "stepId", "actor", "reason", "command", "commandId", "recordedAt", "data",
    "personal", "erased", "checksum", "previousChecksum",
)  # fmt: skip
_encoder: Final = msgspec.json.Encoder()


def _encode(value: object) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError as error:
        # SQLite hands out what is no UTF-8 if somebody has put it there.
        raise IntegrityViolation(
            "a name in the log is no text, so that no file can hold it; run `dee audit verify`"
        ) from error


def json_lines(records: Iterable[Record]) -> Iterator[bytes]:
    """A record a line."""
    for record in records:
        yield _encode(record) + b"\n"


def json_document(records: Iterable[Record]) -> Iterator[bytes]:
    """One document: the head, the records by kind, and the end."""
    groups = groupby(records, key=lambda record: str(record["record"]))
    waiting = list(_SECTIONS)
    for kind, several in groups:
        if kind == "export":
            yield b'{"export":' + _encode(next(several))
        elif kind == "end":
            for missing in waiting:
                yield b',\n"' + _SECTIONS[missing].encode() + b'":[]'
            yield b',\n"end":' + _encode(next(several)) + b"}\n"
        else:
            while waiting[0] != kind:
                yield b',\n"' + _SECTIONS[waiting.pop(0)].encode() + b'":[]'
            yield b',\n"' + _SECTIONS[waiting.pop(0)].encode() + b'":[\n'
            yield _encode(next(several))
            for record in several:
                yield b",\n" + _encode(record)
            yield b"]"


def csv_lines(rows: Iterable[Record]) -> Iterator[bytes]:
    """Entries as a table that no spreadsheet runs."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    lines: Iterable[Sequence[object]] = (
        [defused(_cell(row.get(name))) for name in COLUMNS] for row in rows
    )
    for line in chain([COLUMNS], lines):
        write(line)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()


def _cell(value: object) -> object:
    if isinstance(value, dict | msgspec.Raw):
        return _encode(value).decode()
    return value
