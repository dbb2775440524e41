"""Compliance reports on every backend: random lives counted by hand, and what surrounds them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.events import LogExported, StepDispatched
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.compliance import counted
from dee_es.engine.compliance.report import FORMATS, INCLUDED, ComplianceReport
from dee_es.errors import ConcurrencyConflict, DeeError, IntegrityViolation, InvalidInput
from tests.support.by_hand.compliance import assert_report_is_the_count_by_hand
from tests.support.counts import count
from tests.support.engines import (
    BACKENDS,
    DAY,
    EPOCH,
    calling,
    database_url,
    fickle,
    open_engine,
    outreach,
    publish_basics,
)
from tests.support.evidence.exports import made_log

POLICIES: list[dict[str, Any]] = [
    {
        "consent": {"required": ["voice"]},
        "windows": {
            "channels": {
                "email": {"weekdays": ["mon", "tue", "wed", "thu", "fri"], "start": "08:00"},
                "voice": {"start": "09:00", "end": "20:00"},
            }
        },
    },
    {
        "consent": {"required": ["email", "voice"], "purpose": "news"},
        "windows": {"channels": {"email": {"end": "22:00", "onUnknownZone": "Europe/Vienna"}}},
        "limits": {"perDay": {"contact": 1}},
    },
    {"limits": {"perDay": {"channel": {"email": 3}}, "effect": "fail"}},
    {"budget": {"amount": 30, "currency": "EUR", "costPerSend": {"voice": 12}, "per": "total"}},
]
ZONES = ["Europe/Vienna", "America/New_York", "Mars/Olympus", None]
WHO = [f"c{number}" for number in range(6)]
PLANS = {"outreach": outreach(), "calling": calling()}
PERSONAL = ("@example.com", "+1555", "Name", "Vienna", "New_York")


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]) -> str:
    return database_url(request.param, tmp_path, fresh_postgres)


def person(number: int) -> Contact:
    return Contact(
        id=f"c{number}",
        email=f"c{number}@example.com",
        phone=f"+1555000{number}",
        timezone=ZONES[number % len(ZONES)],
        firstName=f"Name{number}",
    )


class Life:
    """Something happens to an engine, again and again, by one seed."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.chance = random.Random(seed)
        publish_basics(engine)

    def live(self, steps: int) -> None:
        acts = [self.execute, self.execute, self.go_on, self.go_on, self.go_on, self.told,
                self.consent, self.suppress, self.steer, self.publish]  # fmt: skip
        for _ in range(steps):
            with suppress(DeeError):
                self.chance.choice(acts)()

    def execute(self) -> None:
        plan = PLANS[self.chance.choice(sorted(PLANS))]
        self.engine.execute(plan, person(self.chance.randrange(len(WHO))))

    def go_on(self) -> None:
        ahead = self.chance.choice([1, 3_600, 40_000, DAY, 3 * DAY])
        self.engine.run_until(self.engine.now().tick + ahead)

    def told(self) -> None:
        kind, data = self.chance.choice(
            [
                ("email.unsubscribed", {}),
                ("email.complained", {}),
                ("email.bounced", {"kind": "soft"}),
                ("email.bounced", {"kind": "hard"}),
                ("email.replied", {}),
                ("call.completed", {"outcome": "answered"}),
                ("call.completed", {"outcome": "busy"}),
            ]
        )
        runs = self.engine.list_runs(limit=100).runs
        if runs:
            run = self.chance.choice(runs)
            named = run.id if kind.startswith("call.") or self.chance.random() < 0.5 else None
            ago = timedelta(seconds=self.chance.choice([0, 0, 60, 4 * DAY]))
            at = max(EPOCH, self.engine.now().now - ago)
            self.engine.ingest_event(kind, run.contact_id, named, None, data, at)

    def consent(self) -> None:
        channel: Any = self.chance.choice(["email", "voice"])
        purpose = self.chance.choice([None, "news"])
        who = self.chance.choice(WHO)
        if self.chance.random() < 0.25:
            self.engine.revoke_consent(who, channel, purpose=purpose)
            return
        ends = self.engine.now().now + timedelta(days=2) if self.chance.random() < 0.5 else None
        self.engine.grant_consent(who, channel, purpose=purpose, expires_at=ends)

    def suppress(self) -> None:
        who = self.chance.choice(WHO)
        change = self.chance.choice(
            [
                lambda: self.engine.suppress(who),
                lambda: self.engine.suppress(who, level="channel", channel="email"),
                lambda: self.engine.suppress(who, level="plan", plan_id="outreach"),
                lambda: self.engine.unsuppress(who),
                lambda: self.engine.unsuppress(who, level="regulatory"),
                lambda: self.engine.unsuppress(who, level="channel", channel="email"),
                lambda: self.engine.unsuppress(who, level="plan", plan_id="outreach"),
                lambda: self.chance.random() < 0.2 and self.engine.erase_contact(who, "asked"),
            ]
        )
        change()

    def steer(self) -> None:
        runs = self.engine.list_runs(limit=100).runs
        if not runs:
            return
        run = self.chance.choice(runs).id
        act = self.chance.choice(
            [
                lambda: self.engine.pause_run(run, "why not"),
                lambda: self.engine.resume_run(run),
                lambda: self.engine.retry_run(run, "again"),
                lambda: self.engine.resolve_step(run, "resend", reason="seen"),
                lambda: self.engine.resolve_step(run, "delivered", reason="seen"),
                lambda: self.engine.cancel_run(run, "enough"),
            ]
        )
        act()

    def publish(self) -> None:
        self.engine.publish_policy(self.chance.choice(POLICIES))


@pytest.mark.parametrize("seed", range(count(3, 60)))
def test_a_report_is_the_count_by_hand(url: str, seed: int) -> None:
    with open_engine(url, channel=MemoryChannel(fickle), seed=seed) as engine:
        life = Life(engine, seed)
        life.live(150)
        end = engine.now().now + timedelta(seconds=1)
        whole = assert_report_is_the_count_by_hand(engine, EPOCH, end)
        assert whole.section("sends").figures
        part = (end - EPOCH) / 3
        for since, until in ((EPOCH + part, end - part), (EPOCH, EPOCH + part), (end, end + part)):
            assert_report_is_the_count_by_hand(engine, since, until)
        for section, figure in whole.violations():
            assert (section.key, figure.key[:5]) == ("unsubscribes", "over_"), figure
        no_names(engine, whole)


def no_names(engine: Engine, report: ComplianceReport) -> None:
    for format in ("json", "md"):
        text = engine.compliance.render(report, format).decode()  # type: ignore[arg-type]
        assert not any(each in text for each in PERSONAL)


@pytest.fixture
def stored(url: str) -> Iterator[Engine]:
    with open_engine(url, seed=5) as engine:
        yield lived(engine)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with open_engine(":memory:", seed=5) as engine:
        yield lived(engine)


def lived(engine: Engine) -> Engine:
    """Six people in a plan, one of whom unsubscribes."""
    publish_basics(engine)
    engine.bulk_execute(outreach(), [person(number) for number in range(6)])
    engine.run_until(DAY)
    engine.ingest_event("email.unsubscribed", "c1", event_id="u1")
    engine.run_until_idle()
    return engine


def ever(engine: Engine, **options: Any) -> ComplianceReport:
    return engine.compliance.report(EPOCH, engine.now().now + timedelta(days=1), **options)


def exported(engine: Engine) -> list[LogExported]:
    rows = engine._parts.store.read_stream(SYSTEM_STREAM)
    found = [each.event for each in engine._journal.open(rows)]
    return [event for event in found if isinstance(event, LogExported)]


def test_a_report_is_put_on_record(stored: Engine) -> None:
    engine = stored
    head = engine.health().position
    report = ever(engine, reason="asked by counsel", actor="ann")
    [event] = exported(engine)
    assert report.through == head
    assert engine.health().position == head + 1
    assert (event.kind, event.format, event.through, event.entries) == (
        "report",
        "json",
        head,
        head,
    )
    assert (event.from_tick, event.before_tick) == (report.from_tick, report.before_tick)
    assert (event.digest, event.target, event.personal_data) == ("", "", False)
    [entry] = engine.audit.query(actions=["log.exported"]).entries
    assert (entry.actor, entry.reason, entry.position) == ("ann", "asked by counsel", head + 1)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_on_record_before_it_appears(
    engine: Engine, tmp_path: Path, format: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "reports" / f"march.{format}"
    replace = os.replace
    seen: list[int] = []

    def watched(aside: str, path: str) -> None:
        seen.append(len(exported(engine)))
        replace(aside, path)

    monkeypatch.setattr(os, "replace", watched)
    report = ever(engine, format=format, output=str(target))
    assert seen == [1]
    [event] = exported(engine)
    content = target.read_bytes()
    assert event.digest == hashlib.sha256(content).hexdigest()
    assert event.target == str(target)
    assert event.format == format
    assert content == engine.compliance.render(report, format)


def test_a_report_to_a_stream_is_on_record_with_its_digest(stored: Engine) -> None:
    stream = io.BytesIO()
    report = ever(stored, format="md", output=stream)
    [event] = exported(stored)
    assert stream.getvalue() == stored.compliance.render(report, "md")
    assert event.digest == hashlib.sha256(stream.getvalue()).hexdigest()
    assert event.target == "stream"


def test_the_same_log_and_period_give_the_same_bytes(stored: Engine) -> None:
    engine = stored
    first = ever(engine)
    again = ever(engine, through=first.through)
    for format in FORMATS:
        assert engine.compliance.render(first, format) == engine.compliance.render(again, format)
    assert ever(engine).through == first.through + 2


def test_only_the_verification_is_of_what_was_signed_since(tmp_path: Path) -> None:
    with made_log("sqlite", tmp_path, str) as log:
        first = ever(log.engine)
        log.engine.audit.checkpoint()
        again = ever(log.engine, through=first.through)
    assert first.verification is not None
    assert again.verification is not None
    assert (first.verification.complete, again.verification.complete) == (False, True)
    assert again.verification.anchored_through > first.verification.anchored_through
    assert replace(first, verification=None) == replace(again, verification=None)


def test_a_command_that_is_repeated_is_recorded_once(engine: Engine) -> None:
    ever(engine, command_id="cmd_report")
    ever(engine, command_id="cmd_report")
    assert len(exported(engine)) == 1


def test_a_command_that_is_repeated_with_another_outcome_is_recorded_again(engine: Engine) -> None:
    for _ in range(2):
        ever(engine, format="json", output=io.BytesIO(), command_id="cmd_report")
    first, second = exported(engine)
    assert first.digest != second.digest
    through = first.through
    for _ in range(2):
        ever(engine, output=io.BytesIO(), through=through, command_id="cmd_again")
    assert [event.digest for event in exported(engine)[2:]] == [first.digest]


@pytest.mark.parametrize("part", INCLUDED)
def test_each_part_alone_is_what_it_is_among_the_others(engine: Engine, part: str) -> None:
    whole = ever(engine)
    alone = ever(engine, include=[part], through=whole.through)
    if part == "verification":
        assert (alone.sections, alone.verification) == ((), whole.verification)
    else:
        assert alone.sections == (whole.section(part),)
        assert alone.verification is None


def test_numbers_lead_to_entries_that_can_be_looked_at(stored: Engine) -> None:
    engine = stored
    figure = ever(engine).figure("sends", "email", "attempted")
    found = [entry for first, last in figure.entries for entry in engine.audit.get_at(first, last)]
    assert [entry.position for entry in found] == list(figure.entries.positions())
    assert {entry.action for entry in found} == {"step.dispatched"}
    assert figure.value == len(found) > 0


def test_progress_is_told_for_both_ways_through_the_log(engine: Engine) -> None:
    told: list[tuple[str, int, int]] = []
    report = ever(engine, on_progress=lambda *each: told.append(each))
    assert {what for what, _, _ in told} == {"counting", "verifying"}
    assert all(done <= total == report.through for what, done, total in told)


@pytest.mark.parametrize(
    "wrong, field",
    [
        ({"include": []}, "include"),
        ({"include": ["sends", "everything"]}, "include"),
        ({"include": 3}, "include"),
        ({"format": "docx"}, "format"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": ""}, "zone"),
        ({"through": 0}, "through"),
        ({"through": 10_000_000}, "through"),
        ({"output": ""}, "output"),
        ({"output": "folder/"}, "output"),
        ({"output": ".hidden"}, "output"),
        ({"until": EPOCH}, "until"),
        ({"since": datetime(2026, 1, 1)}, "since"),
        ({"since": "yesterday"}, "since"),
    ],
)
def test_what_cannot_be_reported_is_refused(
    engine: Engine, wrong: dict[str, Any], field: str
) -> None:
    head = engine.health().position
    given: dict[str, Any] = {"since": EPOCH, "until": EPOCH + timedelta(days=1), **wrong}
    with pytest.raises(InvalidInput, match=rf"^{field}\b"):
        engine.compliance.report(**given)
    assert engine.health().position == head


def test_json_has_every_figure_with_its_entries(engine: Engine) -> None:
    report = ever(engine)
    told = json.loads(engine.compliance.render(report, "json"))
    assert told["through"] == report.through
    for section in report.sections:
        figures = told["sections"][section.key]["figures"]
        assert len(figures) == len(section.figures)
        for figure, shown in zip(section.figures, figures, strict=True):
            assert shown["value"] == figure.value
            assert [tuple(each) for each in shown["entries"]] == list(figure.entries)
            if shown["unit"] == "entries" and shown["value"] is not None:
                assert shown["value"] == sum(last - a + 1 for a, last in shown["entries"])


def test_an_erased_contact_stays_counted(stored: Engine) -> None:
    engine = stored
    engine.publish_policy({"windows": {"channels": {"email": {}}}})
    engine.bulk_execute(outreach("second"), [person(number) for number in (0, 1, 4, 5)])
    engine.run_until_idle()
    before = ever(engine).section("windows").figures
    sends = {each.key: set(each.entries.positions()) for each in before}
    assert sends["inside"]
    assert not sends["unreadable"]
    engine.erase_contact("c5", "asked")
    after = ever(engine)
    now = {each.key: set(each.entries.positions()) for each in after.section("windows").figures}
    assert now["inside"] | now["unreadable"] == sends["inside"]
    assert now["unreadable"]
    for name in ("zone_contact", "no_window", "outside"):
        assert now[name] == sends[name]
    assert after.verification is not None
    assert after.verification.intact
    assert after.figure("suppressions", "placed", "regulatory:an erasure").value == 1
    assert after.figure("unsubscribes", "requests", "erase").value == 1


def test_a_late_notice_shows_the_sends_in_between(stored: Engine) -> None:
    engine = stored
    engine.execute(calling(), person(4))
    engine.run_until(engine.now().tick + 10 * DAY)
    at = EPOCH + timedelta(seconds=1)
    engine.ingest_event("email.unsubscribed", "c4", event_id="late", occurred_at=at)
    report = ever(engine)
    between = report.figure("unsubscribes", "", "sent_between")
    found = [e for a, b in between.entries for e in engine.audit.get_at(a, b)]
    assert {entry.action for entry in found} == {"step.dispatched"}
    runs = {run.id for run in engine.list_runs(contact_id="c4").runs}
    assert {str(entry.run_id) for entry in found} <= runs
    assert len(found) == sum(
        isinstance(each.event, StepDispatched) and each.meta.tick >= 1
        for run in runs
        for each in engine.get_events(run)
    )
    # More than fifteen days, from a Thursday on.
    assert report.figure("unsubscribes", "", "over_ten_business_days").value == 1
    assert report.figure("unsubscribes", "", "over_two_days").value == 1


def test_what_is_archived_while_it_is_counted_makes_no_report(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted, "_PAGE", 25)

    def archive(what: str, at: int, _: int) -> None:
        if (what, at) == ("counting", 25):
            engine.audit.archive(engine.now().now + timedelta(days=1), place="memory://away")

    with pytest.raises(ConcurrencyConflict, match="report again"):
        ever(engine, on_progress=archive)
    assert ever(engine).section("sends").not_measured


def test_a_run_that_lost_its_beginning_is_named(tmp_path: Path) -> None:
    with open_engine(f"sqlite:///{tmp_path / 'dee.db'}", seed=5) as engine:
        lived(engine)
        run = engine.list_runs(contact_id="c3").runs[0].id
        with closing(sqlite3.connect(tmp_path / "dee.db")) as raw, raw:
            triggers = raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in triggers.fetchall():
                raw.execute(f"DROP TRIGGER {name}")
            raw.execute(
                "DELETE FROM stored_events WHERE originator_id = ? AND originator_version = 1",
                (run,),
            )
        with pytest.raises(IntegrityViolation, match=run):
            ever(engine)


def test_an_imported_run_is_not_held_against_entries_that_are_elsewhere() -> None:
    with open_engine(":memory:", seed=6) as engine:
        publish_basics(engine)
        engine.publish_policy({"consent": {"required": ["email"]}})
        engine.grant_consent("c1", "email")
        run = engine.execute(outreach(), person(1)).id
        engine.run_until_idle()
        file = engine.export_run(run)
    with open_engine(":memory:", seed=7) as engine:
        engine.suppress("c1")
        engine.import_run(file)
        report = ever(engine)
        assert report.violations() == []
        sends = report.figure("sends", "email", "attempted").entries
        assert sends.count == 2
        assert report.figure("consent", "email", "log_elsewhere").entries == sends
        publish_basics(engine)
        engine.grant_consent("c2", "email")
        engine.execute(outreach("own"), person(2))
        engine.run_until_idle()
        report = ever(engine)
        assert report.figure("consent", "email", "log_elsewhere").entries == sends
        assert report.figure("consent", "email", "log_granted").value == 2


def test_what_was_archived_is_told_and_not_counted(stored: Engine, tmp_path: Path) -> None:
    engine = stored
    whole = ever(engine)
    before = engine.now().now + timedelta(days=1)
    result = engine.audit.archive(before, place=str(tmp_path / "archive"), actor="ann")
    assert result.entries > 0
    report = ever(engine)
    assert report.missing.count == result.entries
    gone = set(report.missing.positions())
    assert report.section("sends").not_measured
    assert gone >= set(whole.figure("sends", "email", "attempted").entries.positions())
    assert report.figure("unsubscribes", "requests", "email.unsubscribed").value == 1
    assert report.verification is not None
    assert report.verification.intact
    text = engine.compliance.render(report, "md").decode()
    assert f"{result.entries:,} entries up to position" in text


def test_who_takes_back_all_consent_gets_nothing_for_any_purpose(url: str) -> None:
    channel = MemoryChannel()
    with open_engine(url, channel=channel) as engine:
        publish_basics(engine)
        engine.publish_policy(POLICIES[1])
        engine.grant_consent("c0", "email", purpose="news")
        engine.grant_consent("c0", "voice", purpose="news")
        run = engine.execute(PLANS["outreach"], person(0))
        assert engine.revoke_consent("c0", "email")
        assert engine.contact_at("c0").consents == {
            "email": "revoked", "email:news": "revoked", "voice:news": "granted",
        }  # fmt: skip
        engine.run_until(engine.now().tick + DAY)
        assert "step.skipped" in [entry.action for entry in engine.get_timeline(run.id)]
        assert channel.sent == []
