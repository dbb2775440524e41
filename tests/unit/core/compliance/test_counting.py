"""Compliance figures, one by one: given these entries of the log, then this is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from dee_es.adapters.zones import load_zone
from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.compliance import (
    SECTIONS,
    ContactFacts,
    Counting,
    Fact,
    Figure,
    Period,
    Positions,
    Ranges,
    RunFacts,
    Section,
    inside,
)
from dee_es.core.compliance.business_days import business_days
from dee_es.core.gate import Policy, ZoneRules, read_policy

EPOCH = datetime(2026, 3, 2, tzinfo=UTC)  # A Monday.
SCALE = TimeScale(EPOCH)
HOUR, DAY = 3_600, 86_400
CHANNELS = {"hello": "email", "again": "email", "call": "voice"}
YEAR_MS = 366 * 86_400_000
EVER = Period(0, 100 * DAY)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def zone(name: str) -> ZoneRules:
    found = load_zone(name, ms(EPOCH) - YEAR_MS, ms(EPOCH) + YEAR_MS)
    assert found is not None
    return found


@dataclass
class Log:
    """A log that is written by hand, and counted."""

    period: Period = EVER
    zone: str = "UTC"
    entries: list[e.RecordedEvent] = field(default_factory=list)
    policy: Policy | None = None
    in_window: bool | None = True
    earlier: dict[int, tuple[int, ...]] = field(default_factory=dict)
    steps: dict[int, str] = field(default_factory=dict)
    imported: set[int] = field(default_factory=set)
    sections: tuple[str, ...] = SECTIONS
    next: int = 1

    def add(self, stream: str, event: e.Event, tick: int = 0, command: str = "tick") -> int:
        """Append an entry; returns its position."""
        version = 1 + sum(1 for each in self.entries if each.stream_id == stream)
        meta = e.Meta(tick, f"cmd_{self.next}", command, 0)
        name = type(event).__name__
        self.entries.append(e.RecordedEvent(stream, version, name, self.next, meta, event))
        self.next += 1
        return self.next - 1

    def run(self, contact: str = "c1", plan: str = "p", tick: int = 0) -> str:
        run = f"run_{contact}_{plan}"
        self.add(run, e.RunStarted(plan, 1, contact, 1, tick, 3), tick)
        return run

    def sent(
        self,
        run: str,
        tick: int = 0,
        step: str = "hello",
        reads: Mapping[str, object] | None = None,
        resend: bool = False,
    ) -> int:
        channel = CHANNELS[step]
        given = dict(reads or {})
        return self.add(
            run,
            e.StepDispatched(step, channel, "k", 1, 1, "d", given, resend=resend),  # type: ignore[arg-type]
            tick,
        )

    def unsubscribed(
        self, contact: str = "c1", tick: int = 0, occurred: int | None = None,
        kind: str = "email.unsubscribed",
    ) -> int:  # fmt: skip
        level = "global" if kind == "email.unsubscribed" else "regulatory"
        happened = tick if occurred is None else occurred
        event = e.ChannelEventReceived(kind, contact, f"e{self.next}", happened)
        at = self.add(f"contact:{contact}", event, tick, "ingest")
        self.suppressed(contact, tick, level, command="ingest")  # type: ignore[arg-type]
        return at

    def suppressed(
        self, contact: str = "c1", tick: int = 0, level: e.Level = "global", scope: str = "",
        command: str = "suppress", subjects: tuple[str, ...] | None = None,
    ) -> int:  # fmt: skip
        given = (f"id:{contact}", "email:d") if subjects is None else subjects
        event = e.ContactSuppressed(contact, level, scope, given)
        return self.add(f"contact:{contact}", event, tick, command)

    def lifted(self, contact: str = "c1", tick: int = 0, level: e.Level = "global") -> int:
        event = e.ContactUnsuppressed(contact, level, "", (f"id:{contact}", "email:d"))
        return self.add(f"contact:{contact}", event, tick, "unsuppress")

    def count(self, page: int = 2) -> Counting:
        counting = Counting(self.period, SCALE, zone(self.zone), self.sections)
        for begin in range(0, len(self.entries), page):
            part = self.entries[begin : begin + page]
            needs = counting.needs(part)
            counting.know({run: self.whose(run) for run in needs.runs})
            for recorded in part:
                counting.take(self.fact(counting, recorded, needs.runs))
        counting.reach(self.next - 1)
        return counting

    def whose(self, run: str) -> RunFacts:
        start = next(each.event for each in self.entries if each.stream_id == run)
        assert isinstance(start, e.Start)
        return RunFacts(start.contact_id, start.plan_id, CHANNELS)

    def fact(self, counting: Counting, recorded: e.RecordedEvent, runs: frozenset[str]) -> Fact:
        stream = recorded.stream_id
        run = self.whose(stream) if stream in runs else None
        who = run.contact_id if run is not None else str(getattr(recorded.event, "contact_id", ""))
        history = [each for each in self.entries if each.stream_id == f"contact:{who}"]
        return Fact(
            recorded,
            counting.counts(recorded),
            run,
            None if recorded.position in self.imported else ContactFacts(who, history),
            self.policy,
            self.in_window,
            self.steps.get(recorded.position),
            self.earlier.get(recorded.position, ()),
        )

    def section(self, key: str) -> Section:
        return {each.key: each for each in self.count().sections()}[key]

    def figure(self, section: str, group: str, key: str) -> Figure:
        found = self.section(section).figures
        return {(each.group, each.key): each for each in found}[group, key]

    def values(self, section: str, group: str) -> dict[str, int | None]:
        """The figures of a group, in their order; None for what was not measured."""
        found = self.section(section).figures
        return {each.key: each.value for each in found if each.group == group}

    def at(self, section: str, group: str, key: str) -> list[int] | None:
        """The positions that a figure counts; None if it was not measured."""
        figure = self.figure(section, group, key)
        if figure.value is None:
            assert figure.not_measured
            return None
        positions = list(figure.entries.positions())
        assert figure.unit == "seconds" or figure.value == len(positions)
        return positions


# --- ranges -----------------------------------------------------------------------------------


def test_positions_become_ranges() -> None:
    positions = Positions()
    for each in (9, 3, 7, 8, 3, 1):
        positions.add(each)
    ranges = positions.ranges()
    assert list(ranges) == [(1, 1), (3, 3), (7, 9)]
    assert ranges.text() == "1, 3, 7-9"
    assert ranges.count == 5
    assert list(ranges.positions()) == [1, 3, 7, 8, 9]
    assert not Ranges()
    assert ranges != Ranges()


# --- sends ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event, key",
    [
        (e.StepCompleted("hello", "delivered"), "delivered"),
        (e.StepFailed("hello", "refused", 1), "failed"),
        (e.StepRetried("hello", "refused", 1, 9), "failed"),
        (e.OutcomeUnknown("hello", "k", "lost"), "unknown"),
    ],
)
def test_a_send_counts_under_its_outcome(event: e.Event, key: str) -> None:
    log = Log()
    send = log.sent(log.run())
    outcome = log.add("run_c1_p", event, 1)
    assert log.at("sends", "email", "attempted") == [send]
    assert log.at("sends", "email", key) == [send]
    assert list(log.figure("sends", "email", key).evidence.positions()) == [outcome]
    others = {"delivered", "failed", "unknown", "open"} - {key}
    assert all(log.at("sends", "email", other) == [] for other in others)


@pytest.mark.parametrize(
    "result, key",
    [
        ("answered", "delivered"),
        ("voicemail", "delivered"),
        ("busy", "not_reached"),
        ("no_answer", "not_reached"),
        ("declined", "not_reached"),
        ("failed", "not_reached"),
    ],
)
def test_a_call_counts_by_whether_it_reached_somebody(result: str, key: str) -> None:
    log = Log()
    run = log.run()
    send = log.sent(run, 0, "call")
    log.add(run, e.StepPending("call", 99), 0)
    log.add(run, e.StepCompleted("call", result), 1)
    assert log.at("sends", "voice", key) == [send]


def test_a_send_without_an_outcome_is_open() -> None:
    log = Log()
    send = log.sent(log.run())
    assert log.at("sends", "email", "open") == [send]


def test_an_unknown_outcome_stays_one() -> None:
    log = Log()
    run = log.run()
    send = log.sent(run)
    log.add(run, e.OutcomeUnknown("hello", "k", "lost"), 1)
    log.add(run, e.StepCompleted("hello", "delivered", late=True), 2)
    log.add(run, e.StepResolved("hello", "delivered", 3), 3)
    assert log.at("sends", "email", "unknown") == [send]
    assert log.at("sends", "email", "delivered") == []


def test_what_is_told_late_of_a_lost_send_says_nothing_of_the_one_after_it() -> None:
    for late in (
        e.StepFailed("hello", "refused", 1, late=True),
        e.StepCompleted("hello", "delivered", late=True),
    ):
        log = Log()
        run = log.run()
        lost = log.sent(run)
        log.add(run, e.OutcomeUnknown("hello", "k", "lost"), 1)
        log.add(run, e.StepResolved("hello", "resend", 3), 2)
        again = log.sent(run, 3)
        log.add(run, late, 4)
        assert log.at("sends", "email", "unknown") == [lost]
        assert log.at("sends", "email", "open") == [again]


def test_while_its_run_goes_on_a_call_ends_by_what_the_run_makes_of_its_event() -> None:
    log = Log()
    run = log.run()
    call = log.sent(run, 0, "call")
    told = e.ChannelEventReceived("call.completed", "c1", "e1", 9, step_id="call", kind="busy")
    log.add(run, told, 9, "ingest")
    assert log.at("sends", "voice", "open") == [call]
    over = log.add(run, e.StepCompleted("call", "busy"), 9, "ingest")
    assert log.at("sends", "voice", "not_reached") == [call]
    evidence = log.figure("sends", "voice", "not_reached").evidence
    assert list(evidence.positions()) == [over]


def test_only_of_a_call_it_can_be_said_that_it_reached_nobody() -> None:
    log = Log()
    run = log.run()
    log.sent(run)
    log.sent(run, 1, "call")
    told = [each.group for each in log.section("sends").figures if each.key == "not_reached"]
    assert told == ["voice"]


def test_each_attempt_counts_for_itself() -> None:
    log = Log()
    run = log.run()
    first = log.sent(run)
    log.add(run, e.StepRetried("hello", "refused", 1, 60), 0)
    second = log.sent(run, 60)
    log.add(run, e.StepCompleted("hello", "delivered"), 61)
    # It bounced softly, which is no outcome of a send.
    log.add(run, e.StepRetried("hello", "soft bounce", 1, 99, resend=True), 70)
    third = log.sent(run, 99, resend=True)
    assert log.at("sends", "email", "attempted") == [first, second, third]
    assert log.at("sends", "email", "failed") == [first]
    assert log.at("sends", "email", "delivered") == [second]
    assert log.at("sends", "email", "open") == [third]


def test_an_outcome_behind_the_period_counts_for_the_send_in_it() -> None:
    log = Log(Period(10, 20))
    run = log.run()
    early = log.sent(run, 9)
    log.add(run, e.StepCompleted("hello", "delivered"), 12)
    send = log.sent(run, 19, "again")
    log.add(run, e.StepCompleted("again", "delivered"), 25)
    late = log.sent(run, 20)
    assert log.at("sends", "email", "delivered") == [send]
    assert early != send != late


GATE: list[tuple[e.Event, str]] = [
    (e.StepSkipped("hello", "suppression", "x", {"suppression": "global"}), "skipped:suppression"),
    (e.StepSkipped("hello", "consent", "x", {"consent.email": "missing"}), "skipped:consent"),
    (e.StepDeferred("hello", "windows", "x", 9, {"policy": 1}), "deferred:windows"),
    (e.StepDeferred("hello", "limits", "x", 9, {"policy": 1}), "deferred:limits"),
    (e.StepFailed("hello", "windows: closed", 1, reads={"policy": 1}), "failed:windows"),
    (e.RunPaused("deadline", "budget: used up", {"policy": 1}), "paused:budget"),
]


@pytest.mark.parametrize("event, key", GATE)
def test_what_the_gate_did_instead_counts_by_its_rule(event: e.Event, key: str) -> None:
    log = Log()
    at = log.add(log.run(), event)
    log.steps[at] = "hello"
    assert log.at("sends", "email", key) == [at]
    assert log.at("sends", "email", "attempted") == []
    assert log.at("sends", "email", "delivered") is None


def test_a_pause_counts_for_the_channel_of_its_step() -> None:
    log = Log()
    at = log.add(log.run(), e.RunPaused("deadline", "budget: used up", {"policy": 1}))
    log.steps[at] = "call"
    assert log.at("sends", "voice", "paused:budget") == [at]


@pytest.mark.parametrize(
    "event",
    [
        e.StepDeferred("hello", "retry", "x", 9),
        e.StepDeferred("hello", "limits", "held again after a resume", 9),
        e.StepDeferred("hello", "retry", "x", 9, {"policy": 1}),
        e.RunPaused("deadline"),
        e.RunPaused("deadline", "budget: not now"),
        e.StepFailed("hello", "cannot be rendered: name", 1, reads={"policy": 1}),
        e.WaitStarted("hello", 9),
    ],
)
def test_what_is_no_decision_of_the_gate_does_not_count(event: e.Event) -> None:
    log = Log()
    log.add(log.run(), event)
    for section in ("sends", "consent", "windows"):
        assert log.section(section).not_measured
        assert log.section(section).figures == ()


# --- consent ----------------------------------------------------------------------------------

ASKING = read_policy({"consent": {"required": ["email"]}})
FOR_NEWS = read_policy({"consent": {"required": ["email"], "purpose": "news"}})


def test_consent_as_the_gate_read_it() -> None:
    log = Log()
    run = log.run()
    granted = log.sent(run, 5, reads={"consent.email": "granted"})
    bounded = log.sent(run, 5, reads={"consent.email": "granted", "consent.email.expires": 6})
    not_asked = log.sent(run, 5)
    revoked = log.sent(run, 5, reads={"consent.email": "revoked"})
    expired = log.sent(run, 5, reads={"consent.email": "granted", "consent.email.expires": 5})
    assert log.at("consent", "email", "granted") == [granted, bounded]
    assert log.at("consent", "email", "not_asked") == [not_asked]
    without = log.figure("consent", "email", "without")
    assert list(without.entries.positions()) == [revoked, expired]
    assert without.violated


@pytest.mark.parametrize("state", ["revoked", "expired", "missing"])
def test_steps_skipped_for_want_of_consent(state: str) -> None:
    log = Log()
    at = log.add(log.run(), e.StepSkipped("hello", "consent", "x", {"consent.email": state}))
    assert log.at("consent", "email", f"skipped_{state}") == [at]
    assert log.at("consent", "email", "granted") is None


def test_a_grant_that_ran_out_was_expired() -> None:
    log = Log()
    reads = {"consent.email": "granted", "consent.email.expires": 3}
    at = log.add(log.run(), e.StepSkipped("hello", "consent", "x", reads), 5)  # type: ignore[arg-type]
    assert log.at("consent", "email", "skipped_expired") == [at]


@pytest.mark.parametrize(
    "said, state",
    [
        ([], "missing"),
        ([e.ConsentGranted("c1", "email")], "granted"),
        ([e.ConsentGranted("c1", "voice")], "missing"),
        ([e.ConsentGranted("c1", "email", expires_tick=11)], "granted"),
        ([e.ConsentGranted("c1", "email", expires_tick=10)], "expired"),
        ([e.ConsentGranted("c1", "email"), e.ConsentRevoked("c1", "email")], "revoked"),
        ([e.ConsentRevoked("c1", "email"), e.ConsentGranted("c1", "email")], "granted"),
        # Without a purpose asked for, any grant is one.
        ([e.ConsentGranted("c1", "email", "news"), e.ConsentRevoked("c1", "email")], "granted"),
        # Where none holds any more, the last word counts.
        (
            [
                e.ConsentRevoked("c1", "email", "news"),
                e.ConsentGranted("c1", "email", "offers", expires_tick=10),
            ],
            "expired",
        ),
        (
            [
                e.ConsentGranted("c1", "email", "offers", expires_tick=10),
                e.ConsentRevoked("c1", "email", "news"),
            ],
            "revoked",
        ),
    ],
)
def test_consent_by_the_contacts_own_entries(said: list[e.Event], state: str) -> None:
    log = Log()
    run = log.run()
    log.add("contact:other", e.ConsentGranted("other", "voice"))
    for each in said:
        log.add("contact:c1", each)
    send = log.sent(run, 10)
    log.add("contact:c1", e.ConsentGranted("c1", "email"))
    assert log.at("consent", "email", f"log_{state}") == [send]
    assert log.at("consent", "email", "contradicted") is None


def test_the_purpose_of_the_policy_counts() -> None:
    log = Log(policy=FOR_NEWS)
    run = log.run()
    log.add("contact:c1", e.ConsentGranted("c1", "email"))
    first = log.sent(run, 1, reads={"consent.email": "granted"})
    granted = log.add("contact:c1", e.ConsentGranted("c1", "email", "news"))
    second = log.sent(run, 2, reads={"consent.email": "granted"})
    assert log.at("consent", "email", "log_missing") == [first]
    assert log.at("consent", "email", "contradicted") == [first]
    assert log.figure("consent", "email", "contradicted").violated
    assert log.at("consent", "email", "log_granted") == [second]
    evidence = log.figure("consent", "email", "log_granted").evidence
    assert list(evidence.positions()) == [granted]


def test_where_no_consent_is_asked_for_one_for_any_purpose_counts() -> None:
    log = Log(policy=FOR_NEWS)
    run = log.run()
    early = log.sent(run, 1, "call")
    log.add("contact:c1", e.ConsentGranted("c1", "voice", "offers"))
    send = log.sent(run, 2, "call")
    asked = log.sent(run, 3, "call", {"consent.voice": "granted"})
    assert log.at("consent", "voice", "log_granted") == [send]
    assert log.at("consent", "voice", "log_missing") == [early, asked]
    assert log.at("consent", "voice", "contradicted") == [asked]


def test_what_can_be_said_of_consent_depends_on_what_there_was() -> None:
    skipped = Log()
    skipped.add("contact:c1", e.ConsentGranted("c1", "voice"))
    skipped.add(skipped.run(), e.StepSkipped("hello", "consent", "x", {"consent.email": "missing"}))
    nothing = dict.fromkeys(("granted", "not_asked", "without"))
    own = dict.fromkeys(("log_granted", "log_revoked", "log_expired", "log_missing"))
    assert skipped.values("consent", "email") == {
        **nothing, "skipped_revoked": 0, "skipped_expired": 0, "skipped_missing": 1,
        **own, "contradicted": None,
    }  # fmt: skip
    sent = Log()
    sent.add("contact:c1", e.ConsentGranted("c1", "email"))
    run = sent.run()
    sent.sent(run, 1)
    assert sent.values("consent", "email") == {
        "granted": None, "not_asked": 1, "without": None,
        "skipped_revoked": None, "skipped_expired": None, "skipped_missing": None,
        "log_granted": 1, "log_revoked": 0, "log_expired": 0, "log_missing": 0,
        "contradicted": None,
    }  # fmt: skip
    sent.sent(run, 2, reads={"consent.email": "granted"})
    assert sent.values("consent", "email") == {
        "granted": 1, "not_asked": 1, "without": 0,
        "skipped_revoked": 0, "skipped_expired": 0, "skipped_missing": 0,
        "log_granted": 2, "log_revoked": 0, "log_expired": 0, "log_missing": 0,
        "contradicted": 0,
    }  # fmt: skip


def test_the_entries_about_the_contact_of_an_imported_run_are_elsewhere() -> None:
    log = Log()
    log.suppressed(tick=1)
    send = log.sent(log.run(), 2, reads={"consent.email": "granted"})
    log.imported.add(send)
    assert log.at("consent", "email", "granted") == [send]
    assert log.at("consent", "email", "log_elsewhere") == [send]
    for key in ("log_granted", "log_revoked", "log_expired", "log_missing", "contradicted"):
        assert not log.at("consent", "email", key)
    assert log.at("suppressions", "sent", "despite") == []
    assert log.at("unsubscribes", "", "sent_after") == []
    log.imported.clear()
    assert "log_elsewhere" not in log.values("consent", "email")


def test_nothing_about_consent_is_not_measured() -> None:
    log = Log(policy=ASKING)
    log.sent(log.run())
    assert log.at("consent", "email", "granted") is None
    assert log.at("consent", "email", "log_missing") is None
    assert log.at("consent", "email", "not_asked") == [2]
    log.add("contact:c9", e.ConsentGranted("c9", "email"))
    assert log.at("consent", "email", "log_missing") == [2]


# --- suppressions -----------------------------------------------------------------------------


def test_suppressions_by_level_and_source() -> None:
    log = Log()
    hand = log.suppressed("a")
    channel = log.suppressed("a", level="channel", scope="email")
    unsubscribed = log.unsubscribed("b") + 1
    complained = log.unsubscribed("c", kind="email.complained") + 1
    bounced = log.suppressed("d", 0, "channel", "email", "ingest")
    erased = log.suppressed("e", 0, "regulatory", "", "erase")
    lifted = log.lifted("a")
    refused = log.add("contact:a", e.EnrollmentRefused("a", "p", "suppression", "global"))
    expected = {
        ("placed", "global:a person or a list"): [hand],
        ("placed", "channel:a person or a list"): [channel],
        ("placed", "global:an unsubscribe"): [unsubscribed],
        ("placed", "regulatory:a complaint"): [complained],
        ("placed", "channel:a hard bounce"): [bounced],
        ("placed", "regulatory:an erasure"): [erased],
        ("lifted", "global"): [lifted],
        ("refused", "refused"): [refused],
    }
    found = {
        (each.group, each.key): list(each.entries.positions())
        for each in log.section("suppressions").figures
        if each.value is not None
    }
    assert found == expected
    assert log.at("suppressions", "skipped", "skipped") is None


def test_what_can_be_said_of_suppressions_depends_on_what_there_was() -> None:
    def figures(log: Log) -> dict[tuple[str, str], int | None]:
        found = log.section("suppressions").figures
        return {(each.group, each.key): each.value for each in found}

    log = Log(Period(10, 20))
    log.add("run_c1_p", e.RunScheduled("p", 1, "c1", 1, 15, 3), 5)
    log.suppressed(tick=5)
    log.lifted(tick=6)
    # A start that was put off is no enrolment.
    log.add("run_c1_p", e.RunScheduled("p", 1, "c1", 1, 16, 3), 11)
    nothing = {("placed", "placed"): 0, ("lifted", "lifted"): 0}
    assert figures(log) == {
        **nothing, ("refused", "refused"): None, ("skipped", "skipped"): None,
        ("sent", "despite"): None,
    }  # fmt: skip
    log.run("c2", tick=12)
    log.add("run_c1_p", e.StepSkipped("hello", "consent", "x", {"consent.email": "missing"}), 13)
    assert figures(log) == {
        **nothing, ("refused", "refused"): 0, ("skipped", "skipped"): 0, ("sent", "despite"): 0,
    }  # fmt: skip
    at = log.add("run_c1_p", e.StepSkipped("hello", "suppression", "x"), 14)
    assert log.at("suppressions", "skipped", "skipped") == [at]
    log.suppressed("c1", 15, "global")
    assert ("placed", "placed") not in figures(log)


def test_the_figures_of_a_group_come_by_name() -> None:
    log = Log()
    for rule in ("windows", "limits", "consent", "budget"):
        log.add(log.run(plan=rule), e.StepSkipped("hello", rule, "x"))
    keys = [key for key in log.values("sends", "email") if key.startswith("skipped:")]
    assert keys == sorted(keys)
    assert len(keys) == 4


def test_a_send_despite_a_suppression_is_seen() -> None:
    log = Log()
    run = log.run()
    before = log.sent(run, 1)
    listed = log.suppressed(tick=2)
    despite = log.sent(run, 3)
    log.lifted(tick=4)
    after = log.sent(run, 5)
    figure = log.figure("suppressions", "sent", "despite")
    assert list(figure.entries.positions()) == [despite]
    assert list(figure.evidence.positions()) == [listed]
    assert figure.violated
    assert before != despite != after
    assert log.at("unsubscribes", "", "sent_after") == [despite]
    assert log.figure("unsubscribes", "", "sent_after").violated


@pytest.mark.parametrize(
    "level, scope, covered",
    [
        ("global", "", True),
        ("regulatory", "", True),
        ("channel", "email", True),
        ("channel", "voice", False),
        ("plan", "p", True),
        ("plan", "q", False),
    ],
)
def test_a_suppression_covers_what_its_level_says(
    level: e.Level, scope: str, covered: bool
) -> None:
    log = Log()
    run = log.run()
    log.suppressed(level=level, scope=scope)
    send = log.sent(run, 3)
    assert log.at("suppressions", "sent", "despite") == ([send] if covered else [])


def test_a_suppression_of_somebody_else_is_none_of_this_contact() -> None:
    log = Log()
    run = log.run()
    log.suppressed(subjects=("id:other",))
    log.suppressed("other")
    log.sent(run, 3)
    assert log.at("suppressions", "sent", "despite") == []
    log.suppressed(tick=4)
    despite = log.sent(run, 5)
    assert log.at("suppressions", "sent", "despite") == [despite]


def test_a_period_without_any_entry_is_not_measured() -> None:
    log = Log(Period(100, 200))
    log.sent(log.run())
    log.unsubscribed()
    for section in log.count().sections():
        assert section.not_measured, section.key
        assert section.figures == ()


# --- windows ----------------------------------------------------------------------------------


def test_sends_inside_outside_and_without_a_window() -> None:
    log = Log()
    run = log.run()
    own = log.sent(run, 1, reads={"policy": 1, "zone": "contact"})
    default = log.sent(run, 2, reads={"policy": 1, "zone": "default"})
    free = log.sent(run, 3)
    assert log.at("windows", "email", "inside") == [own, default]
    assert log.at("windows", "email", "zone_contact") == [own]
    assert log.at("windows", "email", "zone_default") == [default]
    assert log.at("windows", "email", "no_window") == [free]
    log.in_window = False
    assert log.at("windows", "email", "outside") == [own, default]
    assert log.figure("windows", "email", "outside").violated
    log.in_window = None
    assert log.at("windows", "email", "unreadable") == [own, default]


def test_what_was_held_back_for_a_window() -> None:
    log = Log()
    run = log.run()
    outside = log.add(run, e.StepDeferred("hello", "windows", "x", 9, {"zone": "contact"}))
    unknown = log.add(run, e.StepFailed("call", "windows: zone", 1, reads={"zone": "unknown"}))
    log.add(run, e.StepDeferred("hello", "budget", "spent", 9, {"zone": "contact"}))
    assert log.at("windows", "email", "held_outside") == [outside]
    assert log.at("windows", "voice", "held_unknown") == [unknown]
    assert log.at("windows", "voice", "inside") is None
    assert log.at("windows", "voice", "outside") is None


def test_what_can_be_said_of_windows_depends_on_what_there_was() -> None:
    none = dict.fromkeys(("inside", "outside", "unreadable", "zone_contact", "zone_default"))
    log = Log()
    run = log.run()
    log.sent(run, 1)
    assert log.values("windows", "email") == {
        **none, "no_window": 1, "held_outside": None, "held_unknown": None,
    }  # fmt: skip
    log.add(run, e.StepFailed("call", "windows: zone", 1, reads={"zone": "unknown"}))
    assert log.values("windows", "voice") == {
        **none, "no_window": None, "held_outside": 0, "held_unknown": 1,
    }  # fmt: skip
    for zone in ("contact", "default"):
        one = Log()
        one.sent(one.run(), 1, reads={"policy": 1, "zone": zone})
        assert one.values("windows", "email") == {
            "inside": 1, "outside": 0, "unreadable": 0,
            "zone_contact": int(zone == "contact"), "zone_default": int(zone == "default"),
            "no_window": 0, "held_outside": 0, "held_unknown": 0,
        }  # fmt: skip


def test_no_window_in_any_policy_is_not_measured() -> None:
    log = Log()
    send = log.sent(log.run())
    assert log.at("windows", "email", "inside") is None
    assert log.at("windows", "email", "held_outside") is None
    assert log.at("windows", "email", "no_window") == [send]


OFFICE = read_policy(
    {"windows": {"channels": {"email": {"weekdays": ["mon"], "start": "09:00", "end": "17:00"}}}}
)


@pytest.mark.parametrize(
    "hour, expected", [(8, False), (9, True), (16, True), (17, False), (24 + 9, False)]
)
def test_the_window_is_held_against_the_recorded_offsets(hour: int, expected: bool) -> None:
    rules = zone("Europe/Vienna")
    tick = (hour - 1) * HOUR  # An hour east of UTC.
    now = ms(EPOCH) + tick * 1000
    noted = {"zone": "Europe/Vienna", "zone.offsets": rules.text(now, now + 1)}
    assert inside(OFFICE, "email", SCALE, tick, dict(noted)) is expected


@pytest.mark.parametrize(
    "policy, noted",
    [
        (None, {"zone": "UTC", "zone.offsets": "0+0 until 99999999999999"}),
        (OFFICE, None),
        (OFFICE, {}),
        (OFFICE, {"zone": "UTC"}),
        (OFFICE, {"zone": "UTC", "zone.offsets": "nonsense"}),
        (OFFICE, {"zone": "UTC", "zone.offsets": "0+0 until 1"}),
    ],
)
def test_what_cannot_be_held_against_a_window(
    policy: Policy | None, noted: dict[str, str] | None
) -> None:
    given = None if noted is None else dict(noted)
    assert inside(policy, "email", SCALE, 0, given) is None  # type: ignore[arg-type]


# --- unsubscribes -----------------------------------------------------------------------------


def test_an_unsubscribe_is_closed_at_once() -> None:
    log = Log()
    log.run()
    request = log.unsubscribed(tick=DAY, occurred=DAY - 90)
    assert log.at("unsubscribes", "requests", "email.unsubscribed") == [request]
    assert log.at("unsubscribes", "", "closed") == [request]
    assert log.at("unsubscribes", "", "not_closed") == []
    longest = log.figure("unsubscribes", "", "longest")
    assert (longest.value, longest.unit) == (90, "seconds")
    assert list(longest.entries.positions()) == [request]
    assert log.at("unsubscribes", "", "within_two_days") == [request]
    assert log.at("unsubscribes", "", "within_ten_business_days") == [request]
    assert log.at("unsubscribes", "", "under_way") == []


def test_a_runs_copy_of_an_unsubscribe_is_no_second_request() -> None:
    log = Log()
    run = log.run()
    request = log.unsubscribed()
    log.add(run, e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 0, run), 0, "ingest")
    assert log.at("unsubscribes", "requests", "email.unsubscribed") == [request]


def test_other_requests_by_kind() -> None:
    log = Log()
    complained = log.unsubscribed("a", kind="email.complained")
    listed = log.suppressed("b")
    log.suppressed("c", 0, "regulatory", "", "erase")
    erased = log.add("contact:c", e.ContactErased("c"), 0, "erase")
    log.suppressed("d", 0, "channel", "email", "ingest")  # A hard bounce is no request.
    assert log.at("unsubscribes", "requests", "email.complained") == [complained]
    assert log.at("unsubscribes", "requests", "suppress") == [listed]
    assert log.at("unsubscribes", "requests", "erase") == [erased]
    assert log.at("unsubscribes", "", "closed") == [complained, listed, erased]


def test_an_erasure_of_somebody_on_the_list_counts() -> None:
    log = Log()
    call = log.sent(log.run(), 0, "call")
    log.suppressed(tick=1, level="channel", scope="email", command="ingest")
    log.unsubscribed(tick=2, kind="email.complained")
    erased = log.add("contact:c1", e.ContactErased("c1"), 3 * DAY, "erase")
    assert log.at("unsubscribes", "requests", "erase") == [erased]
    assert erased in (log.at("unsubscribes", "", "closed") or [])
    evidence = log.figure("unsubscribes", "", "under_way").evidence
    assert log.at("unsubscribes", "", "under_way") == [call]
    assert erased in list(evidence.positions())


def test_sends_under_way_have_to_end_first() -> None:
    log = Log()
    run, other = log.run(), log.run("c2")
    call = log.sent(run, 0, "call")
    log.sent(other, 0, "call")
    request = log.unsubscribed(tick=10)
    assert log.at("unsubscribes", "", "under_way") == [call]
    assert log.at("unsubscribes", "", "longest") is None
    assert log.at("unsubscribes", "", "pending_two_days") == [request]
    log.add(run, e.StepCompleted("call", "answered"), 70)
    longest = log.figure("unsubscribes", "", "longest")
    assert longest.value == 60
    assert log.at("unsubscribes", "", "within_two_days") == [request]


@pytest.mark.parametrize("told, key", [("answered", "delivered"), ("busy", "not_reached")])
def test_a_call_that_outlived_its_run_ends_with_its_event(told: str, key: str) -> None:
    log = Log()
    run = log.run()
    call = log.sent(run, 0, "call")
    request = log.unsubscribed(tick=10)
    log.add(run, e.RunCancelled("unsubscribed"), 10)
    data = {"step_id": "call", "kind": told, "ended": True}
    over = e.ChannelEventReceived("call.completed", "c1", "e1", 70, **data)  # type: ignore[arg-type]
    log.add(run, over, 70, "ingest")
    log.run("c2", tick=5 * DAY)
    assert log.at("sends", "voice", key) == [call]
    assert log.at("sends", "voice", "open") == []
    assert log.figure("unsubscribes", "", "longest").value == 60
    assert log.at("unsubscribes", "", "within_two_days") == [request]


@pytest.mark.parametrize("now, value", [(DAY - 1, None), (DAY, DAY - 10), (9 * DAY, DAY - 10)])
def test_a_call_that_nobody_tells_of_is_waited_for_until_its_deadline(
    now: int, value: int | None
) -> None:
    log = Log()
    run = log.run()
    other = log.run(plan="q")
    calls = [log.sent(run, 0, "call"), log.sent(other, 0, "call")]
    log.add(run, e.StepPending("call", DAY), 0)
    log.add(other, e.StepPending("call", DAY // 2), 0)
    request = log.unsubscribed(tick=10)
    log.add(run, e.RunCancelled("unsubscribed"), 10)
    log.run("c2", tick=now)
    assert log.at("sends", "voice", "open") == calls
    assert log.figure("unsubscribes", "", "longest").value == value
    kind = "pending" if value is None else "within"
    assert log.at("unsubscribes", "", f"{kind}_two_days") == [request]


def test_a_send_under_way_that_the_suppression_does_not_cover_is_not_waited_for() -> None:
    log = Log()
    run = log.run()
    log.sent(run, 0, "call")
    log.suppressed(level="channel", scope="email", tick=4)
    assert log.at("unsubscribes", "", "under_way") == []
    assert log.figure("unsubscribes", "", "longest").value == 0


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_a_send_from_before_the_period_is_waited_for(page: int) -> None:
    log = Log(Period(5, 100))
    run, other = log.run(), log.run("c2")
    log.sent(other, 0, "call")
    call = log.sent(run, 0, "call")
    log.unsubscribed(tick=10)
    log.add(run, e.StepCompleted("call", "answered"), 70)
    (section,) = [each for each in log.count(page).sections() if each.key == "unsubscribes"]
    found = {each.key: each for each in section.figures if each.group == ""}
    assert list(found["under_way"].entries.positions()) == [call]
    assert found["longest"].value == 60


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_a_send_from_behind_the_period_is_waited_for_where_it_was_closed_then(page: int) -> None:
    log = Log(Period(0, 20))
    run = log.run()
    asked = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 10)
    log.add("contact:c1", asked, 10, "ingest")
    log.sent(run, 30, "call")
    log.suppressed(tick=40, command="import")
    log.add(run, e.StepCompleted("call", "answered"), 50)
    (section,) = [each for each in log.count(page).sections() if each.key == "unsubscribes"]
    assert {each.key: each.value for each in section.figures}["longest"] == 40


def test_runs_and_contacts_are_looked_up_where_they_are_told_of() -> None:
    log = Log(Period(0, 10))
    sent, skipped, later = log.run(), log.run("c2"), log.run("c3")
    log.sent(sent, 1)
    log.add(skipped, e.StepSkipped("hello", "suppression", "x"), 2)
    log.add(log.run("c4"), e.StepEntered("hello", 3, 0), 2)
    log.sent(later, 20)
    counting = Counting(log.period, SCALE, zone("UTC"), SECTIONS)
    assert counting.needs(log.entries) == (frozenset({sent, skipped}), frozenset())
    # Whose are the sends that may be under way? Also of those that are not in the period.
    log.unsubscribed("c5", 3)
    needs = counting.needs(log.entries)
    assert needs == (frozenset({sent, skipped, later}), frozenset({"c5"}))
    without = Counting(log.period, SCALE, zone("UTC"), ("sends", "consent"))
    assert without.needs(log.entries).runs == {sent, skipped}
    nothing = Counting(log.period, SCALE, zone("UTC"), ())
    assert nothing.needs(log.entries) == (frozenset(), frozenset())


def test_a_request_without_a_suppression_is_not_closed() -> None:
    log = Log()
    log.run()
    event = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 0)
    request = log.add("contact:c1", event, 0, "ingest")
    log.add("run_c1_p", e.StepEntered("again", 2, 0), 3 * DAY)
    figure = log.figure("unsubscribes", "", "not_closed")
    assert list(figure.entries.positions()) == [request]
    assert figure.violated
    assert log.at("unsubscribes", "", "over_two_days") == [request]
    assert log.at("unsubscribes", "", "pending_ten_business_days") == [request]
    log.suppressed(tick=4 * DAY, level="channel", scope="voice", command="import")
    assert log.at("unsubscribes", "", "not_closed") == [request]
    closing = log.suppressed(tick=4 * DAY)
    assert log.at("unsubscribes", "", "not_closed") == []
    assert list(log.figure("unsubscribes", "", "closed").evidence.positions()) == [closing]
    assert log.figure("unsubscribes", "", "longest").value == 4 * DAY


def test_who_was_suppressed_before_is_closed_when_they_ask() -> None:
    log = Log()
    log.suppressed(tick=5)
    event = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 700)
    request = log.add("contact:c1", event, 900, "ingest")
    longest = log.figure("unsubscribes", "", "longest")
    assert longest.value == 0
    assert request in list(log.figure("unsubscribes", "", "closed").entries.positions())


def test_a_suppression_that_was_lifted_before_they_asked_closed_nothing() -> None:
    log = Log()
    log.suppressed(tick=1, command="import")
    log.lifted(tick=2)
    asked = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 10)
    request = log.add("contact:c1", asked, 10, "ingest")
    assert log.at("unsubscribes", "", "not_closed") == [request]
    # Nor does what lifts something else close anything.
    log.lifted(tick=20, level="regulatory")
    assert log.at("unsubscribes", "", "not_closed") == [request]
    closing = log.suppressed(tick=30, command="import")
    assert list(log.figure("unsubscribes", "", "closed").evidence.positions()) == [closing]


def test_a_list_that_named_them_after_they_asked_ended_it_then_though_it_was_told_later() -> None:
    log = Log()
    log.suppressed(tick=400)
    event = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 100)
    request = log.add("contact:c1", event, 900, "ingest")
    longest = log.figure("unsubscribes", "", "longest")
    assert longest.value == 300
    assert list(longest.entries.positions()) == [request]


def test_the_longest_time_names_only_those_that_took_it() -> None:
    log = Log()
    log.unsubscribed("a", tick=50, occurred=20)
    slow = [log.unsubscribed(who, tick=90, occurred=20) for who in ("b", "c")]
    log.unsubscribed("d", tick=100)
    longest = log.figure("unsubscribes", "", "longest")
    assert (longest.value, list(longest.entries.positions())) == (70, slow)


def test_where_all_went_well_nothing_has_to_be_looked_into() -> None:
    log = Log()
    run = log.run()
    send = log.sent(run, 10)
    log.earlier[log.unsubscribed(tick=50, occurred=5)] = (send,)
    log.add(run, e.StepCompleted("hello", "delivered"), 60)
    found = [each for section in log.count().sections() for each in section.figures]
    assert sum(each.value or 0 for each in found) > 0
    assert not [each.key for each in found if each.violated]


def test_an_address_that_bounced_has_asked_for_nothing() -> None:
    log = Log()
    run = log.run()
    log.suppressed(tick=1, level="channel", scope="email", command="ingest")
    despite = log.sent(run, 3)
    assert log.at("suppressions", "sent", "despite") == [despite]
    assert log.at("unsubscribes", "", "sent_after") == []


@pytest.mark.parametrize(
    "level, scope, command, counts",
    [
        ("global", "", "ingest", True),
        ("regulatory", "", "ingest", True),
        ("regulatory", "", "erase", True),
        ("channel", "email", "suppress", True),
        ("plan", "p", "suppress", True),
        ("channel", "email", "ingest", False),
        ("channel", "voice", "suppress", False),
        ("global", "", "import", False),
    ],
)
def test_a_send_after_a_request_was_closed_is_seen(
    level: e.Level, scope: str, command: str, counts: bool
) -> None:
    log = Log()
    run = log.run()
    listed = log.suppressed(tick=1, level=level, scope=scope, command=command)
    # That this one is there as well says nothing about the other.
    log.suppressed(tick=1, level="channel", scope="voice", command="ingest")
    send = log.sent(run, 3)
    figure = log.figure("unsubscribes", "", "sent_after")
    assert list(figure.entries.positions()) == ([send] if counts else [])
    assert list(figure.evidence.positions()) == ([listed] if counts else [])


def test_sends_between_request_and_close_count() -> None:
    log = Log()
    send = log.sent(log.run(), 10)
    request = log.unsubscribed(tick=50, occurred=5)
    log.earlier[request] = (send,)
    figure = log.figure("unsubscribes", "", "sent_between")
    assert list(figure.entries.positions()) == [send]
    assert list(figure.evidence.positions()) == [request]


@pytest.mark.parametrize("late, key", [(2 * DAY, "within"), (2 * DAY + 1, "over")])
def test_two_days_are_48_hours(late: int, key: str) -> None:
    log = Log()
    request = log.unsubscribed(tick=10 + late, occurred=10)
    assert log.at("unsubscribes", "", f"{key}_two_days") == [request]


@pytest.mark.parametrize(
    "asked, done, key",
    [
        (datetime(2026, 3, 2, 12), datetime(2026, 3, 16, 23, 59, 59), "within"),
        (datetime(2026, 3, 2, 12), datetime(2026, 3, 17), "over"),
        # From a Saturday the tenth business day is the Friday after next.
        (datetime(2026, 3, 7), datetime(2026, 3, 22, 23, 59, 59), "within"),
        (datetime(2026, 3, 7), datetime(2026, 3, 23), "over"),
    ],
)
def test_ten_business_days(asked: datetime, done: datetime, key: str) -> None:
    log = Log()
    ticks = [int((each.replace(tzinfo=UTC) - EPOCH).total_seconds()) for each in (asked, done)]
    request = log.unsubscribed(tick=ticks[1], occurred=ticks[0])
    assert log.at("unsubscribes", "", f"{key}_ten_business_days") == [request]
    assert log.figure("unsubscribes", "", "over_ten_business_days").violated == (key == "over")


def test_nobody_unsubscribed_is_not_measured() -> None:
    log = Log()
    log.sent(log.run())
    found = log.section("unsubscribes").figures
    measured = {each.key: each.value for each in found if each.group != "requests"}
    assert measured.pop("sent_after") == 0
    assert set(measured.values()) == {None}
    reasons = {each.not_measured for each in found if each.key in measured}
    assert reasons == {"nobody unsubscribed in the period"}


# --- business days ----------------------------------------------------------------------------

Moment = Callable[[int, int, int, int], datetime]


def days(name: str, begin: datetime, end: datetime) -> int:
    return business_days(zone(name), ms(begin.replace(tzinfo=UTC)), ms(end.replace(tzinfo=UTC)))


@pytest.mark.parametrize(
    "begin, end, expected",
    [
        (datetime(2026, 3, 2, 0), datetime(2026, 3, 2, 23), 0),
        (datetime(2026, 3, 2, 23), datetime(2026, 3, 3, 0), 1),
        (datetime(2026, 3, 6, 12), datetime(2026, 3, 8, 23), 0),  # Friday to Sunday.
        (datetime(2026, 3, 6, 12), datetime(2026, 3, 9, 0), 1),  # Friday to Monday.
        (datetime(2026, 3, 7, 12), datetime(2026, 3, 9, 0), 1),  # Saturday to Monday.
        (datetime(2026, 3, 2), datetime(2026, 3, 9), 5),
        (datetime(2026, 3, 2), datetime(2026, 3, 16), 10),
        (datetime(2026, 2, 27), datetime(2026, 3, 2), 1),
    ],
)
def test_business_days_are_monday_to_friday(begin: datetime, end: datetime, expected: int) -> None:
    assert days("UTC", begin, end) == expected


def test_business_days_agree_with_counting_them_one_by_one() -> None:
    first = datetime(2026, 1, 1, 11)
    for length in range(60):
        for shift in range(7):
            begin = first + timedelta(days=shift)
            end = begin + timedelta(days=length)
            each = (begin + timedelta(days=n) for n in range(1, length + 1))
            assert days("UTC", begin, end) == sum(day.weekday() < 5 for day in each)


def test_the_day_is_that_of_the_zone() -> None:
    # 23:30 UTC on Monday is Tuesday in Vienna already, and still Monday in New York.
    begin, end = datetime(2026, 3, 2, 22), datetime(2026, 3, 2, 23, 30)
    assert days("UTC", begin, end) == 0
    assert days("Europe/Vienna", begin, end) == 1
    assert days("America/New_York", begin, end) == 0


def test_business_days_when_clocks_change() -> None:
    # In Vienna clocks go ahead on Sunday 29 March 2026: Monday begins at 22:00 UTC, not at 23:00.
    friday = datetime(2026, 3, 27, 12)
    assert days("Europe/Vienna", friday, datetime(2026, 3, 29, 21, 59)) == 0
    assert days("Europe/Vienna", friday, datetime(2026, 3, 29, 22)) == 1
    # And back on Sunday 25 October: Monday begins at 23:00 again.
    friday = datetime(2026, 10, 23, 12)
    assert days("Europe/Vienna", friday, datetime(2026, 10, 25, 22, 59)) == 0
    assert days("Europe/Vienna", friday, datetime(2026, 10, 25, 23)) == 1


# --- the whole --------------------------------------------------------------------------------


def test_a_period_has_its_first_tick_and_not_the_one_behind_it() -> None:
    log = Log(Period(10, 20))
    run = log.run()
    positions = [log.sent(run, tick) for tick in (9, 10, 19, 20)]
    assert log.at("sends", "email", "attempted") == positions[1:3]
    assert (log.count().entries, log.count().bounds) == (2, (positions[1], positions[2]))


def test_a_section_says_why_it_has_no_figures_and_only_then() -> None:
    log = Log(policy=ASKING)
    run = log.run()
    log.sent(run, 1, reads={"consent.email": "granted"})
    log.unsubscribed(tick=2)
    for section in log.count().sections():
        assert section.figures
        assert section.not_measured is None, section.key


def test_a_period_without_any_entry_has_no_bounds() -> None:
    log = Log(Period(100, 200))
    log.run()
    counting = log.count()
    assert (counting.entries, counting.bounds, counting.tick) == (0, (0, 0), 0)
    assert not counting.missing()


def test_positions_without_an_entry_are_told() -> None:
    log = Log(next=3)
    log.run()
    assert list(log.count().missing()) == [(1, 2)]
    log = Log()
    log.run()
    log.next = 5
    log.sent("run_c1_p", 3)
    log.next = 9
    counting = log.count()
    assert list(counting.missing()) == [(2, 4), (6, 8)]
    assert (counting.entries, counting.bounds, counting.tick) == (2, (1, 5), 3)


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_the_size_of_a_page_makes_no_difference(page: int) -> None:
    log = Log()
    run = log.run()
    log.sent(run, 0, "call")
    log.sent(log.run("c2"), 1)
    log.unsubscribed(tick=2)
    log.add(run, e.StepCompleted("call", "busy"), 9)
    assert log.count(page).sections() == log.count(1000).sections()
