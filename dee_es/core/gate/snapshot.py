"""Everything a decision of the gate may read, as data, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from dee_es.core.clock import TimeScale
from dee_es.core.gate.kinds import kind_of
from dee_es.core.gate.zone import ZoneRules
from dee_es.core.ids import CounterKey
from dee_es.core.values import JsonScalar

Effect = Literal["skip", "defer", "pause", "fail"]
"""What becomes of a step that is denied: it is left out, waits, or its run pauses or fails."""
ReadValue = JsonScalar


class SuppressionFact(msgspec.Struct, frozen=True):
    """A suppression of one of the contact's subjects; `scope` is the channel's or plan's name."""

    level: str
    scope: str = ""

    def __str__(self) -> str:
        return f"{self.level} {self.scope}".strip()


class ConsentFact(msgspec.Struct, frozen=True):
    """What is known of a contact's consent to one channel.

    A grant holds before `expires_tick`, and from that tick on no more; None means for ever.
    """

    state: Literal["granted", "revoked", "expired", "missing"] = "missing"
    expires_tick: int | None = None


class Counter(msgspec.Struct, frozen=True, gc=False):
    """A counter that a send adds `amount` to, if that does not carry it over `limit`.

    Its name is one of `KINDS` with the subject behind it; its slot is a UTC day counted from
    1970-01-01, or 0 for what is never reset.
    """

    key: CounterKey
    limit: int
    amount: int = 1

    @property
    def kind(self) -> str:
        """What is counted: the counter's name without its subject."""
        return kind_of(self.key[0])

    @property
    def slot(self) -> int:
        """The UTC day that is counted in, 0 for what is never reset."""
        return self.key[1]

    def admits(self, used: int) -> bool:
        """Whether there is room for the send when `used` are gone."""
        return used + self.amount <= self.limit


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """One send that is asked for, and all that may be known when it is decided.

    `sender` is the id of the sender, `domain` a keyed digest of the recipient's domain (None where
    the channel has none), `addresses` keyed digests of the contact's addresses, `email:` before
    `phone:`. `zone` holds the rules of the contact's own zone, None if it has none or one nobody
    knows; `default_zone` those of the zone the policy names instead. `counters` tells
    what is used of the counters that `counters()` asks for; one that is not there is at zero.
    `needed` is what `counters()` said of this very send, if it was asked before.
    """

    tick: int
    scale: TimeScale
    channel: str
    plan_id: str
    suppressions: tuple[SuppressionFact, ...] = ()
    consent: ConsentFact | None = None
    zone: ZoneRules | None = None
    default_zone: ZoneRules | None = None
    contact_id: str = ""
    sender: str = ""
    domain: str | None = None
    addresses: tuple[str, ...] = ()
    counters: Mapping[CounterKey, int] = {}
    policy_version: int = 0
    needed: tuple[Counter, ...] | None = None


class Allow(msgspec.Struct, frozen=True, gc=False):
    """The send may go out; `counters` are the ones it uses.

    Whoever commits the send adds each counter's amount in the same transaction, and decides anew
    if one of them does not admit it any more.
    `reads` is what was read and may stay in plain text; `personal` is what was read of the contact
    itself and belongs under the contact's key.
    """

    reads: dict[str, ReadValue] = {}
    personal: dict[str, ReadValue] = {}
    counters: tuple[Counter, ...] = ()


class Denial(msgspec.Struct, frozen=True, gc=False):
    """Why a step must not go out now, and what becomes of it.

    `detail` is a sentence for people without personal data. `until_tick` is set exactly if the
    effect is `defer`: the first tick at which this rule may allow the step.
    """

    rule: str
    detail: str
    effect: Effect = "skip"
    until_tick: int | None = None
    reads: dict[str, ReadValue] = {}
    personal: dict[str, ReadValue] = {}


class Notes:
    """What the rules have read so far, in the order in which they read it."""

    __slots__ = ("counters", "personal", "reads")

    def __init__(self) -> None:
        self.reads: dict[str, ReadValue] = {}
        self.personal: dict[str, ReadValue] = {}
        self.counters: list[Counter] = []

    def deny(self, rule: str, detail: str, effect: Effect, until_tick: int | None = None) -> Denial:
        """A denial that knows all that was read before it."""
        until = until_tick if effect == "defer" else None
        return Denial(rule, detail, effect, until, self.reads, self.personal)
