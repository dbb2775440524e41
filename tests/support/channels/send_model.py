"""What a channel saw and what was commanded, and the faults that come of comparing the two.

The model knows nothing of the engine. It reckons local time with `zoneinfo`, days by the calendar,
and keeps suppressions and consents as they were commanded.
"""

from __future__ import annotations

import zoneinfo
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from dee_es.ports import Action

Listed = tuple[str, str, str]
"""Who a suppression was made for, its level and its scope."""


class Person(NamedTuple):
    """A contact, as it is enrolled."""

    id: str
    email: str
    phone: str
    zone: str | None

    @property
    def subjects(self) -> frozenset[str]:
        """All that a suppression can name it by."""
        return frozenset({self.id, self.email.lower(), self.phone})


class Rules(NamedTuple):
    """A policy in the model's own terms; local times are hours and minutes."""

    opens: tuple[int, int]
    closes: tuple[int, int]
    weekdays: frozenset[int]
    holiday: str
    default_zone: str | None
    purpose: str | None
    per_channel: int
    per_domain: int
    per_contact: int

    def definition(self) -> dict[str, Any]:
        """The policy to publish."""
        names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        window = {
            "weekdays": [names[day] for day in sorted(self.weekdays)],
            "start": "{:02}:{:02}".format(*self.opens),
            "end": "{:02}:{:02}".format(*self.closes),
            "holidays": [self.holiday],
        }
        unknown = {"onUnknownZone": self.default_zone} if self.default_zone else {}
        purpose = {"purpose": self.purpose} if self.purpose else {}
        limits = {"email": self.per_channel, "voice": self.per_channel}
        return {
            "consent": {"required": ["email"], **purpose},
            "windows": {"channels": {"email": {**window, **unknown}, "voice": window}},
            "limits": {
                "perDay": {
                    "channel": limits,
                    "domain": self.per_domain,
                    "contact": self.per_contact,
                }
            },
        }


@dataclass
class SendModel:
    """Notes commands and sends; `faults` says which sends should never have been made."""

    epoch: datetime
    rules: Rules
    runs: dict[str, tuple[str, Person]] = field(default_factory=dict)
    enrolled: dict[str, set[str]] = field(default_factory=dict)
    suppressed: dict[Listed, set[str]] = field(default_factory=dict)
    consents: dict[tuple[str, str | None], int | None] = field(default_factory=dict)
    settled: Counter[tuple[str, str]] = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)
    last_mail: dict[str, str] = field(default_factory=dict)
    arrived: Counter[tuple[str, str]] = field(default_factory=Counter)
    a_day: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    attempts: set[tuple[str, int]] = field(default_factory=set)
    last_tick: int = 0
    faults: list[str] = field(default_factory=list)

    def enroll(self, run_id: str, plan_id: str, person: Person) -> None:
        """A run was made for a contact."""
        self.runs[run_id] = (plan_id, person)
        self.enrolled.setdefault(person.id, set()).update(person.subjects)

    def suppress(self, who: str, level: str, scope: str, subjects: set[str]) -> None:
        """Somebody was put on the list."""
        self.suppressed.setdefault((who, level, scope), set()).update(subjects)

    def bounced_softly(self, person_id: str, step_id: str | None) -> None:
        """A soft bounce was reported: each message it can be about may go out once more."""
        for run_id, (_, person) in self.runs.items():
            visit = (run_id, step_id or self.last_mail.get(run_id, ""))
            if person.id == person_id and self.arrived[visit]:
                self.settled[visit] += 1

    def sent(self, action: Action, tick: int, *, arrives: bool) -> None:
        """The channel was asked for a send, which may have arrived if `arrives`."""
        plan_id, person = self.runs[action.run_id]
        visit = (action.run_id, action.step_id)
        problems = [
            (tick < self.last_tick, "time went back"),
            ((action.key, action.attempt) in self.attempts, "one attempt was made twice"),
            (self.arrived[visit] > self.settled[visit], "sent again unasked"),
            (action.run_id in self.unknown, "sent while an outcome was unknown"),
            (self.is_suppressed(person, action.channel, plan_id), "sent to a suppressed contact"),
            (not self.agreed(person, action.channel, tick), "sent without consent"),
            (not self.is_open(person, action.channel, tick), "sent outside of the window"),
        ]
        self.faults += [f"{what}: {visit} at {tick}" for wrong, what in problems if wrong]
        self.last_tick = max(tick, self.last_tick)
        self.attempts.add((action.key, action.attempt))
        self.arrived[visit] += arrives
        if action.channel == "email":
            self.last_mail[action.run_id] = action.step_id
        self._count(action, person, str(self._utc(tick).date()), arrives)

    def is_suppressed(self, person: Person, channel: str, plan_id: str) -> bool:
        """Whether the list closes this plan's way to the contact."""
        return any(
            subjects & person.subjects
            and (level in ("global", "regulatory") or scope in (f"plan {plan_id}", channel))
            for (_, level, scope), subjects in self.suppressed.items()
        )

    def agreed(self, person: Person, channel: str, tick: int) -> bool:
        """Whether the contact's consent holds; only email needs one."""
        key = (person.id, self.rules.purpose)
        if channel != "email" or key not in self.consents:
            return channel != "email"
        ends = self.consents[key]
        return ends is None or tick < ends

    def is_open(self, person: Person, channel: str, tick: int) -> bool:
        """Whether it is a time at which the contact may be reached."""
        default = self.rules.default_zone if channel == "email" else None
        known = person.zone in zoneinfo.available_timezones()
        zone = person.zone if known else default
        if zone is None:
            return False
        local = self._utc(tick).astimezone(zoneinfo.ZoneInfo(zone))
        time = (local.hour, local.minute)
        open_day = local.weekday() in self.rules.weekdays
        if str(local.date()) == self.rules.holiday:
            return False
        return open_day and self.rules.opens <= time < self.rules.closes

    def _count(self, action: Action, person: Person, day: str, arrives: bool) -> None:
        # What is certain never to have arrived does not count for whom it was to reach.
        reached = sorted(person.subjects) if arrives else []
        limits = [
            ("channel", action.channel, self.rules.per_channel),
            *[("contact", subject, self.rules.per_contact) for subject in reached],
        ]
        if action.channel == "email":
            domain = person.email.lower().partition("@")[2]
            limits.append(("domain", domain, self.rules.per_domain))
        for kind, name, limit in limits:
            self.a_day[kind, name, day] += 1
            if self.a_day[kind, name, day] > limit:
                self.faults.append(f"more than {limit} a day for {kind} {name} on {day}")

    def _utc(self, tick: int) -> datetime:
        return (self.epoch + timedelta(seconds=tick)).astimezone(UTC)
