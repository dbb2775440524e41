"""How a policy comes in: checked at the door, kept in one form, and read back from that form."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dee_es.core.gate.model import Policy
from dee_es.core.known_fields import unknown_field
from dee_es.core.values import check_id, check_map
from dee_es.errors import InvalidInput

_WORDS: Final = {
    "dict_type": "must be a map",
    "greater_than_equal": "must not be less than {ge}",
    "int_type": "must be a whole number",
    "less_than_equal": "must not be more than {le}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_type": "must be a map",
    "string_type": "must be text",
    "too_long": "has more than {max_length} entries",
    "too_short": "is empty",
    "tuple_type": "must be a list",
}
_FORMS: Final = {
    "currency": "is not a currency code such as EUR",
    "start": "is not a time such as 09:30",
    "end": "is not a time such as 17:00",
}


def check_policy(definition: object) -> dict[str, Any]:
    """The definition of a policy in its one stored form, camelCase with defaults filled in.

    Raises `InvalidInput` naming the field. Whether a default zone exists is for the caller to see:
    core knows no zone.
    """
    policy = read_policy(definition)
    if policy.consent is not None and policy.consent.purpose is not None:
        # Only here, since what is in the log may be otherwise: no grant could ever name it.
        check_id("policy.consent.purpose", policy.consent.purpose)
    return policy.model_dump(by_alias=True, mode="json", exclude_none=True)


def read_policy(definition: object) -> Policy:
    """The policy that a definition describes, which may be one that an older version published;
    raises `InvalidInput` naming the field."""
    given = check_map("policy", definition)
    try:
        return Policy.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        # What is missing may be there under a name that is not known.
        first = min(faults, key=lambda each: each["type"] != "extra_forbidden")
        raise InvalidInput(_field(first), _problem(first)) from None


def _field(detail: ErrorDetails) -> str:
    path = ["policy"]
    for part in detail["loc"]:
        if isinstance(part, int):
            path[-1] += f"[{part}]"
        elif part != "[key]":
            path.append(part[:64])
    if "at" in detail.get("ctx", {}):
        path.append(str(detail["ctx"]["at"]))
    return ".".join(path)


def _problem(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    kind = detail["type"]
    if kind == "extra_forbidden":
        return unknown_field(Policy, [part for part in detail["loc"] if part != "[key]"])
    if kind == "refused":
        return f"{context['problem']} ({context['remedy']})"
    if kind == "string_pattern_mismatch":
        return _FORMS[str(detail["loc"][-1])]
    if kind in _WORDS:
        return _WORDS[kind].format_map(context)
    return detail["msg"]
