"""One builder for each step type; the models in `dee_es.core.steps` say what each field means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

StepSpec = dict[str, object]
"""A step as a plan file holds it, not yet checked."""


def send_email(
    id: str,
    template_id: str,
    subject: str,
    reply_to: str | None = None,
    tracking: bool | Mapping[str, bool] | None = None,
) -> StepSpec:
    """Send an email; `tracking` is true, false or {opens, clicks}."""
    return _spec(
        "send_email",
        id,
        templateId=template_id,
        subject=subject,
        replyTo=reply_to,
        tracking=tracking,
    )


def send_voice(
    id: str,
    script_id: str,
    caller_id: str | None = None,
    max_duration: int | None = None,
    voicemail: str | None = None,
) -> StepSpec:
    """Place a call of at most `max_duration` seconds.

    `voicemail` is "hangup", "leave_message" or "continue".
    """
    return _spec(
        "send_voice",
        id,
        scriptId=script_id,
        callerId=caller_id,
        maxDuration=max_duration,
        voicemail=voicemail,
    )


def wait(id: str, duration: Mapping[str, int]) -> StepSpec:
    """Wait for the sum of {days, hours, minutes, seconds}."""
    return _spec("wait", id, duration=duration)


def branch(id: str, conditions: Sequence[Mapping[str, str]]) -> StepSpec:
    """Go where the first {when, goto} leads whose condition holds; the last one is `default`."""
    return _spec("branch", id, conditions=conditions)


def end(id: str, outcome: str) -> StepSpec:
    """Complete the run with this outcome."""
    return _spec("end", id, outcome=outcome)


def _spec(kind: str, id: str, **fields: object) -> StepSpec:
    given = {name: value for name, value in fields.items() if value is not None}
    return {"type": kind, "id": id, **given}
