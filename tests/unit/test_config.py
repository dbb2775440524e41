"""Settings: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dee_es.config import EngineConfig, load_config
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
