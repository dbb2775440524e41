"""Unsubscribes: how long until nothing more could leave, and whether anything did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct, field

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.compliance.business_days import business_days
from dee_es.core.compliance.facts import REQUESTS, Fact, covers
from dee_es.core.compliance.figures import Figure, Positions, Section, Tally
from dee_es.core.compliance.sends import OpenSend, OpenSends
from dee_es.core.gate import ZoneRules
from dee_es.core.gate.slots import utc_ms

_KINDS: Final = {
    "email.unsubscribed": "unsubscribes",
    "email.complained": "complaints",
    "suppress": "suppressions by a person or a list",
    "erase": "erasures",
}
_MS: Final = 1000
_TWO_DAYS_MS: Final = 2 * 86_400_000
_BUSINESS_DAYS: Final = 10
NOT_OVER: Final = 1 << 62
"""The tick of what has no end yet."""


class Request(Struct):
    """Somebody asked not to be written to. `since` is the tick at which they did, `until` the one
    from which the gate let nothing through; `waiting` are sends that were under way then and have
    no outcome yet."""

    kind: str
    position: int
    since: int
    contact_id: str
    until: int = NOT_OVER
    waiting: set[int] = field(default_factory=set)


class Unsubscribes:
    """Counts the section. Business days are those of `zone`."""

    def __init__(self, under_way: OpenSends, scale: TimeScale, zone: ZoneRules) -> None:
        self._under_way = under_way
        self._scale = scale
        self._zone = zone
        self._tally = Tally()
        self._requests: list[Request] = []
        self._closing: dict[int, list[Request]] = {}
        self._awaited: dict[int, list[Request]] = {}
        self._sends = False
        self.now = 0
        """The log's clock, up to which what is not over yet has taken its time."""

    def take(self, fact: Fact, closed: tuple[OpenSend, str] | None) -> None:
        """Count an entry; `closed` is the send that it is the outcome of."""
        recorded, event = fact.recorded, fact.recorded.event
        if closed is not None:
            self._settle(closed[0], recorded.meta.tick)
        if fact.counted and isinstance(event, e.StepDispatched):
            self._sent(fact, event)
        kind = request_kind(recorded)
        if fact.counted and kind is not None:
            self._request(fact, kind)
        if isinstance(event, e.ContactSuppressed):
            for request in self._closing.pop(recorded.position, ()):
                self._close(request, event, recorded.meta.tick)

    def _sent(self, fact: Fact, event: e.StepDispatched) -> None:
        self._sends = True
        if fact.contact is None or fact.run is None:
            return
        for listed in fact.contact.suppressions(fact.recorded.position):
            by_request = listed.meta.command in ("ingest", *_KINDS)
            bounced = listed.meta.command == "ingest" and _level(listed) == "channel"
            if by_request and not bounced and covers(listed.event, event.channel, fact.run.plan_id):
                self._tally.add("", "sent_after", fact.recorded.position, listed.position)
                return

    def _request(self, fact: Fact, kind: str) -> None:
        recorded, event = fact.recorded, fact.recorded.event
        since = recorded.meta.tick
        closing: e.RecordedEvent | None = recorded
        if isinstance(event, e.ChannelEventReceived):
            since = min(since, event.occurred_tick)
            closing = fact.contact.closing(recorded.position, "email") if fact.contact else None
        elif isinstance(event, e.ContactErased):
            closing = fact.contact.closing(recorded.position, None) if fact.contact else None
        contact = str(getattr(event, "contact_id", ""))
        request = Request(kind, recorded.position, since, contact)
        self._requests.append(request)
        self._tally.add("requests", kind, recorded.position)
        for position in fact.earlier:
            self._tally.add("", "sent_between", position, recorded.position)
        if closing is None:
            self._tally.add("", "not_closed", recorded.position)
            return
        self._tally.add("", "closed", recorded.position, closing.position)
        if closing.position > recorded.position:
            self._closing.setdefault(closing.position, []).append(request)
        else:
            # Closed before it was told; if even before they asked, that took no time at all.
            self._close(request, closing.event, closing.meta.tick)

    def _close(self, request: Request, by: e.Event, tick: int) -> None:
        """The channel is closed as of now: what is under way may still leave."""
        request.until = max(tick, request.since)
        for _, send in self._under_way.all():
            run = send.run
            if run is None or run.contact_id != request.contact_id:
                continue
            if covers(by, send.channel, run.plan_id):
                request.waiting.add(send.position)
                self._awaited.setdefault(send.position, []).append(request)
                self._tally.add("", "under_way", send.position, request.position)

    def _give_up(self) -> None:
        """Wait no more for calls whose deadline has passed. That is on record only if their run
        went on; one that the request itself ended is told of nothing more."""
        for _, send in self._under_way.all():
            if send.deadline is not None and send.deadline <= self.now:
                self._settle(send, send.deadline)

    def _settle(self, send: OpenSend, tick: int) -> None:
        """Nothing more leaves by this send; what is told behind its deadline makes it no later."""
        over = tick if send.deadline is None else min(tick, send.deadline)
        for request in self._awaited.pop(send.position, ()):
            request.waiting.discard(send.position)
            request.until = max(request.until, over)

    def section(self) -> Section:
        """The section as counted so far."""
        self._give_up()
        title = "Unsubscribe processing"
        explains = _explains(self._zone.name)
        if not self._requests and not self._sends:
            nothing = "nobody unsubscribed and nothing was sent in the period"
            return Section("unsubscribes", title, explains, (), nothing)
        return Section("unsubscribes", title, explains, tuple(self._figures()))

    def _figures(self) -> Iterator[Figure]:
        nobody = None if self._requests else "nobody unsubscribed in the period"
        for kind, label in _KINDS.items():
            yield self._tally.figure("requests", kind, label)
        for key, label, zero in (
            ("closed", "closed by a suppression in the log", False),
            ("not_closed", "not closed by any suppression", True),
            ("sent_between", "sends after the request and before it was closed", False),
            ("under_way", "sends under way when it was closed", False),
        ):
            yield self._tally.figure("", key, label, not_measured=nobody, must_be_zero=zero)
        yield self._longest(nobody)
        yield from self._deadlines(nobody)
        yield self._tally.figure(
            "",
            "sent_after",
            "sends committed after it was closed",
            not_measured=None if self._sends else "nothing was sent in the period",
            must_be_zero=True,
        )

    def _longest(self, nobody: str | None) -> Figure:
        label = "longest time until nothing more could leave"
        over = [each for each in self._requests if self._over(each)]
        if nobody or not over:
            why = nobody or "no request of the period is closed yet"
            return Figure("longest", "", label, None, unit="seconds", not_measured=why)
        longest = max(each.until - each.since for each in over)
        seconds = -(-longest * self._scale.resolution_ms // _MS)
        slowest = _positions(e.position for e in over if e.until - e.since == longest)
        return Figure("longest", "", label, seconds, slowest.ranges(), unit="seconds")

    def _deadlines(self, nobody: str | None) -> Iterator[Figure]:
        for key, label, late in (
            ("two_days", "two days (one-click, RFC 8058)", self._over_two_days),
            ("ten_business_days", "ten business days (CAN-SPAM)", self._over_ten_business_days),
        ):
            for each in self._requests:
                kind = "over" if late(each) else "within" if self._over(each) else "pending"
                self._tally.add("", f"{kind}_{key}", each.position)
            add = self._tally.figure
            yield add("", f"within_{key}", f"closed within {label}", not_measured=nobody)
            yield add(
                "", f"over_{key}", f"took longer than {label}",
                not_measured=nobody, must_be_zero=True,
            )  # fmt: skip
            label = f"still open, within {label}"
            yield add("", f"pending_{key}", label, not_measured=nobody)

    def _over(self, request: Request) -> bool:
        """Whether nothing more can leave."""
        return request.until != NOT_OVER and not request.waiting

    def _end(self, request: Request) -> int:
        return request.until if self._over(request) else self.now

    def _over_two_days(self, request: Request) -> bool:
        ticks = self._end(request) - request.since
        return ticks * self._scale.resolution_ms > _TWO_DAYS_MS

    def _over_ten_business_days(self, request: Request) -> bool:
        begun, ended = (utc_ms(self._scale, t) for t in (request.since, self._end(request)))
        return business_days(self._zone, begun, ended) > _BUSINESS_DAYS


def request_kind(recorded: e.RecordedEvent) -> str | None:
    """What kind of request an entry is: an unsubscribe or a complaint in the contact's own stream
    (its runs repeat it), a suppression by a person or a list, an erasure; None if it is none."""
    event = recorded.event
    if isinstance(event, e.ChannelEventReceived):
        own = recorded.stream_id.startswith("contact:")
        return event.type if own and event.type in REQUESTS else None
    if isinstance(event, e.ContactSuppressed) and recorded.meta.command == "suppress":
        return "suppress"
    # Not the suppression that comes with it: whoever was on the list in full gets no other.
    return "erase" if isinstance(event, e.ContactErased) else None


def _level(recorded: e.RecordedEvent) -> str:
    return str(getattr(recorded.event, "level", ""))


def _positions(given: Iterable[int]) -> Positions:
    positions = Positions()
    for position in given:
        positions.add(position)
    return positions


def _explains(zone: str) -> tuple[str, ...]:
    return (
        "A request begins when the unsubscribe or complaint happened, as its provider told it, "
        "when a person or a list suppressed the contact, or when it was erased. It is over when a "
        "suppression was committed, from which on the gate lets nothing through, and every send "
        "that was under way at that moment has its outcome, or the deadline for it has passed; "
        "sends before and after are those to this contact.",
        f"Business days are Monday to Friday in the zone {zone}, without regard to holidays; the "
        "day of the request is not counted. A request on a Saturday has taken one business day on "
        "Monday. Two days are 48 hours.",
        "Sends after it was closed are the sends of the period to contacts whose request, whenever "
        "it was, had been closed before and was not lifted since.",
    )
