"""Callbacks as a pure matter of requests and replies: who is let in, and what follows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest

from dee_es.adapters.channels.twilio import (
    CallRef,
    ProviderCalls,
    Reply,
    TwilioCallbacks,
    TwilioSettings,
)
from dee_es.adapters.channels.twilio.callbacks import MAX_BODY
from dee_es.adapters.channels.twilio.signature import sign
from dee_es.adapters.channels.twilio.tokens import Kind, Place
from dee_es.adapters.channels.twilio.urls import RETRIES, CallbackUrls
from dee_es.core.messages.message import message_id
from dee_es.core.messages.script import check_script
from dee_es.errors import InvalidInput, StoreUnavailable
from tests.support.channels.twilio import ACCOUNT, FROM, SECRET, TOKEN

CALL = CallRef("run_" + "a" * 26, "call", "e" * 64, 1)
SID = "CA" + "1" * 32
SETTINGS = TwilioSettings(ACCOUNT, TOKEN, FROM, "https://calls.example/t", SECRET)
URLS = CallbackUrls(SETTINGS.callback_url, SECRET)
OTHERS = CallbackUrls(SETTINGS.callback_url, "another secret!!")
SCRIPT = check_script({"greeting": "Hello", "steps": []})
FORM = {"AccountSid": ACCOUNT, "CallSid": SID, "CallStatus": "ringing"}
DAY_S = 24 * 3600


class Desk:
    """Callbacks, and requests that Twilio might make."""

    def __init__(self, calls: ProviderCalls, script: Mapping[str, Any] | None = SCRIPT) -> None:
        self.calls = calls
        self.callbacks = TwilioCallbacks(SETTINGS, calls, lambda call: script)

    def ask(
        self,
        kind: Kind = "status",
        *,
        call: CallRef = CALL,
        place: Place | None = None,
        method: str = "POST",
        token: str = TOKEN,
        header: str = "X-Twilio-Signature",
        fragment: str = "",
        url: str | None = None,
        **form: str | None,
    ) -> Reply:
        """A proper request, but for what is given; None is left out."""
        given = {name: value for name, value in {**FORM, **form}.items() if value is not None}
        asked = url or URLS.make(kind, call, place)
        signature = sign(token, asked + fragment, given.items())
        body = urlencode(given).encode()
        return self.callbacks.handle(method, asked, {header: signature}, body)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    calls = ProviderCalls(tmp_path / "calls.db")
    yield Desk(calls)
    calls.close()


# --- who is let in --------------------------------------------------------------------------------


def test_a_proper_request_is_answered(desk: Desk) -> None:
    for header in ("X-Twilio-Signature", "x-twilio-signature"):
        for fragment in ("", RETRIES):
            reply = desk.ask(header=header, fragment=fragment)
            assert reply.status == 200
            assert [event.type for event in reply.events] == ["call.ringing"]


@pytest.mark.parametrize(
    "changes, status",
    [
        ({"method": "GET"}, 405),
        ({"method": "PUT"}, 405),
        ({"token": "another"}, 403),
        ({"header": "X-Other"}, 403),
        ({"AccountSid": "AC" + "9" * 32}, 403),
        ({"AccountSid": None}, 403),
        ({"CallSid": "x"}, 403),
        ({"CallSid": None}, 403),
        ({"CallSid": "RE" + "1" * 32}, 403),
        ({"CallStatus": "melting"}, 400),
        ({"CallStatus": ""}, 400),
        ({"CallStatus": None}, 400),
        ({"url": "https://calls.example/t/"}, 404),
        ({"url": "https://calls.example/t/status/abc.def"}, 403),
        ({"url": URLS.make("voice", CALL).replace("/voice/", "/status/")}, 403),
        (
            {"url": CallbackUrls(SETTINGS.callback_url, "another secret!!").make("status", CALL)},
            403,
        ),
        ({"junk": "x" * 70_000}, 413),
    ],
)
def test_everything_else_is_refused_and_changes_nothing(
    desk: Desk, changes: dict[str, Any], status: int
) -> None:
    reply = desk.ask(**changes)
    assert (reply.status, reply.events) == (status, ())
    assert TOKEN.encode() not in reply.body
    if status != 400:
        assert desk.calls.find(SID) is None


def test_requests_have_room_to_grow(desk: Desk) -> None:
    """Twilio adds parameters without notice; what it signs of them is believed."""
    assert desk.ask(**{f"New{number}": "" for number in range(300)}).status == 200
    padding = MAX_BODY - len(urlencode({**FORM, "Padding": ""}))
    assert desk.ask(Padding="x" * padding).status == 200
    assert desk.ask(Padding="x" * (padding + 1)).status == 413


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a=%ff", b"&".join([b"a=1"] * 600)])
def test_a_form_that_cannot_be_read_is_refused(desk: Desk, body: bytes) -> None:
    reply = desk.callbacks.handle("POST", URLS.make("status", CALL), {}, body)
    assert (reply.status, reply.events) == (400, ())


def test_one_call_at_twilio_belongs_to_one_attempt(desk: Desk) -> None:
    assert desk.ask().status == 200
    other = CallRef(CALL.run_id, CALL.step_id, "d" * 64, 1)
    assert desk.ask(call=other).status == 403
    assert desk.ask(call=other, CallSid="CA" + "2" * 32).status == 200


def test_a_table_that_is_away_asks_twilio_to_come_again(desk: Desk) -> None:
    desk.calls.close()
    assert desk.ask().status == 503


# --- what follows ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status, kind, outcome",
    [
        ("queued", "call.initiated", None),
        ("initiated", "call.initiated", None),
        ("ringing", "call.ringing", None),
        ("in-progress", "call.answered", None),
        ("answered", "call.answered", None),
        ("completed", "call.completed", "answered"),
        ("busy", "call.completed", "busy"),
        ("no-answer", "call.completed", "no_answer"),
        ("canceled", "call.failed", "failed"),
        ("failed", "call.failed", "failed"),
    ],
)
def test_what_each_status_means(desk: Desk, status: str, kind: str, outcome: str | None) -> None:
    second = CallRef(CALL.run_id, CALL.step_id, CALL.key, 2)
    (event,) = desk.ask(call=second, CallStatus=status, CallDuration="007").events
    assert (event.type, event.run_id, event.step_id) == (kind, CALL.run_id, CALL.step_id)
    expected = {"message_id": message_id(CALL.key), "attempt": 2}
    if outcome is not None:
        expected |= {"outcome": outcome, "duration_s": 7}
    assert event.data == expected


@pytest.mark.parametrize(
    "status, code, outcome",
    [
        ("busy", "603", "declined"),
        ("no-answer", "603", "declined"),
        ("failed", "607", "declined"),
        ("busy", "486", "busy"),
        ("busy", "6030", "busy"),
        ("completed", "603", "answered"),
    ],
)
def test_declined_is_what_the_network_calls_so(
    desk: Desk, status: str, code: str, outcome: str
) -> None:
    """A call that somebody answered was not declined, whatever is said with it."""
    (event,) = desk.ask(CallStatus=status, SipResponseCode=code).events
    assert event.data["outcome"] == outcome


def test_ids_follow_from_attempt_and_matter(desk: Desk) -> None:
    def ids(**changes: Any) -> str:
        return desk.ask(**changes).events[0].event_id

    assert ids() == ids(Timestamp="Sat, 01 Mar 2025 09:30:00 +0000", SequenceNumber="7")
    assert ids().startswith("twilio-")
    assert SID not in ids()
    assert ids(CallStatus="queued") == ids(CallStatus="initiated")
    assert ids(CallStatus="completed") == ids(CallStatus="busy")
    second = CallRef(CALL.run_id, CALL.step_id, CALL.key, 2)
    assert ids(call=second, CallSid="CA" + "2" * 32) != ids()
    assert len({ids(CallStatus=s) for s in ("queued", "ringing", "in-progress", "busy")}) == 4


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Sat, 01 Mar 2025 09:30:00 +0000", "2025-03-01T09:30:00+00:00"),
        ("Sat, 01 Mar 2025 10:30:00 +0100", "2025-03-01T09:30:00+00:00"),
        ("Sat, 01 Mar 2025 09:30:00 -0000", "2025-03-01T09:30:00+00:00"),
        ("yesterday", None),
        ("", None),
        ("Sat, 99 Mar 2025 09:30:00 +0000", None),
        ("Fri, 31 Dec 9999 23:30:00 -0100", None),
        ("Sat, 01 Mar 99999999999 09:30:00 +0000", None),
        (None, None),
    ],
)
def test_when_it_happened(
    desk: Desk, text: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        moment = desk.ask(Timestamp=text).events[0].occurred_at
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (moment.isoformat() if moment else None) == expected


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "9" * 30, "²"])
def test_a_duration_that_is_none_is_left_out(desk: Desk, text: str) -> None:
    (event,) = desk.ask(CallStatus="completed", CallDuration=text).events
    assert "duration_s" not in event.data


def test_digits_are_kept_until_they_are_recorded(desk: Desk, tmp_path: Path) -> None:
    asks = check_script(
        {"greeting": "Hi", "steps": [{"type": "gather", "name": "a", "prompt": "?"}]}
    )
    caller = Desk(desk.calls, asks)
    assert caller.ask("gather", place=Place((0,)), Digits="7").status == 200
    for _ in range(2):  # told, but not recorded: it is told in full again
        reply = caller.ask(CallStatus="completed")
        assert reply.events[0].data["gathered"] == {"a": "7"}
    caller.callbacks.recorded(caller.ask(CallStatus="ringing"))
    assert desk.calls.gathered(CALL) == {"a": "7"}
    caller.callbacks.recorded(reply)
    again = caller.ask(CallStatus="completed")
    assert "gathered" not in again.events[0].data
    assert again.events[0].event_id == reply.events[0].event_id


@pytest.mark.parametrize(
    "seen, outcome",
    [
        ("human", "answered"),
        ("unknown", "answered"),
        ("machine_start", "voicemail"),
        ("machine_end_beep", "voicemail"),
        ("fax", "voicemail"),
    ],
)
def test_who_answered_may_be_told_by_the_last_status_alone(
    desk: Desk, seen: str, outcome: str
) -> None:
    """What asked for the first words was lost, or comes later."""
    (event,) = desk.ask(CallStatus="completed", AnsweredBy=seen).events
    assert event.data["outcome"] == outcome


def test_a_machine_that_was_told_of_before_is_remembered(desk: Desk) -> None:
    desk.ask("voice", AnsweredBy="machine_start")
    (event,) = desk.ask(CallStatus="completed").events
    assert event.data["outcome"] == "voicemail"


def test_only_a_recording_that_is_there_is_an_event(desk: Desk) -> None:
    for status in ("absent", "failed", "in-progress"):
        assert desk.ask("recording", RecordingStatus=status).events == ()
    (event,) = desk.ask("recording", RecordingDuration="7").events
    assert event.data["duration_s"] == 7
    (event,) = desk.ask("recording", RecordingStatus="completed").events
    assert event.type == "call.recorded"
    assert "duration_s" not in event.data, "nothing was said of it"


@pytest.mark.parametrize("mode", [None, "hangup", "leave_message", "continue"])
@pytest.mark.parametrize("seen", ["machine_start", "machine_end_other", "fax"])
def test_a_machine_is_told_of_whatever_is_said_to_it(
    desk: Desk, mode: str | None, seen: str
) -> None:
    script = None if mode is None else {**SCRIPT, "voicemail": mode}
    reply = Desk(desk.calls, script).ask("voice", AnsweredBy=seen)
    assert [event.type for event in reply.events] == ["call.voicemail"]
    assert reply.events[0].data["outcome"] == "voicemail"
    spoken = mode in ("leave_message", "continue") and seen != "fax"
    assert (b"Hello" in reply.body) == spoken
    assert (reply.status, reply.content_type) == (200, "text/xml; charset=utf-8")


@pytest.mark.parametrize("pressed", ["", "12", "w", None])
def test_what_is_no_answer_is_not_kept(desk: Desk, pressed: str | None) -> None:
    asks = check_script(
        {"greeting": "Hi", "steps": [{"type": "gather", "name": "a", "prompt": "?"}]}
    )
    Desk(desk.calls, asks).ask("gather", place=Place((0,)), Digits=pressed)
    assert desk.calls.gathered(CALL) == {}


def test_what_was_pressed_is_told_again_if_it_was_not_heard(desk: Desk) -> None:
    steps = [{"type": "gather", "name": name, "prompt": "?"} for name in "ab"]
    caller = Desk(desk.calls, check_script({"greeting": "Hi", "steps": steps}))
    for reply in (caller.ask("voice"), caller.ask("gather", place=Place((0,)), Digits="1")):
        (gather,) = ElementTree.fromstring(reply.body.decode()).iter("Gather")  # noqa: S314
        url, _, fragment = str(gather.get("action")).partition("#")
        assert f"#{fragment}" == RETRIES
        assert URLS.read(url) is not None


@pytest.mark.parametrize("kind", ["voice", "gather"])
def test_an_erased_script_ends_the_call(desk: Desk, kind: Kind) -> None:
    reply = Desk(desk.calls, None).ask(kind)
    assert reply.status == 200
    assert b"<Hangup />" in reply.body
    assert b"Say" not in reply.body


def test_a_place_that_is_gone_ends_the_call(desk: Desk) -> None:
    reply = desk.ask("gather", place=Place((5,)), Digits="1")
    assert (reply.status, b"<Hangup />" in reply.body) == (200, True)


def test_an_event_shows_nothing_that_was_pressed(desk: Desk) -> None:
    desk.calls.gather(CALL, "pin", "4711")
    reply = desk.ask(CallStatus="completed")
    assert reply.events[0].data["gathered"] == {"pin": "4711"}
    assert "4711" not in repr(reply)


# --- the table of calls ---------------------------------------------------------------------------


def test_a_run_can_be_forgotten(desk: Desk) -> None:
    desk.calls.bind(CALL, SID)
    desk.calls.note_machine(CALL)
    desk.calls.gather(CALL, "a", "1")
    assert desk.calls.sids(CALL.key, 1) == [SID]
    desk.calls.erase([CALL.run_id])
    assert desk.calls.find(SID) is None
    assert desk.calls.gathered(CALL) == {}
    assert not desk.calls.is_machine(CALL)


def test_each_attempt_has_its_own_call_and_what_is_known_of_it(desk: Desk) -> None:
    """All attempts to place a call have one key, and one of them alone met a machine."""
    attempts = [CallRef(CALL.run_id, CALL.step_id, CALL.key, number) for number in (1, 2, 3)]
    for number, each in enumerate(attempts):
        assert desk.calls.bind(each, f"CA{number}")
        desk.calls.gather(each, "a", str(number))
    desk.calls.note_machine(attempts[1])
    assert [desk.calls.is_machine(each) for each in attempts] == [False, True, False]
    assert [desk.calls.sids(each.key, each.attempt) for each in attempts] == [
        ["CA0"],
        ["CA1"],
        ["CA2"],
    ]
    desk.calls.settle(CALL.key, 2)
    assert [desk.calls.gathered(each) for each in attempts] == [{"a": "0"}, {}, {"a": "2"}]
    assert desk.calls.is_machine(attempts[1]), "its last status may be told again"
    (event,) = desk.ask(call=attempts[2], CallSid="CA" + "3" * 32, CallStatus="completed").events
    assert event.data["outcome"] == "answered"
    other = CallRef("run_2", "call", "k" * 64, 1)
    assert desk.calls.bind(other, "CA9")
    desk.calls.gather(other, "a", "9")
    desk.calls.erase([CALL.run_id])
    assert desk.calls.gathered(other) == {"a": "9"}
    assert desk.calls.find("CA9") == other


def test_digits_of_a_call_whose_end_is_never_told_are_not_kept_for_ever(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is never restarted forgets them, and one that only ever is does so as well."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    desk.calls.gather(CALL, "pin", "4711")
    other = CallRef("run_2", "call", "k" * 64, 1)
    now += 2 * DAY_S
    desk.calls.gather(other, "pin", "12")
    assert desk.calls.gathered(CALL) == {"pin": "4711"}
    now += 1
    desk.calls.gather(other, "pin", "123")
    assert desk.calls.gathered(CALL) == {}
    assert desk.calls.gathered(other) == {"pin": "123"}
    now += 2 * DAY_S + 1
    ProviderCalls(tmp_path / "calls.db").close()
    assert desk.calls.gathered(other) == {}


def test_the_table_outlives_its_process_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    first = ProviderCalls(path)
    assert first.bind(CALL, SID)
    second = ProviderCalls(path)
    assert second.find(SID) == CALL
    assert path.stat().st_mode & 0o777 == 0o600
    for each in (first, second, second):
        each.close()
    with pytest.raises(StoreUnavailable):
        second.find(SID)


def test_a_table_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="table of calls"):
        ProviderCalls(tmp_path / "missing" / "calls.db")
    (tmp_path / "text.db").write_text("this is no database, whatever its name says " * 9)
    with pytest.raises(StoreUnavailable):
        ProviderCalls(tmp_path / "text.db")


# --- settings -------------------------------------------------------------------------------------

NEEDED: dict[str, Any] = {
    "account_sid": ACCOUNT,
    "auth_token": TOKEN,
    "from_number": FROM,
    "callback_url": "https://calls.example/t",
    "callback_secret": SECRET,
}


def test_what_is_not_set_is_what_twilio_would_do() -> None:
    """But for machines, which count as such: somebody who is spoken to should be known for one."""
    settings = TwilioSettings(**NEEDED)
    assert (settings.voicemail, settings.record, settings.max_duration_s) == (
        "continue",
        False,
        None,
    )
    assert (settings.ring_s, settings.timeout_s) == (60, 30)
    assert settings.api_url == "https://api.twilio.com"
    assert SECRET not in repr(settings)
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize(
    "name, value",
    [
        ("callback_secret", "s" * 16),
        ("from_number", "+1234567"),
        ("from_number", "+123456789012345"),
        ("callback_url", "http://localhost:8080/x"),
        ("callback_url", "http://127.0.0.1"),
        ("callback_url", "http://[::1]:8080/"),
        ("callback_url", "https://calls.example:8443/"),
        ("ring_s", 1),
        ("ring_s", 600),
        ("max_duration_s", 1),
        ("timeout_s", 0.1),
        ("voice", "Polly.Amy-Neural"),
    ],
)
def test_settings_at_the_edge_of_what_works_are_taken(name: str, value: Any) -> None:
    assert getattr(TwilioSettings(**{**NEEDED, name: value}), name) == value


@pytest.mark.parametrize(
    "name, value",
    [
        ("account_sid", "AC1"),
        ("account_sid", "SK" + "1" * 32),
        ("auth_token", ""),
        ("auth_token", "a b"),
        ("auth_token", "a\r\nX: y"),
        ("callback_secret", "s" * 15),
        ("from_number", "555-0100"),
        ("from_number", "+15550100\n"),
        ("from_number", "+123456"),
        ("from_number", "+0234567"),
        ("from_number", "+1234567890123456"),
        ("callback_url", "http://calls.example"),
        ("callback_url", "http://localhost.example"),
        ("callback_url", "https://calls.example/?a=1"),
        ("callback_url", "https://calls.example/#rc=9"),
        ("callback_url", "https://u:p@calls.example/"),
        ("callback_url", "ftp://calls.example/"),
        ("callback_url", "ftp://localhost/"),
        ("callback_url", "https://"),
        ("callback_url", "https://calls.example:99999/"),
        ("callback_url", "https://calls.example:0/"),
        ("api_url", "http://api.example"),
        ("api_url", "https://api.example/\r\n"),
        ("timeout_s", 0),
        ("ring_s", 601),
        ("ring_s", 0),
        ("max_duration_s", 0),
        ("voicemail", "shout"),
        ("voice", 'alice"'),
        ("language", "de DE"),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        TwilioSettings(**{**NEEDED, name: value})
    assert name in str(refused.value)
    assert SECRET not in str(refused.value)
    assert TOKEN not in str(refused.value)
