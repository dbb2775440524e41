"""A contact as of any date: runs, sends, refusals, consent and suppression; and its erasure."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Form, Request, Response

from dee_es.core.channels import CHANNELS
from dee_es.core.events import LEVELS
from dee_es.core.values import check_id, check_one_of
from dee_es.engine.facade import EngineApi
from dee_es.engine.insights import ContactAt
from dee_es.errors import InvalidInput
from dee_es.web.api import contacts as api
from dee_es.web.api.runs import Reason
from dee_es.web.pages import inputs, rendering
from dee_es.web.pages.acting import Act, ActDep
from dee_es.web.routing import (
    ADMIN,
    OPERATOR,
    VIEWER,
    EngineDep,
    HeldDep,
    Id,
    JobsDep,
    page_router,
)

router: Final = page_router()

Short = Annotated[str, Form(max_length=320)]


async def _scope(level: Short = "global", channel: Short = "", plan: Short = "") -> dict[str, Any]:
    """The level and what belongs to it; the fields of other levels do not count."""
    chosen = check_one_of("level", level, LEVELS)
    if chosen == "channel" and channel not in CHANNELS:
        raise InvalidInput("channel", f"choose {' or '.join(CHANNELS)}")
    if chosen == "plan" and not plan.strip():
        raise InvalidInput("plan", "name the plan")
    return {
        "level": chosen,
        "channel": channel if chosen == "channel" else None,
        "plan_id": plan.strip() if chosen == "plan" else None,
    }


ScopeDep = Annotated[dict[str, Any], Depends(_scope)]


@router.get("/contacts", openapi_extra=VIEWER)
def find(request: Request, engine: EngineDep) -> Response:
    """Where a contact is looked for."""
    return rendering.page(request, engine, "contacts.html")


@router.post("/contacts", openapi_extra=VIEWER)
def look_up(
    engine: EngineDep, contact: Short = "", email: Short = "", phone: Short = ""
) -> Response:
    """Go to a contact. An address is sent in the body, so that it stays out of the address bar."""
    if contact.strip():
        return rendering.see(f"/contacts/{check_id('contact', contact.strip())}")
    found = engine.contact_id_for(email=inputs.optional(email), phone=inputs.optional(phone))
    return rendering.see(f"/contacts/{found}", {"by": "address"})


@router.get("/contacts/{contact_id}", openapi_extra=VIEWER)
def contact(request: Request, engine: EngineDep, contact_id: Id) -> Response:
    """A contact as of a date, by default now."""
    asked = inputs.given(request, "at")
    moment = inputs.moment("at", asked, engine.now().now)
    behind = rendering.unless_level(request, engine, "contact_history")
    if behind is not None:
        return behind
    found = engine.contact_at(contact_id, time=moment)
    return rendering.page(
        request,
        engine,
        "contact.html",
        found=found,
        person=_person(engine, found),
        told=engine.explain_contact(contact_id),
        as_of=asked,
        by_address=inputs.given(request, "by") == "address",
        levels=LEVELS,
        plans=engine.plan_ids(),
    )


@router.post("/contacts/{contact_id}/suppress", openapi_extra=OPERATOR)
def suppress(act: ActDep, contact_id: Id, scope: ScopeDep) -> Response:
    """Put a contact on the suppression list."""
    changed = act.engine.suppress(contact_id, **scope, reason=act.why, **act.by)
    return _back(contact_id, "suppressed" if changed else "suppressed-already")


@router.post("/contacts/{contact_id}/unsuppress", openapi_extra=OPERATOR)
def unsuppress(act: ActDep, contact_id: Id, scope: ScopeDep) -> Response:
    """Lift a suppression."""
    changed = act.engine.unsuppress(contact_id, **scope, reason=act.why, **act.by)
    return _back(contact_id, "lifted" if changed else "lifted-none")


@router.post("/contacts/{contact_id}/grant-consent", openapi_extra=OPERATOR)
def grant_consent(
    act: ActDep,
    contact_id: Id,
    channel: Short = "",
    purpose: Short = "",
    expires: Short = "",
    source: inputs.Text = "",
) -> Response:
    """Record that a contact agreed to a channel."""
    given = {
        **_consent(act, channel, purpose),
        "expiresAt": inputs.moment(
            "expires", inputs.optional(expires), act.engine.now().now, ahead=True
        ),
        "source": inputs.optional(source),
    }
    asked = inputs.checked(api.Grant, given)
    api.grant_consent(act.engine, act.actor, act.command, contact_id, asked)
    return _back(contact_id, "consent-given")


@router.post("/contacts/{contact_id}/revoke-consent", openapi_extra=OPERATOR)
def revoke_consent(
    act: ActDep, contact_id: Id, channel: Short = "", purpose: Short = ""
) -> Response:
    """Record that a contact took its consent back."""
    asked = inputs.checked(api.Consent, _consent(act, channel, purpose))
    api.revoke_consent(act.engine, act.actor, act.command, contact_id, asked)
    return _back(contact_id, "consent-taken")


def _consent(act: Act, channel: str, purpose: str) -> dict[str, Any]:
    return {"channel": channel, "purpose": inputs.optional(purpose), "reason": act.why}


@router.post("/contacts/{contact_id}/erase", openapi_extra=ADMIN)
def erase(
    request: Request,
    act: ActDep,
    jobs: JobsDep,
    held: HeldDep,
    contact_id: Id,
    confirm: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Make a contact's personal data unreadable for ever, and show the certificate."""
    why = inputs.checked(Reason, {"reason": act.why})
    inputs.typed("the id of the contact", confirm, contact_id)
    erased = api.erase(act.engine, jobs, held, act.actor, act.command, contact_id, why)
    return rendering.page(request, act.engine, "erased.html", erased=erased)


def _back(contact_id: str, done: str) -> Response:
    return rendering.see(f"/contacts/{contact_id}", {"done": done})


def _person(engine: EngineApi, found: ContactAt) -> dict[str, Any] | None:
    """What the newest of the runs knows about the person; None without a run, or erased."""
    if not found.runs:
        return None
    newest = found.runs[-1]
    context = engine.run_at(newest.id, version=newest.version).context
    return None if context.erased else context.contact
