"""Limits: how many sends a UTC day of logical time may see, and how that number ramps up.

channel   every send through the channel
sender    every send of the sender, while it warms up at most the day's share of its ramp
domain    every send to the recipient's domain
contact   every send to the contact, through any channel
"""

from __future__ import annotations

from typing import Final

from dee_es.core.clock import TimeScale
from dee_es.core.gate.model import Policy, Ramp
from dee_es.core.gate.slots import day_of, day_tick, tick_text
from dee_es.core.gate.snapshot import Counter, CounterKey, Denial, Notes, Snapshot

_WHOSE: Final = {
    "sender": "of the sender",
    "domain": "to the recipient's domain",
    "contact": "to the contact",
}


def counters(policy: Policy, snapshot: Snapshot) -> tuple[Counter, ...]:
    """The counters that bound this send, in the order in which they are looked at."""
    limits = policy.limits
    if limits is None:
        return ()
    scale = snapshot.scale
    slot = day_of(scale, snapshot.tick)
    limited = (
        (f"channel:{snapshot.channel}", limits.per_day.of_channel(snapshot.channel)),
        (f"sender:{snapshot.sender}", _of_sender(policy, snapshot, slot)),
        (f"domain:{snapshot.domain}", limits.per_day.domain if snapshot.domain else None),
        (f"contact:{snapshot.contact_id}", limits.per_day.contact),
    )
    return tuple(
        [Counter(CounterKey(name, slot), limit) for name, limit in limited if limit is not None]
    )


def bounds(policy: Policy, channel: str) -> bool:
    """Whether any limit can concern sends through the channel."""
    if policy.limits is None:
        return False
    per_day = policy.limits.per_day
    own = (per_day.of_channel(channel), per_day.sender, per_day.domain, per_day.contact)
    return bool(policy.limits.warm_up) or any(limit is not None for limit in own)


def check(policy: Policy, snapshot: Snapshot, notes: Notes) -> Denial | None:
    """None if every limit has room for one more send, else what the policy wants for the step.

    A deferred step waits for the next UTC day, or for the day on which its sender's ramp begins.
    """
    limits = policy.limits
    if limits is None:
        return None
    full: tuple[Counter, int] | None = None
    for counter in counters(policy, snapshot):
        kind = counter.key.name.partition(":")[0]
        used = snapshot.counters.get(counter.key, 0)
        notes.reads[f"limit.{kind}"] = used
        if kind == "sender":
            notes.reads["sender"] = snapshot.sender
        notes.counters.append(counter)
        if full is None and not counter.admits(used):
            full = counter, used
    if full is None:
        return None
    counter, used = full
    kind = counter.key.name.partition(":")[0]
    until = _reopens(policy, snapshot, kind, counter.key.slot)
    again = f"it opens at {tick_text(snapshot.scale, until)}"
    if counter.limit == 0:
        detail = f"the warm-up of the sender has not begun; {again}"
    else:
        whose = f"of the {snapshot.channel} channel" if kind == "channel" else _WHOSE[kind]
        most = f"the limit of {counter.limit} sends a day {whose}"
        detail = f"{most} is reached ({used} used); {again}"
    return notes.deny("limits", detail, limits.effect, until)


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
