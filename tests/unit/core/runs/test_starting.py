"""How a run begins: now or later, with all it needs in its first event."""

from __future__ import annotations

import pytest

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.errors import InvalidInput
from tests.support.runs.given import given, plan_of

PLAN = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.end("over", "done"),
)


def test_executed_now_a_run_is_active_and_due_at_once() -> None:
    story = given(PLAN).enrolled(tick=5)
    story.then(e.RunStarted).due(5).stands(
        "active",
        current_step=None,
        steps_completed=0,
        steps_remaining=3,
        created_tick=5,
        start_tick=5,
        current_tick=5,
        completed_tick=None,
        outcome=None,
        status_reason=None,
        resume_tick=None,
        version=1,
        enrollment=1,
    )


def test_the_first_send_goes_out_in_the_tick_of_enrolment() -> None:
    story = given(PLAN).enrolled(tick=5).ticked(5)
    story.then(e.StepEntered("intro", 3, 5), e.StepDispatched)
    story.stands("active", current_step="intro", steps_remaining=3, version=3)


def test_a_run_that_starts_later_is_pending_until_then() -> None:
    story = given(PLAN).enrolled(tick=5, start=100).then(e.RunScheduled).due(100)
    story.stands(
        "pending",
        created_tick=5,
        start_tick=100,
        current_tick=5,
        resume_tick=100,
        current_step=None,
    )
    story.ticked(99).then()
    story.ticked(100).then(e.RunStarted, e.StepEntered("intro", 3, 100), e.StepDispatched)
    story.stands("active", created_tick=5, start_tick=100, current_tick=100, resume_tick=None)


def test_a_start_that_was_missed_happens_as_soon_as_somebody_looks() -> None:
    story = given(PLAN).enrolled(tick=5, start=100).ticked(150)
    story.then(e.RunStarted, e.StepEntered("intro", 3, 150), e.StepDispatched)
    story.stands("active", start_tick=100, current_tick=150)


def test_a_start_at_the_present_tick_is_now() -> None:
    given(PLAN).enrolled(tick=5, start=5).then(e.RunStarted).stands("active", start_tick=5).due(5)


def test_a_start_that_has_passed_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"00:00:04 UTC has passed; in this log it is .* 00:00:05 UTC"
    ) as caught:
        given(PLAN).enrolled(tick=5, start=4)
    assert caught.value.field == "start_at"


@pytest.mark.parametrize("start, first", [(None, e.RunStarted), (9, e.RunScheduled)])
def test_the_first_event_holds_whom_the_run_is_for_and_what_it_decides_by(
    start: int | None, first: type[e.RunStarted | e.RunScheduled]
) -> None:
    pins = e.Pins(templates={"hello": 4}, sender=2)
    story = given(PLAN, variables={"offer": 10}).enrolled(tick=5, start=start, pins=pins)
    person = e.Enrolled(
        "jane@example.com", "+15550100", "Europe/Vienna", {"firstName": "Jane"}, {"offer": 10}
    )
    story.then(
        first(
            plan_id="plan",
            plan_version=1,
            contact_id="contact",
            enrollment=1,
            start_tick=5 if start is None else start,
            steps_remaining=3,
            pins=pins,
            personal=person,
        )
    )
    assert story.state.contact == person
    assert story.state.pins == pins


def test_what_is_personal_is_apart_from_the_rest() -> None:
    story = given(PLAN, variables={"secret": "xyzzy"}).enrolled()
    _, public, personal = codec.encode(story.history[0].event, story.history[0].meta)
    for value in (b"jane@example.com", b"+15550100", b"Jane", b"xyzzy", b"Vienna"):
        assert value not in public
        assert value in personal


def test_a_start_that_was_scheduled_does_not_repeat_the_contact() -> None:
    story = given(PLAN).enrolled(tick=0, start=9).ticked(9)
    started = story.news[0]
    assert isinstance(started, e.RunStarted)
    assert started.personal is None
    assert story.state.contact.email == "jane@example.com"


def test_a_tick_without_anything_due_writes_nothing() -> None:
    story = given(PLAN).enrolled(tick=5).ticked(5).delivered().due(5 + 3600)
    story.ticked(5).then().ticked(5 + 3599).then()
