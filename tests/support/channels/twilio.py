"""A real HTTP server on this machine that does what Twilio's documentation says of its Calls API.

It checks a request as Twilio does, answers it, and then plays the call: it tells the status,
fetches documents or follows the one it was given, and has a person (or a machine) at the other end
press digits and hang up. Its requests are signed here, by code of its own.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree

ACCOUNT: Final = "AC" + "0123456789abcdef" * 2
TOKEN: Final = "very-secret-auth-token"
SECRET: Final = "very-secret-callback-secret"
FROM: Final = "+15550199"

HANGS_UP: Final = "hangs up"
"""Pressed instead of digits: the person ends the call."""

_KNOWN: Final = {
    "To", "From", "Url", "Method", "Twiml", "Timeout", "TimeLimit", "MachineDetection",
    "StatusCallback", "StatusCallbackMethod", "StatusCallbackEvent", "Record",
    "RecordingStatusCallback", "RecordingStatusCallbackMethod", "RecordingStatusCallbackEvent",
}  # fmt: skip
_NUMBER: Final = re.compile(r"\+[1-9]\d{6,14}\Z")
_ERRORS: Final = {
    400: (21211, "The 'To' number +15550100 is not a valid phone number."),
    401: (20003, f"Authentication Error - token {TOKEN} of {ACCOUNT} is wrong"),
    429: (20429, "Too Many Requests"),
    500: (20500, "An internal server error has occurred"),
    503: (20503, "Service Unavailable"),
}


@dataclass(frozen=True)
class Person:
    """Who is called: what becomes of the call, and what is pressed at each gather in turn.

    `ends` is the call's last status; only `completed` means that somebody answers. `answered_by` is
    `human`, `machine`, `fax` or `unknown`. An empty text in `presses` is silence, as is what is not
    there at all.
    """

    ends: str = "completed"
    presses: tuple[str, ...] = ()
    answered_by: str = "human"
    sip_code: str | None = None


@dataclass
class Asked:
    """A request of Twilio's, and how it was answered."""

    url: str
    form: dict[str, str]
    status: int
    body: str


@dataclass
class Placed:
    """A call: the request that placed it, what was said to whom, and what was told about it."""

    sid: str
    form: dict[str, list[str]]
    spoken: list[str] = field(default_factory=list)
    prompts: list[dict[str, str]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def one(self, name: str) -> str | None:
        """The only value of a parameter, None without it."""
        values = self.form.get(name, [None])
        assert len(values) == 1, name
        return values[0]


@dataclass
class RunningTwilio:
    """The server's address, how it is to behave, and what happened at it.

    `fault` is the HTTP status that the next requests get instead of a call. `twice` tells every
    status two times over, `backwards` tells them all at the end, the last one first, and `early`
    plays the whole call before the request that placed it is answered. `wrong_token` signs with
    another account's token. `verdict_in_status` puts AnsweredBy into the last status too.
    """

    url: str = ""
    person: Person = field(default_factory=Person)
    fault: int | None = None
    twice: bool = False
    backwards: bool = False
    early: bool = False
    wrong_token: bool = False
    verdict_in_status: bool = False
    calls: list[Placed] = field(default_factory=list)
    requests: int = 0
    threads: list[threading.Thread] = field(default_factory=list, repr=False)

    def call(self) -> Placed:
        """The only call, once it is over."""
        (placed,) = self.calls
        assert placed.over.wait(60), "the call does not end"
        return placed


@contextlib.contextmanager
def running_twilio(certificate: tuple[Path, Path] | None = None) -> Iterator[RunningTwilio]:
    """The server, with TLS if there is a certificate (chain and key file)."""
    shared = RunningTwilio()
    server = _Server(("127.0.0.1", 0), shared)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    shared.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield shared
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
        for each in shared.threads:
            each.join(60)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, address: tuple[str, int], shared: RunningTwilio) -> None:
        self.shared = shared
        super().__init__(address, _Api)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not like the certificate goes away."""


class _Api(BaseHTTPRequestHandler):
    server: _Server
    timeout = 20

    def do_POST(self) -> None:
        shared = self.server.shared
        shared.requests += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, content, placed = self._judge(body)
        play = None
        if placed is not None:
            shared.calls.append(placed)
            play = threading.Thread(target=_play, args=(shared, placed), daemon=True)
            shared.threads.append(play)
            if shared.early:
                play.start()
                play.join(60)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        if play is not None and not shared.early:
            play.start()

    def _judge(self, body: bytes) -> tuple[int, dict[str, Any], Placed | None]:
        shared = self.server.shared
        expected = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            return *_refusal(401), None
        if self.path != f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json":
            return 404, {"code": 20404, "message": "not found", "status": 404}, None
        if shared.fault is not None:
            return *_refusal(shared.fault), None
        form = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True)
        problem = _problem(form)
        if problem is not None:
            return 400, {"code": problem[0], "message": problem[1], "status": 400}, None
        sid = "CA" + hashlib.sha256(body + bytes([len(shared.calls)])).hexdigest()[:32]
        return 201, {"sid": sid, "status": "queued", "to": form["To"][0]}, Placed(sid, form)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests speak for themselves."""


def _refusal(status: int) -> tuple[int, dict[str, Any]]:
    code, message = _ERRORS[status]
    return status, {"code": code, "message": message, "status": status}


def _problem(form: dict[str, list[str]]) -> tuple[int, str] | None:
    """What Twilio has against the request: code and message."""
    unknown = set(form) - _KNOWN
    repeated = [name for name in form if len(form[name]) > 1 and name != "StatusCallbackEvent"]
    if unknown or repeated:
        return 20001, f"unknown or repeated: {sorted(unknown)} {repeated}"
    if not _NUMBER.match(form.get("To", [""])[0]):
        return 21211, f"The 'To' number {form.get('To')} is not a valid phone number."
    if not _NUMBER.match(form.get("From", [""])[0]):
        return 21212, f"The 'From' number {form.get('From')} is not a valid phone number."
    if ("Url" in form) == ("Twiml" in form):
        return 21205, "Url parameter is required"
    if len(form.get("Twiml", [""])[0]) > 4000:
        return 32018, "Twiml size exceeded maximum allowed value of 4000 characters"
    if not set(form.get("StatusCallbackEvent", [])) <= {
        "initiated", "ringing", "answered", "completed",
    }:  # fmt: skip
        return 21626, "Invalid StatusCallbackEvents"
    if form.get("MachineDetection", ["Enable"])[0] not in ("Enable", "DetectMessageEnd"):
        return 20001, "Invalid MachineDetection"
    if not int(form.get("Timeout", ["60"])[0]) > 0 or not int(form.get("TimeLimit", ["1"])[0]) > 0:
        return 21208, "Invalid Timeout"
    return None


# --- playing a call -------------------------------------------------------------------------------


def _play(shared: RunningTwilio, call: Placed) -> None:
    try:
        _Play(shared, call).run()
    except Exception as error:
        call.problems.append(repr(error))
    finally:
        call.over.set()


class _Play:
    def __init__(self, shared: RunningTwilio, call: Placed) -> None:
        self.shared, self.call, self.person = shared, call, shared.person
        self.presses = iter(self.person.presses)
        self.later: list[dict[str, str]] = []
        self.sequence = 0
        self.verdict: dict[str, str] = {}
        if mode := call.one("MachineDetection"):
            seen = self.person.answered_by
            if seen == "machine":
                seen = "machine_start" if mode == "Enable" else "machine_end_beep"
            self.verdict = {"AnsweredBy": seen}

    def run(self) -> None:
        self.tell("initiated")
        self.tell("ringing")
        if self.person.ends == "completed":
            self.tell("in-progress")
            twiml, url = self.call.one("Twiml"), self.call.one("Url")
            self.follow(twiml if twiml is not None else self.fetch(str(url), self.verdict))
        self.tell(self.person.ends)
        for form in reversed(self.later):
            self.send_status(form)
        if self.call.one("Record") == "true":
            form = {"RecordingSid": "RE" + "1" * 32, "RecordingUrl": "https://api.twilio.example/x"}
            form |= {"RecordingStatus": "completed", "RecordingDuration": "7"}
            self.ask(str(self.call.one("RecordingStatusCallback")), form)

    def tell(self, status: str) -> None:
        form = {
            "CallStatus": status,
            "Timestamp": f"Sat, 01 Mar 2025 09:30:{self.sequence:02} +0000",
            "SequenceNumber": str(self.sequence),
            "CallbackSource": "call-progress-events",
        }
        if status == self.person.ends:
            form |= {"CallDuration": "42" if status == "completed" else "0"}
            if self.person.sip_code:
                form |= {"SipResponseCode": self.person.sip_code}
            if self.shared.verdict_in_status:
                form |= self.verdict
        self.sequence += 1
        if self.shared.backwards:
            self.later.append(form)
        else:
            self.send_status(form)

    def send_status(self, form: dict[str, str]) -> None:
        for _ in range(2 if self.shared.twice else 1):
            self.ask(str(self.call.one("StatusCallback")), form)

    def follow(self, document: str | None) -> None:
        if document is None:
            return
        root = ElementTree.fromstring(document)  # noqa: S314 -- it is our own
        assert root.tag == "Response"
        for verb in root:
            if verb.tag == "Say":
                self.say(verb)
            elif verb.tag == "Hangup":
                return
            elif verb.tag == "Gather":
                for each in verb:
                    self.say(each)
                self.call.prompts.append(dict(verb.attrib))
                pressed = next(self.presses, "")
                if pressed == HANGS_UP:
                    return
                digits = _entered(verb, pressed)
                if digits or verb.get("actionOnEmptyResult") == "true":
                    self.follow(self.fetch(str(verb.get("action")), {"Digits": digits}))
                    return
            else:
                raise AssertionError(f"12200 Schema validation warning: {verb.tag}")

    def say(self, verb: ElementTree.Element) -> None:
        assert verb.tag == "Say"
        assert len((verb.text or "").encode()) <= 3000, "13521 <Say> limit exceeded"
        self.call.spoken.append(verb.text or "")

    def fetch(self, url: str, form: dict[str, str]) -> str | None:
        asked = self.ask(url, {"CallStatus": "in-progress", **form})
        assert len(asked.body.encode()) <= 64_000, "11750 TwiML response body too large"
        return asked.body if asked.status == 200 else None

    def ask(self, url: str, form: dict[str, str]) -> Asked:
        """Make the request, and make it again as the URL's fragment wants it."""
        target, _, fragment = url.partition("#")
        overrides = dict(parse_qsl(fragment))
        tries = 1 + (int(overrides.get("rc", 1)) if "5xx" in overrides.get("rp", "ct") else 0)
        common = {
            "CallSid": self.call.sid,
            "AccountSid": ACCOUNT,
            "From": str(self.call.one("From")),
            "To": str(self.call.one("To")),
            "Direction": "outbound-api",
            "ApiVersion": "2010-04-01",
        }
        whole = common | form
        for _ in range(tries):
            token = "another-token" if self.shared.wrong_token else TOKEN
            status, body = post(target, whole, twilio_signature(token, target, whole))
            self.call.asked.append(Asked(target, whole, status, body))
            if status < 500:
                break
        return self.call.asked[-1]


def _entered(gather: ElementTree.Element, pressed: str) -> str:
    """The digits that a gather takes of what is pressed."""
    digits = ""
    for key in pressed:
        if key == gather.get("finishOnKey", "#"):
            break
        digits += key
        if len(digits) == int(gather.get("numDigits", "99")):
            break
    return digits


def twilio_signature(token: str, url: str, form: dict[str, str]) -> str:
    """What X-Twilio-Signature says of a request."""
    text = url
    for name in sorted(form):
        text += name + form[name]
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def post(url: str, form: dict[str, str], signature: str | None) -> tuple[int, str]:
    """Post a form over a connection of its own; status and body of the answer."""
    parts = urlsplit(url)
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    if signature is not None:
        headers["X-Twilio-Signature"] = signature
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, urlencode(form), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
