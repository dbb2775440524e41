"""The past of a run: what happened, how it stood, what changed, and what might have been."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from dee_es.core.events import RecordedEvent
from dee_es.core.ids import contact_stream
from dee_es.core.runs.run import fold
from dee_es.core.runs.state import RunState
from dee_es.core.steps.email import SendEmail
from dee_es.core.values import check_count, check_id, check_plan_id
from dee_es.core.views import RunStatus
from dee_es.engine.api.base import ApiBase, checked_run_id
from dee_es.engine.contacts.index import suppression_facts
from dee_es.engine.log.missing import archived_runs, on_record
from dee_es.engine.models import LogEntry, TimelineEntry
from dee_es.engine.past.debugger import DebugSession
from dee_es.engine.past.explain import Explanation, Narrator, advice_for, explain_contact
from dee_es.engine.past.time_travel import Change, RunAt, changes, run_at, version_at
from dee_es.errors import DeeError, StoreUnavailable

_UNRENDERED: Final = ("cannot be rendered: text,", "cannot be rendered: html,")
"""How a failure begins that lies in a template, not in the plan or the contact."""
_KEPT: Final = "cannot be rendered: subject,"
"""How one begins that lies in the plan, to whose version a run keeps."""


class HistoryApi(ApiBase):
    """Reads of single runs; nothing here writes."""

    def get_timeline(self, run_id: str) -> list[TimelineEntry]:
        """What happened in a run, in order; raises `RunNotFound`."""
        return self._history.timeline(checked_run_id(run_id))

    def get_logs(self, run_id: str) -> list[LogEntry]:
        """All that was recorded in a run, personal data included unless it was erased.

        Raises `RunNotFound`, `IntegrityViolation`.
        """
        return self._history.logs(checked_run_id(run_id))

    def get_contact_logs(self, contact_id: str) -> list[LogEntry]:
        """All that was recorded about a contact, in log order: its runs, its suppressions and
        consents, its channel events and the enrolments it was refused. Empty for nobody."""
        chosen = self._queries.filter(contact_id=check_id("contact_id", contact_id))
        runs = [row.run_id for row in self._queries.all_rows(chosen)]
        return self._history.contact_logs(contact_id, runs)

    def get_events(self, run_id: str) -> list[RecordedEvent]:
        """All events of a run as they were recorded, verified; raises `RunNotFound`."""
        return self._history.events(checked_run_id(run_id))

    def run_at(
        self,
        run_id: str,
        *,
        version: int | None = None,
        tick: int | None = None,
        time: datetime | None = None,
    ) -> RunAt:
        """The run exactly as it stood, with what a decision would have read then.

        Give one of `version` (after that event), `tick` and `time` (after the last event up to and
        including it). Raises `RunNotFound`, and `InvalidInput` for a moment before the run or
        a version it has not.
        """
        history = self.get_events(run_id)
        wanted = version_at(history, self._parts.scale, version, tick, time)
        return run_at(history, wanted, self._ordinal(run_id), self._parts.scale)

    def diff_run(self, run_id: str, from_version: int, to_version: int) -> list[Change]:
        """What changed between two versions of a run, and by which event.

        Raises `RunNotFound`, and `InvalidInput` for versions it has not.
        """
        history = self.get_events(run_id)
        scale = self._parts.scale
        first = check_count("from_version", from_version, len(history))
        last = check_count("to_version", to_version, len(history))
        ordinal = self._ordinal(run_id)
        if first <= last:
            return changes(history, first, last, ordinal, scale)
        return [
            each.model_copy(update={"before": each.after, "after": each.before})
            for each in changes(history, last, first, ordinal, scale)
        ]

    def explain(self, run_id: str) -> Explanation:
        """In plain sentences: what the run is doing now and why, what it waits for, what a person
        can do, and how it came to that. Built from its events, and from which version of its plan
        is the newest; raises `RunNotFound`."""
        history = self.get_events(run_id)
        state = fold(history)
        assert state is not None
        narrator = Narrator(self._parts.scale)
        told = tuple(narrator.sentence(recorded) for recorded in history)
        advice = self._of_code(state)
        if not advice:
            advice = (*self._of_template(state), *advice_for(state, history))
        now = narrator.present(state) + self._older_plan(state)
        return Explanation(run_id, now, advice, told)

    def _older_plan(self, state: RunState) -> str:
        """That a run which goes on, or might, keeps to a plan that was published anew since."""
        newest = self._definitions.latest("plan", state.plan_id)
        if state.status.ended or newest <= state.plan_version:
            return ""
        return (
            f" It keeps version {state.plan_version} of the plan {state.plan_id}, with which it "
            f"began; version {newest} is published by now."
        )

    def _of_code(self, state: RunState) -> tuple[str, ...]:
        """Why this code can do nothing about a run: it cannot read what the run decides by."""
        try:
            if not state.status.ended:
                self._definitions.materials(state.plan_id, state.plan_version, state.pins)
        except StoreUnavailable:
            raise
        except DeeError as error:
            return (f"This code cannot decide it: {error}",)
        return ()

    def _of_template(self, state: RunState) -> tuple[str, ...]:
        """Which text a run failed by, and how another one takes its place."""
        failed = state.status == RunStatus.FAILED and state.current_step is not None
        if failed and (state.failure or "").startswith(_KEPT):
            return (
                f"The subject is that of version {state.plan_version} of the plan {state.plan_id}, "
                "which a retry does not change: publish the plan anew, cancel the run, and enroll "
                "the contact again",
            )
        if not failed or not (state.failure or "").startswith(_UNRENDERED):
            return ()
        plan = self._definitions.materials(state.plan_id, state.plan_version, state.pins).plan
        step = plan.graph.step(str(state.current_step))
        if not isinstance(step, SendEmail):
            return ()
        name, version = step.template_id, state.pins.templates[step.template_id]
        return (
            f"It is version {version} of the template {name}; where another text helps: "
            f"dee template publish {name} --text FILE, before the run is retried",
        )

    def explain_contact(self, contact_id: str, plan_id: str | None = None) -> Explanation:
        """Why a contact has no run (of a plan), or which runs it has; what its suppressions and
        consents were, those of the addresses that its runs began with included."""
        check_id("contact_id", contact_id)
        if plan_id is not None:
            check_plan_id("plan_id", plan_id)
        listed = self._queries.all_rows(self._queries.filter(contact_id=contact_id))
        runs = [row.run_id for row in listed if plan_id in (None, row.plan_id)]
        rows = self._parts.store.read_stream(contact_stream(contact_id))
        return explain_contact(
            contact_id,
            plan_id,
            self._journal.open(rows),
            runs,
            archived_runs(self._parts.store, contact_id, plan_id),
            self._standing(contact_id, [row.run_id for row in listed]),
            Narrator(self._parts.scale),
            on_record(self._parts.store, contact_id, listed, rows),
        )

    def _standing(self, contact_id: str, runs: Sequence[str]) -> list[str]:
        """The suppressions of a contact, by its id or by an address that one of these runs has."""
        subjects = set(self._identities.subjects(contact_id, None, None))
        for run in self._runs.load_readable(runs, _left_out).values():
            person = run.state.contact
            subjects.update(self._identities.subjects(contact_id, person.email, person.phone))
        (facts,) = suppression_facts(self._parts.store, [tuple(sorted(subjects))])
        return list(dict.fromkeys(map(str, facts)))

    def debug(self, run_id: str) -> DebugSession:
        """Step through a run, forwards and backwards; raises `RunNotFound`."""
        return DebugSession(
            self.get_events(run_id),
            self._definitions.materials,
            self._ordinal(run_id),
            self._parts.scale,
            self._history.outcome,
        )

    def _ordinal(self, run_id: str) -> int:
        return self._parts.store.heads([run_id])[run_id].ordinal


def _left_out(run_id: str, error: DeeError) -> None:
    """A run that cannot be read tells no address; whoever explains that run itself is told why."""
