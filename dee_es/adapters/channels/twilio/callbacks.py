"""What Twilio tells and asks while a call goes on: verified, answered, turned into channel events.

`TwilioCallbacks.handle` takes a request as any web server has it and gives the reply and the
events. It does not record them: that is for its host, which replies only after that, and with an
error if it could not, upon which Twilio tells again. Ids of events follow from the attempt and what
happened, so what is told twice is recorded once. Order does not matter either.

Outcomes, by the call's last status:

* `completed`: `answered`, or `voicemail` if a machine or a fax did (`unknown` counts as a person);
* `busy` and `no-answer` are what they say, `failed` and `canceled` are `failed`;
* `declined`: Twilio has no such status. A rejected call is reported as busy or as not answered, and
  only where the network says so, by SIP code 603 (decline) or 607 (unwanted), it is told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl

from dee_es.adapters.channels.twilio.adapter import SID, voicemail_mode
from dee_es.adapters.channels.twilio.calls import ProviderCalls
from dee_es.adapters.channels.twilio.script import answered
from dee_es.adapters.channels.twilio.settings import TwilioSettings
from dee_es.adapters.channels.twilio.signature import is_signed
from dee_es.adapters.channels.twilio.tokens import CallRef, Kind, Place, Token
from dee_es.adapters.channels.twilio.twiml import Writer, hangup
from dee_es.adapters.channels.twilio.urls import RETRIES, CallbackUrls
from dee_es.core.ids import length_prefixed
from dee_es.core.messages.message import message_id
from dee_es.errors import StoreUnavailable

MAX_BODY: Final = 64 * 1024
"""Bytes of the largest request that is read; Twilio's have some two thousand."""
_MAX_FIELDS: Final = 500

ScriptSource = Callable[[CallRef], Mapping[str, Any] | None]
"""Finds the script of an attempt as it was rendered, in the log; None if it was erased."""

_PROGRESS: Final = {
    "queued": "call.initiated",
    "initiated": "call.initiated",
    "ringing": "call.ringing",
    "answered": "call.answered",
    "in-progress": "call.answered",
}
_OVER: Final = {
    "completed": "answered",
    "busy": "busy",
    "no-answer": "no_answer",
    "failed": "failed",
    "canceled": "failed",
}
_DECLINED: Final = frozenset({"603", "607"})


@dataclass(frozen=True, slots=True)
class ChannelEvent:
    """Something that happened to a call, for `ingest_event`; the contact is that of the run.

    `data` has the engine's own `message_id` and `attempt`, and for a call that is over `outcome`,
    maybe `duration_s`, and what was pressed as `gathered`. `occurred_at` is in UTC, None if Twilio
    did not say when.
    """

    type: str
    run_id: str
    step_id: str
    event_id: str
    data: Mapping[str, Any] = field(repr=False)
    occurred_at: datetime | None = None
    over: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer, once `events` are recorded."""

    status: int
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    events: tuple[ChannelEvent, ...] = ()


class TwilioCallbacks:
    """Handles the requests of all calls. Safe to share between threads.

    Nothing but the table of calls is kept from one request to the next: where a call stands is in
    its URLs, and what it says is in the log, where `scripts` looks it up.
    """

    def __init__(
        self, settings: TwilioSettings, calls: ProviderCalls, scripts: ScriptSource
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._scripts = scripts
        self._urls = CallbackUrls(settings.callback_url, settings.callback_secret)
        self._writer = Writer(settings.voice, settings.language)
        self._handlers: dict[Kind, Callable[[Token, Mapping[str, str]], Reply]] = {
            "status": self._status,
            "voice": self._voice,
            "gather": self._gather,
            "recording": self._recording,
        }

    def __repr__(self) -> str:
        return f"TwilioCallbacks({self._urls!r})"

    def handle(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer one request; `url` may be whole or a path, names of headers in any case.

        Whatever is not signed by Twilio, for this account and for the call that its URL is about,
        is refused and changes nothing. Of what is raised, `StoreUnavailable` becomes a 503.
        """
        if method != "POST":
            return _refusal(405, "only POST is answered here")
        if len(body) > MAX_BODY:
            return _refusal(413, "the request is too large")
        route = self._urls.read(url)
        if route is None:
            return _refusal(404, "there is nothing here")
        kind, text, public = route
        pairs = _form(body)
        if pairs is None:
            return _refusal(400, "the form cannot be read")
        signature = _header(headers, "x-twilio-signature")
        token = self._settings.auth_token
        if not is_signed(token, public, pairs, body, signature, RETRIES):
            return _refusal(403, "the signature is not Twilio's")
        held, form = self._urls.token(kind, text), dict(pairs)
        if held is None or form.get("AccountSid") != self._settings.account_sid:
            return _refusal(403, "this is not about a call of ours")
        try:
            return self._about(kind, held, form)
        except StoreUnavailable:
            return _refusal(503, "try again later")

    def recorded(self, reply: Reply) -> None:
        """Forget what was kept for a call that is over, now that the events are in the log."""
        for event in reply.events:
            if event.over is not None:
                self._calls.settle(*event.over)

    def _about(self, kind: Kind, token: Token, form: Mapping[str, str]) -> Reply:
        sid = form.get("CallSid", "")
        if not SID.match(sid) or not self._calls.bind(token.call, sid):
            return _refusal(403, "this is not about the call of this URL")
        return self._handlers[kind](token, form)

    # --- what is told -----------------------------------------------------------------------------

    def _status(self, token: Token, form: Mapping[str, str]) -> Reply:
        status, call = form.get("CallStatus", ""), token.call
        if status in _PROGRESS:
            kind = _PROGRESS[status]
            return Reply(200, events=(_event(kind, call, kind, form),))
        if status not in _OVER:
            return _refusal(400, "the status is not known")
        outcome = self._outcome(call, status, form)
        kind = "call.failed" if outcome == "failed" else "call.completed"
        data: dict[str, Any] = {"outcome": outcome}
        duration = _seconds(form.get("CallDuration"))
        if duration is not None:
            data["duration_s"] = duration
        gathered = self._calls.gathered(call)
        if gathered:
            data["gathered"] = gathered
        # One id for every way to be over: a call ends once.
        return Reply(200, events=(_event(kind, call, "over", form, data),))

    def _outcome(self, call: CallRef, status: str, form: Mapping[str, str]) -> str:
        if status == "completed":
            machine = _is_machine(form) or self._calls.is_machine(call)
            return "voicemail" if machine else "answered"
        if form.get("SipResponseCode") in _DECLINED:
            return "declined"
        return _OVER[status]

    def _recording(self, token: Token, form: Mapping[str, str]) -> Reply:
        if form.get("RecordingStatus", "completed") != "completed":
            return Reply(200)
        duration = _seconds(form.get("RecordingDuration"))
        data = {} if duration is None else {"duration_s": duration}
        event = _event("call.recorded", token.call, "call.recorded", form, data)
        return Reply(200, events=(event,))

    # --- what is asked ----------------------------------------------------------------------------

    def _voice(self, token: Token, form: Mapping[str, str]) -> Reply:
        call = token.call
        events: tuple[ChannelEvent, ...] = ()
        machine = _is_machine(form)
        if machine:
            self._calls.note_machine(call)
            events = (_event("call.voicemail", call, "call.voicemail", form, _VOICEMAIL),)
        script = self._scripts(call)
        if script is None:
            return _document(hangup(), events)
        if machine:
            mode = voicemail_mode(script, self._settings)
            if mode == "hangup" or form.get("AnsweredBy") == "fax":
                return _document(hangup(), events)
            if mode == "leave_message":
                return _document(self._writer.message(script), events)
        return _document(self._next(call, script, token.place), events)

    def _gather(self, token: Token, form: Mapping[str, str]) -> Reply:
        script = self._scripts(token.call)
        if script is None:
            return _document(hangup())
        digits = form.get("Digits", "")
        try:
            place, name = answered(script, token.place, digits)
        except LookupError:
            return _document(hangup())
        if name is not None:
            self._calls.gather(token.call, name, digits)
        return _document(self._next(token.call, script, place))

    def _next(self, call: CallRef, script: Mapping[str, Any], place: Place) -> bytes:
        def url(gather: Place) -> str:
            return self._urls.make("gather", call, gather) + RETRIES

        return self._writer.document(script, place, url)


_VOICEMAIL: Final = {"outcome": "voicemail"}


def _event(
    kind: str,
    call: CallRef,
    what: str,
    form: Mapping[str, str],
    data: Mapping[str, Any] | None = None,
) -> ChannelEvent:
    named = {"message_id": message_id(call.key), "attempt": call.attempt}
    parts = (call.key.encode(), str(call.attempt).encode(), what.encode())
    return ChannelEvent(
        kind,
        call.run_id,
        call.step_id,
        f"twilio-{sha256(length_prefixed(parts)).hexdigest()[:40]}",
        {**named, **(data or {})},
        _moment(form.get("Timestamp")),
        (call.key, call.attempt) if what == "over" else None,
    )


def _form(body: bytes) -> list[tuple[str, str]] | None:
    try:
        return parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"
        )
    except ValueError:
        return None


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "")


def _is_machine(form: Mapping[str, str]) -> bool:
    answered_by = form.get("AnsweredBy", "")
    return answered_by == "fax" or answered_by.startswith("machine")


def _seconds(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return int(text)


def _moment(text: str | None) -> datetime | None:
    """Twilio's time (RFC 2822) in UTC."""
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _document(twiml: bytes, events: tuple[ChannelEvent, ...] = ()) -> Reply:
    return Reply(200, "text/xml; charset=utf-8", twiml, events)


def _refusal(status: int, why: str) -> Reply:
    return Reply(status, body=why.encode())
