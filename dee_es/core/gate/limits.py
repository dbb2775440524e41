"""Limits: how many sends a UTC day of logical time may see, and how that number ramps up.

channel   every send through the channel
sender    every send of the sender, while it warms up at most the day's share of its ramp
domain    every send to the recipient's domain
contact   every send to the contact, through any channel; it is counted under the contact's id and
          under each of its addresses, so that several records of one person share the number
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dee_es.core.clock import TimeScale
from dee_es.core.gate.kinds import KINDS
from dee_es.core.gate.model import Policy, Ramp
from dee_es.core.gate.slots import day_of, day_tick, tick_text
from dee_es.core.gate.snapshot import Counter, Denial, Notes, Snapshot


class _Full(NamedTuple):
    """A limit without room for the send: which one, what is used of it, and when it opens."""

    kind: str
    limit: int
    used: int
    until_tick: int


def counters(policy: Policy, snapshot: Snapshot) -> tuple[Counter, ...]:
    """The counters that bound this send, in the order in which they are looked at."""
    limits = policy.limits
    if limits is None:
        return ()
    per_day, slot = limits.per_day, day_of(snapshot.scale, snapshot.tick)
    found = []
    limit = per_day.of_channel(snapshot.channel)
    if limit is not None:
        found.append(Counter((f"channel:{snapshot.channel}", slot), limit))
    limit = _of_sender(policy, snapshot, slot)
    if limit is not None:
        found.append(Counter((f"sender:{snapshot.sender}", slot), limit))
    limit = per_day.domain
    if limit is not None and snapshot.domain:
        found.append(Counter((f"domain:{snapshot.domain}", slot), limit))
    limit = per_day.contact
    if limit is not None:
        found.append(Counter((f"contact:{snapshot.contact_id}", slot), limit))
        found += [Counter((f"contact.{each}", slot), limit) for each in snapshot.addresses]
    return tuple(found)


def check(policy: Policy, snapshot: Snapshot, notes: Notes) -> Denial | None:
    """None if every limit has room for one more send, else what the policy wants for the step.

    A deferred step waits until the last of the limits that are full opens: with the next UTC day,
    or with the day on which its sender's ramp begins.
    """
    limits = policy.limits
    if limits is None:
        return None
    full: dict[str, _Full] = {}
    needed = counters(policy, snapshot) if snapshot.needed is None else snapshot.needed
    for counter in needed:
        kind = counter.kind
        if kind == "budget":
            continue  # it has a rule of its own
        used = snapshot.counters.get(counter.key, 0)
        notes.reads[f"limit.{kind}"] = used
        if kind == "sender":
            notes.reads["sender"] = snapshot.sender
        notes.counters.append(counter)
        if not counter.admits(used):
            until = _reopens(policy, snapshot, kind, counter.slot)
            full[kind] = _Full(kind, counter.limit, used, until)
    if not full:
        return None
    if "contact" in full:
        # One limit, under several names: that of the contact itself says it all.
        full = {kind: each for kind, each in full.items() if not kind.startswith("contact.")}
    until = max(each.until_tick for each in full.values())
    detail = _told(snapshot, full.values(), until)
    return notes.deny("limits", detail, limits.effect, until)


def _told(snapshot: Snapshot, full: Iterable[_Full], until: int) -> str:
    """All that is full, for people, and from when on nothing of it is."""
    said = []
    for each in full:
        if each.limit == 0:
            said.append("the warm-up of the sender has not begun")
            continue
        whose = KINDS[each.kind].whose.format(channel=snapshot.channel)
        most = f"the limit of {each.limit} sends a day {whose}"
        said.append(f"{most} is reached ({each.used} used)")
    opens = "it opens" if len(said) == 1 else "all are open"
    return f"{', and '.join(said)}; {opens} at {tick_text(snapshot.scale, until)}"


def _of_sender(policy: Policy, snapshot: Snapshot, slot: int) -> int | None:
    assert policy.limits is not None
    limit = policy.limits.per_day.sender
    ramp = policy.limits.warm_up.get(snapshot.sender)
    if ramp is None:
        return limit
    share = ramp_limit(ramp, snapshot.scale, slot)
    known = [each for each in (limit, share) if each is not None]
    return min(known, default=None)


def ramp_limit(ramp: Ramp, scale: TimeScale, slot: int) -> int | None:
    """What the ramp allows on a UTC day: 0 before it begins, None when it is over."""
    day = slot - _first_day(ramp, scale)
    if day < 0:
        return 0
    return ramp.per_day[day] if day < len(ramp.per_day) else None


def _first_day(ramp: Ramp, scale: TimeScale) -> int:
    return ramp.start_day if ramp.start_tick is None else day_of(scale, ramp.start_tick)


def _reopens(policy: Policy, snapshot: Snapshot, kind: str, slot: int) -> int:
    assert policy.limits is not None
    ramp = policy.limits.warm_up.get(snapshot.sender) if kind == "sender" else None
    following = slot + 1
    if ramp is not None:
        following = max(following, _first_day(ramp, snapshot.scale))
    return day_tick(snapshot.scale, following)
