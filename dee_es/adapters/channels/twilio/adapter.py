"""Calls through Twilio, with a result that says exactly what is known.

One attempt is one POST to the Calls resource, which has no idempotency keys: the same request twice
is two calls. So nothing is ever repeated in here, and what may have been accepted is not failed:

* 201: the call is under way, `pending`; how it goes comes by callbacks;
* 4xx: refused, `failed`; only a 429 may be tried again, and 401 and 404, which say that account or
  token are wrong, are `ours`, as is a certificate that does not verify;
* no connection, so that no byte of the request has left: `failed`, may be tried again;
* all else, a 5xx, silence or a lost connection: `unknown`. If the call was placed after all, its
  callbacks tell, since they carry the attempt they belong to.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from dee_es.adapters.channels.deadline import Deadline, DeadlineSocket
from dee_es.adapters.channels.trust import trusting
from dee_es.adapters.channels.twilio.calls import ProviderCalls
from dee_es.adapters.channels.twilio.settings import E164, TwilioSettings, Voicemail
from dee_es.adapters.channels.twilio.tokens import CallRef
from dee_es.adapters.channels.twilio.twiml import Writer, check_fits
from dee_es.adapters.channels.twilio.urls import RETRIES, CallbackUrls
from dee_es.core.contact import check_phone, fold_phone
from dee_es.core.messages.message import message_id
from dee_es.errors import InvalidInput, StoreUnavailable
from dee_es.ports import Action, ChannelResult, SendContext

SID: Final = re.compile(r"CA[0-9a-fA-F]{32}\Z")
"""Twilio's name for a call."""

_PROGRESS: Final = ("initiated", "ringing", "answered", "completed")
_MAX_ANSWER: Final = 64 * 1024
_MAX_REPLY: Final = 500
_ANY_SID: Final = re.compile(r"\b[A-Z]{2}[0-9a-fA-F]{32}\b")

Form = list[tuple[str, str]]


class TwilioChannel:
    """Places calls. Safe to share between threads; each attempt has a connection of its own, since
    an account may place no more than some calls a second anyway. Proxies are not used.

    `calls` is closed with the channel. Raises `InvalidInput` for a `ca_file` without certificates.
    """

    name = "twilio"
    kinds = frozenset({"voice"})

    def __init__(self, settings: TwilioSettings, calls: ProviderCalls) -> None:
        self._settings = settings
        self._calls = calls
        self._urls = CallbackUrls(settings.callback_url, settings.callback_secret)
        self._writer = Writer(settings.voice, settings.language)
        self._tls = None
        if urlsplit(settings.api_url).scheme == "https":
            self._tls = trusting(settings.ca_file, "twilio.ca_file")

    def __repr__(self) -> str:
        return f"TwilioChannel({self._settings.api_url!r})"

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Make the attempt; see the module for what each result means.

        `error` is `twilio` and the status of the answer, with Twilio's own error code behind it, or
        else the class of an exception. Twilio's words, which may repeat numbers, are in `detail`.
        """
        if action.channel not in self.kinds:
            return ChannelResult("failed", error="invalid channel: is not one that twilio serves")
        call = CallRef(action.run_id, action.step_id, action.key, action.attempt)
        try:
            form = self._form(action, call)
        except InvalidInput as error:
            return ChannelResult("failed", error=f"invalid {error.field}: {error.problem}")
        return self._attempt(call, urlencode(form).encode())

    def close(self) -> None:
        """Close the table of calls; no connection is open between sends."""
        self._calls.close()

    # --- the request ------------------------------------------------------------------------------

    def _form(self, action: Action, call: CallRef) -> Form:
        """The parameters of the request. Raises `InvalidInput` naming the field."""
        script, settings = action.message.script, self._settings
        if script is None:
            raise InvalidInput("script", "is missing")
        check_fits(script, self._urls.longest(call, script))
        form = [
            ("To", _number("to", action.message.to)),
            ("From", _number("caller_id", script.get("callerId") or settings.from_number)),
            ("Timeout", str(settings.ring_s)),
            ("StatusCallback", self._urls.make("status", call) + RETRIES),
            ("StatusCallbackMethod", "POST"),
            *(("StatusCallbackEvent", event) for event in _PROGRESS),
        ]
        limit = script.get("maxDuration") or settings.max_duration_s
        if limit is not None:
            form.append(("TimeLimit", str(limit)))
        if settings.record:
            form += [
                ("Record", "true"),
                ("RecordingStatusCallback", self._urls.make("recording", call) + RETRIES),
                ("RecordingStatusCallbackMethod", "POST"),
                ("RecordingStatusCallbackEvent", "completed"),
            ]
        return form + self._words(script, call)

    def _words(self, script: Mapping[str, Any], call: CallRef) -> Form:
        """What is to be said: with the request where that is possible, so that a call does not
        depend on our being there when it is answered; else where to ask for it."""
        mode = voicemail_mode(script, self._settings)
        if mode == "off":
            document = self._writer.inline(script)
            if document is not None:
                return [("Twiml", document)]
        words = [("Url", self._urls.make("voice", call) + RETRIES), ("Method", "POST")]
        if mode != "off":
            detection = "DetectMessageEnd" if mode == "leave_message" else "Enable"
            words.append(("MachineDetection", detection))
        return words

    # --- one attempt ------------------------------------------------------------------------------

    def _attempt(self, call: CallRef, body: bytes) -> ChannelResult:
        connection = self._connection()
        try:
            try:
                connection.connect()
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                text = f"twilio {type(error).__name__}"
                unfit = isinstance(error, ssl.SSLCertVerificationError)
                return ChannelResult(
                    "failed", error=text, retryable=True, detail={"stage": "connect"}, ours=unfit
                )
            try:
                _bound(connection, self._settings.timeout_s)
                connection.request("POST", self._path(), body, self._headers())
                answer = connection.getresponse()
            except Exception as error:
                # Whatever it was: the request, or enough of it, may be with Twilio.
                text = f"twilio {type(error).__name__}"
                return ChannelResult("unknown", error=text, detail={"stage": "answer"})
            return self._result(call, answer.status, _content(answer))
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        url = urlsplit(self._settings.api_url)
        host, timeout = url.hostname or "", self._settings.timeout_s
        if self._tls is not None:
            return http.client.HTTPSConnection(host, url.port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(host, url.port, timeout=timeout)

    def _path(self) -> str:
        prefix = urlsplit(self._settings.api_url).path.rstrip("/")
        return f"{prefix}/2010-04-01/Accounts/{self._settings.account_sid}/Calls.json"

    def _headers(self) -> dict[str, str]:
        user = f"{self._settings.account_sid}:{self._settings.auth_token}"
        return {
            "Authorization": "Basic " + base64.b64encode(user.encode()).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "User-Agent": "dee-es",
            "Connection": "close",
        }

    def _result(self, call: CallRef, status: int, content: Mapping[str, Any]) -> ChannelResult:
        if status == 201:
            sid = content.get("sid")
            if isinstance(sid, str) and SID.match(sid):
                self._remember(call, sid)
            return ChannelResult("pending", message_id(call.key))
        code = content.get("code")
        text = f"twilio {status}" + (f" code {code}" if isinstance(code, int) else "")
        detail = self._detail(content)
        if 400 <= status <= 499:
            passing, ours = status == 429, status in (401, 404)
            return ChannelResult("failed", error=text, retryable=passing, detail=detail, ours=ours)
        return ChannelResult("unknown", error=text, detail=detail)

    def _remember(self, call: CallRef, sid: str) -> None:
        try:
            self._calls.bind(call, sid)
        except StoreUnavailable:
            # The call is under way whether it is written down or not; its callbacks tell its name.
            return

    def _detail(self, content: Mapping[str, Any]) -> dict[str, str]:
        """What Twilio said, without its names for things, in characters that the log can hold."""
        words = str(content.get("message", "")).replace(self._settings.auth_token, "(token)")
        words = _ANY_SID.sub("(sid)", words).encode("utf-8", "replace").decode()
        reply = "".join(char if char.isprintable() else " " for char in words)[:_MAX_REPLY].strip()
        return {"stage": "answer", "reply": reply} if reply else {"stage": "answer"}


def _bound(connection: http.client.HTTPConnection, timeout_s: float) -> None:
    """Let the whole exchange have an end, however slowly Twilio answers."""
    sock: socket.socket = connection.sock
    connection.sock = DeadlineSocket(sock, Deadline(timeout_s))


def voicemail_mode(script: Mapping[str, Any], settings: TwilioSettings) -> Voicemail:
    """What this call does when a machine answers: as the step says, else as the settings do."""
    mode: Voicemail = script.get("voicemail") or settings.voicemail
    return mode


def _number(field: str, value: str) -> str:
    number = fold_phone(check_phone(field, value))
    if not E164.match(number):
        raise InvalidInput(field, "must be international, such as +15550100")
    return number


def _content(answer: http.client.HTTPResponse) -> Mapping[str, Any]:
    """The answer's JSON; empty if there is none. Its status is known already and decides alone."""
    try:
        content = json.loads(answer.read(_MAX_ANSWER))
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
