"""The Twilio channel against a server that behaves as Twilio does: calls and callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dee_es.adapters.channels.twilio.urls import RETRIES
from dee_es.core.messages.script import check_script
from tests.support.channels.line import HEARD_BY_MACHINE, MENU, PLAIN, Line, reference, running_line
from tests.support.channels.mail import CONTEXT, a_call, key
from tests.support.channels.twilio import FROM, HANGS_UP, TOKEN, Person, post, twilio_signature


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with running_line(tmp_path) as running:
        yield running


# --- how calls end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "person, kind, outcome",
    [
        (Person(), "call.completed", "answered"),
        (Person(answered_by="unknown"), "call.completed", "answered"),
        (Person("busy"), "call.completed", "busy"),
        (Person("no-answer"), "call.completed", "no_answer"),
        (Person("failed"), "call.failed", "failed"),
        (Person("canceled"), "call.failed", "failed"),
        (Person("busy", sip_code="486"), "call.completed", "busy"),
        (Person("busy", sip_code="603"), "call.completed", "declined"),
        (Person("no-answer", sip_code="607"), "call.completed", "declined"),
        (Person("failed", sip_code="603"), "call.completed", "declined"),
    ],
)
def test_every_outcome(line: Line, person: Person, kind: str, outcome: str) -> None:
    line.twilio.person = person
    line.call(PLAIN)
    assert line.events[-1].type == kind
    seconds = 42 if person.ends == "completed" else 0
    assert line.last() == {"outcome": outcome, "duration_s": seconds}


def test_progress_is_told_with_its_time(line: Line) -> None:
    line.call(PLAIN)
    assert line.types == ["call.initiated", "call.ringing", "call.answered", "call.completed"]
    assert [event.occurred_at for event in line.events] == [
        datetime(2025, 3, 1, 9, 30, second, tzinfo=UTC) for second in range(4)
    ]
    action = a_call(0)
    for event in line.events:
        assert (event.run_id, event.step_id) == (action.run_id, action.step_id)
    assert len({event.event_id for event in line.events}) == 4
    assert all("outcome" not in event.data for event in line.events[:3])


@pytest.mark.parametrize("answered_by", ["machine", "fax"])
@pytest.mark.parametrize("verdict_in_status", [False, True])
@pytest.mark.parametrize("mode", ["hangup", "leave_message", "continue"])
def test_a_machine(line: Line, mode: str, answered_by: str, verdict_in_status: bool) -> None:
    line.twilio.person = Person(answered_by=answered_by)
    line.twilio.verdict_in_status = verdict_in_status
    placed = line.call({**MENU, "voicemail": mode})
    assert placed.one("MachineDetection") == (
        "DetectMessageEnd" if mode == "leave_message" else "Enable"
    )
    assert line.types[-2:] == ["call.voicemail", "call.completed"]
    assert line.events[-2].data["outcome"] == "voicemail"
    assert line.last() == {"outcome": "voicemail", "duration_s": 42}
    if mode == "hangup" or answered_by == "fax":
        assert placed.spoken == []
    elif mode == "leave_message":
        assert placed.spoken == HEARD_BY_MACHINE
        assert placed.prompts == []
    else:
        assert placed.spoken == [
            "Hello Jane", "Press 1 or 2.", "Press 1 or 2.", "Nothing chosen.", "Good-bye.",
        ]  # fmt: skip


def test_a_person_hears_the_script_whatever_is_done_with_machines(line: Line) -> None:
    line.twilio.person = Person(presses=("2",))
    placed = line.call({**MENU, "voicemail": "leave_message"})
    assert placed.spoken == ["Hello Jane", "Press 1 or 2.", "No more calls.", "Good-bye."]


def test_without_detection_a_machine_counts_as_a_person(line: Line) -> None:
    line.twilio.person = Person(answered_by="machine")
    placed = line.call(MENU, voicemail="off")
    assert placed.one("MachineDetection") is None
    assert line.last()["outcome"] == "answered"


# --- what is said and pressed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "presses, heard, gathered",
    [
        (
            ("1", "1530"),
            ["You want to talk.", "When? End with hash.", "Until then."],
            {"wish": "1", "time": "1530"},
        ),
        (
            ("1", "15#"),
            ["You want to talk.", "When? End with hash.", "Until then."],
            {"wish": "1", "time": "15"},
        ),
        (("1", ""), ["You want to talk.", "When? End with hash.", "Until then."], {"wish": "1"}),
        (("2",), ["No more calls."], {"wish": "2"}),
        (("9",), ["Nothing chosen."], {"wish": "9"}),
        (("#",), ["Nothing chosen."], {"wish": "#"}),
        (("", "2"), ["Press 1 or 2.", "No more calls."], {"wish": "2"}),
        (("", ""), ["Press 1 or 2.", "Nothing chosen."], {}),
    ],
)
def test_every_way_through_a_script(
    line: Line, presses: tuple[str, ...], heard: list[str], gathered: dict[str, str]
) -> None:
    line.twilio.person = Person(presses=presses)
    placed = line.call(MENU)
    assert placed.spoken == ["Hello Jane", "Press 1 or 2.", *heard, "Good-bye."]
    assert line.last().get("gathered", {}) == gathered
    assert line.calls.gathered(reference()) == {}


def test_what_was_pressed_before_hanging_up_is_told(line: Line) -> None:
    line.twilio.person = Person(presses=("1", HANGS_UP))
    placed = line.call(MENU)
    assert "Good-bye." not in placed.spoken
    assert line.last() == {"outcome": "answered", "duration_s": 42, "gathered": {"wish": "1"}}


def test_a_plain_script_goes_with_the_request(line: Line) -> None:
    placed = line.call(PLAIN, voicemail="off", voice="Polly.Amy-Neural", language="en-GB")
    assert placed.one("Url") is None
    assert placed.spoken == ["Hello Jane", "Good-bye"]
    assert 'voice="Polly.Amy-Neural" language="en-GB"' in str(placed.one("Twiml"))
    assert {ask.form.get("CallStatus") for ask in placed.asked} == {
        "initiated", "ringing", "in-progress", "completed",
    }  # fmt: skip


def test_a_long_script_is_fetched(line: Line) -> None:
    long = check_script({"greeting": "<word> & more " * 700, "steps": []})
    placed = line.call(long, voicemail="off")
    assert placed.one("Twiml") is None
    assert " ".join(placed.spoken) == ("<word> & more " * 700).strip()


@pytest.mark.parametrize(
    "text",
    [
        "</Say><Dial>+15550666</Dial><Say>",
        "]]><Dial>+15550666</Dial>",
        "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;",
        "&lt;Dial&gt; &amp; \"quotes\" 'too'",
        "<!-- --><?php ?>",
    ],
)
@pytest.mark.parametrize("voicemail", ["off", "continue"])
def test_a_text_stays_a_text(line: Line, text: str, voicemail: Any) -> None:
    script = check_script(
        {
            "greeting": text,
            "steps": [
                {"type": "gather", "name": "a", "prompt": text},
                {"type": "speak", "text": text},
            ],
        }
    )
    assert line.call(script, voicemail=voicemail).spoken == [text] * 3


def test_an_erased_script_ends_the_call(line: Line) -> None:
    channel = line.configure()
    channel.send(a_call(0, script=dict(MENU)), CONTEXT)
    placed = line.twilio.call()
    assert placed.spoken == []
    assert line.last()["outcome"] == "answered"


def test_the_request_has_the_steps_settings(line: Line) -> None:
    script = {**MENU, "callerId": "+1 (555) 0111-111", "maxDuration": 90}
    placed = line.call(script, ring_s=25, max_duration_s=600)
    assert placed.one("To") == "+15550100"
    assert placed.one("From") == "+15550111111"
    assert (placed.one("TimeLimit"), placed.one("Timeout")) == ("90", "25")
    assert placed.form["StatusCallbackEvent"] == ["initiated", "ringing", "answered", "completed"]
    assert placed.one("Record") is None


def test_the_request_has_the_channels_settings(line: Line) -> None:
    placed = line.call(PLAIN, max_duration_s=600, record=True)
    assert (placed.one("From"), placed.one("TimeLimit")) == (FROM, "600")
    assert line.events[-1].type == "call.recorded"
    assert line.events[-1].data["duration_s"] == 7
    assert "RE1" not in repr([event.data for event in line.events])
    # Each is to be told again if it was not heard.
    for name in ("Url", "StatusCallback", "RecordingStatusCallback"):
        assert str(placed.one(name)).endswith(RETRIES)


# --- callbacks in every state ---------------------------------------------------------------------


def test_what_is_told_twice_has_one_id(line: Line) -> None:
    line.twilio.twice = True
    line.call(PLAIN)
    assert len(line.events) == 8
    assert len({event.event_id for event in line.events}) == 4


def test_order_does_not_matter(line: Line) -> None:
    line.twilio.person = Person(presses=("1", "15#"))
    line.twilio.backwards = True
    line.call(MENU)
    assert line.types == ["call.completed", "call.answered", "call.ringing", "call.initiated"]
    assert line.last()["gathered"] == {"wish": "1", "time": "15"}


def test_callbacks_may_come_before_the_answer_to_the_request(line: Line) -> None:
    line.twilio.early = True
    line.twilio.person = Person(presses=("2",))
    line.call(MENU)
    assert line.last()["gathered"] == {"wish": "2"}
    assert line.calls.sids(key(0), 1) == [line.twilio.calls[0].sid]


def test_an_event_that_could_not_be_recorded_is_told_again(line: Line) -> None:
    line.failures = 2
    line.twilio.person = Person("busy")
    placed = line.call(PLAIN)
    assert [ask.status for ask in placed.asked] == [500, 500, 200, 200, 200]
    assert line.types == ["call.initiated", "call.ringing", "call.completed"]
    assert [type(error) for error in line.errors] == [OSError, OSError]


def test_what_another_signed_is_refused(line: Line) -> None:
    line.twilio.wrong_token = True
    line.send(MENU)
    placed = line.twilio.call()
    assert {ask.status for ask in placed.asked} == {403}
    assert placed.spoken == []
    assert line.events == []


def test_what_nobody_signed_is_refused(line: Line) -> None:
    placed = line.call(PLAIN)
    before = len(line.events)
    asked = placed.asked[-1]
    for signature in (None, "", "x", twilio_signature(TOKEN, asked.url, {})):
        assert post(asked.url, asked.form, signature)[0] == 403
    changed = {**asked.form, "CallStatus": "busy"}
    signature = twilio_signature(TOKEN, asked.url, asked.form)
    assert post(asked.url, changed, signature)[0] == 403
    assert post(asked.url, asked.form, signature)[0] == 200
    assert len(line.events) == before + 1


def test_a_call_cannot_speak_for_another(line: Line) -> None:
    first = line.call(PLAIN)
    line.send(PLAIN, seed="other")
    assert line.twilio.calls[1].over.wait(60)
    before = len(line.events)
    form = {**first.asked[0].form, "CallStatus": "busy"}
    url = line.twilio.calls[1].asked[0].url
    assert post(url, form, twilio_signature(TOKEN, url, form))[0] == 403
    assert len(line.events) == before
