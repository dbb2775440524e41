"""Channel events as JSON lines: read, checked, and matched to contacts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any, Final

from dee_es.cli.times import parse_time
from dee_es.engine.models import ChannelEvent
from dee_es.errors import InvalidInput

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine

BATCH: Final = 500
"""Most events of one transaction."""
MAX_LINE: Final = 1024 * 1024
"""Longest line, in bytes; what the engine takes is far shorter."""
_CHUNK: Final = 256 * 1024
_TEXTS: Final = (
    "type", "contactId", "email", "phone", "runId", "stepId", "occurredAt", "eventId"
)  # fmt: skip
_FIELDS: Final = (*_TEXTS, "data")


@dataclass(frozen=True, slots=True)
class EventLine:
    """One event as it was written; who it is about is not looked up yet."""

    type: str
    contact_id: str | None
    email: str | None
    phone: str | None
    run_id: str | None
    step_id: str | None
    data: dict[str, Any]
    occurred_at: datetime | None
    event_id: str | None


NumberedLine = tuple[int, EventLine | InvalidInput]


def read_batches(stream: BufferedIOBase, size: int = BATCH) -> Iterator[list[NumberedLine]]:
    """The lines that are not blank, with their numbers: each an event, or what is wrong with it.

    A batch is what is there to be read, at most `size` lines of it: what comes slowly through a
    pipe is passed on as it comes.
    """
    number, rest = 0, b""
    while chunk := stream.read1(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        # No more is kept of a line that never ends than it takes to see that it is too long.
        rest = rest[: MAX_LINE + 1]
        for start in range(0, len(lines), size):
            yield _parsed(lines[start : start + size], number + start)
        number += len(lines)
    if rest:
        yield _parsed([rest], number)


def _parsed(lines: Iterable[bytes], before: int) -> list[NumberedLine]:
    found: list[NumberedLine] = []
    for number, line in enumerate(lines, start=before + 1):
        if not line.strip():
            continue
        try:
            found.append((number, parse_line(line)))
        except InvalidInput as error:
            found.append((number, error))
    return found


def parse_line(line: bytes, also: frozenset[str] = frozenset()) -> EventLine:
    """One line; fields named in `also` are let be. Raises `InvalidInput` naming the field."""
    if len(line) > MAX_LINE:
        raise InvalidInput("line", f"is longer than {MAX_LINE} bytes")
    try:
        given = json.loads(
            line.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_unambiguous
        )
    except (ValueError, RecursionError):
        raise InvalidInput("line", "is not JSON in UTF-8") from None
    if not isinstance(given, dict):
        raise InvalidInput("line", "must be a JSON object")
    for name, value in given.items():
        if name not in _FIELDS and name not in also:
            raise InvalidInput(f"field {name[:40]!r}", f"is none of {', '.join(_FIELDS)}")
        if name in _TEXTS and value is not None and not isinstance(value, str):
            raise InvalidInput(name, "must be text")
    if not given.get("type"):
        raise InvalidInput("type", "is missing")
    data = given.get("data")
    if data is not None and not isinstance(data, dict):
        raise InvalidInput("data", "must be a map")
    return EventLine(
        given["type"],
        given.get("contactId"),
        given.get("email"),
        given.get("phone"),
        given.get("runId"),
        given.get("stepId"),
        data or {},
        _time(given.get("occurredAt")),
        given.get("eventId"),
    )


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError:
        raise InvalidInput(
            "occurredAt", "must be a time with a zone, such as 2025-03-01T09:00Z"
        ) from None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers differ in which of two values counts, and one of them may be another contact.
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidInput("line", "names a field twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class Addressees:
    """Finds the contact that an event is about.

    An address alone stands for the contact whose id was derived from it. Where contacts have ids of
    their own, the file they were enrolled from says which address is whose.
    """

    def __init__(self, engine: Engine, contacts_file: str | None = None) -> None:
        self._engine = engine
        self._ids: dict[bytes, str] | None = None
        if contacts_file is not None:
            self._ids = _ids_of(engine, contacts_file)

    def event(self, line: EventLine) -> ChannelEvent:
        """The event as the engine takes it; raises `InvalidInput` if nobody is found.

        One without an id gets that of what it says, so that the same line is known again; None is
        left to one that does not even say when.
        """
        event = ChannelEvent(
            line.type,
            self._contact_id(line),
            line.run_id,
            line.step_id,
            line.data,
            line.occurred_at,
            line.event_id,
        )
        if line.event_id is not None:
            return event
        return replace(event, event_id=self._engine.event_id_for(event))

    def _contact_id(self, line: EventLine) -> str | None:
        """The contact's id: as given, or that of the address; None leaves it to the run."""
        if line.contact_id is not None:
            return line.contact_id
        if line.email is None and line.phone is None:
            if line.run_id is None:
                raise InvalidInput("contactId", "is missing; or give email, phone or runId")
            return None
        derived = self._engine.contact_id_for(email=line.email, phone=line.phone)
        if self._ids is None:
            return derived
        from dee_es.doors.enroll_rows import address_digest

        address = address_digest(line.email, line.phone)
        assert address is not None, "there is an email or a phone"
        if address not in self._ids:
            field = "email" if line.email is not None else "phone"
            raise InvalidInput(field, "is not in the contacts file")
        return self._ids[address]


def _ids_of(engine: Engine, path: str) -> dict[bytes, str]:
    """The contact of each address in a contacts file: that of the first row which has it."""
    from dee_es.doors.contacts_csv import CsvContact, read_contacts
    from dee_es.doors.enroll_rows import address_digest

    found: dict[bytes, str] = {}
    for row in read_contacts(path):
        if not isinstance(row, CsvContact):
            continue
        who = row.id or engine.contact_id_for(email=row.email, phone=row.phone)
        for email, phone in ((row.email, None), (None, row.phone)):
            address = address_digest(email, phone)
            if address is not None:
                found.setdefault(address, who)
    return found
