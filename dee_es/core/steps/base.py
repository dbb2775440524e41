"""What all steps share: the kinds of text they hold and how a bad one is reported."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from dee_es.core.channels import ChannelName
from dee_es.core.values import check_id, check_text
from dee_es.errors import InvalidInput


def refusal(problem: str, remedy: str) -> PydanticCustomError:
    """The error a validator raises so that both parts reach the author's list of faults."""
    # The texts go in as context: as a template their braces would be placeholders.
    return PydanticCustomError("refused", "{problem}", {"problem": problem, "remedy": remedy})


def _id(value: str) -> str:
    try:
        return check_id("", value)
    except InvalidInput:
        remedy = "use 1 to 128 characters out of A-Z a-z 0-9 . _ : -"
        raise refusal("is not a well-formed id", remedy) from None


def _text(value: str) -> str:
    try:
        return check_text("", value, blank=False)
    except InvalidInput as error:
        raise refusal(error.problem, "correct the text") from None


def _line(value: str) -> str:
    # A line break in a subject or an address would start a header of its own.
    if "".join(value.splitlines()) != value:
        raise refusal("must be a single line", "remove the line breaks")
    return _text(value)


Id = Annotated[str, AfterValidator(_id)]
"""An opaque id: `[A-Za-z0-9._:-]{1,128}`."""
Text = Annotated[str, AfterValidator(_text)]
"""Text that is not blank and that every reader can hold."""
Line = Annotated[str, AfterValidator(_line)]
"""A `Text` without line breaks."""


class PlanPart(BaseModel):
    """A part of a plan: frozen, camelCase in JSON, closed to keys it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class StepBase(PlanPart):
    """One step of a plan."""

    channel: ClassVar[ChannelName | None] = None
    """The channel the step sends through; None if it sends nothing."""

    id: Id

    @property
    def gotos(self) -> tuple[str, ...]:
        """The ids of the steps that this one may branch to, in the order of its conditions."""
        return ()
