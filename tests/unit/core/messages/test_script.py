"""Call scripts as they are published: each fault is named by its field, with what would do."""

from __future__ import annotations

from typing import Any

import pytest

from dee_es.core.messages.script import check_script
from dee_es.errors import InvalidInput

GATHER = {"type": "gather", "name": "wish", "prompt": "Press 1."}


def branch(**step: Any) -> dict[str, Any]:
    return {"type": "branch", "on": "wish", "cases": {"1": [step]}}


@pytest.mark.parametrize(
    "given, field, problem",
    [
        ({"greetings": "x"}, "greetings", "is not known here; did you mean greeting?"),
        (
            {"greeting": "x", "hello": "y"},
            "hello",
            "is not known here; there are greeting and steps",
        ),
        ({}, "greeting", "is missing"),
        (
            {"greeting": "x", "steps": [{**GATHER, "maxDigit": 2}]},
            "steps[0].maxDigit",
            "is not known here; did you mean maxDigits?",
        ),
        (
            {"greeting": "x", "steps": [GATHER, branch(type="speak", words="y")]},
            "steps[1].cases.1[0].words",
            "is not known here; there are type and text",
        ),
        (
            {"greeting": "x", "steps": [{"text": "y"}]},
            "steps[0]",
            "has no type; there are speak, gather and branch",
        ),
        (
            {"greeting": "x", "steps": [{"type": "say", "text": "y"}]},
            "steps[0]",
            "is of a type that is not known; there are speak, gather and branch",
        ),
    ],
)
def test_a_fault_is_told_with_what_would_do(
    given: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_script(given)
    assert (caught.value.field, caught.value.problem) == (f"script.{field}", problem)
