"""Questions across runs: one contact as of any date, and a plan's steps in numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field

from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.ids import contact_stream
from dee_es.core.projection import Build
from dee_es.core.runs.run import RunState, fold
from dee_es.core.views import ContactEntryRow
from dee_es.engine.contacts.identity import Identities
from dee_es.engine.definitions import Definitions
from dee_es.engine.log.journal import Journal
from dee_es.engine.log.missing import on_record
from dee_es.engine.models import Answer, ExecutionRun
from dee_es.engine.projecting.projector import AnyProjection, Projector
from dee_es.engine.queries import execution_run, row_of
from dee_es.ports import EventStore, StoredRow, Views


class ContactEntry(Answer):
    """Something that happened to a contact.

    `kind` is `run`, `send`, `wait`, `refusal`, `event` (of a channel) or `contact` (suppression or
    consent). `until` is when what waits was to go on.
    """

    tick: int
    time: datetime
    kind: str
    action: str
    run_id: str | None
    plan_id: str | None
    step_id: str | None
    rule: str | None
    detail: str | None
    until: datetime | None


class ContactAt(Answer):
    """A contact as of a moment: its runs as they stood, all that had happened, and what stood on
    record about suppression and consent.

    `suppressions` are those in its own name, `address_suppressions` those of an address of its runs
    in any other: the address's own, or that of another record of the same person. Either is enough
    for nothing to be sent. Of a moment that has passed, what another record had listed then and has
    lifted since is not told. `known` is whether anything is on record of the id by now, a run that
    was archived included; where it is false, the id is most likely mistyped.
    """

    contact_id: str
    known: bool
    tick: int
    time: datetime
    runs: tuple[ExecutionRun, ...]
    entries: tuple[ContactEntry, ...]
    suppressions: tuple[str, ...]
    address_suppressions: tuple[str, ...]
    consents: dict[str, str]


class FunnelStep(Answer):
    """What became of the visits of a step: `entered` is the sum of the other numbers.

    `sent` counts visits that did what the step is for; `deferred` those that a rule holds now.
    `reasons` splits the numbers by rule, kind of error, or outcome.
    """

    plan_version: int
    step_id: str
    entered: int = 0
    sent: int = 0
    skipped: int = 0
    deferred: int = 0
    failed: int = 0
    exited: int = 0
    in_progress: int = 0
    reasons: dict[str, dict[str, int]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Insights:
    """Reads the projections that answer such questions, caught up with the log first."""

    store: EventStore
    views: Views
    journal: Journal
    projector: Projector
    definitions: Definitions
    identities: Identities
    scale: TimeScale
    contact_history: AnyProjection
    step_funnel: AnyProjection

    def contact_at(self, contact_id: str, tick: int) -> ContactAt:
        """The contact as of the end of a tick; empty, and not known, for nobody."""
        told, ids = self.projector.read(
            self.contact_history, lambda build: self._of_contact(build, contact_id)
        )
        entries = [row for row in told if row.tick <= tick]
        rows = self.store.read_stream(contact_stream(contact_id))
        own = self._recorded(rows, tick)
        listed = contact_state.fold(own).listed
        runs = self._runs(ids, tick)
        addresses = {(each.contact.email, each.contact.phone) for each in runs.values()}
        return ContactAt(
            contact_id=contact_id,
            known=on_record(self.store, contact_id, ids, rows),
            tick=tick,
            time=self.scale.time(tick),
            runs=tuple(
                execution_run(row_of(state, ordinal), dict(state.contact.variables), self.scale)
                for ordinal, state in sorted(runs.items())
            ),
            entries=tuple(self._entry(row) for row in entries),
            suppressions=_told((level, scope) for _, level, scope in listed),
            address_suppressions=_told(self._in_other_names(contact_id, addresses, tick)),
            consents=consents_at(own, tick),
        )

    def _recorded(self, rows: Sequence[StoredRow], tick: int) -> list[e.RecordedEvent]:
        return [each for each in self.journal.open(rows) if each.meta.tick <= tick]

    def _of_contact(self, build: Build, contact_id: str) -> tuple[list[ContactEntryRow], list[str]]:
        assert build.lines is not None, "a contact's history has entries"
        entries: list[ContactEntryRow] = self.views.rows_by(build.lines, "contact_id", contact_id)
        runs = self.views.rows_by(build.table, "contact_id", contact_id)
        return entries, [row.run_id for row in runs]

    def _runs(self, ids: list[str], tick: int) -> dict[int, RunState]:
        """The runs as they stood, by ordinal."""
        streams, heads = self.store.read_streams(ids), self.store.heads(ids)
        states = {run_id: fold(self._recorded(rows, tick)) for run_id, rows in streams.items()}
        return {heads[run_id].ordinal: state for run_id, state in states.items() if state}

    def _in_other_names(
        self, contact_id: str, addresses: Iterable[tuple[str | None, str | None]], tick: int
    ) -> Iterator[tuple[str, str]]:
        """Level and scope of what these addresses were listed for, on anybody's account but the
        contact's own."""
        subjects, others = set[str](), set[str]()
        for email, phone in addresses:
            subjects.update(self.identities.subjects(contact_id, email, phone)[1:])
            for own in ((email, None), (None, phone)):
                if any(own):
                    others.update(self.identities.ids_for_address(*own))
        others.update(each.contact_id for each in self.store.suppressions(sorted(subjects)))
        streams = [contact_stream(other) for other in sorted(others - {contact_id})]
        for rows in self.store.read_streams(streams).values():
            for subject, level, scope in contact_state.fold(self._recorded(rows, tick)).listed:
                if subject in subjects:
                    yield level, scope

    def _entry(self, row: ContactEntryRow) -> ContactEntry:
        until = None if row.until_tick is None else self.scale.time(row.until_tick)
        return ContactEntry(
            tick=row.tick,
            time=self.scale.time(row.tick),
            kind=row.kind,
            action=row.action,
            run_id=row.run_id,
            plan_id=row.plan_id,
            step_id=row.step_id,
            rule=row.rule,
            detail=row.detail,
            until=until,
        )

    def funnel(self, plan_id: str, version: int | None) -> list[FunnelStep]:
        """The numbers of each step that a run has entered, versions and steps in their order."""
        counts = self.projector.read(
            self.step_funnel, lambda build: self.views.counts(build.table, plan_id)
        )
        numbers: dict[tuple[int, str], dict[str, Any]] = {}
        for key, n in counts.items():
            _, of_version, step, state, reason = key
            if version in (None, of_version):
                found = numbers.setdefault(
                    (int(of_version), str(step)), {"reasons": defaultdict(dict)}
                )
                found[str(state)] = found.get(str(state), 0) + n
                found["entered"] = found.get("entered", 0) + n
                if reason:
                    found["reasons"][str(state)][str(reason)] = n
        order = {
            (of_version, step.id): place
            for of_version in {of_version for of_version, _ in numbers}
            for place, step in enumerate(self.definitions.plan(plan_id, of_version).steps)
        }
        return [
            FunnelStep(plan_version=of_version, step_id=step, **numbers[of_version, step])
            for of_version, step in sorted(numbers, key=lambda at: (at[0], order[at]))
        ]


def _told(suppressions: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted({f"{level} {scope}".strip() for level, scope in suppressions}))


def consents_at(history: list[e.RecordedEvent], tick: int) -> dict[str, str]:
    """What the contact last said about each channel (and purpose), as of the tick."""
    found: dict[str, str] = {}
    for recorded in history:
        event = recorded.event
        if isinstance(event, e.ConsentGranted | e.ConsentRevoked):
            name = f"{event.channel}:{event.purpose}" if event.purpose else event.channel
            if isinstance(event, e.ConsentRevoked):
                found[name] = "revoked"
            else:
                ends = event.expires_tick
                found[name] = "expired" if ends is not None and tick >= ends else "granted"
    return found
