"""A plan as a picture, and the way that a run took through it; templates only write it out.

What was taken, where the run is and what was not taken differ in line, in a sign and in words, not
by colour alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.steps import Branch, End, SendEmail, SendVoice, Step, Wait
from dee_es.engine.models import TimelineEntry
from dee_es.web.pages import layout
from dee_es.web.pages.layout import HEIGHT, WIDTH, Line, Link

_NAME: Final = 22
_BELOW: Final = 25
_LABEL: Final = 26
_CHAR: Final = 6.1


@dataclass(frozen=True, slots=True)
class DrawnStep:
    """A step to draw. `state` is taken, current, untaken, or plain where no run is told."""

    id: str
    name: str
    kind: str
    below: str
    full: str
    state: str
    visits: int
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class DrawnEdge:
    """An edge to draw: an SVG path, its label with a place for it, and whether it was taken."""

    path: str
    label: str
    full: str
    label_x: int
    label_y: int
    label_width: int
    state: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """The whole picture, and the same in words."""

    steps: tuple[DrawnStep, ...]
    edges: tuple[DrawnEdge, ...]
    width: int
    height: int
    words: str
    step_width: int = WIDTH
    step_height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Way:
    """How a run went: the steps it entered in order, and the one it is in."""

    entered: tuple[str, ...]
    current: str | None

    @classmethod
    def of(cls, timeline: Sequence[TimelineEntry], version: int, current: str | None) -> Way:
        """The way up to an event."""
        entered = [
            entry.step_id
            for entry in timeline
            if entry.version <= version and entry.action == "step.entered" and entry.step_id
        ]
        return cls(tuple(entered), current)


def links_of(plan: ExecutionPlan) -> list[Link]:
    """The edges of a plan; what is written on those out of a branch is their condition."""
    found = []
    for step in plan.steps:
        if isinstance(step, Branch):
            found += [
                Link(step.id, arm.goto, "otherwise" if arm.when == "default" else arm.when)
                for arm in step.conditions
            ]
        else:
            following = plan.graph.next_after(step.id)
            if following is not None:
                found.append(Link(step.id, following))
    return found


def draw(plan: ExecutionPlan, way: Way | None = None) -> Drawing:
    """The picture of a plan, with the way that a run took if one is given."""
    made = layout.lay_out([step.id for step in plan.steps], links_of(plan))
    visits = Counter(way.entered) if way is not None else Counter[str]()
    taken = set(zip(way.entered, way.entered[1:], strict=False)) if way is not None else set()
    by_id = {step.id: step for step in plan.steps}
    steps = tuple(
        _step(by_id[place.step], place, _state(way, visits, place.step), visits[place.step])
        for place in made.places
    )
    edges = tuple(_edge(line, way is not None, taken) for line in made.lines)
    return Drawing(steps, edges, made.width, made.height, _words(plan, way, visits))


def _state(way: Way | None, visits: Counter[str], step: str) -> str:
    if way is None:
        return "plain"
    if step == way.current:
        return "current"
    return "taken" if visits[step] else "untaken"


def _step(step: Step, place: layout.Place, state: str, visits: int) -> DrawnStep:
    kind, below = describe(step)
    return DrawnStep(
        id=step.id,
        name=short(step.id, _NAME),
        kind=kind,
        below=short(below, _BELOW),
        full=f"{step.id}: {below}",
        state=state,
        visits=visits,
        x=place.x,
        y=place.y,
    )


def describe(step: Step) -> tuple[str, str]:
    """The kind of a step in a word, and what it does in a few."""
    match step:
        case SendEmail():
            return "email", f"email {step.template_id}"
        case SendVoice():
            return "call", f"call {step.script_id}"
        case Wait():
            return "wait", f"wait {duration(step)}"
        case Branch():
            return "branch", f"branch, {len(step.conditions)} ways"
        case End():
            return "end", f"end: {step.outcome}"
        case _:
            assert_never(step)


def duration(step: Wait) -> str:
    """A wait's duration in words."""
    parts = [
        f"{count} {unit if count != 1 else unit.rstrip('s')}"
        for unit, count in step.duration
        if count
    ]
    return " ".join(parts) or "0 seconds"


def short(text: str, most: int) -> str:
    """The text, cut with an ellipsis if it is longer than that."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _edge(line: Line, told: bool, taken: set[tuple[str, str]]) -> DrawnEdge:
    link = line.link
    state = "plain"
    if told:
        state = "taken" if (link.source, link.target) in taken else "untaken"
    label = short(link.label, _LABEL)
    x, y = _label_place(line)
    return DrawnEdge(
        path=_beside_path(line) if line.beside else _path(line.points),
        label=label,
        full=link.label,
        label_x=x,
        label_y=y,
        label_width=round(len(label) * _CHAR + 10),
        state=state,
    )


def _label_place(line: Line) -> tuple[int, int]:
    """Near the end of the first stretch, where edges out of one step are apart already."""
    if line.beside:
        return line.points[1][0], (line.points[1][1] + line.points[2][1]) // 2
    (x1, y1), (x2, y2) = line.points[0], line.points[1]
    return round(x1 + (x2 - x1) * 0.86), round(y1 + (y2 - y1) * 0.66)


def _path(points: Sequence[tuple[int, int]]) -> str:
    """A line that leaves and enters every layer straight down."""
    (x, y), *rest = points
    parts = [f"M{x} {y}"]
    for to_x, to_y in rest:
        middle = (y + to_y) // 2
        straight = x == to_x
        parts.append(f"V{to_y}" if straight else f"C{x} {middle} {to_x} {middle} {to_x} {to_y}")
        x, y = to_x, to_y
    return "".join(parts)


def _beside_path(line: Line) -> str:
    (x1, y1), (lane, _), _, (x2, y2) = line.points
    return f"M{x1} {y1}C{lane} {y1} {lane} {y1} {lane} {(y1 + y2) // 2}S{lane} {y2} {x2} {y2}"


def _words(plan: ExecutionPlan, way: Way | None, visits: Counter[str]) -> str:
    if way is None:
        return f"The {len(plan.steps)} steps of the plan, from {plan.steps[0].id} on."
    told = [f"Taken: {', then '.join(way.entered) if way.entered else 'nothing yet'}."]
    told.append(f"Now at {way.current}." if way.current else "Now at no step.")
    left = [step.id for step in plan.steps if not visits[step.id]]
    if left:
        told.append(f"Not taken: {', '.join(left)}.")
    return " ".join(told)
