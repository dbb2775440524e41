"""What is looked up while entries are counted: runs, contacts, policies, windows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.compliance import ContactFacts, RunFacts, inside
from dee_es.core.gate import Policy
from dee_es.core.ids import contact_stream
from dee_es.core.views import RunFilter
from dee_es.engine.definitions import Definitions
from dee_es.engine.log.journal import Journal
from dee_es.engine.queries import Queries
from dee_es.ports import EventStore, StoredRow

_RUNS: Final = 20_000
"""Most runs that are remembered at once."""
_PAGE: Final = 500


class Lookups:
    """Answers from the log itself, as it was up to position `through`; keeps little in memory."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        definitions: Definitions,
        queries: Queries,
        scale: TimeScale,
        through: int,
    ) -> None:
        self._store = store
        self._journal = journal
        self._definitions = definitions
        self._queries = queries
        self._scale = scale
        self._through = through
        self._runs: OrderedDict[str, RunFacts] = OrderedDict()
        self._channels: dict[tuple[str, int], Mapping[str, str]] = {}
        self._policies: dict[int, Policy | None] = {}

    def runs(self, ids: Collection[str], page: Iterable[e.RecordedEvent]) -> dict[str, RunFacts]:
        """Whose these runs are; `page` may hold the beginnings of some."""
        for recorded in page:
            if recorded.version == 1 and isinstance(recorded.event, e.Start):
                self._note(recorded.stream_id, recorded.event)
        found = {run_id: self._runs[run_id] for run_id in ids if run_id in self._runs}
        unknown = [run_id for run_id in ids if run_id not in found]
        if unknown:
            rows = self._store.read_first(sorted(unknown)).values()
            for recorded in self._journal.open_public(rows):
                if isinstance(recorded.event, e.Start):
                    found[recorded.stream_id] = self._note(recorded.stream_id, recorded.event)
        return found

    def _note(self, run_id: str, start: e.Start) -> RunFacts:
        key = (start.plan_id, start.plan_version)
        channels = self._channels.get(key)
        if channels is None:
            plan = self._definitions.plan(*key)
            channels = {step.id: step.channel for step in plan.steps if step.channel is not None}
            self._channels[key] = channels
        facts = self._runs[run_id] = RunFacts(start.contact_id, start.plan_id, channels)
        if len(self._runs) > _RUNS:
            self._runs.popitem(last=False)
        return facts

    def contacts(self, ids: Collection[str]) -> dict[str, ContactFacts]:
        """What the streams of these contacts say."""
        streams = self._store.read_streams([contact_stream(each) for each in sorted(ids)])
        found = {}
        for contact_id in ids:
            rows = streams.get(contact_stream(contact_id), [])
            known = [row for row in rows if row.name in _TELLING and row.position <= self._through]
            found[contact_id] = ContactFacts(contact_id, self._journal.open_public(known))
        return found

    def policy(self, version: object) -> Policy | None:
        """The policy of this version, as a send recorded it."""
        if not isinstance(version, int) or version < 1:
            return None
        if version not in self._policies:
            self._policies[version] = self._definitions.policy(version)
        return self._policies[version]

    def in_window(self, row: StoredRow, recorded: e.RecordedEvent) -> bool | None:
        """Whether a send was inside its window, by what the gate noted under the contact's key."""
        event = self._journal.open_one(row).event
        if not isinstance(event, e.StepDispatched) or event.personal is None:
            return None
        policy = self.policy(event.reads.get("policy"))
        tick = recorded.meta.tick
        return inside(policy, event.channel, self._scale, tick, event.personal.gate)

    def step_of(self, recorded: e.RecordedEvent) -> str | None:
        """The step that a run was in when it was paused."""
        rows = self._store.read_stream(recorded.stream_id, 0, recorded.version)
        entered = [row for row in rows if row.name == "StepEntered"]
        for each in self._journal.open_public(entered[-1:]):
            if isinstance(each.event, e.StepEntered):
                return each.event.step_id
        return None

    def earlier_sends(
        self, request: e.RecordedEvent, contact: ContactFacts | None
    ) -> tuple[int, ...]:
        """Sends to a contact from the moment at which it asked up to the entry that closed email
        for it; what is told without delay has none."""
        event = request.event
        if not isinstance(event, e.ChannelEventReceived) or contact is None:
            return ()
        closing = contact.closing(request.position, "email")
        end = closing.position if closing is not None else self._through + 1
        if event.occurred_tick >= request.meta.tick and end <= request.position + 1:
            return ()
        runs = self._runs_of(contact.contact_id)
        found = []
        for rows in self._store.read_streams(runs).values():
            sends = [row for row in rows if row.name == "StepDispatched" and row.position < end]
            found += [
                each.position
                for each in self._journal.open_public(sends)
                if each.meta.tick >= event.occurred_tick
            ]
        return tuple(sorted(found))

    def _runs_of(self, contact_id: str) -> list[str]:
        found: list[str] = []
        before = None
        while True:
            page = self._queries.rows(
                RunFilter(contact_id=contact_id), limit=_PAGE, before_ordinal=before
            )
            found += [row.run_id for row in page]
            if len(page) < _PAGE:
                return found
            before = page[-1].ordinal


_TELLING: Final = frozenset(
    {"ConsentGranted", "ConsentRevoked", "ContactSuppressed", "ContactUnsuppressed"}
)
