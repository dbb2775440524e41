"""Replays: any run decided again from its log, a fleet of them, or a run against another plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from dee_es.core.messages.message import check_template
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.values import check_count, check_flag, check_id
from dee_es.engine.api.base import ApiBase, checked_many, checked_plan, checked_run_id
from dee_es.engine.interpreter import seldom_collected
from dee_es.engine.past.replay import Against
from dee_es.engine.past.replay_results import (
    OnDivergence,
    OnReplayed,
    ReplayedPage,
    ReplayResult,
    ReplaySummary,
)
from dee_es.engine.run_filters import Status
from dee_es.errors import InvalidInput, InvalidTransition, OutcomeUnknownError


class ReplaysApi(ApiBase):
    """Reads the log and decides again; only `dry_run=False` goes on with a run."""

    def replay(
        self,
        run_id: str,
        *,
        plan_version: int | None = None,
        plan: ExecutionPlan | None = None,
        templates: Mapping[str, Mapping[str, Any]] | None = None,
        dry_run: bool = True,
        actor: str | None = None,
    ) -> ReplayResult:
        """Decide a run again from its log and compare event by event, field by field.

        With `plan_version`, `plan` or `templates` ({id: {"text": ..., "html": ...}}) it says what
        would have been different under them.

        `dry_run=False` goes on with the run where its log ends, through the scheduler and its lease
        as ever: what is due now is done, and a message whose key is in the log is not sent again.
        What is decided then carries the actor.
        It raises `InvalidTransition` for a run that failed, since only a person can decide about
        that (`OutcomeUnknownError`, which is one, if a message may have arrived), and
        `InvalidInput` if the replay is not identical or is against something else.
        Raises `RunNotFound`, `PlanNotFound`, `IntegrityViolation`, and `InvalidInput` for templates
        that are none.
        """
        checked_run_id(run_id)
        check_flag("dry_run", dry_run)
        if plan_version is not None:
            check_count("plan_version", plan_version)
        against = Against(
            plan_version,
            None if plan is None else checked_plan(plan),
            None if templates is None else checked_templates(templates),
        )
        if against == Against():
            result = self._replays.run(run_id)
            if not dry_run:
                self._go_on(result, self._acting(actor))
            return result
        if plan is not None and plan_version is not None:
            raise InvalidInput("plan_version", "give a plan or a version of its own, not both")
        if not dry_run:
            raise InvalidInput("dry_run", "a run goes on under its own plan and templates only")
        return self._replays.run_against(run_id, against)

    def _go_on(self, result: ReplayResult, actor: str) -> None:
        if not result.identical:
            raise InvalidInput(
                "dry_run", f"the replay of {result.run_id} is {result.verdict}; look at that first"
            )
        run = self._runs.load(result.run_id).state
        if run.status == "failed":
            what, refused = "retry", InvalidTransition
            if run.unknown is not None:
                what, refused = "resolve", OutcomeUnknownError
            why = f"use `dee runs {what} {run.run_id}`"
            raise refused(run.run_id, run.status.value, "active", why)
        self._scheduler.advance(run.run_id, actor)

    def replay_all(
        self,
        status: Status = None,
        plan_id: str | None = None,
        contact_id: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        *,
        workers: int = 1,
        on_progress: OnReplayed | None = None,
        on_divergence: OnDivergence | None = None,
    ) -> ReplaySummary:
        """Replay all runs that match the filters of `list_runs`, newest first, in flat memory.

        `on_progress` is told the sum so far after every page, `on_divergence` the first difference
        of each run that has one. `workers` processes share the work on a database that others can
        open; a script that asks for several needs the usual `if __name__ == "__main__":`. A run
        that cannot be read is counted and does not stop the rest; one that is archived meanwhile is
        left out.
        """
        check_count("workers", workers)
        chosen = self._queries.filter(
            status=status,
            plan_id=plan_id,
            contact_id=contact_id,
            started_after=started_after,
            started_before=started_before,
        )
        total = ReplaySummary()
        for each in self._replayed_pages(self._replays.pages(chosen), workers):
            page = each.in_the_log()
            total.add(page.summary)
            for divergence in page.divergences:
                if on_divergence is not None:
                    on_divergence(divergence)
            if on_progress is not None:
                on_progress(total)
        return total

    @seldom_collected()
    def replay_page(self, run_ids: list[str]) -> ReplayedPage:
        """Replay these runs; one that does not exist or cannot be read counts as unreadable."""
        return self._replays.page(
            [checked_run_id(run_id) for run_id in checked_many("run_ids", run_ids)]
        )

    def _replayed_pages(self, pages: Iterable[list[str]], workers: int) -> Iterator[ReplayedPage]:
        """Replay page after page; whoever can open further engines may use several."""
        del workers
        return map(self._replays.page, pages)


def checked_templates(templates: object) -> dict[str, dict[str, Any]]:
    """Templates by their ids, each in its stored form; raises `InvalidInput`."""
    if not isinstance(templates, Mapping):
        raise InvalidInput("templates", "must be a map of templates by their ids")
    return {
        check_id("template id", name): check_template(given) for name, given in templates.items()
    }
