"""All sections of a compliance report, counted in one go through the log."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.compliance.consent import Consents
from dee_es.core.compliance.facts import Fact, Period, RunFacts, gate_rule
from dee_es.core.compliance.figures import Ranges, Section
from dee_es.core.compliance.sends import OpenSends, Sends
from dee_es.core.compliance.suppressions import Suppressions
from dee_es.core.compliance.unsubscribes import Unsubscribes, request_kind
from dee_es.core.compliance.windows import Windows
from dee_es.core.gate import ZoneRules

SECTIONS: Final = ("sends", "consent", "suppressions", "windows", "unsubscribes")
"""The sections that are counted, in the order in which they are shown."""


_TELLING: Final = frozenset(
    {
        e.ChannelEventReceived,
        e.ConsentGranted,
        e.ConsentRevoked,
        e.ContactErased,
        e.ContactSuppressed,
        e.ContactUnsuppressed,
        e.EnrollmentRefused,
        e.OutcomeUnknown,
        e.RunPaused,
        e.RunScheduled,
        e.RunStarted,
        e.StepCompleted,
        e.StepDeferred,
        e.StepDispatched,
        e.StepFailed,
        e.StepPending,
        e.StepRetried,
        e.StepSkipped,
    }
)
"""Events that a section may look at; of all others it only counts that they are there."""


class Needs(NamedTuple):
    """What has to be looked up before some entries are counted: runs, and contacts by their id."""

    runs: frozenset[str]
    contacts: frozenset[str]


class Counting:
    """Takes in every entry of the log, in order, and counts those of the period."""

    def __init__(
        self, period: Period, scale: TimeScale, zone: ZoneRules, sections: Collection[str]
    ) -> None:
        self.period = period
        self._wanted = [key for key in SECTIONS if key in sections]
        self._under_way = OpenSends()
        self._sends = Sends(self._under_way)
        self._consent = Consents()
        self._suppressions = Suppressions()
        self._windows = Windows()
        self._unsubscribes = Unsubscribes(self._under_way, scale, zone)
        self._entries = 0
        self._first = self._last = 0
        self._position = 0
        self._missing = array("Q")
        self.tick = 0
        """The log's clock: the highest tick taken in."""

    def tells(self, recorded: e.RecordedEvent) -> bool:
        """Whether a section looks at the entry, so that more has to be known of it."""
        return bool(self._wanted) and type(recorded.event) in _TELLING

    def counts(self, recorded: e.RecordedEvent) -> bool:
        """Whether the entry is in the period."""
        return self.period.covers(recorded.meta.tick)

    def needs(self, page: Sequence[e.RecordedEvent]) -> Needs:
        """What the entries of a page ask for, beside the contacts of the runs."""
        runs: set[str] = set()
        contacts: set[str] = set()
        asked = False
        for recorded in page:
            event = recorded.event
            if not self.tells(recorded):
                continue
            if isinstance(event, e.ContactSuppressed):
                asked = True
            if not self.counts(recorded):
                continue
            if isinstance(event, e.StepDispatched) or gate_rule(event) is not None:
                runs.add(recorded.stream_id)
            elif request_kind(recorded) is not None:
                asked = True
                contacts.add(str(getattr(event, "contact_id", "")))
        if asked and "unsubscribes" in self._wanted:
            # Whose are the sends under way? Only then is it asked.
            runs.update(run for run, send in self._under_way.all() if send.run is None)
            runs.update(r.stream_id for r in page if isinstance(r.event, e.StepDispatched))
        return Needs(frozenset(runs), frozenset(contacts))

    def know(self, runs: Mapping[str, RunFacts]) -> None:
        """Tell what was asked about the runs of sends under way."""
        for run_id, send in self._under_way.all():
            if send.run is None:
                send.run = runs.get(run_id)

    def take(self, fact: Fact) -> None:
        """Count the next entry."""
        recorded = fact.recorded
        self.reach(recorded.position - 1)
        self._position = recorded.position
        self.tick = max(self.tick, recorded.meta.tick)
        if fact.counted:
            self._entries += 1
            self._first = self._first or recorded.position
            self._last = recorded.position
        if not self.tells(recorded):
            return
        closed = self._under_way.take(fact)
        self._sends.take(fact, closed)
        self._unsubscribes.take(fact, closed)
        self._consent.take(fact)
        self._suppressions.take(fact)
        self._windows.take(fact)

    def reach(self, position: int) -> None:
        """Take notice that there is no other entry up to and including this position."""
        if position > self._position:
            self._missing.extend((self._position + 1, position))
            self._position = position

    @property
    def entries(self) -> int:
        """Entries of the period."""
        return self._entries

    @property
    def bounds(self) -> tuple[int, int]:
        """Positions of the first and last entry of the period; zeros if there is none."""
        return self._first, self._last

    def missing(self) -> Ranges:
        """Positions that had no entry: archived, or gone."""
        return Ranges(self._missing)

    def sections(self) -> tuple[Section, ...]:
        """The sections that were asked for."""
        made: dict[str, Sends | Consents | Suppressions | Windows | Unsubscribes] = {
            "sends": self._sends,
            "consent": self._consent,
            "suppressions": self._suppressions,
            "windows": self._windows,
            "unsubscribes": self._unsubscribes,
        }
        self._suppressions.measured = self._entries > 0
        self._unsubscribes.now = self.tick
        return tuple(made[key].section() for key in self._wanted)
