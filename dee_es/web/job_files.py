"""What a job keeps on disk: the contacts it refused, and the file it made."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Final

from dee_es.engine.models import Answer
from dee_es.errors import InvalidInput

MEDIA_TYPES: Final = {
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "md": "text/markdown",
    "pdf": "application/pdf",
    "zip": "application/zip",
}
"""The kinds of files that jobs make, by the ends of their names."""
_MOST_REFUSALS: Final = 64 * 1024 * 1024
_PAGE_BYTES: Final = 1024 * 1024


class RefusedContact(Answer):
    """A contact that a bulk call refused: its line in a file, or none, and why."""

    line: int | None
    contact_id: str | None
    reason: str
    detail: str


class RefusedPage(Answer):
    """Some of a job's refusals in order; `total` counts all so far."""

    refusals: tuple[RefusedContact, ...]
    total: int
    next_cursor: str | None = None


class JobFile:
    """What a job made to be taken away, in a file without a name."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.media_type = f"{name}.{kind}", MEDIA_TYPES[kind]
        self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed with the job

    def write(self, data: bytes, /) -> int:
        """Take all of the bytes."""
        return self._file.write(data)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        self._file.flush()
        return os.fstat(self._file.fileno()).st_size

    def pieces(self) -> Iterator[bytes]:
        """The content; several may read it at once."""
        self._file.flush()
        at = 0
        while piece := os.pread(self._file.fileno(), _PAGE_BYTES, at):
            at += len(piece)
            yield piece

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


class Refusals:
    """What was refused, a line each in a file without a name: a million take no memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed with the job
        self._end = 0
        self.count = 0

    def add(self, refused: RefusedContact) -> None:
        """Take note of one; beyond 64 MiB they are only counted."""
        line = refused.model_dump_json(by_alias=True).encode() + b"\n"
        with self._lock:
            self.count += 1
            if self._end + len(line) <= _MOST_REFUSALS:
                self._file.seek(self._end)
                self._file.write(line)
                self._end += len(line)

    def page(self, start: int, limit: int) -> RefusedPage:
        """Those from a place in the file on; raises `InvalidInput` for one where none begins."""
        found: list[RefusedContact] = []
        with self._lock:
            at = min(start, self._end)
            self._file.seek(max(0, at - 1))
            if at and self._file.read(1) != b"\n":
                raise InvalidInput("cursor", "is not one that a page gave")
            while at < self._end and len(found) < limit:
                line = self._file.readline(_PAGE_BYTES)
                at += len(line)
                found.append(RefusedContact.model_validate(json.loads(line)))
            more = str(at) if at < self._end else None
            return RefusedPage(refusals=tuple(found), total=self.count, next_cursor=more)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()
