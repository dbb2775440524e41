"""Entries by their place in the log, and proofs against signed checkpoints."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from pydantic import Field

from dee_es.core.values import MAX_SAFE_INTEGER
from dee_es.engine.auditing.anchoring import Proof
from dee_es.engine.auditing.entries import AuditLogEntry
from dee_es.engine.models import Answer
from dee_es.web.api.models import Given, Purpose, shown
from dee_es.web.routing import VIEWER, ActorDep, EngineDep, api_router

router: Final = api_router("audit")

Number = Annotated[int, Field(ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER)]
"""A number of which the engine says what it may be."""


class Positions(Given):
    """Positions in the log, both included; one if there is no `last`."""

    first: Number
    last: Number | None = None
    purpose: Purpose = None


class EntryOf(Given):
    """An entry of a run, or of another stream."""

    stream_id: str = Field(min_length=1, max_length=300)
    entry: Number


class Sizes(Given):
    """Two sizes of the log, in entries."""

    old: Number
    new: Number


class LogSize(Answer):
    """How many entries the log has."""

    size: int


class Hashes(Answer):
    """The hashes of a proof in hex, as RFC 6962 orders them."""

    hashes: tuple[str, ...]


@router.get("/audit/entries", openapi_extra=VIEWER, summary="Entries by their place in the log")
def entries(
    engine: EngineDep, actor: ActorDep, given: Annotated[Positions, Query()]
) -> list[AuditLogEntry]:
    """The entries at these positions, at most 1,000; what was archived is left out. If they are
    about more than one contact, the log says who asked."""
    return engine.audit.get_at(given.first, given.last, asked_by=actor.name, purpose=given.purpose)


@router.get("/audit/size", openapi_extra=VIEWER, summary="How long the log is")
def size(engine: EngineDep) -> LogSize:
    """How many entries the log has."""
    return LogSize(size=engine.audit.size())


@router.get(
    "/audit/proof",
    openapi_extra=VIEWER,
    response_model=shown(Proof),
    summary="Prove an entry",
)
def proof(engine: EngineDep, given: Annotated[EntryOf, Query()]) -> Proof:
    """That an entry is in the log of the last checkpoint; personal data in it is encrypted."""
    return engine.audit.prove(given.stream_id, given.entry)


@router.get("/audit/consistency", openapi_extra=VIEWER, summary="Prove that a log was extended")
def consistency(engine: EngineDep, given: Annotated[Sizes, Query()]) -> Hashes:
    """That the log of its first `new` entries begins with that of its first `old`."""
    found = engine.audit.consistency(given.old, given.new)
    return Hashes(hashes=tuple(each.hex() for each in found))
