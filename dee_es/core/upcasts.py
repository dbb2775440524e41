"""Lifts stored payloads of old event versions to the current one, a step at a time.

To change an event's shape: raise its schema in `registry`, add the step from the old shape here,
and add a golden file of the new one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dee_es.core.registry import REGISTRY, Entry
from dee_es.errors import UnknownEventVersion

Payload = dict[str, Any]

UPCASTS: Final[dict[tuple[str, int], Callable[[Payload], Payload]]] = {}
"""(event name, schema) -> the same payload in schema + 1."""


def current_entry(name: str, schema: int, where: str) -> Entry:
    """The registry's entry for a stored name and schema.

    Raises `UnknownEventVersion`, naming `where`, for a name that is not in the table or a schema
    newer than this code.
    """
    entry = REGISTRY.get(name)
    if entry is None:
        raise UnknownEventVersion(
            f"{where}: no event named {name!r} is known; newer code wrote it, or it is forged"
        )
    if not 1 <= schema <= entry.schema:
        raise UnknownEventVersion(
            f"{where}: {name} has schema {schema}, known up to {entry.schema}; upgrade dee-es"
        )
    return entry


def lift(name: str, schema: int, payload: Payload) -> Payload:
    """Apply every step from `schema` to the current one."""
    for version in range(schema, REGISTRY[name].schema):
        payload = UPCASTS[name, version](payload)
    return payload
