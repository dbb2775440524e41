"""A step's message for one run: its template or script, filled in with what the run knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.messages.message import (
    build_call,
    build_email,
    check_header,
    check_header_template,
)
from dee_es.core.messages.template import TemplateError, message_scope
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.runs.state import RunState
from dee_es.core.steps import SendEmail, SendStep, SendVoice
from dee_es.errors import InvalidInput, PlanFault


def render(
    materials: c.Materials,
    state: RunState,
    step: SendStep,
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


def unrenderable(plan: ExecutionPlan) -> list[PlanFault]:
    """The texts of the plan's steps that no values could make a message of, as faults."""
    faults: list[PlanFault] = []
    for step in plan.steps:
        checks: list[tuple[str, Callable[[], object]]] = []
        if isinstance(step, SendEmail):
            checks.append(("subject", partial(check_header_template, "", step.subject)))
            if step.reply_to is not None:
                reply_to = partial(check_header_template, "", step.reply_to, mailbox=True)
                checks.append(("replyTo", reply_to))
        elif isinstance(step, SendVoice) and step.caller_id is not None:
            checks.append(("callerId", partial(check_header, "", step.caller_id)))
        for name, check in checks:
            try:
                check()
            except TemplateError as error:
                problem = f"`{name}` is no template: {error}"
                faults.append(PlanFault(step.id, problem, "correct the template"))
            except InvalidInput as error:
                faults.append(PlanFault(step.id, f"`{name}` {error.problem}", "correct the text"))
    return faults
