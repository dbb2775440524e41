"""The step types of a plan, one file each, and the table that finds them by `type`."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from dee_es.core.steps.base import StepBase
from dee_es.core.steps.branch import Arm, Branch
from dee_es.core.steps.email import SendEmail, Tracking
from dee_es.core.steps.end import End
from dee_es.core.steps.voice import SendVoice
from dee_es.core.steps.wait import Duration, Wait

__all__ = [
    "STEP_TYPES",
    "Arm",
    "Branch",
    "Duration",
    "End",
    "SendEmail",
    "SendVoice",
    "Step",
    "StepBase",
    "Tracking",
    "Wait",
    "canonical_type",
]

STEP_TYPES: Final[dict[str, type[SendEmail | SendVoice | Wait | Branch | End]]] = {
    "send_email": SendEmail,
    "send_voice": SendVoice,
    "wait": Wait,
    "branch": Branch,
    "end": End,
}
"""Each step's model by its `type`."""

_CAMEL: Final = {"sendEmail": "send_email", "sendVoice": "send_voice"}


def canonical_type(name: object) -> object:
    """The `type` itself for its camelCase spelling; anything else is returned as it came."""
    return _CAMEL.get(name, name) if isinstance(name, str) else name


def _canonical(step: object) -> object:
    if isinstance(step, dict) and "type" in step:
        return {**step, "type": canonical_type(step["type"])}
    return step


Step = Annotated[
    Annotated[SendEmail | SendVoice | Wait | Branch | End, Field(discriminator="type")],
    BeforeValidator(_canonical),
]
"""Any step; pydantic tells them apart by `type`."""
