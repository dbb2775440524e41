"""A worker as it is run: its logs, its numbers, and calls through Twilio from end to end."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.channels.twilio import ACCOUNT, FROM, SECRET, TOKEN, Person, running_twilio
from tests.support.cli.commands import Dee
from tests.support.waiting import eventually

ADA = ("--contact", "c-1", "--email", "ada@example.com", "--attr", "firstName=Ada",
       "--var", "place=Town")  # fmt: skip
CALL = """\
id: calling
name: Calling
steps:
  - { id: ring, type: send_voice, scriptId: hello }
  - id: how
    type: branch
    conditions:
      - { when: 'call.outcome("ring") == "answered"', goto: talked }
      - { when: default, goto: missed }
  - { id: talked, type: end, outcome: talked }
  - { id: missed, type: end, outcome: missed }
scripts:
  hello:
    greeting: "Hello {{contact.firstName}}"
    steps:
      - { type: gather, name: wish, prompt: "Press 1 or 2." }
      - type: branch
        on: wish
        cases: { "1": [{ type: speak, text: "Until then." }] }
        default: [{ type: speak, text: "Nothing chosen." }]
"""


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    return Dee(tmp_path).prepared(clock="system")


@contextlib.contextmanager
def working(dee: Dee, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A worker that is stopped politely at the end, if it has not been by then."""
    process = dee.start("worker", *options)
    try:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# --- logs -----------------------------------------------------------------------------------------


def logged(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """The next record of this event."""
    assert process.stderr is not None
    while line := process.stderr.readline():
        record: dict[str, Any] = json.loads(line)
        assert {"time", "level", "event", "logger"} <= set(record)
        if record["event"] == event:
            return record
    raise AssertionError(f"no {event} was logged")


def test_logs_in_json(dee: Dee) -> None:
    # A file where the channel wants its folder: no mail can be written.
    (dee.folder / "outbox").write_text("in the way")
    run = dee.json("execute", "plan.yaml", *ADA)["id"]
    with working(dee, "--log-json") as process:
        assert logged(process, "started")["backend"] == "sqlite"
        failed = logged(process, "send_failed")
        assert failed["level"] == "warning"
        assert (failed["run"], failed["step"]) == (run, "hello")
        assert "ada@" not in json.dumps(failed)
        process.send_signal(signal.SIGTERM)
        out, told = process.communicate(timeout=60)
    assert out == ""
    last = json.loads(told.splitlines()[-1])
    assert (last["event"], last["level"], last["failed"]) == ("stopped", "info", 1)
    assert "ada@" not in told


def test_logs_in_text(dee: Dee) -> None:
    (dee.folder / "outbox").write_text("in the way")
    run = dee.json("execute", "plan.yaml", *ADA)["id"]
    with working(dee) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
    assert f" warning send_failed run={run} step=hello error=" in line


# --- numbers --------------------------------------------------------------------------------------


def scraped(port: int) -> dict[str, float]:
    """The numbers by name and labels."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.getheader("Content-Type", "").startswith("text/plain")
        text = answer.read().decode()
    finally:
        connection.close()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_numbers_for_prometheus(dee: Dee) -> None:
    dee("execute", "plan.yaml", *ADA)
    with working(dee, "--metrics-port", "0", "--log-json") as process:
        port = int(logged(process, "serving")["port"])
        eventually(
            lambda: scraped(port)['dee_sends_total{outcome="delivered"}'] == 1, "no mail went out"
        )
        found = scraped(port)
        assert found['dee_runs{status="waiting"}'] == 1
        assert found['dee_runs{status="failed"}'] == 0
        assert found["dee_due_runs"] == 0
        assert found["dee_lease_held"] == 1
        assert found["dee_database_up"] == 1
        assert found["dee_log_position"] > 4
        assert found["dee_tick_duration_seconds_count"] >= 1
        assert found['dee_tick_duration_seconds_bucket{le="+Inf"}'] >= 1


def test_a_port_that_is_taken_is_told(dee: Dee) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = dee("worker", "--metrics-port", port, code=1)
    assert f"--metrics-port: port {port} cannot be had" in done.stderr


# --- calls ----------------------------------------------------------------------------------------


def test_a_call_from_execute_to_completed(tmp_path: Path) -> None:
    port = free_port()
    with running_twilio() as twilio:
        twilio.person = Person(presses=("1",))
        dee = Dee(tmp_path, {
            "DEE_VOICE": "twilio",
            "DEE_TWILIO_ACCOUNT_SID": ACCOUNT,
            "DEE_TWILIO_AUTH_TOKEN": TOKEN,
            "DEE_TWILIO_FROM_NUMBER": FROM,
            "DEE_TWILIO_CALLBACK_URL": f"http://127.0.0.1:{port}/twilio",
            "DEE_TWILIO_CALLBACK_SECRET": SECRET,
            "DEE_TWILIO_API_URL": twilio.url,
        })  # fmt: skip
        dee("init")
        (tmp_path / "plan.yaml").write_text(CALL, encoding="utf-8")
        run = dee.json("execute", "plan.yaml", "--contact", "c-1", "--phone", "+15550100",
                       "--attr", "firstName=Ada")["id"]  # fmt: skip
        with working(dee, "--callbacks-port", str(port)) as process:
            eventually(
                lambda: dee.json("runs", "show", run)["status"] == "completed",
                "the run does not end",
            )
            process.send_signal(signal.SIGTERM)
            out, told = process.communicate(timeout=60)
        placed = twilio.call()
    assert placed.problems == []
    assert placed.spoken == ["Hello Ada", "Press 1 or 2.", "Until then."]
    assert told == ""
    assert f"callbacks on 127.0.0.1, port {port}" in out
    shown = dee.json("runs", "show", run)
    assert (shown["outcome"], shown["currentStep"]) == ("talked", None)
    actions = [entry["action"] for entry in dee.json("history", run)["entries"]]
    assert actions.count("step.dispatched") == 1
    assert "step.pending" in actions
    assert (tmp_path / "dee.calls.db").exists()
    # What is Twilio's stays out of the log.
    assert placed.sid.encode() not in (tmp_path / "dee.db").read_bytes()


def test_callbacks_need_the_channel(dee: Dee) -> None:
    assert "DEE_VOICE=twilio" in dee.fault("worker", "--callbacks-port", "0", code=2)


def test_a_missing_setting_of_the_channel_is_named(dee: Dee) -> None:
    said = dee.fault("worker", DEE_VOICE="twilio", DEE_TWILIO_ACCOUNT_SID=ACCOUNT)
    assert said == (
        "twilio_auth_token, twilio_from_number, twilio_callback_url, twilio_callback_secret: "
        "needed for calls and not set; set DEE_TWILIO_AUTH_TOKEN, DEE_TWILIO_FROM_NUMBER, "
        "DEE_TWILIO_CALLBACK_URL, DEE_TWILIO_CALLBACK_SECRET"
    )
    complete = {
        "DEE_VOICE": "twilio",
        "DEE_TWILIO_ACCOUNT_SID": ACCOUNT,
        "DEE_TWILIO_AUTH_TOKEN": TOKEN,
        "DEE_TWILIO_FROM_NUMBER": "0049",
        "DEE_TWILIO_CALLBACK_URL": "https://example.com",
        "DEE_TWILIO_CALLBACK_SECRET": SECRET,
    }
    said = dee.fault("worker", **complete)
    assert said.startswith("twilio_from_number")
    assert TOKEN not in said
    said = dee.fault("worker", **{**complete, "DEE_TWILIO_FROM_NUMBER": FROM,
                                  "DEE_TWILIO_CA_FILE": "plan.yaml"})  # fmt: skip
    assert said.startswith("twilio_ca_file: plan.yaml cannot be used")


def test_what_is_wrong_with_the_settings_of_smtp_is_named(dee: Dee) -> None:
    smtp = {"DEE_EMAIL": "smtp", "DEE_SMTP_HOST": "mail.example"}
    for file, problem in (("nowhere.pem", "No such file"), ("plan.yaml", "plan.yaml cannot")):
        said = dee.fault("worker", **smtp, DEE_SMTP_CA_FILE=file)
        assert said.startswith("smtp_ca_file: ")
        assert problem in said
    said = dee.fault("worker", **smtp, DEE_SMTP_PASSWORD="secret")
    assert said == "smtp_password: goes together with smtp_username"


def test_only_the_worker_needs_the_settings_of_the_channel(dee: Dee) -> None:
    for command in (
        ("health",),
        ("runs", "list"),
        ("execute", "plan.yaml", "--contact", "c-1", "--email", "a@example.com"),
        ("contact", "suppress", "c-2"),
        ("tick",),
    ):
        dee(*command, DEE_VOICE="twilio")
    assert not (dee.folder / "dee.calls.db").exists()
