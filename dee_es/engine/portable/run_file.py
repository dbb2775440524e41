"""One run as a portable file: its events with their chain, and the definitions it decided by.

The format is JSON, `dee-run/1`:

    format         "dee-run/1"
    clock          {"epochMs", "resolutionMs"} of the database it comes from
    runId          the run
    keys           {key id: key, or null where it was destroyed or left out}, hex and base64
    streams        [{"id", "events": [{"version", "name", "state"}]}], `state` in base64: the very
                   bytes that were stored, over which the chain goes; the run's own stream is last
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from dee_es.core.evidence import chain
from dee_es.core.ids import is_run
from dee_es.core.registry import REGISTRY
from dee_es.core.values import check_id
from dee_es.engine.log.journal import KEY_ID_BYTES
from dee_es.errors import InvalidInput, UnknownEventVersion
from dee_es.ports import StoredRow

FORMAT: Final = "dee-run/1"
MAX_BYTES: Final = 64 * 1024 * 1024
"""Longest file that is read."""
_DEFINITIONS: Final = ("plan:", "template:", "script:", "sender:", "policy:")
_KEY_BYTES: Final = 32


class RunFile(msgspec.Struct, frozen=True):
    """A run file, read and checked for its form; its chains are verified, too."""

    epoch_ms: int
    resolution_ms: int
    run_id: str
    keys: dict[bytes, bytes | None]
    streams: tuple[tuple[StoredRow, ...], ...]


def write_run_file(file: RunFile) -> bytes:
    """The file's content."""
    document = {
        "format": FORMAT,
        "clock": {"epochMs": file.epoch_ms, "resolutionMs": file.resolution_ms},
        "runId": file.run_id,
        "keys": {
            key_id.hex(): None if key is None else base64.b64encode(key).decode()
            for key_id, key in file.keys.items()
        },
        "streams": [
            {"id": rows[0].stream_id, "events": [_event(row) for row in rows]}
            for rows in file.streams
        ],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _event(row: StoredRow) -> dict[str, Any]:
    return {
        "version": row.version,
        "name": row.name,
        "state": base64.b64encode(row.state).decode(),
    }


def read_run_file(content: bytes) -> RunFile:
    """Read and check a file. Raises `InvalidInput` naming what is wrong, and where, and
    `UnknownEventVersion` for events that this code does not know."""
    if len(content) > MAX_BYTES:
        raise InvalidInput("file", f"is longer than {MAX_BYTES:,} bytes")
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise InvalidInput("file", "is not JSON; it may have been cut off") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidInput("format", f"must be {FORMAT!r}; this is no run file")
    clock = _typed(document, "clock", dict)
    run_id = _typed(document, "runId", str)
    streams = tuple(
        _stream(stream, f"streams[{place}]")
        for place, stream in enumerate(_typed(document, "streams", list))
    )
    if not streams or not is_run(run_id) or streams[-1][0].stream_id != run_id:
        raise InvalidInput("streams", "must end with the events of the run itself")
    others = [rows[0].stream_id for rows in streams[:-1]]
    for other in others:
        if not other.startswith(_DEFINITIONS) or others.count(other) > 1:
            raise InvalidInput(
                "streams", "may hold each definition once beside the run, and no more"
            )
    return RunFile(
        _typed(clock, "epochMs", int),
        _typed(clock, "resolutionMs", int),
        run_id,
        _keys(_typed(document, "keys", dict)),
        streams,
    )


def _typed(given: Any, name: str, kind: type) -> Any:
    value = given.get(name) if isinstance(given, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidInput(name, f"is missing, or is no {kind.__name__}")
    return value


def _keys(given: dict[str, Any]) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {}
    for name, value in given.items():
        key_id = _bytes_of_hex(name)
        key = None if value is None else _bytes(value, "keys")
        if len(key_id) != KEY_ID_BYTES or (key is not None and len(key) != _KEY_BYTES):
            raise InvalidInput("keys", "holds something that is no key")
        found[key_id] = key
    return found


def _bytes_of_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidInput("keys", "holds something that is no key") from None


def _bytes(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidInput(where, "is not base64") from None


def _stream_id(given: Any, where: str) -> str:
    stream_id: str = _typed(given, "id", str)
    _, kinds, name = stream_id.partition(":")
    check_id(f"{where}.id", name if kinds else stream_id)
    return stream_id


def _stream(given: Any, where: str) -> tuple[StoredRow, ...]:
    stream_id = _stream_id(given, where)
    rows: list[StoredRow] = []
    previous = chain.GENESIS
    for place, event in enumerate(_typed(given, "events", list), start=1):
        at = f"{where}, entry {place}"
        name, version = _typed(event, "name", str), _typed(event, "version", int)
        if name not in REGISTRY:
            raise UnknownEventVersion(f"{at}: this code knows no event {name[:64]!r}")
        row = StoredRow(0, stream_id, version, name, _bytes(event.get("state"), at))
        problem = chain.fault(stream_id, version, name, previous, row.state)
        if version != place:
            problem = f"entry {place} is missing before it"
        if problem is not None:
            raise InvalidInput(at, f"{problem}: the file is not what was exported")
        previous = chain.unseal(row.state, at).checksum
        rows.append(row)
    if not rows:
        raise InvalidInput(where, "holds no events")
    return tuple(rows)


def continues(known: Sequence[StoredRow], given: Sequence[StoredRow]) -> bool:
    """Whether one of the two is how the other began."""
    return all(
        (one.name, one.state) == (other.name, other.state)
        for one, other in zip(known, given, strict=False)
    )
