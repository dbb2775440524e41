"""Sends by channel, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.compliance.facts import Fact, RunFacts, gate_rule
from dee_es.core.compliance.figures import Figure, Section, Tally
from dee_es.core.runs.channel_events import call_outcome

_REACHED: Final = ("delivered", "answered", "voicemail", "pending")
_OUTCOMES: Final = {
    "attempted": "attempted",
    "delivered": "delivered",
    "not_reached": "placed, but nobody was reached",
    "failed": "failed",
    "unknown": "of unknown outcome",
    "open": "without an outcome yet",
}
_INSTEAD: Final = ("skipped", "deferred", "paused", "failed")
_EXPLAINS: Final = (
    "A send is an attempt that was committed to be handed to its channel (step.dispatched). Each "
    "is counted once under what the first later entry of its run says of it, as far as the log "
    "went when the report was made: the outcomes add up to the attempts.",
    "Delivered means accepted by the channel, or a call that a person or a voicemail took. A "
    "failed attempt counts as failed also if the step was tried again. An unknown outcome stays "
    "one, whatever a person decided about it afterwards.",
    "What the policy gate did instead of a send is counted by its rule: a step was skipped, "
    "deferred, its run paused, or failed.",
)


class OpenSend(Struct):
    """A send whose outcome is not known yet; whose it is is filled in when that is asked for.
    From `deadline` on, if the channel was given one, its outcome counts as unknown."""

    position: int
    tick: int
    channel: str
    counted: bool
    run: RunFacts | None = None
    deadline: int | None = None


class OpenSends:
    """The sends under way as of the last entry taken in."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, bool], OpenSend] = {}

    def take(self, fact: Fact) -> tuple[OpenSend, str] | None:
        """Follow an entry; if it is the outcome of a send, that send and what became of it."""
        recorded, event = fact.recorded, fact.recorded.event
        if isinstance(event, e.StepDispatched):
            self._open[recorded.stream_id, event.step_id, event.resend] = OpenSend(
                recorded.position, recorded.meta.tick, event.channel, fact.counted, fact.run
            )
            return None
        if isinstance(event, e.StepPending):
            pending = self._open.get((recorded.stream_id, event.step_id, False))
            if pending is not None:
                pending.deadline = event.deadline_tick
            return None
        outcome = _outcome(event)
        if outcome is None:
            return None
        key = (recorded.stream_id, str(getattr(event, "step_id", "")), bool(_resend(event)))
        send = self._open.pop(key, None)
        return (send, outcome) if send is not None else None

    def all(self) -> Iterator[tuple[str, OpenSend]]:
        """All of them, each with its run."""
        for (run_id, _, _), send in self._open.items():
            yield run_id, send


class Sends:
    """Counts the section."""

    def __init__(self, under_way: OpenSends) -> None:
        self._under_way = under_way
        self._tally = Tally()

    def take(self, fact: Fact, closed: tuple[OpenSend, str] | None) -> None:
        """Count an entry; `closed` is the send that it is the outcome of."""
        recorded, event = fact.recorded, fact.recorded.event
        if closed is not None and closed[0].counted:
            send, outcome = closed
            self._tally.add(send.channel, outcome, send.position, recorded.position)
        if not fact.counted:
            return
        if isinstance(event, e.StepDispatched):
            self._tally.add(event.channel, "attempted", recorded.position)
            return
        instead = gate_rule(event)
        if instead is not None:
            what, rule = instead
            self._tally.add(channel_of(fact), f"{what}:{rule}", recorded.position)

    def section(self) -> Section:
        """The section as counted so far."""
        for _, send in self._under_way.all():
            if send.counted:
                self._tally.add(send.channel, "open", send.position)
        figures = [each for group in self._tally.groups() for each in self._figures(group)]
        empty = None if figures else "nothing was sent or held back in the period"
        return Section("sends", "Sends by channel", _EXPLAINS, tuple(figures), empty)

    def _figures(self, group: str) -> Iterator[Figure]:
        nothing = None
        if not self._tally.has(group, "attempted"):
            nothing = "nothing was sent through the channel in the period"
        for key, label in _OUTCOMES.items():
            if key == "not_reached" and group != "voice":
                continue
            missing = nothing if key != "attempted" else None
            yield self._tally.figure(group, key, label, not_measured=missing)
        for what in _INSTEAD:
            for key in self._tally.keys(group, f"{what}:"):
                rule = key.partition(":")[2]
                yield self._tally.figure(group, key, f"{what} by the rule {rule}")


def channel_of(fact: Fact) -> str:
    """The channel of the step that an entry is about.

    A pause does not name its step: it was the one the run was in, or a message that bounced softly
    and was to go out again while the run was elsewhere, and only mail is sent again.
    """
    step = fact.step_id or str(getattr(fact.recorded.event, "step_id", ""))
    channels = fact.run.channels if fact.run is not None else {}
    return channels.get(step, "email")


def _outcome(event: e.Event) -> str | None:
    if isinstance(event, e.OutcomeUnknown):
        return "unknown"
    if isinstance(event, e.StepCompleted) and not event.late:
        return "delivered" if event.result in _REACHED else "not_reached"
    if isinstance(event, e.ChannelEventReceived) and event.ended:
        # The run ended while the call went on: nothing else tells what came of it.
        told = call_outcome(event.type, event.kind)
        if told is not None:
            return "delivered" if told in _REACHED else "not_reached"
    if isinstance(event, e.StepRetried) or (isinstance(event, e.StepFailed) and not event.late):
        return "failed"
    return None


def _resend(event: e.Event) -> bool:
    return bool(getattr(event, "resend", False))
