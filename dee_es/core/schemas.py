"""What is stored, described: the JSON Schema of every event in every schema it has or had."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dee_es.core.events import Meta
from dee_es.core.registry import REGISTRY
from dee_es.core.upcasts import shape

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas_of(name: str) -> range:
    """The schemas that a known event has had, the current one last."""
    return range(1, REGISTRY[name].schema + 1)


def describe(name: str, schema: int) -> dict[str, Any]:
    """The stored parts of an event: `public` as it stands in the log, and `personal`, which is
    encrypted there (None if the event has no such part)."""
    cls = shape(name, schema)
    stored = msgspec.defstruct(
        f"Stored{name}", [("schema", Literal[schema]), ("meta", Meta), ("data", cls)], frozen=True
    )
    personal = cls.personal_type
    return {
        "name": name,
        "schema": schema,
        "current": schema == REGISTRY[name].schema,
        "action": REGISTRY[name].action,
        "public": {"$schema": _DIALECT, **msgspec.json.schema(stored)},
        "personal": (
            None if personal is None else {"$schema": _DIALECT, **msgspec.json.schema(personal)}
        ),
    }
