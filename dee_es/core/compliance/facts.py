"""What is known of an entry when it is counted, and what a contact's own stream says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.gate import RULE_NAMES, Policy

REQUESTS: Final = ("email.unsubscribed", "email.complained")
"""Channel events by which a contact asks not to be written to."""
EVERYTHING: Final = ("global", "regulatory")
"""Levels of suppression that close every channel and plan."""


class Period(NamedTuple):
    """Ticks from `from_tick` on and before `before_tick`."""

    from_tick: int
    before_tick: int

    def covers(self, tick: int) -> bool:
        """Whether the tick is one of them."""
        return self.from_tick <= tick < self.before_tick


class RunFacts(Struct, frozen=True):
    """Who a run is for, and through which channel each of its steps sends."""

    contact_id: str
    plan_id: str
    channels: Mapping[str, str]


class ContactFacts:
    """What the stream of a contact says as of any position: consent and suppression."""

    def __init__(self, contact_id: str, history: Iterable[e.RecordedEvent]) -> None:
        self.contact_id = contact_id
        self._consents: list[e.RecordedEvent] = []
        self._lists: list[e.RecordedEvent] = []
        for recorded in history:
            if isinstance(recorded.event, e.ConsentGranted | e.ConsentRevoked):
                self._consents.append(recorded)
            elif isinstance(recorded.event, e.ContactSuppressed | e.ContactUnsuppressed):
                self._lists.append(recorded)

    def consent(
        self, position: int, tick: int, channel: str, purpose: str | None
    ) -> tuple[str, int | None]:
        """`granted`, `revoked`, `expired` or `missing` before that position at that tick, with the
        position of the entry that says so.

        With a purpose only consent for it counts; without one, consent for any purpose does.
        """
        latest: dict[str, e.RecordedEvent] = {}
        for recorded in self._consents:
            event = recorded.event
            if recorded.position < position and getattr(event, "channel", None) == channel:
                latest[getattr(event, "purpose", "")] = recorded
        wanted = [latest[purpose]] if purpose in latest else []
        found = list(latest.values()) if purpose is None else wanted
        if not found:
            return "missing", None
        # Any grant that holds is enough; else the last word counts.
        states = [(_state(each.event, tick), each.position) for each in found]
        granted = [each for each in states if each[0] == "granted"]
        return max(granted or states, key=lambda each: each[1])

    def suppressions(self, position: int) -> list[e.RecordedEvent]:
        """The entries before that position whose suppressions of this very contact still hold."""
        holding: dict[tuple[str, str], e.RecordedEvent] = {}
        for recorded in self._lists:
            event = recorded.event
            if recorded.position >= position or f"id:{self.contact_id}" not in subjects_of(event):
                continue
            if isinstance(event, e.ContactSuppressed):
                holding.setdefault((event.level, event.scope), recorded)
            elif isinstance(event, e.ContactUnsuppressed):
                holding.pop((event.level, event.scope), None)
        return sorted(holding.values(), key=lambda each: each.position)

    def suppressed(self, position: int, channel: str, plan_id: str) -> e.RecordedEvent | None:
        """The first of those that covers a send of this plan through this channel."""
        for recorded in self.suppressions(position):
            if covers(recorded.event, channel, plan_id):
                return recorded
        return None

    def closing(self, position: int, channel: str | None) -> e.RecordedEvent | None:
        """The suppression that keeps the contact from being reached through the channel (None: any
        at all), for an entry at this position: one that held before, else the first behind it."""
        for recorded in self.suppressions(position):
            if covers(recorded.event, channel, None):
                return recorded
        for recorded in self._lists:
            if recorded.position > position and covers(recorded.event, channel, None):
                return recorded
        return None


class Fact(Struct, frozen=True):
    """An entry with what is to be known of what it is about.

    `counted` says that it is in the period; `contact` is set for what a contact asks for and for
    sends but those of imported runs, `policy` for sends under one. `in_window` says what the
    offsets recorded with a send come to, None if they cannot be read. `step_id` is the step in
    which the gate paused a run. `earlier` are sends to the contact between the moment at which it
    asked and the entry that closed the channel.
    """

    recorded: e.RecordedEvent
    counted: bool
    run: RunFacts | None = None
    contact: ContactFacts | None = None
    policy: Policy | None = None
    in_window: bool | None = None
    step_id: str | None = None
    earlier: tuple[int, ...] = ()


def subjects_of(event: e.Event) -> tuple[str, ...]:
    """The subjects that an event of the suppression list is about."""
    if isinstance(event, e.ContactSuppressed | e.ContactUnsuppressed):
        return event.subjects
    return ()


def covers(event: e.Event, channel: str | None, plan_id: str | None) -> bool:
    """Whether a suppression closes the channel (None: every one); with a plan, also by closing this
    plan."""
    if not isinstance(event, e.ContactSuppressed):
        return False
    if event.level in EVERYTHING:
        return True
    if event.level == "channel":
        return event.scope == channel
    return plan_id is not None and event.scope == plan_id


def gate_rule(event: e.Event) -> tuple[str, str] | None:
    """What the gate did instead of a send, and by which rule; None if the event is not that.

    A deferral that goes on after a pause is put on record again, without what the gate read: it is
    no new decision.
    """
    if isinstance(event, e.StepSkipped):
        return "skipped", event.rule
    if isinstance(event, e.StepDeferred):
        return ("deferred", event.rule) if event.reads and event.rule in RULE_NAMES else None
    if isinstance(event, e.RunPaused | e.StepFailed):
        said = event.cause if isinstance(event, e.RunPaused) else event.error
        rule = (said or "").partition(": ")[0]
        what = "paused" if isinstance(event, e.RunPaused) else "failed"
        return (what, rule) if event.reads and rule in RULE_NAMES else None
    return None


def _state(event: e.Event, tick: int) -> str:
    if not isinstance(event, e.ConsentGranted):
        return "revoked"
    ends = event.expires_tick
    return "expired" if ends is not None and tick >= ends else "granted"
