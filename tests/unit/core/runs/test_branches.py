"""Branches: what they read, which way they take, and what is kept of both."""

from __future__ import annotations

from typing import Any

import pytest

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.builders import steps
from tests.support.runs.given import Story, given, plan_of


def choosing(*whens: str) -> tuple[dict[str, object], ...]:
    """An email, an hour, and a branch with an end step for each condition and for the default."""
    ways = {when: f"way{n}" for n, when in enumerate(whens)} | {"default": "other"}
    return (
        steps.send_email("intro", "hello", "Hi"),
        steps.wait("pause", {"hours": 1}),
        steps.branch("choose", [{"when": when, "goto": goto} for when, goto in ways.items()]),
        *(steps.end(goto, goto) for goto in ways.values()),
    )


def waiting(*whens: str, **about: Any) -> Story:
    """In the wait before the branch, until tick 3600."""
    run = given(plan_of(*choosing(*whens)), template={"text": "Hello"}, **about)
    return run.enrolled(0).ticked(0).delivered()


def chosen(run: Story) -> e.BranchEvaluated:
    """How the branch decided at tick 3600."""
    run.ticked(3600).then(
        e.WaitCompleted, e.StepEntered, e.BranchEvaluated, e.StepEntered, e.RunCompleted
    )
    event = run.news[2]
    assert isinstance(event, e.BranchEvaluated)
    assert run.row.outcome == event.goto
    return event


@pytest.mark.parametrize(
    "when, about, holds",
    [
        ("variables.score > 3", {"variables": {"score": 4}}, True),
        ("variables.score > 3", {"variables": {"score": 3}}, False),
        ("variables.score > 3", {"variables": {"score": "4"}}, False),
        ("variables.score > 3", {}, False),
        ('contact.attributes.tier == "gold"', {"attributes": {"tier": "gold"}}, True),
        ('contact.attributes.tier == "gold"', {"variables": {"tier": "gold"}}, False),
        ("contact.attributes.tier == null", {"attributes": {}}, True),
        ("contact.attributes.vip", {"attributes": {"vip": True}}, True),
        ("contact.attributes.vip", {"attributes": {"vip": "true"}}, False),
        ("contact.attributes.tags == null", {"attributes": {"tags": ["a"]}}, True),
        ("not contact.attributes.vip", {"attributes": {}}, True),
    ],
)
def test_variables_and_attributes_decide(when: str, about: dict[str, Any], holds: bool) -> None:
    assert chosen(waiting(when, **about)).goto == ("way0" if holds else "other")


@pytest.mark.parametrize(
    "kind, when",
    [
        ("email.replied", 'events.hasReply("intro")'),
        ("email.replied", "events.hasReply(any)"),
        ("email.replied", 'contact.emailReplied("intro")'),
        ("email.opened", 'events.hasOpen("intro")'),
        ("email.opened", 'contact.emailOpened("intro")'),
        ("email.clicked", 'events.hasClick("intro")'),
        ("email.clicked", 'contact.emailClicked("intro")'),
    ],
)
def test_events_decide(kind: str, when: str) -> None:
    assert chosen(waiting(when).received(kind, 60)).goto == "way0"
    assert chosen(waiting(when).received(kind, 60, step="intro")).goto == "way0"
    assert chosen(waiting(when)).goto == "other"
    assert chosen(waiting(when).received("email.delivered", 60)).goto == "other"


def test_an_event_of_another_step_is_not_this_one() -> None:
    run = waiting('events.hasReply("intro")', "events.hasReply(any)")
    assert chosen(run.received("email.replied", 60, step="older")).goto == "way1"


def test_only_a_hard_bounce_makes_a_contact_bounced() -> None:
    run = waiting("contact.bounced", "events.hasBounce(any)")
    assert chosen(run.received("email.bounced", 60, kind="soft")).goto == "way1"


def test_a_branch_sees_only_what_was_there_before_it() -> None:
    run = waiting("events.hasReply(any)")
    assert chosen(run).goto == "other"
    run.received("email.replied", 3601).stands("completed", outcome="other")


def test_the_first_condition_that_holds_is_taken() -> None:
    run = waiting("variables.a == 1", "variables.b == 1", "true", variables={"b": 1})
    assert chosen(run).goto == "way1"


def test_what_a_branch_saw_is_kept() -> None:
    run = waiting("variables.score > 3", 'events.hasReply("intro")', variables={"score": 2})
    event = chosen(run.received("email.replied", 60))
    assert event.when == 'events.hasReply("intro")'
    assert event.personal == e.Seen({"variables.score": 2, 'events.hasReply("intro")': True})


def test_what_it_did_not_look_at_is_not_kept() -> None:
    whens = ("variables.a == 1 or variables.b == 1", "variables.c == 1")
    event = chosen(waiting(*whens, variables={"a": 1, "b": 2, "c": 3}))
    assert event.personal == e.Seen({"variables.a": 1})


def test_the_default_is_taken_when_nothing_holds_and_keeps_why() -> None:
    event = chosen(waiting("variables.a == 1", "contact.attributes.b == 2", attributes={"b": "2"}))
    assert (event.when, event.goto) == ("default", "other")
    assert event.personal == e.Seen({"variables.a": None, "contact.attributes.b": "2"})


def test_a_branch_that_reads_nothing_keeps_nothing() -> None:
    event = chosen(waiting())
    assert (event.when, event.goto, event.personal) == ("default", "other", None)


def test_what_a_branch_saw_is_personal() -> None:
    run = waiting('variables.illness == "flu"', variables={"illness": "flu"})
    chosen(run)
    recorded = next(each for each in run.history if each.name == "BranchEvaluated")
    _, public, personal = codec.encode(recorded.event, recorded.meta)
    assert personal == b'{"values":{"variables.illness":"flu"}}'
    assert b"values" not in public


def test_a_branch_that_is_the_first_step_reads_the_contact() -> None:
    plan = plan_of(
        steps.branch(
            "first",
            [
                {"when": 'contact.attributes.lang == "de"', "goto": "german"},
                {"when": "default", "goto": "english"},
            ],
        ),
        steps.end("german", "de"),
        steps.end("english", "en"),
    )
    given(plan, attributes={"lang": "de"}).enrolled().ticked(0).stands("completed", outcome="de")
    given(plan, attributes={"lang": "fr"}).enrolled().ticked(0).stands("completed", outcome="en")
