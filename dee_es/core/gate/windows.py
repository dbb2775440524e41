"""Windows: a channel is used only at certain local times of the contact.

What is open is a set of stretches of UTC time, made out of the zone's offsets: within a stretch of
one offset, local days are plain arithmetic. So a local time that a clock change skips does not
exist, one that it repeats is open both times, and no rule of thumb is needed for either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dee_es.core.clock import TimeScale
from dee_es.core.gate.model import Hours, Policy, Window
from dee_es.core.gate.slots import DAY_MS, day_of, day_tick, first_tick, tick_text, utc_ms
from dee_es.core.gate.snapshot import Denial, Notes, Snapshot
from dee_es.core.gate.zone import ZoneRules

SEARCH_DAYS: Final = 400
"""How far ahead an opening is looked for; behind that a window counts as never opening."""

_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday, and weeks begin on Monday.


def check(policy: Policy, snapshot: Snapshot, notes: Notes) -> Denial | None:
    """None if the channel has no window or is inside it.

    Outside, the step is deferred to the next opening. It fails if there is none within
    `SEARCH_DAYS`, or if the zone is unknown and the window does not say what to do then.
    """
    window = policy.window(snapshot.channel)
    if window is None:
        return None
    now = utc_ms(snapshot.scale, snapshot.tick)
    zone, own = snapshot.zone, True
    if zone is None and window.default_zone is not None:
        zone, own = snapshot.default_zone, False
    if zone is None:
        notes.reads["zone"] = "unknown"
        return _unknown(window, snapshot, notes)
    notes.reads["zone"] = "contact" if own else "default"
    notes.reads["zone.rules"] = zone.version
    notes.personal["zone"] = zone.name
    if not zone.covers(now):
        notes.personal["zone.offsets"] = zone.text(now, now)
        return notes.deny(
            "windows", "the rules of the contact's zone do not reach this day", "fail"
        )
    opening = next_opening(window.hours, zone, snapshot.scale, snapshot.tick)
    # Only what the decision rests on is noted: from now to the opening.
    horizon = now + SEARCH_DAYS * DAY_MS
    until = horizon if opening is None else utc_ms(snapshot.scale, opening) + 1
    notes.personal["zone.offsets"] = zone.text(now, until)
    if opening == snapshot.tick:
        return None
    where = "local time of the contact" if own else f"time of {window.on_unknown_zone}"
    outside = f"outside the window for {snapshot.channel} ({window.text}, {where})"
    if opening is None:
        reach = f"within {SEARCH_DAYS} days"
        if zone.until_ms < horizon:
            reach = "as far as the rules of the zone are known"
        return notes.deny("windows", f"{outside}; none opens {reach}", "fail")
    again = tick_text(snapshot.scale, opening)
    return notes.deny("windows", f"{outside}; it opens at {again}", "defer", opening)


def next_opening(hours: Hours, zone: ZoneRules, scale: TimeScale, tick: int) -> int | None:
    """The first tick from `tick` on that begins inside the window.

    None if there is none within `SEARCH_DAYS`, or none as far as the zone's rules reach.
    """
    now = utc_ms(scale, tick)
    for begin, end in openings(hours, zone, now, now + SEARCH_DAYS * DAY_MS):
        first = first_tick(scale, begin)
        # A window can open and close between two ticks; then it was never open.
        if utc_ms(scale, first) < end:
            return first
    return None


def openings(
    hours: Hours, zone: ZoneRules, from_ms: int, until_ms: int
) -> Iterator[tuple[int, int]]:
    """The stretches [begin, end) in ms UTC between two times in which the window is open."""
    for start, stop, offset in zone.segments(from_ms, until_ms):
        for day in range((start + offset) // DAY_MS, (stop - 1 + offset) // DAY_MS + 1):
            if not hours.open_on[(day + _EPOCH_WEEKDAY) % 7] or day in hours.holidays:
                continue
            midnight = day * DAY_MS - offset
            begin, end = max(midnight + hours.start_ms, start), min(midnight + hours.end_ms, stop)
            if begin < end:
                yield begin, end


def _unknown(window: Window, snapshot: Snapshot, notes: Notes) -> Denial:
    if window.on_unknown_zone == "defer":
        scale = snapshot.scale
        tomorrow = day_tick(scale, day_of(scale, snapshot.tick) + 1)
        again = f"looked at again at {tick_text(scale, tomorrow)}"
        detail = f"the contact's time zone is unknown; {again}"
        return notes.deny("windows", detail, "defer", tomorrow)
    detail = "the contact's time zone is unknown"
    if window.default_zone is not None:
        detail += f", and so is {window.default_zone}"
    return notes.deny("windows", f"{detail}: {snapshot.channel} needs local time", "fail")
