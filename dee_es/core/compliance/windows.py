"""Calling hours: sends inside and outside of the contact's window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.compliance.facts import Fact, gate_rule
from dee_es.core.compliance.figures import Figure, Section, Tally
from dee_es.core.compliance.sends import channel_of
from dee_es.core.gate import Policy, ReadValue, ZoneRules
from dee_es.core.gate.slots import utc_ms
from dee_es.core.gate.windows import openings
from dee_es.errors import InvalidInput

_EXPLAINS: Final = (
    "The gate records with every send which zone it went by; it sends only inside the window that "
    "the policy sets for the channel. Every such send is held once more against the window, by the "
    "offsets from UTC that were recorded with it: inside or outside is what that comes to. Where "
    "the contact was erased they cannot be read any more, and the gate's word is all there is.",
    "Held back are steps that waited for the window to open, and those whose contact's zone was "
    "not known.",
)


class Windows:
    """Counts the section."""

    def __init__(self) -> None:
        self._tally = Tally()

    def take(self, fact: Fact) -> None:
        """Count an entry of the period."""
        if not fact.counted:
            return
        event, position = fact.recorded.event, fact.recorded.position
        if isinstance(event, e.StepDispatched):
            zone = event.reads.get("zone")
            self._tally.add(event.channel, "sends", position)
            if zone is None:
                self._tally.add(event.channel, "no_window", position)
                return
            self._tally.add(event.channel, f"zone_{zone}", position)
            found = {True: "inside", False: "outside", None: "unreadable"}[fact.in_window]
            self._tally.add(event.channel, found, position)
            return
        instead = gate_rule(event)
        if instead is not None and instead[1] == "windows":
            unknown = getattr(event, "reads", {}).get("zone") == "unknown"
            kind = "held_unknown" if unknown else "held_outside"
            self._tally.add(channel_of(fact), kind, position)

    def section(self) -> Section:
        """The section as counted so far."""
        title = "Calling hours and sending windows"
        groups = self._tally.groups()
        if not groups:
            nothing = "nothing was sent or held back for a window in the period"
            return Section("windows", title, _EXPLAINS, (), nothing)
        figures = [each for group in groups for each in self._figures(group)]
        return Section("windows", title, _EXPLAINS, tuple(figures))

    def _figures(self, group: str) -> Iterator[Figure]:
        add = self._tally.figure
        sent = None
        if not self._tally.has(group, "sends"):
            sent = "nothing was sent through the channel in the period"
        windowed = ("zone_contact", "zone_default", "held_unknown", "held_outside")
        window: str | None = None
        if not self._tally.has(group, *windowed):
            window = "no policy set a window for the channel"
        missing = sent or window
        yield add(group, "inside", "sent inside the window", not_measured=missing)
        yield add(
            group, "outside", "sent outside the window", not_measured=missing, must_be_zero=True
        )
        label = "sent inside by the gate's word, the contact was erased since"
        yield add(group, "unreadable", label, not_measured=missing)
        yield add(group, "zone_contact", "sent by the contact's own zone", not_measured=missing)
        label = "sent by the policy's zone, the contact's being unknown"
        yield add(group, "zone_default", label, not_measured=missing)
        yield add(group, "no_window", "sent, the policy set no window", not_measured=sent)
        yield add(group, "held_outside", "held back, outside the window", not_measured=window)
        yield add(group, "held_unknown", "held back, zone unknown", not_measured=window)


def inside(
    policy: Policy | None,
    channel: str,
    scale: TimeScale,
    tick: int,
    personal: dict[str, ReadValue] | None,
) -> bool | None:
    """Whether a send at `tick` was inside its policy's window, by the zone that the gate noted in
    `personal`; None if that cannot be read."""
    window = policy.window(channel) if policy is not None else None
    if window is None or not personal:
        return None
    now = utc_ms(scale, tick)
    try:
        zone = ZoneRules.parse(str(personal["zone"]), "", str(personal["zone.offsets"]))
    except (KeyError, InvalidInput):
        return None
    if not zone.covers(now):
        return None
    return any(True for _ in openings(window.hours, zone, now, now + 1))
