"""Making plans: builders and documents, definitions, versions, references."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from dee_es.core.builders import steps, transitions
from dee_es.core.plans.plan import ExecutionPlan, create_plan, load_plan, missing_references
from dee_es.core.steps import Branch, End, SendEmail, SendVoice, Tracking, Wait
from dee_es.errors import InvalidInput, PlanFault

DOCUMENT: dict[str, Any] = {
    "id": "welcome",
    "name": "Welcome",
    "reenroll": "never",
    "steps": [
        {
            "type": "send_email",
            "id": "intro",
            "templateId": "hello",
            "subject": "Hi {{contact.firstName}}",
            "replyTo": "us@example.com",
            "tracking": {"opens": True, "clicks": False},
        },
        {"type": "wait", "id": "pause", "duration": {"days": 3}},
        {
            "type": "branch",
            "id": "check",
            "conditions": [
                {"when": 'events.hasReply("intro")', "goto": "thanks"},
                {"when": "default", "goto": "ring"},
            ],
        },
        {"type": "end", "id": "thanks", "outcome": "replied"},
        {
            "type": "send_voice",
            "id": "ring",
            "scriptId": "call",
            "callerId": "+15550100",
            "maxDuration": 120,
            "voicemail": "leave_message",
        },
        {"type": "end", "id": "over", "outcome": "called"},
    ],
    "transitions": {"type": "linear"},
    "exitConditions": [{"when": "contact.unsubscribed", "outcome": "unsubscribed"}],
    "metadata": {"owner": "sales", "tags": [None, 1.5, True]},
}


def built() -> ExecutionPlan:
    """The same plan as `DOCUMENT`, by the builders."""
    return create_plan(
        id="welcome",
        name="Welcome",
        steps=[
            steps.send_email(
                "intro",
                "hello",
                "Hi {{contact.firstName}}",
                reply_to="us@example.com",
                tracking={"opens": True, "clicks": False},
            ),
            steps.wait("pause", duration={"days": 3}),
            steps.branch(
                "check",
                conditions=[
                    {"when": 'events.hasReply("intro")', "goto": "thanks"},
                    {"when": "default", "goto": "ring"},
                ],
            ),
            steps.end("thanks", "replied"),
            steps.send_voice("ring", "call", "+15550100", 120, "leave_message"),
            steps.end("over", "called"),
        ],
        transitions=transitions.linear(),
        exit_conditions=[{"when": "contact.unsubscribed", "outcome": "unsubscribed"}],
        metadata={"owner": "sales", "tags": [None, 1.5, True]},
        reenroll="never",
    )


def snake(value: object) -> object:
    """The same document with snake_case keys."""
    if isinstance(value, dict):
        return {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in key): snake(item)
            for key, item in value.items()
        }
    return [snake(item) for item in value] if isinstance(value, list) else value


def test_builders_and_documents_make_the_same_plan() -> None:
    assert built() == load_plan(DOCUMENT) == load_plan(snake(DOCUMENT))  # type: ignore[arg-type]


def test_the_definition_is_the_document() -> None:
    definition = load_plan(DOCUMENT).definition()
    assert definition == DOCUMENT
    assert json.loads(json.dumps(definition)) == definition


def test_the_steps_are_typed() -> None:
    intro, pause, check, thanks, ring, over = built().steps
    assert isinstance(intro, SendEmail)
    assert intro.tracking == Tracking(opens=True, clicks=False)
    assert isinstance(pause, Wait)
    assert pause.duration_ms == 259_200_000
    assert isinstance(check, Branch)
    assert check.gotos == ("thanks", "ring")
    assert isinstance(ring, SendVoice)
    assert ring.max_duration == 120
    assert isinstance(thanks, End)
    assert isinstance(over, End)
    assert [step.channel for step in built().steps] == ["email", None, None, None, "voice", None]


def test_a_duration_adds_up() -> None:
    step = Wait.model_validate(
        {"id": "w", "duration": {"days": 1, "hours": 25, "minutes": 61, "seconds": 1}}
    )
    assert step.duration_ms == (86_400 + 25 * 3600 + 61 * 60 + 1) * 1000


@pytest.mark.parametrize("tracking", [True, False])
def test_tracking_may_be_all_or_nothing(tracking: bool) -> None:
    plan = create_plan(id="p", name="P", steps=[steps.send_email("a", "t", "s", tracking=tracking)])
    (step,) = plan.steps
    assert isinstance(step, SendEmail)
    assert step.tracking == Tracking(opens=tracking, clicks=tracking)


def test_types_may_be_written_in_camel_case() -> None:
    email = {"type": "sendEmail", "id": "a", "templateId": "t", "subject": "s"}
    call = {"type": "sendVoice", "id": "b", "scriptId": "t"}
    plan = load_plan({"id": "p", "name": "P", "steps": [email, call]})
    assert [step.type for step in plan.steps] == ["send_email", "send_voice"]


def test_ready_made_steps_are_taken_too() -> None:
    assert create_plan(id="welcome", name="x", steps=built().steps).steps == built().steps


@pytest.mark.parametrize("written", ["linear", {"type": "linear"}, None])
def test_ways_to_write_linear_transitions(written: object) -> None:
    assert load_plan({**DOCUMENT, "transitions": written}) == built()


def test_ways_to_write_explicit_transitions() -> None:
    email = {"type": "send_email", "templateId": "t", "subject": "s"}
    end = {"type": "end", "id": "c", "outcome": "o"}
    edges = [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]
    plan = {"id": "p", "name": "P", "steps": [{**email, "id": "a"}, {**email, "id": "b"}, end]}
    listed = load_plan({**plan, "transitions": edges})
    assert listed == load_plan({**plan, "transitions": {"type": "explicit", "edges": edges}})
    assert listed.definition()["transitions"] == {"type": "explicit", "edges": edges}
    assert listed == load_plan(listed.definition())


def test_a_new_plan_is_version_zero_and_may_be_given_another() -> None:
    plan = built()
    third = plan.with_version(3)
    assert (plan.version, third.version) == (0, 3)
    assert third.definition() == plan.definition()
    assert third.graph == plan.graph


def test_a_stored_definition_gives_the_plan_back() -> None:
    plan = built()
    assert ExecutionPlan.from_definition(plan.definition(), 7) == plan.with_version(7)


def test_a_damaged_definition_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"definition\.steps\.0"):
        ExecutionPlan.from_definition({**DOCUMENT, "steps": [{"type": "end", "id": "x"}]}, 1)


def test_neither_version_nor_metadata_is_compared() -> None:
    plan = built()
    assert plan.same_as(load_plan({**DOCUMENT, "metadata": {}}).with_version(4))
    assert not plan.same_as(load_plan({**DOCUMENT, "name": "Other"}))
    assert not plan.same_as(load_plan({**DOCUMENT, "reenroll": "after_end"}))
    assert not plan.same_as(load_plan({**DOCUMENT, "exitConditions": []}))


def test_a_plan_does_not_change() -> None:
    given = {"tags": ["a"]}
    plan = create_plan(id="p", name="P", steps=[steps.end("e", "o")], metadata=given)
    given["tags"].append("b")
    plan.definition()["metadata"]["tags"].append("c")
    assert plan.metadata == {"tags": ["a"]}
    with pytest.raises(ValidationError, match="frozen"):
        plan.name = "Q"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        plan.steps[0].id = "f"


def test_builders_leave_the_checking_to_create_plan() -> None:
    assert steps.wait("not an id", duration={"days": -1})["id"] == "not an id"
    assert transitions.explicit([{"from": "nowhere", "to": "nowhere"}])["type"] == "explicit"


def test_missing_references() -> None:
    assert missing_references(built(), {"hello"}, {"call"}) == []
    assert missing_references(built(), {"call"}, {"hello"}) == [
        PlanFault(
            "intro",
            "the template 'hello' is not published",
            "publish it first with publish_template",
        ),
        PlanFault(
            "ring",
            "the call script 'call' is not published",
            "publish it first with publish_script",
        ),
    ]
