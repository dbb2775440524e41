"""What is said beside a CSV file of contacts."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from dee_es.core.values import check_map
from dee_es.doors.contacts_header import Kind
from dee_es.web.api.models import Given, Values
from dee_es.web.api.plan_reference import REFERENCE


def _object(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not a JSON object") from None
    # What the engine would refuse later has no digest now.
    return check_map("variables", found) if isinstance(found, dict) else found


def _names(text: object) -> object:
    if not isinstance(text, str):
        return text
    return [name for each in text.split(",") if (name := each.strip())]


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
"""Columns of a file; as text, with commas between them."""


class CsvOptions(Given):
    """What is said beside a CSV file: in the query, or in the other fields of a form."""

    plan: Annotated[str, Field(pattern=REFERENCE)]
    batch_size: int = Field(100, ge=1, le=100_000)
    dedupe: Literal["address", "id"] = "address"
    dry_run: bool = False
    numbers: Names = ()
    booleans: Names = ()
    variables: Annotated[Values, BeforeValidator(_object)] = Field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The columns whose cells are no text."""
        return {**dict.fromkeys(self.numbers, "number"), **dict.fromkeys(self.booleans, "boolean")}

    def told(self) -> str:
        """As JSON, by which a call that is repeated is known: without kinds of columns as it was
        before there were any, since servers of both versions may get the same call."""
        unnamed = {name for name in ("numbers", "booleans") if not getattr(self, name)}
        return self.model_dump_json(exclude=unnamed)

    @field_validator("booleans")
    @classmethod
    def _of_one_kind(cls, booleans: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if both := {*booleans} & {*info.data.get("numbers", ())}:
            raise ValueError(f"the column {min(both)!r} is one of the numbers already")
        return booleans
