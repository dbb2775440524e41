"""The step types of a plan, one file each, and the one list of them, `AnyStep`.

Whoever does something for each type of its own (`runs/advance.py` does the step, the plan's picture
draws it) tells the types apart by `match` up to `assert_never`, so that mypy names it if it lacks
one. A step that sends has a `channel` and is one of `SendStep`.
"""

from __future__ import annotations

from typing import Annotated, Final, get_args

from pydantic import BeforeValidator, Field
from pydantic.alias_generators import to_camel

from dee_es.core.steps.base import StepBase
from dee_es.core.steps.branch import Arm, Branch
from dee_es.core.steps.email import SendEmail, Tracking
from dee_es.core.steps.end import End
from dee_es.core.steps.voice import SendVoice
from dee_es.core.steps.wait import Duration, Wait

__all__ = [
    "STEP_TYPES",
    "AnyStep",
    "Arm",
    "Branch",
    "Duration",
    "End",
    "SendEmail",
    "SendStep",
    "SendVoice",
    "Step",
    "StepBase",
    "Tracking",
    "Wait",
    "canonical_type",
]

SendStep = SendEmail | SendVoice
"""A step that sends through a channel."""
AnyStep = SendEmail | SendVoice | Wait | Branch | End
"""Every type of step, in the order in which authors are told of them."""

STEP_TYPES: Final[dict[str, type[AnyStep]]] = {
    model.model_fields["type"].default: model for model in get_args(AnyStep)
}
"""Each step's model by its `type`."""

_CAMEL: Final = {to_camel(name): name for name in STEP_TYPES}


def canonical_type(name: object) -> object:
    """The `type` itself for its camelCase spelling; anything else is returned as it came."""
    return _CAMEL.get(name, name) if isinstance(name, str) else name


def _canonical(step: object) -> object:
    if isinstance(step, dict) and "type" in step:
        return {**step, "type": canonical_type(step["type"])}
    return step


Step = Annotated[
    Annotated[AnyStep, Field(discriminator="type")],
    BeforeValidator(_canonical),
]
"""Any step; pydantic tells them apart by `type`."""
