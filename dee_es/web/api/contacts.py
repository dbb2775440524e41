"""Contacts: what is known of one as of any date, suppression, consent, and erasure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import Query
from pydantic import Field

from dee_es.core.channels import ChannelName
from dee_es.engine.insights import ContactAt
from dee_es.engine.models import Answer, LogEntry
from dee_es.engine.past.explain import Explanation
from dee_es.engine.retention.erasure import Erased
from dee_es.web.api.models import Given, GivenId, Text, UtcTime, listed, shown
from dee_es.web.api.runs import Reason
from dee_es.web.routing import (
    ADMIN,
    OPERATOR,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    HeldDep,
    Id,
    JobsDep,
    api_router,
)

router: Final = api_router("contacts")


class AsOf(Given):
    """A moment, by default now; give one of them."""

    tick: int | None = Field(None, ge=0, le=2**53)
    time: UtcTime | None = None


class OfPlan(Given):
    """Only about runs of this plan."""

    plan_id: GivenId | None = None


class Suppression(Given):
    """Who is meant, by id or address or both, and how far it reaches: `channel` names one at the
    level `channel`, `planId` one at the level `plan`."""

    contact_id: GivenId | None = None
    email: str | None = None
    phone: str | None = None
    level: Literal["global", "channel", "plan", "regulatory"] = "global"
    channel: ChannelName | None = None
    plan_id: GivenId | None = None
    reason: Text | None = None


class Consent(Given):
    """A channel that somebody agrees to, or no longer; `purpose` narrows it."""

    channel: ChannelName
    purpose: GivenId | None = None
    reason: Text | None = None


class Grant(Consent):
    """A consent: until when, and where it comes from (in plain text, without personal data)."""

    expires_at: UtcTime | None = None
    source: Text | None = None


class Applied(Answer):
    """Whether anything changed: false if it stood so already."""

    changed: bool


@router.post("/contacts/suppress", openapi_extra=OPERATOR, summary="Suppress a contact")
def suppress(
    engine: EngineDep, actor: ActorDep, command: CommandDep, given: Suppression
) -> Applied:
    """Put a contact on the suppression list; by its id, with the addresses of its runs, to whose
    exit conditions it has unsubscribed then. Once this has answered, only messages whose intents
    were committed before may still leave."""
    return Applied(changed=engine.suppress(actor=actor.name, command_id=command, **dict(given)))


@router.post("/contacts/unsuppress", openapi_extra=OPERATOR, summary="Lift a suppression")
def unsuppress(
    engine: EngineDep, actor: ActorDep, command: CommandDep, given: Suppression
) -> Applied:
    """Lift a suppression that was made with the same id, with the addresses that it listed, or with
    the same address."""
    return Applied(changed=engine.unsuppress(actor=actor.name, command_id=command, **dict(given)))


@router.get("/contacts/{contact_id}", openapi_extra=VIEWER, summary="A contact as of any date")
def get_contact(engine: EngineDep, contact_id: Id, given: Annotated[AsOf, Query()]) -> ContactAt:
    """A contact's runs, sends, waits, refusals, suppressions and consents; empty and not
    `known` for nobody, since whoever is not known yet can be suppressed, too."""
    return engine.contact_at(contact_id, time=given.time, tick=given.tick)


@router.get(
    "/contacts/{contact_id}/logs",
    openapi_extra=VIEWER,
    response_model=listed(LogEntry),
    summary="All that was recorded about a contact",
)
def logs(engine: EngineDep, contact_id: Id) -> list[LogEntry]:
    """All that was recorded about a contact, in log order, personal data included."""
    return engine.get_contact_logs(contact_id)


@router.get(
    "/contacts/{contact_id}/explain",
    openapi_extra=VIEWER,
    response_model=shown(Explanation),
    summary="Why a contact has no run, or which",
)
def explain(engine: EngineDep, contact_id: Id, given: Annotated[OfPlan, Query()]) -> Explanation:
    """Why a contact has no run (of a plan), or which runs it has."""
    return engine.explain_contact(contact_id, given.plan_id)


@router.post(
    "/contacts/{contact_id}/grant-consent", openapi_extra=OPERATOR, summary="Record a consent"
)
def grant_consent(
    engine: EngineDep, actor: ActorDep, command: CommandDep, contact_id: Id, given: Grant
) -> Applied:
    """Record that the contact agreed to a channel."""
    return Applied(
        changed=engine.grant_consent(
            contact_id, actor=actor.name, command_id=command, **dict(given)
        )
    )


@router.post(
    "/contacts/{contact_id}/revoke-consent",
    openapi_extra=OPERATOR,
    summary="Record that a consent was taken back",
)
def revoke_consent(
    engine: EngineDep, actor: ActorDep, command: CommandDep, contact_id: Id, given: Consent
) -> Applied:
    """Record that the contact took its consent back; without a purpose, all of it."""
    return Applied(
        changed=engine.revoke_consent(
            contact_id, actor=actor.name, command_id=command, **dict(given)
        )
    )


@router.post(
    "/contacts/{contact_id}/erase",
    openapi_extra=ADMIN,
    response_model=shown(Erased),
    summary="Erase a contact",
)
def erase(
    engine: EngineDep,
    jobs: JobsDep,
    held: HeldDep,
    actor: ActorDep,
    command: CommandDep,
    contact_id: Id,
    given: Reason,
) -> Erased:
    """Make all personal data of a contact unreadable for ever, and end its open runs. The
    signed certificate is written to the place of the settings."""
    try:
        return engine.erase_contact(contact_id, given.reason, actor.name, command_id=command)
    finally:
        # However it ended: the key may be destroyed although its certificate could not be written.
        jobs.let_files_go()
        held.let_go()
