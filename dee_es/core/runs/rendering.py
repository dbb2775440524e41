"""A step's message for one run: its template or script, filled in with what the run knows."""

from __future__ import annotations

from typing import Any

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.messages.message import build_call, build_email
from dee_es.core.messages.template import message_scope
from dee_es.core.runs.state import RunState
from dee_es.core.steps import SendEmail, SendVoice
from dee_es.errors import InvalidInput


def render(
    materials: c.Materials,
    state: RunState,
    step: SendEmail | SendVoice,
    previous_step: tuple[str, str] | None,
) -> e.Message:
    """The message of a step, as it is handed to the channel.

    `previous_step` is the step before it and its result. Raises `TemplateError` or `InvalidInput`
    naming what is missing.
    """
    contact = state.contact
    fields = {
        "id": state.contact_id,
        "email": contact.email,
        "phone": contact.phone,
        "timezone": contact.timezone,
    }
    scope = message_scope(
        contact=fields,
        variables=contact.variables,
        attributes=contact.attributes,
        sender=materials.sender or {},
        previous_step=_named(previous_step),
        run={"id": state.run_id, "planId": state.plan_id, "enrollment": state.enrollment},
        unsubscribe_url=_unsubscribe_url(materials.sender),
    )
    if isinstance(step, SendEmail):
        if contact.email is None:
            raise InvalidInput("contact.email", "the contact has no e-mail address")
        template = materials.templates[step.template_id]
        return build_email(step.subject, template, scope, contact.email, step.reply_to)
    if contact.phone is None:
        raise InvalidInput("contact.phone", "the contact has no telephone number")
    return build_call(
        materials.scripts[step.script_id],
        scope,
        contact.phone,
        step.caller_id,
        step.max_duration,
        step.voicemail,
    )


def _named(step: tuple[str, str] | None) -> dict[str, str] | None:
    return None if step is None else {"id": step[0], "result": step[1]}


def _unsubscribe_url(sender: Any) -> str | None:
    url = (sender or {}).get("unsubscribeUrl")
    return url if isinstance(url, str) else None
