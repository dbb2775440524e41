"""A channel is built when it is needed: nobody who only looks needs its settings."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.lazy import LazyChannel
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.errors import DeeError, InvalidInput, StoreUnavailable
from tests.support.channels.mail import CONTEXT, a_call
from tests.support.channels.twilio import ACCOUNT, FROM, SECRET, TOKEN
from tests.support.engines import EPOCH, calling, publish_basics

BARE = EngineConfig(":memory:", clock="manual", epoch=EPOCH, voice="twilio")
COMPLETE = replace(
    BARE,
    twilio_account_sid=ACCOUNT,
    twilio_auth_token=TOKEN,
    twilio_from_number=FROM,
    twilio_callback_url="https://calls.example/t",
    twilio_callback_secret=SECRET,
)
PERSON = {"id": "ada", "phone": "+15550100", "firstName": "Ada"}


def test_an_engine_without_the_settings_works_until_it_has_to_call(tmp_path: Any) -> None:
    with Engine(replace(BARE, outbox=str(tmp_path))) as engine:
        publish_basics(engine)
        run = engine.execute(calling(), PERSON)
        engine.tick()
        entries = engine.get_timeline(run.id)
        (retried,) = [each for each in entries if each.action == "error.retried"]
        assert "DEE_TWILIO_AUTH_TOKEN" in str(retried.outcome)
        assert engine.get_logs(run.id)[-1].data["ours"] is True
        assert engine.get_run(run.id).status == "waiting"


def test_a_program_that_gives_an_engine_too_few_channels_ends_no_run() -> None:
    with Engine(BARE, channels={"email": MemoryChannel()}) as engine:
        publish_basics(engine)
        run = engine.execute(calling(), PERSON)
        engine.tick()
        waiting = engine.get_run(run.id)
        assert waiting.status == "waiting"
        assert waiting.status_reason == "attempt 1: no channel serves 'voice'"
        assert engine.get_logs(run.id)[-1].data["ours"] is True


def test_a_worker_names_what_is_missing_before_it_begins(tmp_path: Any) -> None:
    stop = threading.Event()
    stop.set()
    with Engine(BARE) as engine, pytest.raises(InvalidInput) as caught:
        engine.worker(stop)
    assert caught.value.field.split(", ") == [
        "twilio_account_sid", "twilio_auth_token", "twilio_from_number", "twilio_callback_url",
        "twilio_callback_secret",
    ]  # fmt: skip
    calls = str(tmp_path / "calls.db")
    with Engine(replace(COMPLETE, twilio_calls=calls)) as engine:
        assert engine.worker(stop).passes == 0


@pytest.mark.parametrize(
    "setting, value",
    [
        ("ring_s", 601),
        ("voice", 'alice"'),
        ("language", "de DE"),
        ("ca_file", "/nowhere/ca.pem"),
        ("ca_file", __file__),
        ("calls", None),
    ],
)
def test_a_setting_that_cannot_work_is_named_as_it_was_given(
    tmp_path: Any, setting: str, value: Any
) -> None:
    given = {"twilio_calls": str(tmp_path / "calls.db"), f"twilio_{setting}": value}
    stop = threading.Event()
    stop.set()
    with Engine(replace(COMPLETE, **given)) as engine, pytest.raises(InvalidInput) as caught:
        engine.worker(stop)
    assert caught.value.field == f"twilio_{setting}"
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "error, ours",
    [(InvalidInput("setting", "is missing"), True), (StoreUnavailable("busy"), False)],
)
def test_what_cannot_be_built_now_may_be_later(error: DeeError, ours: bool) -> None:
    def build() -> MemoryChannel:
        raise error

    result = LazyChannel("late", ("voice",), build).send(a_call(0), CONTEXT)
    assert (result.status, result.retryable, result.ours) == ("failed", True, ours)
    assert result.error == str(error)


def test_it_is_built_once_by_whoever_comes_first() -> None:
    built: list[MemoryChannel] = []

    def build() -> MemoryChannel:
        if not built and not allowed.is_set():
            raise InvalidInput("setting", "is missing")
        built.append(MemoryChannel())
        return built[-1]

    allowed = threading.Event()
    channel = LazyChannel("late", ("voice",), build)
    channel.close()
    with pytest.raises(InvalidInput):
        channel.prepare()
    allowed.set()
    threads = [threading.Thread(target=channel.prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    channel.close()
    assert built[0].closed
