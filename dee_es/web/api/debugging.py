"""A run stepped through, and what would happen if something were different; nothing is written."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Query
from pydantic import Field

from dee_es.core.values import MAX_SAFE_INTEGER
from dee_es.engine.models import Answer
from dee_es.engine.past.debugger import DebugStep, WhatIf
from dee_es.errors import InvalidInput
from dee_es.web.api.models import Given, Values, Whole, shown
from dee_es.web.routing import VIEWER, EngineDep, Id, api_router

router: Final = api_router("history")

_Step: Any = shown(DebugStep)


class Place(Given):
    """A version of a run, 0 for the moment before it was enrolled."""

    version: int = Field(0, ge=0, le=MAX_SAFE_INTEGER)


class Debugged(Answer):
    """Where a run is looked at: after its event `version` of `lastVersion`; `next` is what happened
    then, null at the end."""

    run_id: str
    version: int
    last_version: int
    next: _Step | None


class SupposedEvent(Given):
    """A channel event that might come in."""

    type: str
    data: Values = Field(default_factory=dict)
    step_id: str | None = None


class SupposedVariable(Given):
    """A variable of the run, and a value that it might have."""

    name: Annotated[str, Field(max_length=1_000)]
    value: Any


class Supposition(Given):
    """From which version on, and what would be different there: an event, a variable, or nothing at
    all."""

    version: Whole
    event: SupposedEvent | None = None
    variable: SupposedVariable | None = None


@router.get("/runs/{run_id}/debug", openapi_extra=VIEWER, summary="Step through it")
def debug(engine: EngineDep, run_id: Id, given: Annotated[Place, Query()]) -> Debugged:
    """What happened next after any version of a run, and what was known before it."""
    session = engine.debug(run_id)
    session.goto(given.version)
    return Debugged(
        run_id=run_id,
        version=session.version,
        last_version=session.last_version,
        next=_Step.model_validate(session.peek(), from_attributes=True)
        if session.has_next()
        else None,
    )


@router.post(
    "/runs/{run_id}/what-if",
    openapi_extra=VIEWER,
    response_model=shown(WhatIf),
    summary="What would happen if",
)
def what_if(engine: EngineDep, run_id: Id, given: Supposition) -> WhatIf:
    """What would happen from a version on if an event came in there, if a variable had another
    value, or if nothing came in any more."""
    if given.event is not None and given.variable is not None:
        raise InvalidInput("variable", "give an event or a variable, not both")
    session = engine.debug(run_id)
    session.goto(given.version)
    if given.event is not None:
        return session.what_if_event(given.event.type, given.event.data, given.event.step_id)
    if given.variable is not None:
        return session.what_if_variable(given.variable.name, given.variable.value)
    return session.what_next()
