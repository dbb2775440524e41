"""Settings: where they come from, and what is refused."""

from __future__ import annotations

import re
from dataclasses import Field, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from dee_es import Engine
from dee_es.bootstrap.channels import channels_of
from dee_es.bootstrap.places import own_files
from dee_es.config import EmailChannel, EngineConfig, VoiceChannel, load_config, mistaken
from dee_es.core.channels import CHANNELS
from dee_es.errors import InvalidInput

CALLS = {
    "voicemail": "leave_message",
    "record": True,
    "ring_s": 25,
    "timeout_s": 10,
    "max_duration_s": 600,
    "voice": "Polly.Amy",
    "language": "en-GB",
    "ca_file": "ca.pem",
}


def of_calls(config: EngineConfig) -> dict[str, Any]:
    return {name: getattr(config, f"twilio_{name}") for name in CALLS}


def test_the_settings_of_calls_can_be_given_as_variables(tmp_path: Path) -> None:
    variables = {f"DEE_TWILIO_{name.upper()}": str(value) for name, value in CALLS.items()}
    assert of_calls(load_config(environ=variables, folder=tmp_path)) == CALLS


def test_the_settings_of_calls_can_be_given_in_the_file(tmp_path: Path) -> None:
    lines = [
        f"twilio_{name} = {str(value).lower() if isinstance(value, bool | int) else repr(value)}"
        for name, value in CALLS.items()
    ]
    (tmp_path / "dee.toml").write_text("\n".join(lines), encoding="utf-8")
    assert of_calls(load_config(environ={}, folder=tmp_path)) == CALLS


def test_without_them_a_call_is_not_recorded_and_has_no_limit(tmp_path: Path) -> None:
    plain = load_config(environ={}, folder=tmp_path)
    assert (plain.twilio_voicemail, plain.twilio_record, plain.twilio_ring_s) == (
        "continue", False, 60
    )  # fmt: skip
    assert plain.twilio_max_duration_s is None


@pytest.mark.parametrize(
    "text, meant",
    [("1", True), ("True", True), ("yes", True), ("0", False), ("false", False), ("No", False)],
)
def test_a_truth_has_few_spellings(tmp_path: Path, text: str, meant: bool) -> None:
    config = load_config(environ={"DEE_TWILIO_RECORD": text}, folder=tmp_path)
    assert config.twilio_record is meant


@pytest.mark.parametrize(
    "name, text, problem",
    [
        ("twilio_record", "flase", "must be true or false"),
        ("twilio_ring_s", "a minute", "is not a valid int"),
        ("twilio_ring_s", "0", "must be 1 or more"),
        ("twilio_timeout_s", "-1", "must be 1 or more"),
        ("twilio_max_duration_s", "0", "must be 1 or more"),
        ("twilio_max_duration_s", "long", "is not a valid int"),
        ("twilio_voicemail", "shout", "must be one of hangup, leave_message, continue, off"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_config(environ={f"DEE_{name.upper()}": text}, folder=tmp_path)
    assert (caught.value.field, caught.value.problem) == (name, problem)


@pytest.mark.parametrize(
    "line, name, problem",
    [
        ("epoch = 5", "epoch", "must be a time, not int"),
        ("epoch = true", "epoch", "must be a time, not bool"),
        ("max_runs_per_tick = inf", "max_runs_per_tick", "is not a valid int"),
        ("max_runs_per_tick = 2.7", "max_runs_per_tick", "is not a valid int"),
        ("max_runs_per_tick = true", "max_runs_per_tick", "is not a valid int"),
        (f"max_runs_per_tick = {10**25}", "max_runs_per_tick", f"must be at most {2**53 - 1}"),
        (f"resolution_ms = {10**25}", "resolution_ms", f"must be at most {2**53 - 1}"),
        ("smtp_port = 70000", "smtp_port", "must be at most 65535"),
        ("database = 5", "database", "must be text, not int"),
        ("outbox = true", "outbox", "must be text, not bool"),
        ("users = 5", "users", "must be text, not int"),
        ("link_secret = 2025-03-01T00:00:00Z", "link_secret", "must be text, not datetime"),
        ("partition = [0.0, 2]", "partition", "is not a valid I/N"),
        ("partition = [false, true]", "partition", "is not a valid I/N"),
    ],
)
def test_a_setting_of_another_kind_is_named(
    tmp_path: Path, line: str, name: str, problem: str
) -> None:
    (tmp_path / "dee.toml").write_text(line, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        load_config(environ={}, folder=tmp_path)
    assert (caught.value.field, caught.value.problem) == (name, problem)


OTHERS: dict[str, list[Any]] = {
    "int": [1.5, True, "7", None, [7]],
    "bool": [0, 1, "true", None],
    "str": [7, True, b"x", None, ["a"]],
    "datetime": ["2026", 5, True, date(2026, 1, 1)],
    "tuple[int, int]": [(0, 2, 3), (0,), "0/1", None, 1, [0, 1], (0.0, 1), (False, True), ("0", 1)],
}
"""What is of another type than a setting of each type."""


@pytest.mark.parametrize("setting", fields(EngineConfig), ids=lambda each: each.name)
def test_no_setting_takes_what_is_of_another_type(setting: Field[object]) -> None:
    kind, _, optional = str(setting.type).partition(" | ")
    for value in OTHERS.get(kind, OTHERS["str"]):
        if value is None and optional:
            continue
        with pytest.raises(InvalidInput) as caught:
            EngineConfig(**{setting.name: value})
        assert caught.value.field == setting.name


def test_a_word_that_is_none_of_a_setting_s_is_refused() -> None:
    hints = get_type_hints(EngineConfig)
    few = {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
    assert {"email", "voice", "clock", "smtp_security"} <= few.keys()
    for name, words in few.items():
        for word in words:
            assert getattr(EngineConfig(**{name: word}), name) == word
        with pytest.raises(InvalidInput, match=f"{name}: must be one of {', '.join(words)}"):
            EngineConfig(**{name: "fax"})


NUMBERS = [each.name for each in fields(EngineConfig) if str(each.type).startswith("int")]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_has_bounds(name: str) -> None:
    """Only what is switched off by 0 may be 0."""
    least = 0 if name.startswith("checkpoint_") else 1
    assert getattr(EngineConfig(**{name: least}), name) == least
    for value in (least - 1, 2**53):
        with pytest.raises(InvalidInput) as caught:
            EngineConfig(**{name: value})
        assert caught.value.field == name


SECRET = re.compile("password|token|secret|master_key$")


@pytest.mark.parametrize("setting", fields(EngineConfig), ids=lambda each: each.name)
def test_no_secret_is_shown(setting: Field[object]) -> None:
    assert setting.repr is not bool(SECRET.search(setting.name))


@pytest.mark.parametrize("setting", fields(EngineConfig), ids=lambda each: each.name)
def test_files_that_the_settings_name_are_never_written_over(setting: Field[object]) -> None:
    of_files = setting.name.endswith("_file") or setting.name in ("users", "twilio_calls")
    own = own_files(EngineConfig(**{setting.name: "some/file"})) if of_files else frozenset()
    assert (Path("some/file").absolute() in own) == of_files


def test_every_channel_is_served_and_every_choice_is_made() -> None:
    for email in get_args(EmailChannel):
        for voice in get_args(VoiceChannel):
            made = channels_of(EngineConfig(":memory:", email=email, voice=voice))
            assert made.keys() == set(CHANNELS)
            assert (made["email"].name, made["voice"].name) == (email, voice)
            for kind, channel in made.items():
                assert kind in channel.kinds


def test_no_database_is_made_with_a_clock_that_nobody_could_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'dee.db'}"
    with pytest.raises(InvalidInput, match="resolution_ms: must be a whole number, not float"):
        Engine(EngineConfig(url, resolution_ms=1.5))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    Engine(EngineConfig(url)).close()


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "dee.toml").write_bytes(b'\xef\xbb\xbfactor = "Robin"\r\n')
    assert load_config(environ={}, folder=tmp_path).actor == "Robin"


@pytest.mark.parametrize(
    "variable, meant",
    [
        ("DEE_DATABSE", "DEE_DATABASE"),
        ("DEE_DATABASE_URL", "DEE_DATABASE"),
        ("DEE_KEY", "DEE_KEYS"),
        ("DEE_SMTP_USER", "DEE_SMTP_USERNAME"),
        ("DEE_MASTERKEY", "DEE_MASTER_KEY"),
        ("DEE_NEW_MASTERKEY", "DEE_NEW_MASTER_KEY"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_found(variable: str, meant: str) -> None:
    assert mistaken({variable: "x", "DEE_ACTOR": "Robin", "PATH": "/bin"}) == {variable: meant}


def test_variables_of_others_are_left_alone() -> None:
    """Of the scripts here, of Kubernetes for a service named dee, and the settings themselves."""
    others = [
        "DEE_", "DEE_CHROMIUM", "DEE_PORT", "DEE_PORT_8765_TCP_ADDR", "DEE_PYTHON", "DEE_ROOT",
        "DEE_SERVICE_HOST", "DEE_SERVICE_PORT_HTTP", "DEE_TEST_FULL", "DEE_HOME", "DE_KEYS",
        "DEE_NEW_MASTER_KEY", *(f"DEE_{name.upper()}" for name in EngineConfig.__slots__),
    ]  # fmt: skip
    assert mistaken(dict.fromkeys(others, "x")) == {}


def test_no_password_is_shown_with_the_settings() -> None:
    """They are put into logs and tracebacks by tools that know nothing of them."""
    config = EngineConfig(
        "postgresql://ada:hidden@db/dee",
        keys="postgresql://db/keys?user=ada&password=hidden",
        checkpoints="checkpoints git:log s3://ID:hid/den@bucket/log",
        archives="ftp://ada:hidden@files/archives",
        certificates="s3://bucket/of@ada",
        smtp_host="mail.example.com",
    )
    shown = repr(config)
    assert "hid" not in shown
    assert "den" not in shown
    assert "database='postgresql://ada:***@db/dee'" in shown
    assert "keys='postgresql://db/keys?user=ada&password=***'" in shown
    assert "checkpoints='checkpoints git:log s3://***@bucket/log'" in shown
    assert "archives='ftp://***@files/archives'" in shown
    assert "smtp_host='mail.example.com'" in shown
    assert "smtp_password" not in shown
