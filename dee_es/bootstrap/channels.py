"""The ways out, the links in messages, and what is told about calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, assert_never

from dee_es.adapters.channels.lazy import LazyChannel
from dee_es.bootstrap.databases import sqlite_path
from dee_es.config import EmailChannel, EngineConfig, VoiceChannel
from dee_es.core.channels import ChannelName
from dee_es.engine.facade import EngineApi
from dee_es.engine.links import Links
from dee_es.errors import InvalidInput
from dee_es.ports import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dee_es.adapters.channels.twilio import RecordedCallbacks, TwilioSettings


def channels_of(config: EngineConfig) -> dict[str, Channel]:
    """The ways out, by the kind of step that they serve; one that serves several is made once."""
    chosen: dict[ChannelName, EmailChannel | VoiceChannel] = {
        "email": config.email,
        "voice": config.voice,
    }
    made = {name: _made(name, config) for name in dict.fromkeys(chosen.values())}
    return {kind: made[name] for kind, name in chosen.items()}


def _made(name: EmailChannel | VoiceChannel, config: EngineConfig) -> Channel:
    match name:
        case "outbox":
            return _outbox(config)
        case "smtp":
            return _smtp(config)
        case "twilio":
            return LazyChannel("twilio", ("voice",), lambda: _twilio(config))
        case _:
            assert_never(name)


def _outbox(config: EngineConfig) -> Channel:
    from dee_es.adapters.channels.outbox import OutboxChannel

    return OutboxChannel(config.outbox)


def _smtp(config: EngineConfig) -> Channel:
    from dee_es.adapters.channels.smtp import SmtpChannel, SmtpSettings

    try:
        return SmtpChannel(
            SmtpSettings(
                host=config.smtp_host,
                port=config.smtp_port,
                security=config.smtp_security,
                username=config.smtp_username,
                password=config.smtp_password,
                ca_file=config.smtp_ca_file,
                timeout_s=config.smtp_timeout_s,
                connections=config.max_concurrent_sends,
            )
        )
    except InvalidInput as error:
        raise _as_named_here(error, "smtp") from None


_TWILIO_NEEDED: Final = (
    "account_sid", "auth_token", "from_number", "callback_url", "callback_secret"
)  # fmt: skip


def _twilio(config: EngineConfig) -> Channel:
    from dee_es.adapters.channels.twilio import ProviderCalls, TwilioChannel

    settings = _twilio_settings(config)
    calls = ProviderCalls(calls_path(config))
    try:
        return TwilioChannel(settings, calls)
    except InvalidInput as error:
        calls.close()
        raise _as_named_here(error, "twilio") from None


def _twilio_settings(config: EngineConfig) -> TwilioSettings:
    from dee_es.adapters.channels.twilio import TwilioSettings

    names = [each.name for each in fields(TwilioSettings)]
    given = {name: getattr(config, f"twilio_{name}") for name in names}
    missing = [f"twilio_{name}" for name in _TWILIO_NEEDED if not given[name]]
    if missing:
        variables = ", ".join(f"DEE_{name.upper()}" for name in missing)
        raise InvalidInput(", ".join(missing), f"needed for calls and not set; set {variables}")
    try:
        return TwilioSettings(**given)
    except InvalidInput as error:
        raise _as_named_here(error, "twilio") from None


def _as_named_here(error: InvalidInput, channel: str) -> InvalidInput:
    """The same fault by the names that the settings have in `EngineConfig`."""
    field, problem = (
        text.replace(f"{channel}.", f"{channel}_") for text in (error.field, error.problem)
    )
    return InvalidInput(field, problem)


def calls_path(config: EngineConfig) -> Path:
    """The file of the calls under way: as configured, else beside an SQLite database."""
    if config.twilio_calls is not None:
        return Path(config.twilio_calls)
    path = sqlite_path(config.database)
    if path is None:
        raise InvalidInput(
            "twilio_calls", "name a file for the calls under way, as in DEE_TWILIO_CALLS=calls.db"
        )
    return path.with_name(path.stem + ".calls.db")


def links_of(config: EngineConfig) -> Links | None:
    """Makes and reads the signed links of messages; None if the settings have none.

    Raises `InvalidInput` naming the setting that is missing or not safe.
    """
    if config.public_url is None and config.link_secret is None:
        return None
    if config.public_url is None:
        raise InvalidInput("public_url", "is needed for links; set DEE_PUBLIC_URL")
    if config.link_secret is None:
        raise InvalidInput("link_secret", "is needed to sign links; set DEE_LINK_SECRET")
    return Links(config.public_url, config.link_secret)


@contextmanager
def serve_call_events(
    engine: EngineApi,
    config: EngineConfig,
    host: str,
    port: int,
    on_error: Callable[[Exception], object],
) -> Iterator[int]:
    """Take what Twilio tells and asks about calls, for as long as the block takes; gives the port.

    What is told goes into the log before it is confirmed; what could not be recorded is given to
    `on_error` and told again. Raises `OSError` if the port cannot be had.
    """
    from dee_es.adapters.channels.twilio import CallbackServer

    with (
        open_call_events(engine, config, on_error) as callbacks,
        CallbackServer(callbacks, host, port) as server,
    ):
        yield server.port


@contextmanager
def open_call_events(
    engine: EngineApi, config: EngineConfig, on_error: Callable[[Exception], object]
) -> Iterator[RecordedCallbacks]:
    """What `serve_call_events` serves, for a server of one's own: its `answer` takes a request."""
    from dee_es.adapters.channels.twilio import (
        CallRef,
        ChannelEvent,
        ProviderCalls,
        RecordedCallbacks,
        TwilioCallbacks,
        script_in,
    )

    def script(call: CallRef) -> Mapping[str, Any] | None:
        return script_in(engine.get_events(call.run_id), call)

    def record(event: ChannelEvent) -> None:
        run = engine.get_run(event.run_id)
        engine.ingest_event(
            event.type,
            run.contact_id,
            event.run_id,
            event.step_id,
            event.data,
            event.occurred_at,
            event.event_id,
        )

    with closing(ProviderCalls(calls_path(config))) as calls:
        callbacks = TwilioCallbacks(_twilio_settings(config), calls, script)
        yield RecordedCallbacks(callbacks, record, on_error)


def forget_calls(config: EngineConfig, run_ids: Sequence[str]) -> None:
    """Forget the calls of runs, whether or not calls can be placed by these settings; raises
    `StoreUnavailable` if their file does not answer."""
    try:
        path = calls_path(config)
    except InvalidInput:
        return
    if not path.exists():
        return
    from dee_es.adapters.channels.twilio import ProviderCalls

    calls = ProviderCalls(path)
    try:
        calls.erase(run_ids)
    finally:
        calls.close()
