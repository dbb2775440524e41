"""What a step sends is rendered from the contact; a step that cannot be rendered fails."""

from __future__ import annotations

from typing import Any

import pytest

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.builders import steps, transitions
from tests.support.runs.given import Story, given, plan_of

EMAIL = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.end("over", "done"),
)
CALL = plan_of(steps.send_voice("call", "script"), steps.end("over", "called"))


def rendered(text: str, **about: Any) -> str | None:
    """The text of the first email of a contact in a plan whose template is `text`."""
    intent = given(EMAIL, template={"text": text}, **about).enrolled().ticked(0).news[-1]
    assert isinstance(intent, e.StepDispatched)
    assert intent.personal is not None
    return intent.personal.text


def failed(run: Story) -> e.StepFailed:
    """How the first step of the run failed, which it must, before anything is sent."""
    run.then(e.StepEntered, e.StepFailed, e.RunFailed)
    event = run.news[1]
    assert isinstance(event, e.StepFailed)
    assert run.news[2] == e.RunFailed(event.error, event.step_id)
    run.stands("failed", status_reason=event.error, steps_completed=0).due(None)
    return event


@pytest.mark.parametrize(
    "text, expected",
    [
        ("{{contact.firstName}}", "Jane"),
        ("{{firstName}}", "Jane"),
        ("{{contact.id}} {{contact.email}}", "contact jane@example.com"),
        ("{{contact.phone}} {{contact.timezone}}", "+15550100 Europe/Vienna"),
        ("{{offer}}", "10"),
        ("{{sender.name}} {{unsubscribeUrl}}", "Us https://example.com/u"),
        ("{{run.planId}} {{run.enrollment}}", "plan 1"),
    ],
)
def test_a_template_may_speak_of(text: str, expected: str) -> None:
    sender = {"name": "Us", "unsubscribeUrl": "https://example.com/u"}
    assert rendered(text, variables={"offer": 10}, sender=sender) == expected


def test_a_bare_name_is_a_variable_first() -> None:
    variables = {"firstName": "you"}
    assert rendered("{{firstName}} {{contact.firstName}}", variables=variables) == "you Jane"


def test_a_template_may_speak_of_the_step_before() -> None:
    plan = plan_of(steps.send_email("one", "t", "1"), steps.send_email("two", "t", "2"))
    text = "{{#if previousStep}}{{previousStep.id}} {{previousStep.result}}{{else}}-{{/if}}"
    run = given(plan, template={"text": text}).enrolled().ticked(0)
    assert run.intent.message is not None
    assert run.intent.message.text == "-"
    run.delivered().ticked(1)
    assert run.intent.message is not None
    assert run.intent.message.text == "one delivered"


def test_a_missing_value_fails_the_step_and_names_its_path_and_nothing_else() -> None:
    template = {"text": "{{contact.firstName}} {{contact.discount}}"}
    run = given(EMAIL, template=template, variables={"code": "SECRET"}).enrolled().ticked(0)
    error = failed(run).error
    assert "contact.discount" in error
    assert "text" in error
    for value in ("Jane", "SECRET", "jane@"):
        assert value not in error


def test_a_failure_to_render_holds_nothing_personal_in_any_event() -> None:
    run = given(EMAIL, template={"text": "{{contact.age.years}}"}, attributes={"age": 41})
    for each in run.enrolled().ticked(0).history[1:]:
        _, public, personal = codec.encode(each.event, each.meta)
        assert b"41" not in public
        assert personal == b""


@pytest.mark.parametrize("name", ["Jane\r\nBcc: all@example.com", "Jane\x85", "a" * 600])
def test_a_value_cannot_reach_beyond_its_header(name: str) -> None:
    plan = plan_of(steps.send_email("intro", "hello", "Hi {{contact.firstName}}"))
    event = failed(given(plan, attributes={"firstName": name}).enrolled().ticked(0))
    assert "subject" in event.error
    assert "all@example.com" not in event.error


def test_a_contact_without_an_address_fails_an_email() -> None:
    event = failed(given(EMAIL, email=None).enrolled().ticked(0))
    assert "contact.email" in event.error


def test_a_contact_without_a_number_fails_a_call_but_not_an_email() -> None:
    event = failed(given(CALL, phone=None).enrolled().ticked(0))
    assert "contact.phone" in event.error
    given(EMAIL, phone=None).enrolled().ticked(0).then(e.StepEntered, e.StepDispatched)


def test_no_other_channel_takes_its_place() -> None:
    run = given(CALL, phone=None).enrolled().ticked(0)
    assert not any(isinstance(each.event, e.StepDispatched) for each in run.history)


def test_a_suppressed_step_is_skipped_before_it_is_rendered() -> None:
    run = given(EMAIL, email=None).enrolled().ticked(0, suppressed=[("global", "")])
    run.then(e.StepEntered, e.StepSkipped, e.StepEntered, e.WaitStarted)


def test_a_step_that_could_not_be_rendered_can_be_retried() -> None:
    run = given(EMAIL, email=None).enrolled().ticked(0).retried(5).ticked(6)
    failed(run)


# --- an erased contact ----------------------------------------------------------------------------


def choosing() -> Story:
    """A scheduled run that begins with a branch on what is personal."""
    plan = plan_of(
        steps.branch(
            "first",
            [
                {"when": "contact.attributes.minor == true", "goto": "stop"},
                {"when": "default", "goto": "intro"},
            ],
        ),
        steps.end("stop", "too young"),
        steps.send_email("intro", "hello", "Hi"),
        steps.end("over", "done"),
    )
    return given(plan, attributes={"minor": True}).enrolled(0, start=5)


def test_an_erased_contact_is_marked_and_its_run_still_folds() -> None:
    run = given(EMAIL).enrolled().ticked(0).delivered()
    before = run.row
    run.erased()
    assert run.state.erased
    assert run.state.contact == e.Enrolled()
    assert run.state.version == before.version
    assert (run.state.current_step, run.state.due_tick) == ("pause", 3600)


def test_no_branch_is_taken_on_data_that_is_gone() -> None:
    run = choosing().erased().ticked(5).then(e.RunStarted, e.RunCancelled("erased")).due(None)
    run.stands("cancelled", status_reason="erased", steps_completed=0)


def test_not_even_a_branch_that_was_entered_before() -> None:
    plan = plan_of(
        steps.wait("blink", {"seconds": 1}),
        steps.branch(
            "young",
            [
                {"when": "contact.attributes.minor == true", "goto": "blink"},
                {"when": "default", "goto": "intro"},
            ],
        ),
        steps.send_email("intro", "hello", "Hi"),
        transitions=transitions.explicit([{"from": "blink", "to": "young"}]),
    )
    run = given(plan, attributes={"minor": True}, resolution_ms=60_000).enrolled()
    run.ran_until(1).stands("active", current_step="young").erased().ran_until(2)
    run.then(e.RunCancelled("erased"))


@pytest.mark.parametrize(
    "situation, news",
    [
        (lambda: given(EMAIL).enrolled(), ()),
        (lambda: given(EMAIL).enrolled().ticked(0).delivered(), (e.WaitCompleted,)),
        (lambda: given(EMAIL).enrolled().ticked(0).failed(retryable=True), ()),
        (lambda: given(EMAIL).enrolled().ticked(0).failed().retried(1), ()),
        (lambda: given(EMAIL).enrolled().paused(0).resumed(1), ()),
    ],
    ids=["enrolled", "waiting", "before another attempt", "retried", "resumed"],
)
def test_nothing_is_sent_to_an_erased_contact(situation: Any, news: Any) -> None:
    run = situation().erased().ticked(9999).then(*news, e.RunCancelled("erased"))
    run.stands("cancelled", status_reason="erased").due(None)


def test_the_outcome_of_a_send_to_a_contact_erased_meanwhile_is_recorded() -> None:
    run = given(EMAIL).enrolled().ticked(0).erased().ticked(0).then()
    run.delivered(0).then(e.StepCompleted, e.RunCancelled("erased"))
    run.stands("cancelled", steps_completed=1)


def test_a_run_that_waits_for_nobody_needs_no_data_to_be_cancelled() -> None:
    given(EMAIL).enrolled().ticked(0).delivered().erased().cancelled(5).stands("cancelled")
