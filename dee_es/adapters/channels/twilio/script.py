"""The way a call takes through its script, one document after the other.

A script is walked as `core/messages/script.py` defines it: in order, each branch by the digits that
a gather before it collected. A gather ends a document, since what was pressed comes with the next
request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from dee_es.adapters.channels.twilio.tokens import CallRef, Path, Place
from dee_es.core.events import RecordedEvent, StepDispatched

Step = Mapping[str, Any]

_DIGITS: Final = re.compile(r"[0-9*#]{1,32}\Z")


def script_in(history: Iterable[RecordedEvent], call: CallRef) -> Mapping[str, Any] | None:
    """The script that was handed over in this attempt, from its run's history; None if it was
    erased, or never was."""
    for recorded in history:
        event = recorded.event
        if isinstance(event, StepDispatched) and (event.key, event.attempt) == (
            call.key,
            call.attempt,
        ):
            return event.personal.script if event.personal is not None else None
    return None


def walk(script: Mapping[str, Any], place: Place) -> Iterator[tuple[Path, Step]]:
    """The speak and gather steps from `place` on, in order, each with its path.

    Branches are taken by `place.gathered` alone. Raises `LookupError` for a path that the script
    does not have.
    """
    pending = _pending(script, place.path or (0,))
    while pending:
        prefix, steps, index = pending.pop()
        if index >= len(steps):
            continue
        pending.append((prefix, steps, index + 1))
        step = steps[index]
        if step["type"] != "branch":
            yield (*prefix, index), step
            continue
        digits = place.gathered.get(step["on"])
        label = digits if digits in step["cases"] else None
        pending.append(((*prefix, index, label), _arm(step, label), 0))


def answered(script: Mapping[str, Any], place: Place, digits: str) -> tuple[Place, str | None]:
    """Where to go on after the gather at `place`, and the name the digits were gathered as.

    The name is None if nothing fitting was pressed; the gather is then asked again, as often as it
    may be. Raises `LookupError` if there is no gather at `place`.
    """
    step = _step(script, place.path)
    if step["type"] != "gather":
        raise LookupError("there is no gather at this place")
    name, gathered = str(step["name"]), dict(place.gathered)
    if _DIGITS.match(digits) and len(digits) <= step["maxDigits"]:
        if name in asked_for(script):
            gathered[name] = digits
        return Place(_after(place.path), 1, gathered), name
    if place.attempt < step["attempts"]:
        return Place(place.path, place.attempt + 1, gathered), None
    # Not given is not given: what an earlier gather of this name collected does not count.
    gathered.pop(name, None)
    return Place(_after(place.path), 1, gathered), None


def asked_for(script: Mapping[str, Any]) -> frozenset[str]:
    """The names that some branch of the script reads."""
    return frozenset(step["on"] for step in every_step(script) if step["type"] == "branch")


def finish_key(script: Mapping[str, Any], gather: Step) -> str:
    """The key that ends an entry early: `#`, but none where `#` is an answer itself."""
    if gather["maxDigits"] == 1:
        return ""
    answers = (
        digits
        for step in every_step(script)
        if step["type"] == "branch" and step["on"] == gather["name"]
        for digits in step["cases"]
    )
    return "" if any("#" in digits for digits in answers) else "#"


def every_step(script: Mapping[str, Any]) -> Iterator[Step]:
    """All steps, those in branches included, in no particular order."""
    waiting: list[Step] = list(script["steps"])
    while waiting:
        step = waiting.pop()
        yield step
        if step["type"] == "branch":
            for inner in step["cases"].values():
                waiting.extend(inner)
            waiting.extend(step["default"])


def _pending(script: Mapping[str, Any], path: Path) -> list[tuple[Path, list[Step], int]]:
    """What is still to be walked from `path` on: lists of steps, the innermost last."""
    steps: list[Step] = script["steps"]
    pending: list[tuple[Path, list[Step], int]] = []
    prefix: Path = ()
    for at in range(0, len(path) - 1, 2):
        index, label = path[at], path[at + 1]
        assert isinstance(index, int), "a path alternates between indexes and labels"
        pending.append((prefix, steps, index + 1))
        steps = _arm(steps[index], label)
        prefix = (*prefix, index, label)
    last = path[-1]
    assert isinstance(last, int), "a path ends with an index"
    return [*pending, (prefix, steps, last)]


def _step(script: Mapping[str, Any], path: Path) -> Step:
    if not path:
        raise LookupError("the greeting is no step")
    _, steps, index = _pending(script, path)[-1]
    return steps[index]


def _arm(branch: Step, label: int | str | None) -> list[Step]:
    arm: list[Step] = branch["default"] if label is None else branch["cases"][label]
    return arm


def _after(path: Path) -> Path:
    last = path[-1]
    assert isinstance(last, int), "a path ends with an index"
    return (*path[:-1], last + 1)
