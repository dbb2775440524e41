"""Legal holds: what is under one is neither erased nor archived."""

from __future__ import annotations

from typing import Final

from dee_es.engine.retention.models import Hold
from dee_es.web.api.contacts import Applied
from dee_es.web.api.models import GivenId, listed, shown
from dee_es.web.api.runs import Reason
from dee_es.web.routing import (
    ADMIN,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    Id,
    api_router,
)

router: Final = api_router("holds")


class HoldGiven(Reason):
    """What to hold, a run or a contact with all its runs, and why."""

    run_id: GivenId | None = None
    contact_id: GivenId | None = None


@router.get("/holds", openapi_extra=VIEWER, response_model=listed(Hold), summary="Holds in force")
def holds(engine: EngineDep) -> list[Hold]:
    """The holds in force, in the order in which they were placed."""
    return engine.holds()


@router.post(
    "/holds",
    openapi_extra=ADMIN,
    status_code=201,
    response_model=shown(Hold),
    summary="Place a hold",
)
def place(engine: EngineDep, actor: ActorDep, command: CommandDep, given: HoldGiven) -> Hold:
    """Keep a run, or a contact with all its runs, from being erased or archived."""
    return engine.place_hold(
        run_id=given.run_id,
        contact_id=given.contact_id,
        reason=given.reason,
        actor=actor.name,
        command_id=command,
    )


@router.post("/holds/{hold_id}/lift", openapi_extra=ADMIN, summary="Lift a hold")
def lift(
    engine: EngineDep, actor: ActorDep, command: CommandDep, hold_id: Id, given: Reason
) -> Applied:
    """End a hold; what it kept may be erased and archived again."""
    engine.lift_hold(hold_id, given.reason, actor.name, command_id=command)
    return Applied(changed=True)
