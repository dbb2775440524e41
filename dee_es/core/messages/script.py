"""Call scripts: what is said, what is asked, and where an answer leads.

    {"greeting": "Hello {{contact.firstName}}",
     "steps": [
        {"type": "gather", "name": "wish", "prompt": "Press 1 to talk to us.", "maxDigits": 1},
        {"type": "branch", "on": "wish", "cases": {"1": [{"type": "speak", "text": "One moment."}]},
         "default": [{"type": "speak", "text": "Good-bye."}]}]}

Every text is a message template. A branch reads the digits that a gather before it collected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from dee_es.core.known_fields import unknown_field
from dee_es.core.messages.template import TemplateError, parse
from dee_es.core.steps.base import Id, PlanPart, Text
from dee_es.core.values import check_map
from dee_es.errors import InvalidInput

_TYPES: Final = "speak, gather and branch"
MAX_STEPS: Final = 200
"""Most steps of a script, those inside branches included."""
MAX_NESTING: Final = 8
"""Deepest nesting of branches."""

Digits = Annotated[str, Field(pattern=r"^[0-9*#]{1,32}$")]


class Speak(PlanPart):
    """Say `text`."""

    type: Literal["speak"] = "speak"
    text: Text


class Gather(PlanPart):
    """Ask for digits and keep them as `name`; each of `attempts` waits `timeout` seconds."""

    type: Literal["gather"] = "gather"
    name: Id
    prompt: Text
    max_digits: int = Field(default=1, strict=True, ge=1, le=32)
    timeout: int = Field(default=5, strict=True, ge=1, le=60)
    attempts: int = Field(default=1, strict=True, ge=1, le=5)


class CallBranch(PlanPart):
    """Go on by the digits gathered as `on`; what is in no case, or was not given, by `default`."""

    type: Literal["branch"] = "branch"
    on: Id
    cases: dict[Digits, tuple[CallStep, ...]] = Field(min_length=1)
    default: tuple[CallStep, ...] = ()


CallStep = Annotated[Speak | Gather | CallBranch, Field(discriminator="type")]


class Script(PlanPart):
    """What a call says and asks: first `greeting`, then the steps in order."""

    greeting: Text
    steps: tuple[CallStep, ...] = ()


CallBranch.model_rebuild()


def check_script(definition: object) -> dict[str, Any]:
    """The definition of a call script in its one stored form, with defaults filled in.

    Raises `InvalidInput` naming the field: for a shape that is none, a text that is no template,
    a branch on what no gather before it collects, and too many or too deeply nested steps.
    """
    given = check_map("script", definition)
    _check_size(given.get("steps"), 0)
    try:
        script = Script.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        # What is missing may be there under a name that is not known.
        first = min(faults, key=lambda each: each["type"] != "extra_forbidden")
        raise InvalidInput(_field(first["loc"]), _problem(first)) from None
    checked = script.model_dump(by_alias=True, mode="json")
    texts_applied(checked, _check_template)
    _check_branches(script.steps, frozenset(), "script.steps")
    return checked


def texts_applied(
    definition: Mapping[str, Any], change: Callable[[str, str], str]
) -> dict[str, Any]:
    """The script with `change(field, text)` in the place of each of its texts."""
    return {
        "greeting": change("script.greeting", definition["greeting"]),
        "steps": _steps_applied(definition["steps"], change, "script.steps"),
    }


def _steps_applied(
    steps: list[dict[str, Any]], change: Callable[[str, str], str], field: str
) -> list[dict[str, Any]]:
    changed = []
    for index, step in enumerate(steps):
        at, new = f"{field}[{index}]", dict(step)
        for name in ("text", "prompt"):
            if name in step:
                new[name] = change(f"{at}.{name}", step[name])
        if step["type"] == "branch":
            new["cases"] = {
                digits: _steps_applied(inner, change, f"{at}.cases.{digits}")
                for digits, inner in step["cases"].items()
            }
            new["default"] = _steps_applied(step["default"], change, f"{at}.default")
        changed.append(new)
    return changed


def _problem(fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return unknown_field(Script, fault["loc"])
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "union_tag_not_found":
        return f"has no type; there are {_TYPES}"
    if fault["type"] == "union_tag_invalid":
        return f"is of a type that is not known; there are {_TYPES}"
    return fault["msg"].replace("valid tuple", "list")


def _check_template(field: str, text: str) -> str:
    try:
        parse(text)
    except TemplateError as error:
        raise InvalidInput(field, str(error)) from None
    return text


def _check_size(steps: object, depth: int) -> int:
    """Count the steps before the models see them, since those would recurse without bound."""
    if not isinstance(steps, (list, tuple)):
        return 0
    if depth > MAX_NESTING:
        raise InvalidInput("script.steps", f"branches are nested deeper than {MAX_NESTING} levels")
    count = len(steps)
    for step in steps:
        if isinstance(step, Mapping):
            cases = step.get("cases")
            inner = [*cases.values()] if isinstance(cases, Mapping) else []
            count += sum(_check_size(part, depth + 1) for part in [*inner, step.get("default")])
    if count > MAX_STEPS:
        raise InvalidInput("script.steps", f"are more than {MAX_STEPS}")
    return count


def _check_branches(steps: tuple[CallStep, ...], known: frozenset[str], field: str) -> None:
    for index, step in enumerate(steps):
        if isinstance(step, Gather):
            known |= {step.name}
        elif isinstance(step, CallBranch):
            at = f"{field}[{index}]"
            if step.on not in known:
                raise InvalidInput(f"{at}.on", f"no gather before it collects {step.on!r}")
            for digits, inner in step.cases.items():
                _check_branches(inner, known, f"{at}.cases.{digits}")
            _check_branches(step.default, known, f"{at}.default")


def _field(location: tuple[int | str, ...]) -> str:
    """The path to the culprit; the names of the step types that pydantic puts in are left out."""
    field = "script"
    for index, part in enumerate(location):
        if isinstance(part, int):
            field += f"[{part}]"
        elif not (index and isinstance(location[index - 1], int)):
            field += f".{part}"
    return field
