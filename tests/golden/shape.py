"""The shape of an event as plain data: every field with its type and default, all the way down."""

from __future__ import annotations

from typing import Any

import msgspec

from dee_es.core import events as e


def shape_of(event: type[e.Event]) -> dict[str, Any]:
    """The JSON schemas of an event, its personal part and its meta data, without descriptions."""
    parts: dict[str, Any] = {"event": event, "meta": e.Meta}
    if event.personal_type is not None:
        parts["personal"] = event.personal_type
    return {part: _plain(msgspec.json.schema(each)) for part, each in parts.items()}


def _plain(schema: Any) -> Any:
    """The schema without the prose in it, which may change freely."""
    if isinstance(schema, dict):
        prose = {"description"} if isinstance(schema.get("description"), str) else set()
        return {key: _plain(value) for key, value in schema.items() if key not in prose}
    return [_plain(item) for item in schema] if isinstance(schema, list | tuple) else schema
