"""What a plan asks of a contacts file in vain: numbers, true and false of columns that are text."""

from __future__ import annotations

import io

import pytest

from dee_es import ExecutionPlan, create_plan, steps
from dee_es.doors.contacts_csv import read_contacts
from dee_es.doors.contacts_header import Kind
from dee_es.doors.never_text import never_text

HEADER = b"id,email,staff,vip,city\n"


def plan(when: str, exit_when: str | None = None) -> ExecutionPlan:
    return create_plan(
        id="p",
        name="p",
        steps=[
            steps.branch("big", [{"when": when, "goto": "yes"}, {"when": "default", "goto": "no"}]),
            steps.end("yes", "yes"),
            steps.end("no", "no"),
        ],
        exit_conditions=[] if exit_when is None else [{"when": exit_when, "outcome": "out"}],
    )


def told(made: ExecutionPlan, kinds: dict[str, Kind] | None = None) -> list[tuple[str, str]]:
    columns = read_contacts(io.BytesIO(HEADER), kinds).columns
    return [(each.attribute, each.kind) for each in never_text(made, columns)]


@pytest.mark.parametrize(
    "when, expected",
    [
        ("contact.attributes.staff > 200", [("staff", "number")]),
        ("200 <= contact.attributes.staff", [("staff", "number")]),
        ("contact.attributes.staff != 5", [("staff", "number")]),
        ("contact.attributes.vip", [("vip", "boolean")]),
        ("not (contact.attributes.vip == true or contact.attributes.staff == 1)",
         [("vip", "boolean"), ("staff", "number")]),
        ('contact.attributes.staff == "200"', []),
        ("contact.attributes.city == null", []),
        ("contact.attributes.turnover > 5", []),
        ("variables.staff > 5", []),
        ("contact.attributes.staff == contact.attributes.city", []),
        ("contact.unsubscribed", []),
    ],
)  # fmt: skip
def test_what_no_text_fulfils_is_found(when: str, expected: list[tuple[str, str]]) -> None:
    assert told(plan(when)) == expected


def test_columns_of_the_right_kind_are_asked_in_earnest() -> None:
    made = plan("contact.attributes.staff > 200", "contact.attributes.vip")
    assert told(made) == [("staff", "number"), ("vip", "boolean")]
    assert told(made, {"staff": "number"}) == [("vip", "boolean")]
    assert told(made, {"staff": "number", "vip": "boolean"}) == []


def test_it_is_said_where_and_once() -> None:
    made = plan("contact.attributes.vip", "contact.attributes.vip and contact.attributes.vip")
    columns = read_contacts(io.BytesIO(HEADER)).columns
    assert [(each.where, each.claim) for each in never_text(made, columns)] == [
        ("step 'big'", "contact.attributes.vip"),
        ("an exit condition", "contact.attributes.vip"),
    ]
