"""The filters of runs as callers give them: one definition for the engine and all its doors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypedDict

from pydantic.alias_generators import to_camel

from dee_es.core.views import RunStatus
from dee_es.errors import InvalidInput

Status = RunStatus | str | Sequence[RunStatus | str] | None


class GivenFilters(TypedDict):
    """What `list_runs` chooses by; None is no filter. `Queries.filter` checks them, and makes them
    a `RunFilter`.

    `started_after` is inclusive, `started_before` exclusive.
    """

    status: Status
    plan_id: str | None
    contact_id: str | None
    started_after: datetime | None
    started_before: datetime | None


FILTERS: Final = tuple(GivenFilters.__annotations__)
IN_JSON: Final = {name: to_camel(name) for name in FILTERS}
_IN_PYTHON: Final = {in_json: name for name, in_json in IN_JSON.items()}


def named(
    filters: Mapping[str, Any] | None, keywords: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Filters given as a map, by their names in Python or in JSON, and as keywords, each by its
    name in Python; raises `InvalidInput` for one that there is not."""
    if filters is not None and not isinstance(filters, Mapping):
        raise InvalidInput("filters", f"must be a map, not {type(filters).__name__}")
    for given, value in {**(filters or {}), **keywords}.items():
        name = _IN_PYTHON.get(given, given)
        if name not in FILTERS:
            raise InvalidInput(f"filters.{str(name)[:64]}", f"is none of {', '.join(FILTERS)}")
        yield name, value


def checked_status(given: object) -> list[str] | None:
    """The statuses of a filter, as they were given; raises `InvalidInput`."""
    if given is None:
        return None
    several: object = [given] if isinstance(given, str) else given
    known = [status.value for status in RunStatus]
    if not isinstance(several, Collection) or isinstance(several, bytes) or not several:
        raise InvalidInput("status", "must be a status or a list of at least one")
    for status in several:
        if status not in known:
            raise InvalidInput("status", f"{str(status)[:64]!r} is none of {', '.join(known)}")
    return [RunStatus(status).value for status in several]
