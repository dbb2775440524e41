"""The immutable shape of a plan. `dee_es.core.plans.plan` makes one out of what an author wrote."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, ValidationError

from dee_es.core.plans.graph import PlanGraph, build_graph
from dee_es.core.steps import Step
from dee_es.core.steps.base import Id, Line, PlanPart, Text, refusal
from dee_es.core.values import MAX_SAFE_INTEGER, check_map
from dee_es.errors import InvalidInput

MAX_STEPS: Final = 1000
"""Most steps a plan may have."""


class Edge(PlanPart):
    """One explicit transition; out of a branch, `condition` repeats the goto it stands for."""

    from_: Id = Field(alias="from")
    to: Id
    condition: Line | None = None


class Linear(PlanPart):
    """Steps lead on in definition order; `dee_es.core.plans.graph` says how exactly."""

    type: Literal["linear"] = "linear"

    def pairs(self) -> None:
        """There are no edges of its own: they follow from the order of the steps."""


class Explicit(PlanPart):
    """Steps lead where these edges say."""

    type: Literal["explicit"] = "explicit"
    edges: tuple[Edge, ...]

    def pairs(self) -> list[tuple[str, str]]:
        """Every edge as (from, to)."""
        return [(edge.from_, edge.to) for edge in self.edges]


class ExitCondition(PlanPart):
    """Complete the run with `outcome` as soon as `when` holds."""

    when: Text
    outcome: Line


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    try:
        return copy.deepcopy(check_map("metadata", value))
    except InvalidInput as error:
        raise refusal(f"cannot be kept: {error}", "correct or remove that value") from None


class PlanHead(PlanPart):
    """What a plan says about itself, apart from its graph."""

    id: Id
    name: Line
    metadata: Annotated[dict[str, Any], AfterValidator(_metadata)] = Field(default_factory=dict)
    reenroll: Literal["never", "after_end"] = "after_end"


class ExecutionPlan(PlanHead):
    """A plan as it is executed: version 0 until published, then 1, 2, ...

    Building one directly checks its fields, not its graph: use `create_plan` or `load_plan`.
    `reenroll` says whether a contact whose run has ended may be enrolled again. `metadata` is the
    author's own and never compared; treat it as read-only, like everything else here.
    """

    version: int = Field(default=0, ge=0, le=MAX_SAFE_INTEGER)
    steps: tuple[Step, ...] = Field(min_length=1, max_length=MAX_STEPS)
    transitions: Annotated[Linear | Explicit, Field(discriminator="type")] = Linear()
    exit_conditions: tuple[ExitCondition, ...] = ()

    @cached_property
    def graph(self) -> PlanGraph:
        """The plan's graph, computed once."""
        exits = [(each.when, each.outcome) for each in self.exit_conditions]
        return build_graph(self.steps, self.transitions.pairs(), exits)

    def definition(self) -> dict[str, Any]:
        """The whole plan but its version, as camelCase JSON values; a fresh copy on every call."""
        values = self.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude={"version", "metadata"}
        )
        return {**values, "metadata": copy.deepcopy(self.metadata)}

    def same_as(self, other: ExecutionPlan) -> bool:
        """Whether both define the same; neither version nor metadata is compared."""
        return {**self.definition(), "metadata": {}} == {**other.definition(), "metadata": {}}

    def with_version(self, version: int) -> ExecutionPlan:
        """The same plan as this version of it."""
        return self.model_copy(update={"version": version})

    @classmethod
    def from_definition(cls, definition: Mapping[str, Any], version: int) -> ExecutionPlan:
        """Rebuild a plan from its stored `definition()`.

        The graph was checked when the plan was made and is not checked again. Raises
        `InvalidInput` for a definition that was never one of ours.
        """
        try:
            return cls.model_validate({**definition, "version": version})
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"definition.{path}", first["msg"]) from None
