"""Settings: what a caller gives, then `DEE_*` variables, then `dee.toml`, then defaults."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit, urlunsplit

from dee_es.errors import InvalidInput

EmailChannel = Literal["outbox", "smtp"]
VoiceChannel = Literal["outbox", "twilio"]
"""What serves steps of each channel; the setting has the channel's name."""
SETTINGS_FILE: Final = "dee.toml"
DEFAULT_DATABASE: Final = "sqlite:///dee.db"
_ANY: Final = 2**53 - 1
_LEAST: Final = {"checkpoint_every_events": 0, "checkpoint_every_s": 0}
"""Of numbers that may be less than 1."""
_MOST: Final = {"smtp_port": 65_535}
_NEAR: Final = 0.75
"""How much of two names has to be the same (see difflib) for one to be taken for the other."""
_BESIDE: Final = frozenset({"NEW_MASTER_KEY"})
"""What else is read from the environment, by one command."""
_SHARE: Final = "must be I/N with I from 0 to N - 1"
_KINDS: Final[dict[str, tuple[type, str]]] = {
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
    "datetime": (datetime, "a time"),
}
"""What settings are that are no texts, by their annotation: its class, and its name for people."""
_SECRET: Final = re.compile(
    r"((?:^|&)(?:[a-z_]*(?:password|secret)|scram_(?:client|server)_key)=)[^&]*", re.IGNORECASE
)
_IN_FILES: Final = ("", "file", "local", "sqlite")
"""Schemes of what is in files here, whose names may hold an @ and hold no password."""
_TRUTHS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How an engine is put together.

    `database` is `sqlite:///file`, `postgresql://...` or `:memory:`. `keys` is where the contacts'
    keys are kept, apart from the database: by default a file beside an SQLite database; PostgreSQL
    needs an explicit URL. `master_key` is base64 text; without it `master_key_file` is read, by
    default a file beside the keys, made with the database.

    `checkpoints` are the places outside the database that keep signed checkpoints of the log,
    separated by spaces: folders, `git:FOLDER`, or URLs such as `s3://bucket/path`. `audit_key_file`
    holds the key that signs them, by default beside an SQLite database; it is made with the first.
    A worker signs after `checkpoint_every_events` new entries or `checkpoint_every_s` seconds of
    logical time, whichever comes first; 0 switches one of them off.

    `actor` is who acts, for the log, where a call does not say: by default the operating system's
    user.

    `archives` is where ended runs are archived to, and `certificates` where certificates of erasure
    are written to: a folder or such a URL.

    `clock`, `epoch` (aware datetime), `resolution_ms` and `personal_data` matter only while a
    database is made. `personal_data` `off` stores it in plain: nobody can then be erased.
    `outbox` is the folder that the outbox channel writes to; `email` and `voice` name the channel
    that serves them. `twilio_callback_url` is the public address under which Twilio reaches the
    callbacks of `dee worker`, `twilio_callback_secret` signs what is in their URLs, and
    `twilio_calls` is the file that says which call belongs to which step, by default beside an
    SQLite database. `twilio_voicemail` says what a call does when a machine answers and its step
    does not say, `twilio_record` whether calls are recorded, `twilio_ring_s` how many seconds it
    rings, `twilio_timeout_s` bounds each request, `twilio_max_duration_s` ends calls whose step
    sets no limit, `twilio_voice` and `twilio_language` are those that speak, and `twilio_ca_file`
    replaces the system's authorities. `users` is the file of those who may sign in at `dee serve`,
    by default beside an SQLite database. `public_url` is the address under which the world reaches
    `dee serve`, `link_secret` signs the links of messages that lead there, and `webhook_secret`
    is what others sign webhooks with; of several, separated by spaces, all are believed.
    `partition` (index, count) is the share of the contacts
    that this engine's scheduler works on, written `0/1` in a setting. Without `create`, a database
    that does not exist is an error.
    """

    database: str = DEFAULT_DATABASE
    keys: str | None = None
    master_key: str | None = field(default=None, repr=False)
    master_key_file: str | None = None
    audit_key_file: str | None = None
    checkpoints: str | None = None
    archives: str | None = None
    certificates: str = "certificates"
    checkpoint_every_events: int = 10_000
    checkpoint_every_s: int = 300
    actor: str | None = None
    clock: Literal["system", "manual"] = "system"
    epoch: datetime | None = None
    resolution_ms: int = 1000
    personal_data: Literal["encrypted", "off"] = "encrypted"
    email: EmailChannel = "outbox"
    voice: VoiceChannel = "outbox"
    outbox: str = "outbox"
    smtp_host: str = "localhost"
    smtp_port: int = 25
    smtp_security: Literal["none", "starttls", "tls"] = "starttls"
    smtp_username: str | None = None
    smtp_password: str | None = field(default=None, repr=False)
    smtp_ca_file: str | None = None
    smtp_timeout_s: int = 30
    twilio_account_sid: str | None = None
    twilio_auth_token: str | None = field(default=None, repr=False)
    twilio_from_number: str | None = None
    twilio_callback_url: str | None = None
    twilio_callback_secret: str | None = field(default=None, repr=False)
    twilio_calls: str | None = None
    twilio_api_url: str = "https://api.twilio.com"
    twilio_voicemail: Literal["hangup", "leave_message", "continue", "off"] = "continue"
    twilio_record: bool = False
    twilio_ring_s: int = 60
    twilio_timeout_s: int = 30
    twilio_max_duration_s: int | None = None
    twilio_voice: str | None = None
    twilio_language: str | None = None
    twilio_ca_file: str | None = None
    users: str | None = None
    public_url: str | None = None
    link_secret: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    partition: tuple[int, int] = (0, 1)
    max_runs_per_tick: int = 500
    max_concurrent_sends: int = 8
    create: bool = True

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            _require_kind(each.name, str(each.type), value)
            if type(value) is int:
                _require_between(each.name, value)
        for name in ("database", "keys"):
            _require_readable(name, getattr(self, name))
        for name, known in _choices().items():
            _require_one_of(name, getattr(self, name), known)
        index, parts = self.partition
        if not 0 <= index < parts:
            raise InvalidInput("partition", _SHARE)
        if self.epoch is not None and self.epoch.tzinfo is None:
            raise InvalidInput(
                "epoch", "has no time zone; use an aware datetime such as one in UTC"
            )

    def __repr__(self) -> str:
        # Logs and tracebacks of others show it: a password may be part of any URL.
        shown = ((each.name, getattr(self, each.name)) for each in fields(self) if each.repr)
        return f"EngineConfig({', '.join(f'{name}={_shown(value)!r}' for name, value in shown)})"


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    """The settings that are one of a few words, each with its words."""
    hints = get_type_hints(EngineConfig)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def load_config(
    given: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: str | Path = ".",
) -> EngineConfig:
    """Gather settings: `given` (None values left out), then the environment, then `dee.toml`.

    Raises `InvalidInput` naming the setting that is unknown or malformed.
    """
    environ = os.environ if environ is None else environ
    kinds = {each.name: str(each.type) for each in fields(EngineConfig)}
    values: dict[str, Any] = {}
    path = Path(folder) / SETTINGS_FILE
    if path.exists():
        for name, value in _read_file(path).items():
            if name not in kinds:
                raise InvalidInput(f"{SETTINGS_FILE}: {name}", "is not a setting")
            values[name] = value
    for name in kinds:
        text = environ.get(f"DEE_{name.upper()}")
        if text:
            values[name] = text
    values.update({k: v for k, v in (given or {}).items() if v is not None})
    return EngineConfig(**{name: _typed(name, kinds[name], v) for name, v in values.items()})


def mistaken(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that are no setting but nearly the name of one, each with the one it is near.

    Others that begin with `DEE_` may be somebody else's: Kubernetes makes some for a service `dee`.
    """
    environ = os.environ if environ is None else environ
    known = {each.name.upper() for each in fields(EngineConfig)} | _BESIDE
    found: dict[str, str] = {}
    for variable in sorted(environ):
        name = variable.removeprefix("DEE_")
        if name != variable and name not in known:
            for near in get_close_matches(name, sorted(known), 1, _NEAR):
                found[variable] = f"DEE_{near}"
    return found


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    scheme, _, rest = url.partition("://")
    if not rest or scheme in _IN_FILES:
        return url
    if not scheme.startswith("postgres"):
        return f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else url
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{scheme}://***"
    user, at, place = parts.netloc.rpartition("@")
    # An @ elsewhere may well be the end of a password that holds a slash or the like.
    if rest.count("@") > (1 if at else 0):
        return f"{scheme}://***"
    if ":" in user:
        user = f"{user.partition(':')[0]}:***"
    query = _SECRET.sub(r"\1***", parts.query)
    shown = urlunsplit(parts._replace(scheme="", netloc="", query=query))
    return f"{scheme}://{user}{at}{place}{shown}"


def _shown(value: object) -> object:
    """A setting as it may be shown; there may be several URLs in it."""
    return " ".join(map(without_password, value.split(" "))) if isinstance(value, str) else value


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(SETTINGS_FILE, f"cannot be read: {error}") from None


def _typed(name: str, kind: str, value: Any) -> Any:
    try:
        if kind.startswith("int"):
            return _whole(value)
        if kind == "bool":
            return value if isinstance(value, bool) else _TRUTHS[str(value).lower()]
        if kind.startswith("tuple"):
            index, parts = value.split("/") if isinstance(value, str) else value
            return _whole(index), _whole(parts)
        if kind.startswith("datetime") and isinstance(value, str):
            return datetime.fromisoformat(value)
    except KeyError:
        raise InvalidInput(name, "must be true or false") from None
    except (TypeError, ValueError):
        wanted = "I/N" if kind.startswith("tuple") else kind.split(" ")[0]
        raise InvalidInput(name, f"is not a valid {wanted}") from None
    return value


def _whole(value: object) -> int:
    """A whole number, given as such or as text; a fraction or a truth value is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(value)


def _require_kind(name: str, annotated: str, value: object) -> None:
    kind, _, optional = annotated.partition(" | ")
    if value is None and optional:
        return
    if kind.startswith("tuple"):
        if not isinstance(value, tuple) or [type(part) for part in value] != [int, int]:
            raise InvalidInput(name, _SHARE)
        return
    meant, said = _KINDS.get(kind, (str, "text"))
    # A truth value counts as a number for Python, and nowhere else.
    if not isinstance(value, meant) or (isinstance(value, bool) and meant is int):
        raise InvalidInput(name, f"must be {said}, not {type(value).__name__}")


def _require_between(name: str, value: int) -> None:
    least, most = _LEAST.get(name, 1), _MOST.get(name, _ANY)
    if value < least:
        raise InvalidInput(name, f"must be {least} or more")
    if value > most:
        raise InvalidInput(name, f"must be at most {most}")


def _require_readable(name: str, url: str | None) -> None:
    """A slash or an @ in a password, written as such, would move the rest of it to where the host's
    or the database's name is, which errors tell."""
    scheme, _, rest = (url or "").partition("://")
    place, _, path = rest.partition("?")[0].partition("/")
    if scheme in ("postgresql", "postgres") and (place.count("@") > 1 or "@" in path):
        raise InvalidInput(
            name,
            "has an @ where none can be; within a user, a password or a name "
            "write @ / : ? # as %40 %2F %3A %3F %23",
        )


def _require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInput(name, f"must be one of {', '.join(known)}")
