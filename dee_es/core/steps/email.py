"""The step that sends an email."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from dee_es.core.channels import ChannelName
from dee_es.core.steps.base import Id, Line, PlanPart, StepBase


class Tracking(PlanPart):
    """What is observed about an email once it is sent."""

    opens: bool = Field(default=True, strict=True)
    clicks: bool = Field(default=True, strict=True)


def _all_or_nothing(value: object) -> object:
    """`tracking: true` and `false` are short for both kinds at once."""
    return Tracking(opens=value, clicks=value) if isinstance(value, bool) else value


class SendEmail(StepBase):
    """Send the email template `template_id` under `subject`, itself a template.

    `tracking` None leaves the choice to the sender's settings.
    """

    channel: ClassVar[ChannelName | None] = "email"

    type: Literal["send_email"] = "send_email"
    template_id: Id
    subject: Line
    reply_to: Line | None = None
    tracking: Annotated[Tracking | None, BeforeValidator(_all_or_nothing)] = None
