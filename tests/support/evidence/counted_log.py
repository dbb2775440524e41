"""A log that is written by hand, entry by entry, and counted for a compliance report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

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
    RunFacts,
    Section,
)
from dee_es.core.gate import Policy, ZoneRules, read_policy

EPOCH = datetime(2026, 3, 2, tzinfo=UTC)  # A Monday.
SCALE = TimeScale(EPOCH)
HOUR, DAY = 3_600, 86_400
CHANNELS = {"hello": "email", "again": "email", "call": "voice"}
YEAR_MS = 366 * 86_400_000
EVER = Period(0, 100 * DAY)
ASKING = read_policy({"consent": {"required": ["email"]}})
"""A policy under which every email needs consent."""


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
