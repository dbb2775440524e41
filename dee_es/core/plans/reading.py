"""What an author wrote, read leniently: every part that can be understood is kept for the checks.

A part that cannot becomes a fault that names it. So one slip in a step hides no other fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from msgspec import Struct, field
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dee_es.core.known_fields import keys_of, nearest
from dee_es.core.plans.model import Edge, ExecutionPlan, ExitCondition, Explicit, Linear, PlanHead
from dee_es.core.steps import STEP_TYPES, Arm, Duration, Tracking, canonical_type
from dee_es.errors import PlanFault

_Part = TypeVar("_Part", bound=BaseModel)

_TOP_LEVEL: Final = tuple(
    info.alias or name for name, info in ExecutionPlan.model_fields.items() if name != "version"
)
_NESTED: Final[dict[str, type[BaseModel]]] = {
    "tracking": Tracking,
    "duration": Duration,
    "conditions": Arm,
}
_WORDS: Final = {
    "bool_type": ("must be true or false", "write true or false"),
    "dict_type": ("must be a mapping", "write keys with values"),
    "greater_than": ("must be more than {gt}", "give a larger number"),
    "greater_than_equal": ("must not be less than {ge}", "give a larger number"),
    "int_type": ("must be a whole number", "write it without quotes or a fraction"),
    "invalid_key": ("is a key that is not text", "put the key in quotes"),
    "less_than_equal": ("must not be more than {le}", "give a smaller number"),
    "literal_error": ("must be {expected}", "choose one of these"),
    "model_type": ("must be a mapping", "write keys with values"),
    "string_type": ("must be text", "put it in quotes"),
    "too_short": ("is empty", "add at least one entry"),
    "tuple_type": ("must be a list", "write a list"),
}


class Outline(Struct, frozen=True):
    """As much of a step as the graph needs; known even if the step has faults of its own."""

    id: str
    type: str
    arms: tuple[tuple[str, str], ...] = ()
    """Condition and goto of each readable arm."""
    arms_known: bool = True
    """Whether all arms were readable."""

    @property
    def gotos(self) -> tuple[str, ...]:
        return tuple(goto for _, goto in self.arms)


class Draft(Struct):
    """A plan as far as it could be read."""

    plan_id: str = "(no id)"
    faults: list[PlanFault] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    """The fields of the finished plan; complete if there are no faults."""
    count: int = 0
    outlines: list[Outline] = field(default_factory=list)
    edges: list[Edge] | None = None
    """The explicit edges; None if transitions are linear."""
    exits: list[tuple[str, str]] = field(default_factory=list)
    """Where each exit condition stands, such as `exitConditions[0].when`, and its text."""
    sound: bool = True
    """Whether the graph is known well enough to say where its steps lead."""


def read_draft(data: object) -> Draft:
    """Read a plan in the shape of JSON or YAML, in camelCase or snake_case."""
    draft = Draft()
    if not isinstance(data, Mapping):
        draft.faults.append(PlanFault(None, "the plan is not a mapping", "give id, name and steps"))
        return draft
    head = dict(data)
    steps = head.pop("steps", None)
    transitions = head.pop("transitions", None)
    # If both spellings are there, the second stays behind and is reported as an unknown key.
    exits = head.pop("exitConditions" if "exitConditions" in head else "exit_conditions", None)
    if isinstance(head.get("id"), str):
        draft.plan_id = str(head["id"])
    if head.pop("version", 0) != 0:
        draft.faults.append(PlanFault(None, "`version` is given", "remove it: publishing sets it"))
    if (read := _part(draft, PlanHead, head, known=_TOP_LEVEL)) is not None:
        draft.values |= dict(read)
    draft.values["steps"] = _steps(draft, steps)
    draft.values["transitions"] = _transitions(draft, transitions)
    draft.values["exit_conditions"] = _exits(draft, exits)
    return draft


def _steps(draft: Draft, raw: object) -> list[BaseModel]:
    items = _list(draft, "steps", raw)
    draft.count = len(items)
    if isinstance(raw, (list, tuple)) and not raw:
        draft.faults.append(PlanFault(None, "the plan has no steps", "add at least one step"))
    read = (_step(draft, place, item) for place, item in enumerate(items, start=1))
    return [step for step in read if step is not None]


def _step(draft: Draft, place: int, item: object) -> BaseModel | None:
    raw = item.model_dump(by_alias=True) if isinstance(item, BaseModel) else item
    if not isinstance(raw, Mapping):
        problem = f"step number {place} is not a mapping"
        draft.faults.append(PlanFault(None, problem, "give it a type and an id"))
        draft.sound = False
        return None
    raw = {**raw, "type": canonical_type(raw.get("type"))}
    step_id, kind = raw.get("id"), raw["type"]
    named = isinstance(step_id, str)
    where = "" if named else f"step number {place}: "
    model = STEP_TYPES.get(kind) if isinstance(kind, str) else None
    _outline(draft, raw)
    if model is not None:
        return _part(draft, model, raw, step_id=step_id if named else None, where=where)
    if kind is None:
        problem, remedy = "`type` is missing", f"add one of {', '.join(STEP_TYPES)}"
    else:
        problem = f"unknown step type {kind!r}"
        remedy = _did_you_mean(str(kind), STEP_TYPES) or f"use one of {', '.join(STEP_TYPES)}"
    draft.faults.append(PlanFault(step_id if named else None, where + problem, remedy))
    return None


def _outline(draft: Draft, raw: Mapping[str, object]) -> None:
    arms: list[tuple[str, str]] = []
    written = raw.get("conditions")
    items = list(written) if isinstance(written, (list, tuple)) else []
    for item in items:
        arm = dict(item) if isinstance(item, (Mapping, Arm)) else {}
        when, goto = arm.get("when"), arm.get("goto")
        if isinstance(when, str) and isinstance(goto, str):
            arms.append((when, goto))
    step_id, kind = raw.get("id"), raw.get("type")
    is_branch = kind == "branch"
    arms_known = not is_branch or (len(arms) == len(items) and isinstance(written, (list, tuple)))
    if isinstance(step_id, str):
        shown = tuple(arms) if is_branch else ()
        draft.outlines.append(Outline(step_id, str(kind), shown, arms_known))
    draft.sound = draft.sound and arms_known and isinstance(step_id, str)


def _transitions(draft: Draft, raw: object) -> BaseModel | None:
    if raw is None or raw == "linear":
        return Linear()
    if isinstance(raw, (Linear, Explicit)):
        raw = raw.model_dump(by_alias=True)
    if isinstance(raw, (list, tuple)):
        raw = {"type": "explicit", "edges": raw}
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    if not isinstance(raw, Mapping) or kind not in ("linear", "explicit"):
        remedy = "use linear, or explicit with its edges"
        draft.faults.append(PlanFault(None, "`transitions` is of no known type", remedy))
        draft.sound = False
        return None
    if kind == "linear":
        return _part(draft, Linear, raw, where="transitions: ")
    # The edges come one by one, so that each fault names the step its edge leads from.
    others = {**raw, "edges": []}
    outer = _part(draft, Explicit, others, where="transitions: ")
    draft.edges = []
    for place, item in enumerate(_list(draft, "transitions.edges", raw.get("edges"))):
        source = item.get("from", item.get("from_")) if isinstance(item, Mapping) else None
        step_id = source if isinstance(source, str) else None
        edge = _part(draft, Edge, item, step_id=step_id, where=f"transitions.edges[{place}]: ")
        if edge is None:
            draft.sound = False
        else:
            draft.edges.append(edge)
    return outer and Explicit(edges=tuple(draft.edges))


def _exits(draft: Draft, raw: object) -> list[BaseModel]:
    found: list[BaseModel] = []
    for place, item in enumerate(_list(draft, "exitConditions", [] if raw is None else raw)):
        where = f"exitConditions[{place}]"
        exit_condition = _part(draft, ExitCondition, item, where=f"{where}: ")
        if exit_condition is not None:
            found.append(exit_condition)
        when = dict(item).get("when") if isinstance(item, (Mapping, ExitCondition)) else None
        if isinstance(when, str):
            draft.exits.append((f"{where}.when", when))
    return found


def _list(draft: Draft, name: str, raw: object) -> list[object]:
    if isinstance(raw, (list, tuple)):
        return list(raw)
    problem = f"`{name}` is missing" if raw is None else f"`{name}` must be a list"
    draft.faults.append(PlanFault(None, problem, f"write {name} as a list"))
    draft.sound = False
    return []


def _part(
    draft: Draft,
    model: type[_Part],
    raw: object,
    *,
    step_id: str | None = None,
    where: str = "",
    known: Iterable[str] = (),
) -> _Part | None:
    """`raw` as this model; or None, with a fault for everything that is wrong with it."""
    try:
        return model.model_validate(dict(raw) if isinstance(raw, Mapping) else raw)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problem, remedy = _explained(detail, model, known)
            draft.faults.append(PlanFault(step_id, where + problem, remedy))
        return None


def _explained(
    detail: ErrorDetails, model: type[BaseModel], known: Iterable[str]
) -> tuple[str, str]:
    """Problem and remedy, in an author's words, of one error that pydantic found."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    path = path.removeprefix(".")
    context: Mapping[str, Any] = detail.get("ctx", {})
    if detail["type"] == "missing":
        return f"`{path}` is missing", f"add `{path}`"
    if detail["type"] == "extra_forbidden":
        keys = tuple(known) or keys_of(
            _NESTED[str(detail["loc"][0])] if detail["loc"][1:] else model
        )
        key = str(detail["loc"][-1])
        remedy = _did_you_mean(key, keys) or f"remove it; the known keys are {', '.join(keys)}"
        return f"unknown key `{path}`", remedy
    if detail["type"] == "refused":
        return f"`{path}` {detail['msg']}", str(context["remedy"])
    if detail["type"] in _WORDS:
        problem, remedy = _WORDS[detail["type"]]
        # What is wrong with a whole part has no path of its own.
        return f"`{path}` {problem.format_map(context)}".removeprefix("`` "), remedy
    return f"`{path}`: {detail['msg']}", "correct it"


def _did_you_mean(name: str, known: Iterable[str]) -> str | None:
    near = nearest(name, known)
    return near and f"did you mean `{near}`?"
