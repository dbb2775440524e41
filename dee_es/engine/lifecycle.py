"""Commands to runs that exist: pause, resume, cancel, retry and resolve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Final, Literal, get_args

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.runs.state import RunState
from dee_es.core.views import RunFilter
from dee_es.engine.log.settling import ATTEMPTS
from dee_es.engine.models import BulkChange, OnChange
from dee_es.engine.queries import Queries
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.transact import Decided, Runs
from dee_es.errors import InvalidTransition, PlanNotFound, StoreUnavailable
from dee_es.ports import Committed, Conflict, Unit

_PAGE: Final = 500
Keep = Literal["deadline", "remaining"]
KEEPS: Final[tuple[Keep, ...]] = get_args(Keep)
Outcome = Literal["delivered", "failed", "resend"]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
Meta = Callable[[], e.Meta]
MakeCommand = Callable[[e.Meta, RunState, int], c.RunCommand]


class Lifecycle:
    """Applies commands to one run, or to all that match a filter."""

    def __init__(self, runs: Runs, queries: Queries) -> None:
        self._runs = runs
        self._queries = queries

    def pause(self, run_id: str, keep: Keep, meta: Meta) -> LoadedRun:
        """Stop a run until it is resumed."""
        return self._runs.change(run_id, lambda given: c.Pause(given, keep), meta)

    def resume(self, run_id: str, meta: Meta) -> LoadedRun:
        """Let a paused run go on in the next tick; if its policy had paused it, under the policy
        that is published by now."""
        policy = self.policy_version()
        return self._runs.change(run_id, lambda given: c.Resume(given, policy=policy), meta)

    def policy_version(self) -> int:
        """The policy that runs which theirs had paused go on under."""
        return self._runs.definitions.policy_version()

    def cancel(self, run_id: str, meta: Meta) -> LoadedRun:
        """End a run."""
        return self._runs.change(run_id, c.Cancel, meta)

    def retry(self, run_id: str, meta: Meta) -> LoadedRun:
        """Let a failed run enter its step again, under the definitions published by now."""
        anew = self.newer_pins()(self._runs.load(run_id).state)
        return self._runs.change(run_id, lambda given: c.Retry(given, anew), meta)

    def newer_pins(self) -> Callable[[RunState], e.Pins | None]:
        """Tells the definitions that a run is retried under, None if it has those already: of all
        runs of a version of a plan as they are published when the first one is asked about."""

        @cache
        def published(plan_id: str, version: int) -> e.Pins:
            definitions = self._runs.definitions
            return definitions.pins(definitions.plan(plan_id, version))

        def newer(state: RunState) -> e.Pins | None:
            pins = published(state.plan_id, state.plan_version)
            return pins if pins != state.pins else None

        return newer

    def resolve(self, run_id: str, outcome: Outcome, meta: Meta) -> LoadedRun:
        """Settle a send whose outcome is unknown."""
        return self._runs.change(run_id, lambda given: c.Resolve(given, outcome), meta)

    # --- many runs --------------------------------------------------------------------------------

    def bulk_change(
        self,
        chosen: RunFilter,
        wanted: frozenset[str],
        make: MakeCommand,
        meta: Meta,
        dry_run: bool,
        on_progress: OnChange | None,
    ) -> BulkChange:
        """Apply a command to the runs that match and are in one of the `wanted` statuses.

        `make` is given the command's meta data, the run and its number among those matched. The
        runs that match when it begins are meant: later ones are left alone. Raises `InvalidInput`
        at the first page with a run that another command has changed under the same id.
        """
        result = BulkChange()
        for page in self._pages(chosen, wanted):
            numbered = {run: result.matched + n for n, run in enumerate(page)}
            result.matched += len(page)
            if not dry_run:
                self._change_page(numbered, make, meta, result)
            if on_progress is not None:
                on_progress(result)
        return result

    def _pages(self, chosen: RunFilter, wanted: frozenset[str]) -> Iterator[list[str]]:
        before: int | None = None
        while rows := self._queries.rows(chosen, limit=_PAGE, before_ordinal=before):
            before = rows[-1].ordinal
            page = [row.run_id for row in rows if row.status in wanted]
            if page:
                yield page

    def _change_page(
        self,
        numbered: Mapping[str, int],
        make: MakeCommand,
        meta: Meta,
        result: BulkChange,
    ) -> None:
        """Change a page of runs in one transaction, and again those that have moved meanwhile.

        Raises `StoreUnavailable` if it failed, and nothing of it is in the log.
        """
        left = list(numbered)
        for _ in range(ATTEMPTS):
            given = meta()
            decided = self._decided(left, numbered, make, given, result)
            left = [each.after.state.run_id for each in decided]
            units = [Unit(each.unit.appends, min_tick=given.tick) for each in decided]
            try:
                outcomes = self._runs.committer.commit(units) if units else []
            except StoreUnavailable:
                # The commit may have happened although its answer was lost; the log knows.
                before = result.changed
                again = self._decided(left, numbered, make, meta(), result)
                left = [each.after.state.run_id for each in again]
                if left and result.changed == before:
                    raise
                continue
            settled = [(each.after, done) for each, done in zip(decided, outcomes, strict=True)]
            changed = [after for after, outcome in settled if isinstance(outcome, Committed)]
            self._runs.remember(changed)
            result.changed += len(changed)
            left = [run.state.run_id for run, outcome in settled if isinstance(outcome, Conflict)]
            if not left:
                return
            self._runs.clock.refresh()
        for run_id in left:
            result.leave(run_id, f"run {run_id} kept changing under the command; try again")

    def _decided(
        self,
        run_ids: Sequence[str],
        numbered: Mapping[str, int],
        make: MakeCommand,
        given: e.Meta,
        result: BulkChange,
    ) -> list[Decided]:
        """What the command leads to for each of the runs; counts those that it has changed before,
        and those that it cannot change. Raises `InvalidInput` if its id is another's."""
        found = []
        for run in self._runs.load_readable(run_ids, result.leave).values():
            try:
                command = make(given, run.state, numbered[run.state.run_id])
                if self._runs.has_done(run, command):
                    result.changed += 1
                    continue
                decided = self._runs.decide(run, command)
            except (InvalidTransition, PlanNotFound) as error:
                # Its status changed between the listing and now, without our doing; or it is to be
                # retried, and what became of its send is not known, nor its plan here.
                result.leave(run.state.run_id, error)
                continue
            assert decided is not None, "a command of a person is always an event"
            found.append(decided)
        return found
