"""The step that lets time pass."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from dee_es.core.steps.base import PlanPart, StepBase, refusal
from dee_es.core.values import MAX_SAFE_INTEGER

_Count = Annotated[int, Field(strict=True, ge=0)]


class Duration(PlanPart):
    """A length of logical time; its parts add up and may each exceed the next larger unit."""

    days: _Count = 0
    hours: _Count = 0
    minutes: _Count = 0
    seconds: _Count = 0

    @property
    def milliseconds(self) -> int:
        """The whole length in ms."""
        minutes = (self.days * 24 + self.hours) * 60 + self.minutes
        return (minutes * 60 + self.seconds) * 1000

    @model_validator(mode="after")
    def _bounded(self) -> Duration:
        if self.milliseconds == 0:
            raise refusal("is zero", "give days, hours, minutes or seconds, or leave the step out")
        if self.milliseconds > MAX_SAFE_INTEGER:
            raise refusal("is longer than 2^53 milliseconds", "shorten it")
        return self

    @model_serializer
    def _without_zeros(self) -> dict[str, Any]:
        return {unit: count for unit, count in self if count}


class Wait(StepBase):
    """Wait for a fixed duration."""

    type: Literal["wait"] = "wait"
    duration: Duration

    @property
    def duration_ms(self) -> int:
        """How long to wait, in ms of logical time."""
        return self.duration.milliseconds
