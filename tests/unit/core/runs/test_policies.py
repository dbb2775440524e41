"""What a run does when its policy is against a send, and what is kept of what the gate read."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.gate import ZoneRules
from tests.support.runs.given import EPOCH, Story, given, plan_of

PLAN = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.end("over", "done"),
)
HOUR, DAY = 3600, 86_400
START_MS = int(EPOCH.timestamp()) * 1000
ZONE = ZoneRules("Etc/Nowhere", ((START_MS - 1, 3600),), START_MS + 500 * DAY * 1000, "v1")
OFFICE_HOURS = {"windows": {"channels": {"email": {"start": "09:00", "end": "17:00"}}}}
READ = {"policy": 0, "zone": "contact", "zone.rules": "v1"}


def warming_up(effect: str) -> dict[str, object]:
    """No mail leaves on the first day: its sender begins on the second."""
    ramp = {"startTick": DAY, "perDay": [9]}
    return {"limits": {"warmUp": {"default": ramp}, "effect": effect}}


def held(effect: str) -> Story:
    """The first tick of a run whose only mail may not leave yet."""
    return given(PLAN).under(warming_up(effect)).enrolled(0).ticked(0)


def test_a_send_that_is_allowed_keeps_what_the_gate_read_of_the_contact_as_personal() -> None:
    plain = given(PLAN).enrolled(0).ticked(0).news[-1]
    asked = given(PLAN).under(OFFICE_HOURS, ZONE).enrolled(0).ticked(8 * HOUR).news[-1]
    assert isinstance(plain, e.StepDispatched)
    assert isinstance(asked, e.StepDispatched)
    assert asked.reads == READ
    assert plain.personal is not None
    assert plain.personal.gate == {}
    assert asked.personal is not None
    assert asked.personal.gate["zone"] == "Etc/Nowhere"
    assert asked.digest == plain.digest, "what the gate read is no part of what is sent"


def test_a_send_that_is_put_off_keeps_what_the_gate_read_and_goes_out_when_it_may() -> None:
    run = given(PLAN).under(OFFICE_HOURS, ZONE).enrolled(0).ticked(0)
    _, put_off = run.then(e.StepEntered, e.StepDeferred).news
    assert isinstance(put_off, e.StepDeferred)
    assert (put_off.rule, put_off.until_tick, put_off.reads) == ("windows", 8 * HOUR, READ)
    assert put_off.personal is not None
    assert put_off.personal.values["zone"] == "Etc/Nowhere"
    run.stands("waiting", resume_tick=8 * HOUR).ticked(8 * HOUR - 1).then()
    run.ticked(8 * HOUR).then(e.StepDispatched).stands("active")


def test_a_denial_that_read_nothing_of_the_contact_has_nothing_personal() -> None:
    for effect in ("skip", "defer", "pause", "fail"):
        denied = held(effect).news[1]
        assert getattr(denied, "reads", None)
        assert getattr(denied, "personal", e.Seen({})) is None


def test_a_step_that_its_policy_skips_is_left_out() -> None:
    run = held("skip").then(e.StepEntered, e.StepSkipped, e.StepEntered, e.WaitStarted)
    run.stands("waiting", current_step="pause", steps_completed=1)


def test_a_step_that_its_policy_fails_fails_the_run_and_keeps_what_the_gate_read() -> None:
    known_till_noon = ZoneRules("Etc/Nowhere", ZONE.transitions, START_MS + DAY * 500, "v1")
    run = given(PLAN).under(OFFICE_HOURS, known_till_noon).enrolled(0).ticked(20 * HOUR)
    _, failed, _ = run.then(e.StepEntered, e.StepFailed, e.RunFailed).news
    assert isinstance(failed, e.StepFailed)
    assert failed.error.startswith("windows: ")
    assert (failed.attempt, failed.reads) == (1, READ)
    assert failed.personal is not None
    assert failed.personal.data["gate"]["zone"] == "Etc/Nowhere"
    run.stands("failed", status_reason=failed.error, current_step="intro")


def test_a_run_that_its_policy_pauses_sends_once_it_is_resumed_and_the_policy_allows() -> None:
    run = held("pause").then(e.StepEntered, e.RunPaused).stands("paused", current_step="intro")
    run.due(None).resumed(HOUR).ticked(HOUR + 1).then(e.RunPaused).stands("paused")
    run.resumed(DAY).ticked(DAY + 1).then(e.StepDispatched)


@pytest.mark.parametrize("zone", [ZONE, None])
def test_a_message_that_cannot_be_made_keeps_what_the_gate_had_read(zone: ZoneRules | None) -> None:
    story = given(PLAN, template={"text": "{{nobody.knows}}"})
    run = story.under(OFFICE_HOURS if zone else {}, zone).enrolled(0).ticked(8 * HOUR)
    _, failed, _ = run.then(e.StepEntered, e.StepFailed, e.RunFailed).news
    assert isinstance(failed, e.StepFailed)
    assert failed.error.startswith("cannot be rendered: ")
    assert failed.reads == (READ if zone else {"policy": 0})
    assert (failed.personal is None) == (zone is None)
