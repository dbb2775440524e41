"""What people type into forms and addresses, read strictly; an empty field was not given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

from fastapi import Form, Request
from pydantic import BaseModel, ValidationError

from dee_es.doors.times import parse_duration, parse_time
from dee_es.errors import InvalidInput
from dee_es.web.problems import Refused, first_fault

_Model = TypeVar("_Model", bound=BaseModel)
SIZES: Final = (25, 50, 100, 200)
"""How many rows a page may have."""
_DIGITS: Final = 18

Key = Annotated[str, Form(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
"""The key of a form: sent twice, it acts once."""
Text = Annotated[str, Form(max_length=10_000)]


def given(request: Request, name: str) -> str | None:
    """A value of the address, without the space around it; None if there is none."""
    value = request.query_params.get(name, "").strip()
    return value or None


def all_given(request: Request, name: str) -> list[str]:
    """All values of that name, each once, in order."""
    found = [value.strip() for value in request.query_params.getlist(name)]
    return list(dict.fromkeys(value for value in found if value))


def size(request: Request, otherwise: int = 50) -> int:
    """How many rows to show; raises `InvalidInput` for a number that is not offered."""
    return number(request, "limit", otherwise, least=1, most=SIZES[-1])


def number(request: Request, name: str, otherwise: int, *, least: int, most: int) -> int:
    """A whole number of the address; raises `InvalidInput`."""
    value = given(request, name)
    if value is None:
        return otherwise
    short = value.isascii() and value.isdecimal() and len(value) <= _DIGITS
    if not short or not least <= int(value) <= most:
        raise InvalidInput(name, f"must be a whole number from {least:,} to {most:,}")
    return int(value)


def moment(name: str, text: str | None, now: datetime, *, ahead: bool = False) -> datetime | None:
    """A time: `24h` or `7d` before now, or after it where a time `ahead` is asked for, or ISO 8601;
    without a zone it is UTC, as pages show it.

    Raises `InvalidInput`.
    """
    if text is None:
        return None
    try:
        away = parse_duration(text)
        if away is not None:
            return now + away if ahead else now - away
        bare = datetime.fromisoformat(text)
        return bare.replace(tzinfo=UTC) if bare.tzinfo is None else parse_time(text)
    except (ValueError, OverflowError):
        raise InvalidInput(
            name,
            "must be a time such as 2025-03-01 09:00 (UTC), or 24h or 7d "
            + ("from now" if ahead else "ago"),
        ) from None


def lasting(text: str | None, read: datetime | None) -> str | None:
    """A time as it was typed, or as it was `read` if it was `24h` or `7d` before now: those are
    other times a moment later, and a page that follows would be one of other filters."""
    relative = text is not None and parse_duration(text) is not None
    return read.isoformat() if relative and read is not None else text


def required_reason(text: str) -> str:
    """The reason that was given; raises `InvalidInput` without one."""
    if not text.strip():
        raise InvalidInput("reason", "say why; it is recorded in the audit log")
    return text.strip()


def optional(text: str) -> str | None:
    """The text, None if nothing was typed."""
    return text.strip() or None


def checked(model: type[_Model], values: Mapping[str, object]) -> _Model:
    """The values as the API takes them; raises `InvalidInput` for the first that it does not."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        field, problem = first_fault(error.errors(include_input=False, include_url=False))
        raise InvalidInput(field, problem) from None


def typed(name: str, text: str, wanted: str) -> None:
    """Check a typed confirmation; raises `Refused` if something else was typed."""
    if text.strip().replace(",", "") != wanted:
        raise Refused(
            409, "NotConfirmed", f"nothing was done: {name} has to be typed exactly as shown"
        )
