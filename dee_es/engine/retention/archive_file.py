"""An archive: ended runs as they were stored, in a file that anybody can read.

Gzipped JSON, a document a line: what the archive is, its entries in log order, and their sum.

    {"format": "dee-archive/1", "log": ORIGIN, "number": N, "beforeTick": T}
    {"position": P, "stream": "run_...", "version": V, "name": "RunStarted", "state": BASE64}
    {"runs": R, "entries": E, "root": HEX}

`state` is the very bytes over which a run's chain goes: what is personal stays encrypted. `root` is
the Merkle root over the entries' checksums.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from dee_es.core.evidence import chain
from dee_es.core.evidence.merkle import Edge
from dee_es.engine.log.journal import checksum_of
from dee_es.errors import IntegrityViolation
from dee_es.ports import StoredRow

FORMAT: Final = "dee-archive/1"
MAX_BYTES: Final = 1 << 30
"""Longest content, decompressed, that is read."""


class ArchiveFile(msgspec.Struct, frozen=True):
    """An archive's content; the entries are in log order."""

    origin: str
    number: int
    before_tick: int
    rows: tuple[StoredRow, ...]

    @property
    def root(self) -> bytes:
        """The Merkle root over the checksums of all entries."""
        return Edge().extended([checksum_of(row) for row in self.rows]).root

    @property
    def streams(self) -> dict[str, list[StoredRow]]:
        """The entries by run."""
        found: dict[str, list[StoredRow]] = {}
        for row in self.rows:
            found.setdefault(row.stream_id, []).append(row)
        return found


def write_archive(file: ArchiveFile) -> bytes:
    """The file's bytes; the same archive has the same ones."""
    first = {
        "format": FORMAT,
        "log": file.origin,
        "number": file.number,
        "beforeTick": file.before_tick,
    }
    last = {"runs": len(file.streams), "entries": len(file.rows), "root": file.root.hex()}
    lines = (json.dumps(each) for each in (first, *map(_entry, file.rows), last))
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def _entry(row: StoredRow) -> dict[str, Any]:
    return {
        "position": row.position,
        "stream": row.stream_id,
        "version": row.version,
        "name": row.name,
        "state": base64.b64encode(row.state).decode(),
    }


def read_archive(content: bytes, where: str) -> ArchiveFile:
    """Read and verify an archive: whole runs, each chain from its first entry on, and their sum.

    Raises `IntegrityViolation` naming `where`, and what is wrong.
    """
    try:
        lines = _plain(content).decode().splitlines()
        first, *entries, last = (json.loads(line) for line in lines)
        rows = tuple(_row(entry) for entry in entries)
        file = ArchiveFile(first["log"], first["number"], first["beforeTick"], rows)
        told = (last["runs"], last["entries"], last["root"])
        known = first["format"] == FORMAT
    except (
        ValueError, TypeError, KeyError, EOFError, OSError, RecursionError, zlib.error,
        binascii.Error,
    ):  # fmt: skip
        raise IntegrityViolation(f"{where} is no archive, or was cut off") from None
    if not known:
        raise IntegrityViolation(f"{where} is no archive of a format that this code knows")
    if [row.position for row in rows] != sorted({row.position for row in rows}):
        raise IntegrityViolation(f"{where}: its entries are not in the order of the log")
    for stream, history in file.streams.items():
        problem = chain_fault(history)
        if problem is not None:
            raise IntegrityViolation(f"{where}: {stream} {problem}")
    if told != (len(file.streams), len(rows), file.root.hex()):
        raise IntegrityViolation(f"{where}: its entries are not those that it counts")
    return file


def chain_fault(rows: Iterable[StoredRow]) -> str | None:
    """What is wrong with a whole stream's chain, if anything."""
    previous = chain.GENESIS
    for expected, row in enumerate(rows, start=1):
        fault = chain.fault(row.stream_id, row.version, row.name, previous, row.state)
        if row.version != expected:
            fault = f"entry {expected} is missing before it"
        if fault is not None:
            return f"entry {row.version}: {fault}"
        previous = checksum_of(row)
    return None


def _plain(content: bytes) -> bytes:
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    plain = unpacking.decompress(content, MAX_BYTES)
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("cut off, too long, or followed by something else")
    return plain


def _row(entry: Any) -> StoredRow:
    row = StoredRow(
        entry["position"],
        entry["stream"],
        entry["version"],
        entry["name"],
        base64.b64decode(entry["state"], validate=True),
    )
    numbers: Sequence[object] = (row.position, row.version)
    if not all(type(number) is int for number in numbers) or not isinstance(row.stream_id, str):
        raise ValueError("not an entry")
    return row
