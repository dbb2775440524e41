"""Runs that wait longer than the calendar reaches: all about them is told, and never reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from dee_es import Contact, Engine, EngineConfig, ExecutionRun, create_plan, steps
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.errors import InvalidInput
from tests.support.cli.commands import Dee
from tests.support.engines import BACKENDS, DAY, EPOCH, database_url, open_engine, publish_basics

END = datetime(9999, 12, 31, tzinfo=UTC)
YEARS = 100_000_000
PATIENT = """\
id: patient
name: Patient
steps:
  - { id: first, type: wait, duration: { seconds: 1 } }
  - { id: rest, type: wait, duration: { days: 3000000 } }
  - { id: done, type: end, outcome: finished }
"""


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    with open_engine(database_url(request.param, tmp_path, fresh_postgres)) as opened:
        yield opened


def waiting(engine: Engine, days: int) -> ExecutionRun:
    plan = create_plan(
        id=f"long{days}",
        name="Long",
        steps=[steps.wait("w", {"days": days}), steps.end("e", "done")],
    )
    return engine.execute(plan, Contact(id="c"))


def test_a_run_that_waits_beyond_the_calendar_is_shown(engine: Engine) -> None:
    run = waiting(engine, YEARS)
    engine.tick()
    assert engine.get_run(run.id).resume_tick == YEARS * DAY
    assert engine.get_timeline(run.id)[-1].tick == 0
    assert engine.run_at(run.id, version=engine.get_run(run.id).version).run.status == "waiting"
    assert engine.explain(run.id)
    assert engine.list_runs().total == 1


def test_the_clock_stays_within_the_calendar(engine: Engine) -> None:
    last = (END - EPOCH) // timedelta(seconds=1)
    soon, late = waiting(engine, 3), waiting(engine, YEARS)
    assert engine.run_until_idle().tick == 3 * DAY
    assert engine.get_run(soon.id).status == "completed"
    assert engine.get_run(late.id).status == "waiting"
    with pytest.raises(InvalidInput, match=r"^tick: .*9999"):
        engine.run_until(last + 1)
    assert engine.run_until(last).tick == last
    assert engine.now().now == END
    assert engine.health().ok
    assert engine.cancel_run(late.id, "enough").status == "cancelled"


def test_a_loop_of_long_waits_ends_with_the_calendar(engine: Engine) -> None:
    plan = create_plan(
        id="loop",
        name="Loop",
        steps=[
            steps.wait("w", {"days": 365_000}),
            steps.branch(
                "b",
                [
                    {"when": "contact.unsubscribed", "goto": "e"},
                    {"when": "default", "goto": "w2"},
                ],
            ),
            steps.wait("w2", {"days": 365_000}),
            steps.end("e", "done"),
        ],
        transitions=[{"from": "w", "to": "b"}, {"from": "w2", "to": "b"}],  # type: ignore[arg-type]
    )
    run = engine.execute(plan, Contact(id="c"))
    assert engine.run_until_idle().tick < (END - EPOCH) // timedelta(seconds=1)
    assert engine.get_run(run.id).status == "waiting"
    assert engine.list_runs(status="waiting").total == 1


def test_times_that_utc_has_no_date_for_are_refused(engine: Engine) -> None:
    late = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
    with pytest.raises(InvalidInput, match=r"^started_before: "):
        engine.list_runs(started_before=late)
    assert engine.list_runs(started_before=datetime.max.replace(tzinfo=UTC)).total == 0


def test_a_zone_is_known_up_to_the_calendars_end() -> None:
    """Hours are looked for, and reports are made, a year ahead of what the log has seen."""
    channel = MemoryChannel()
    config = EngineConfig(":memory:", clock="manual", epoch=END - timedelta(days=1))
    with Engine(config, channels={"email": channel}) as engine:
        publish_basics(engine)
        window = {"start": "08:00", "end": "20:00", "onUnknownZone": "Europe/Berlin"}
        engine.publish_policy({"windows": {"channels": {"email": window}}})
        plan = create_plan(
            id="late",
            name="Late",
            steps=[steps.send_email("hello", "intro", "Hello"), steps.end("e", "done")],
        )
        for number, zone in enumerate([{}, {"timezone": "Pacific/Kiritimati"}]):
            person = {"id": f"c{number}", "email": "a@example.com", "firstName": "A", **zone}
            engine.execute(plan, person)
        engine.run_until(0)
        assert len(channel.sent) == 1, "in Kiritimati it is 14:00"
        engine.run_until(DAY // 2)
        assert engine.list_runs(status="completed").total == 2
        for name in ("UTC", "Pacific/Kiritimati"):
            report = engine.compliance.report(END - timedelta(days=1), END, zone=name)
            assert report.zone == name


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_wait_beyond_the_calendar_is_told_of(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    plan = create_plan(
        id="patient",
        name="Patient",
        steps=[
            steps.wait("first", {"seconds": 1}),
            steps.wait("rest", {"days": 3_000_000}),
            steps.end("done", "finished"),
        ],
    )
    with open_engine(database_url(kind, tmp_path, fresh_postgres)) as engine:
        run = engine.execute(plan, {"id": "c-1"}).id
        engine.run_until(5)
        resume_tick = engine.get_run(run).resume_tick
        assert resume_tick == 1 + 3_000_000 * 86_400
        assert engine.get_timeline(run)[-1].until == END
        assert engine.get_timeline(run)[-1].outcome == "until a time beyond the year 9999"
        assert engine.get_logs(run)[-1].outcome == "until a time beyond the year 9999"
        waiting = engine.run_at(run, tick=5).waiting
        assert waiting is not None
        assert (waiting.until_tick, waiting.until) == (resume_tick, END)
        assert engine.diff_run(run, 1, engine.get_run(run).version)
        told = engine.explain(run)
        for text in (told.now, told.sentences[-1].text):
            assert f"until a time beyond the year 9999 (tick {resume_tick})" in text
        assert engine.contact_at("c-1").entries[-1].until == END
        debug = engine.debug(run)
        debug.goto(debug.last_version)
        assert debug.at().waiting == waiting
        ended = debug.what_next().events[-1]
        assert (ended.event, ended.tick, ended.time) == ("run.completed", resume_tick, END)
        assert engine.health().ok
        assert engine.replay(run).identical
        assert engine.replay(run, plan_version=1).identical


def test_the_shell_shows_it(tmp_path: Path) -> None:
    dee = Dee(tmp_path)
    (tmp_path / "plan.yaml").write_text(PATIENT)
    dee("init", "--clock", "manual", "--epoch", "2025-03-03T08:00Z")
    dee("plan", "publish", "plan.yaml")
    dee("enroll", "plan.yaml", dee.contacts("c-1,ada@example.com,Ada"))
    dee("run-until", "--for", "10s")
    (run,) = dee.json("runs", "list")["runs"]
    for command in ("health", f"runs show {run['id']}"):
        assert "9999-12-31" in dee(*command.split()).stdout, command
    assert "until a time beyond the year 9999" in dee("history", str(run["id"])).stdout
    zoned = dee("history", str(run["id"]), "--at-tick", "9", "--tz", "Pacific/Kiritimati").stdout
    assert "9999-12-31T14:00:00+14:00" in zoned
