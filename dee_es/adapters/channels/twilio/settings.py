"""What the Twilio channel has to be told, checked before anything is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

from dee_es.errors import InvalidInput

Voicemail = Literal["hangup", "leave_message", "continue", "off"]
"""What happens when a machine answers; see `TwilioSettings`."""

E164: Final = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_ACCOUNT: Final = re.compile(r"AC[0-9a-fA-F]{32}\Z")
_VISIBLE: Final = re.compile(r"[!-~]+\Z")
_URL: Final = re.compile(r"[!#-;=?-~]+\Z")
_SPEECH: Final = re.compile(r"[A-Za-z0-9.-]{1,64}\Z")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_MIN_SECRET: Final = 16
_MAX_RING_S: Final = 600


@dataclass(frozen=True, slots=True)
class TwilioSettings:
    """How to reach Twilio, and how Twilio reaches us.

    `callback_url` is the public base URL under which Twilio gets at the callbacks, without query;
    `callback_secret`, 16 characters or more, signs the state in those URLs and is not Twilio's.
    `from_number` (E.164) is shown where a step names no caller id.

    `timeout_s` bounds the connection to Twilio, and all of the exchange behind it; `ring_s` is how
    long it rings.
    `max_duration_s` ends a call whose step sets no limit. `record` has Twilio record every call.
    `voice` and `language` are those of `<Say>`; None leaves them to the account. `ca_file` replaces
    the system's authorities.

    `voicemail` holds for steps that do not say: `hangup` ends the call, `leave_message` waits for
    the end of the machine's greeting and speaks what somebody hears who presses nothing,
    `continue` treats the machine as a person, `off` does without detection: a machine then counts
    as a person in the outcome too. All but `off` keep a person waiting for the verdict, some
    seconds, before they hear anything.

    Raises `InvalidInput` naming the field. Plain HTTP is refused except to this machine itself.
    """

    account_sid: str
    auth_token: str = field(repr=False)
    from_number: str
    callback_url: str
    callback_secret: str = field(repr=False)
    api_url: str = "https://api.twilio.com"
    timeout_s: float = 30.0
    ring_s: int = 60
    max_duration_s: int | None = None
    voicemail: Voicemail = "continue"
    record: bool = False
    voice: str | None = None
    language: str | None = None
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if not _ACCOUNT.match(self.account_sid):
            raise InvalidInput("twilio.account_sid", "must be AC and 32 hex digits")
        if not _VISIBLE.match(self.auth_token):
            raise InvalidInput("twilio.auth_token", "must be printable ASCII without spaces")
        if len(self.callback_secret) < _MIN_SECRET:
            raise InvalidInput("twilio.callback_secret", f"needs {_MIN_SECRET} characters or more")
        if not E164.match(self.from_number):
            raise InvalidInput("twilio.from_number", "must be a number such as +15550100")
        if self.voicemail not in get_args(Voicemail):
            raise InvalidInput("twilio.voicemail", "must be hangup, leave_message, continue or off")
        if not self.timeout_s > 0:
            raise InvalidInput("twilio.timeout_s", "must be above zero")
        if not 0 < self.ring_s <= _MAX_RING_S:
            raise InvalidInput("twilio.ring_s", f"must be 1 to {_MAX_RING_S}")
        if self.max_duration_s is not None and self.max_duration_s < 1:
            raise InvalidInput("twilio.max_duration_s", "must be 1 or more")
        for name, value in (("voice", self.voice), ("language", self.language)):
            if value is not None and not _SPEECH.match(value):
                raise InvalidInput(f"twilio.{name}", "must be letters, digits, dots and hyphens")
        _check_url("twilio.api_url", self.api_url)
        _check_url("twilio.callback_url", self.callback_url)


def _check_url(name: str, url: str) -> None:
    if not _URL.match(url):
        raise InvalidInput(name, "must be an https URL of printable ASCII without spaces")
    try:
        parts = urlsplit(url)
        usable = parts.port is None or parts.port > 0
    except ValueError:
        raise InvalidInput(name, "is not a URL") from None
    if not usable or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise InvalidInput(name, "must be a URL without user name, query and fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise InvalidInput(name, "must begin with https://")
