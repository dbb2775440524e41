"""What the resources take and give: names in camelCase, and nothing that is not known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic.alias_generators import to_camel

from dee_es.core.values import ID_PATTERN, MAX_SAFE_INTEGER
from dee_es.doors.times import parse_duration
from dee_es.engine.models import Answer
from dee_es.errors import DeeError, InvalidInput
from dee_es.web.problems import in_json

_EXAMPLE: Final = "write for example 2026-01-31T12:00:00Z"


class Given(BaseModel):
    """Base of what a request holds: unknown fields are refused by name."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, populate_by_name=False, frozen=True
    )


class EntryFault(Answer):
    """One of many that cannot be used: its place among those given, from 0 on, and why."""

    index: int
    error: str
    field: str | None
    detail: str

    @classmethod
    def of(cls, index: int, error: DeeError) -> EntryFault:
        """What an error says about one of many."""
        field, detail = None, str(error)
        if isinstance(error, InvalidInput):
            field = in_json(error.field)
            detail = f"{field}: {error.problem}"
        return cls(index=index, error=type(error).__name__, field=field, detail=detail)


def _time(value: object, read: ValidatorFunctionWrapHandler) -> datetime:
    """A time in UTC. A distance such as 24h is another time on the next page, and is refused."""
    if isinstance(value, str) and _is_distance(value):
        raise ValueError(f"takes a time in full, not how long ago; {_EXAMPLE}")
    number = isinstance(value, str) and value.replace(".", "").lstrip("+-").isdecimal()
    if number or not isinstance(value, str | datetime):
        raise ValueError(f"must be a time in ISO 8601 with a zone; {_EXAMPLE}")
    try:
        moment: datetime = read(value)
    except ValidationError:
        raise ValueError(f"must be a time in ISO 8601 with a zone; {_EXAMPLE}") from None
    if moment.tzinfo is None:
        raise ValueError(f"has no time zone; {_EXAMPLE}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond what can be counted") from None


def _is_distance(text: str) -> bool:
    try:
        return parse_duration(text.strip()) is not None
    except ValueError:
        return True


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    if "\0" in text:
        raise ValueError("holds a NUL, which readers cannot keep")
    return text


UtcTime = Annotated[datetime, WrapValidator(_time)]
"""A time in ISO 8601 with a zone."""
GivenId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
Filled = Annotated[Text, AfterValidator(_filled)]
"""A text that says something."""
Purpose = Annotated[Text | None, Field(description="Why it is asked, for the log.")]
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True, ge=0, le=MAX_SAFE_INTEGER)]
Numbered = Annotated[
    int,
    Field(ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER, json_schema_extra={"minimum": 1}),
]
"""One of some that are counted from 1; only the engine knows how many there are, and says so."""
Values = dict[str, Any]


_models: Final[dict[type[Any], type[Answer]]] = {}


def shown(kind: type[Any]) -> type[Answer]:
    """The model by which a dataclass of the engine is shown: its fields, in camelCase."""
    found = _models.get(kind)
    if found is None:
        hints = get_type_hints(kind)
        members: dict[str, Any] = {
            each.name: (_shown_type(hints[each.name]), ...) for each in dataclasses.fields(kind)
        }
        doc = (kind.__doc__ or "").strip()
        found = create_model(kind.__name__, __base__=Answer, __doc__=doc, **members)
        _models[kind] = found
    return found


def listed(kind: type[Any]) -> Any:
    """The model of a list of such dataclasses."""
    return list.__class_getitem__(shown(kind))


def _shown_type(hint: Any) -> Any:
    """The same type with the dataclasses in it replaced by their models."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return shown(hint)
    arguments, origin = get_args(hint), get_origin(hint)
    if origin in (list, tuple, set):
        return list.__class_getitem__(_shown_type(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict.__class_getitem__((arguments[0], _shown_type(arguments[1])))
    return hint


def plain(kind: type[Any], value: object) -> dict[str, Any]:
    """A dataclass of the engine as JSON values."""
    return (
        shown(kind)
        .model_validate(value, from_attributes=True)
        .model_dump(mode="json", by_alias=True)
    )
