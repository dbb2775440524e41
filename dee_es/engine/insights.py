"""Questions across runs: one contact as of any date, and a plan's steps in numbers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field

from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.ids import contact_stream
from dee_es.core.projection import Build
from dee_es.core.runs.run import fold
from dee_es.core.views import ContactEntryRow
from dee_es.engine.definitions import Definitions
from dee_es.engine.log.journal import Journal
from dee_es.engine.models import Answer, ExecutionRun
from dee_es.engine.projecting.projector import AnyProjection, Projector
from dee_es.engine.queries import execution_run, row_of
from dee_es.ports import EventStore, Views


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
    record about suppression and consent in its own name (an address may be listed in its own
    right as well)."""

    contact_id: str
    tick: int
    time: datetime
    runs: tuple[ExecutionRun, ...]
    entries: tuple[ContactEntry, ...]
    suppressions: tuple[str, ...]
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
    scale: TimeScale
    contact_history: AnyProjection
    step_funnel: AnyProjection

    def contact_at(self, contact_id: str, tick: int) -> ContactAt:
        """The contact as of the end of a tick; empty for nobody."""
        told, ids = self.projector.read(
            self.contact_history, lambda build: self._of_contact(build, contact_id)
        )
        entries = [row for row in told if row.tick <= tick]
        rows = self.store.read_stream(contact_stream(contact_id))
        own = [each for each in self.journal.open(rows) if each.meta.tick <= tick]
        listed = contact_state.fold(own).listed
        return ContactAt(
            contact_id=contact_id,
            tick=tick,
            time=self.scale.time(tick),
            runs=self._runs(ids, tick),
            entries=tuple(self._entry(row) for row in entries),
            suppressions=tuple(sorted({f"{level} {scope}".strip() for _, level, scope in listed})),
            consents=consents_at(own, tick),
        )

    def _of_contact(self, build: Build, contact_id: str) -> tuple[list[ContactEntryRow], list[str]]:
        assert build.lines is not None, "a contact's history has entries"
        entries: list[ContactEntryRow] = self.views.rows_by(build.lines, "contact_id", contact_id)
        runs = self.views.rows_by(build.table, "contact_id", contact_id)
        return entries, [row.run_id for row in runs]

    def _runs(self, ids: list[str], tick: int) -> tuple[ExecutionRun, ...]:
        streams, heads = self.store.read_streams(ids), self.store.heads(ids)
        found = []
        for run_id, rows in streams.items():
            history = [each for each in self.journal.open(rows) if each.meta.tick <= tick]
            state = fold(history)
            if state is not None:
                row = row_of(state, heads[run_id].ordinal)
                found.append(execution_run(row, dict(state.contact.variables), self.scale))
        return tuple(sorted(found, key=lambda run: run.ordinal))

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
