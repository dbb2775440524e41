"""Channel events as JSON lines: read, checked, and matched to contacts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from dee_es.cli.times import parse_time
from dee_es.errors import InvalidInput

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine

MAX_LINE: Final = 1024 * 1024
"""Longest line, in bytes; what the engine takes is far shorter."""
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


def read_lines(stream: Iterable[bytes]) -> Iterator[tuple[int, EventLine | InvalidInput]]:
    """Each line that is not blank, with its number: an event, or what is wrong with it."""
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            yield number, parse_line(line)
        except InvalidInput as error:
            yield number, error


def parse_line(line: bytes, also: frozenset[str] = frozenset()) -> EventLine:
    """One line; fields named in `also` are let be. Raises `InvalidInput` naming the field."""
    if len(line) > MAX_LINE:
        raise InvalidInput("line", f"is longer than {MAX_LINE} bytes")
    try:
        given = json.loads(line.decode("utf-8-sig"), parse_constant=_no_constant)
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

    def contact_id(self, event: EventLine) -> str:
        """The contact's id: as given, that of the run, or that of the address."""
        if event.contact_id is not None:
            return event.contact_id
        if event.email is None and event.phone is None:
            if event.run_id is None:
                raise InvalidInput("contactId", "is missing; or give email, phone or runId")
            return self._engine.get_run(event.run_id).contact_id
        derived = self._engine.contact_id_for(email=event.email, phone=event.phone)
        if self._ids is None:
            return derived
        from dee_es.cli.enroll_rows import address_digest

        address = address_digest(event.email, event.phone)
        assert address is not None, "there is an email or a phone"
        if address not in self._ids:
            field = "email" if event.email is not None else "phone"
            raise InvalidInput(field, "is not in the contacts file")
        return self._ids[address]

    def ingest(self, event: EventLine) -> bool:
        """Give the event to the engine; False if it was accepted before."""
        return self._engine.ingest_event(
            event.type,
            self.contact_id(event),
            event.run_id,
            event.step_id,
            event.data,
            event.occurred_at,
            event.event_id,
        )


def _ids_of(engine: Engine, path: str) -> dict[bytes, str]:
    """The contact of each address in a contacts file: that of the first row which has it."""
    from dee_es.cli.contacts_csv import CsvContact, read_contacts
    from dee_es.cli.enroll_rows import address_digest

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
