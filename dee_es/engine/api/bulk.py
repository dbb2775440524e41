"""Many runs at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import Any, Final

from dee_es.core.commands import Cancel, Pause, Resume, Retry
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.values import check_count, check_flag, check_one_of
from dee_es.core.views import RunFilter, RunStatus
from dee_es.engine.api.base import ApiBase, checked_many, checked_plan, checked_reason
from dee_es.engine.enrolling.parts import BulkOrder, Given, Part, PartDone
from dee_es.engine.enrolling.pipeline import Pipeline
from dee_es.engine.lifecycle import KEEPS, Keep
from dee_es.engine.models import BulkChange, BulkResult, OnChange, OnProgress, OnRefusal
from dee_es.engine.run_filters import named
from dee_es.errors import EmptyFilter

MAX_BATCH: Final = 100_000
_ENROLLS: Final = "bulk_execute"
_SLOW_S: Final = 0.05
"""Whose contacts take longer than this for a part does not have them wait for the next one."""


class BulkApi(ApiBase):
    """The Runs page's bulk operations."""

    def bulk_execute(
        self,
        plan: ExecutionPlan,
        contacts: Iterable[Given],
        variables: Mapping[str, Any] | None = None,
        batch_size: int = 100,
        on_progress: OnProgress | None = None,
        on_refusal: OnRefusal | None = None,
        dry_run: bool = False,
        *,
        workers: int = 1,
        bundled: bool = False,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> BulkResult:
        """Enroll many contacts, a batch in one transaction; any iterable is read in flat memory.

        A crash loses at most the batches in flight, and the same call again creates only what is
        missing. With `dry_run` nothing is written, the plan included; it may then be `bundled`:
        whatever it refers to is about to be published with it. `workers` processes share the
        batches on a database that others can open, so that batches stand in the log as they were
        faster, and not in the order of the contacts; a script that asks for several needs the
        usual `if __name__ == "__main__":`.
        """
        check_count("batch_size", batch_size, MAX_BATCH)
        checked_many("contacts", contacts)
        check_count("workers", workers)
        check_flag("bundled", bundled)
        meta = self._meta(_ENROLLS, command_id, actor, None)
        if check_flag("dry_run", dry_run):
            return self._enrollment.rehearse(
                checked_plan(plan),
                contacts,
                variables,
                batch_size,
                meta,
                bundled=bundled,
                on_progress=on_progress,
                on_refusal=on_refusal,
            )
        return self._enrollment.bulk_execute(
            checked_plan(plan),
            contacts,
            variables,
            batch_size,
            meta,
            on_progress=on_progress,
            on_refusal=on_refusal,
            take_over=command_id is not None,
            share=partial(self._enrolled_parts, workers=workers),
        )

    def enrolling(self, order: BulkOrder) -> Pipeline:
        """What enrolls the parts of one call of `bulk_execute`."""
        meta = self._meta(_ENROLLS, order.command_id, order.actor, None)
        return self._enrollment.pipeline(order, meta)

    def _enrolled_parts(
        self, parts: Iterable[Part | None], order: BulkOrder, workers: int
    ) -> Generator[PartDone, None, None]:
        """Enroll part after part; whoever can open further engines may use several."""
        del workers
        under_way: deque[Future[PartDone]] = deque()
        with closing(self.enrolling(order)) as pipeline:
            asked = time.monotonic()
            for part in parts:
                slow = time.monotonic() - asked > _SLOW_S
                if part is not None:
                    under_way.append(pipeline.begin(part))
                if part is None or slow:
                    pipeline.settle()
                while under_way and under_way[0].done():
                    yield under_way.popleft().result()
                asked = time.monotonic()
            pipeline.settle()
            while under_way:
                yield under_way.popleft().result()

    def bulk_cancel(
        self,
        filters: Mapping[str, Any] | None = None,
        reason: str = "",
        actor: str | None = None,
        dry_run: bool = False,
        on_progress: OnChange | None = None,
        *,
        command_id: str | None = None,
        **keywords: Any,
    ) -> BulkChange:
        """Cancel all runs that match the filters of `list_runs`, given as a map or as keywords.

        Runs that have ended do not match. Raises `EmptyFilter` without any filter.
        """
        dry = check_flag("dry_run", dry_run)
        chosen = self._chosen(filters, keywords, "end")
        meta = self._meta("bulk_cancel", command_id, actor, checked_reason(reason))
        return self._lifecycle.bulk_change(
            chosen, _OPEN, lambda given, *_: Cancel(given), meta, dry, on_progress
        )

    def bulk_pause(
        self,
        filters: Mapping[str, Any] | None = None,
        reason: str = "",
        actor: str | None = None,
        keep: Keep = "deadline",
        dry_run: bool = False,
        on_progress: OnChange | None = None,
        *,
        command_id: str | None = None,
        **keywords: Any,
    ) -> BulkChange:
        """Pause all runs that match and can be paused; filters as for `bulk_cancel`."""
        kept, dry = check_one_of("keep", keep, KEEPS), check_flag("dry_run", dry_run)
        chosen = self._chosen(filters, keywords, "pause")
        meta = self._meta("bulk_pause", command_id, actor, checked_reason(reason))
        return self._lifecycle.bulk_change(
            chosen, _PAUSABLE, lambda given, *_: Pause(given, kept), meta, dry, on_progress
        )

    def bulk_resume(
        self,
        filters: Mapping[str, Any] | None = None,
        reason: str = "",
        actor: str | None = None,
        per_tick: int = 100,
        dry_run: bool = False,
        on_progress: OnChange | None = None,
        *,
        command_id: str | None = None,
        **keywords: Any,
    ) -> BulkChange:
        """Resume all paused runs that match, `per_tick` of them in each of the coming ticks, so
        that they do not all act at once; limits of the policy hold all the same. A run that its
        policy had paused goes on under the one that is published by now."""
        check_count("per_tick", per_tick)
        dry = check_flag("dry_run", dry_run)
        chosen = self._chosen(filters, keywords, "resume")
        meta = self._meta("bulk_resume", command_id, actor, checked_reason(reason))
        policy = self._lifecycle.policy_version()
        return self._lifecycle.bulk_change(
            chosen,
            _PAUSED,
            lambda given, _, number: Resume(given, 1 + number // per_tick, policy),
            meta,
            dry,
            on_progress,
        )

    def bulk_retry(
        self,
        filters: Mapping[str, Any] | None = None,
        reason: str = "",
        actor: str | None = None,
        per_tick: int = 100,
        dry_run: bool = False,
        on_progress: OnChange | None = None,
        *,
        command_id: str | None = None,
        **keywords: Any,
    ) -> BulkChange:
        """Retry all failed runs that match, as `retry_run` does, so that what an outage or a
        template had stopped goes on, `per_tick` of them in each of the coming ticks; filters as for
        `bulk_cancel`. A run whose last send may have arrived counts as an error and stays as it is:
        `resolve_step` settles it."""
        check_count("per_tick", per_tick)
        dry = check_flag("dry_run", dry_run)
        chosen = self._chosen(filters, keywords, "retry")
        meta = self._meta("bulk_retry", command_id, actor, checked_reason(reason))
        newer = self._lifecycle.newer_pins()
        return self._lifecycle.bulk_change(
            chosen,
            _FAILED,
            lambda given, run, number: Retry(given, newer(run), 1 + number // per_tick),
            meta,
            dry,
            on_progress,
        )

    def _chosen(
        self, filters: Mapping[str, Any] | None, keywords: Mapping[str, Any], verb: str
    ) -> RunFilter:
        chosen = self._queries.filter(**dict(named(filters, keywords)))
        if chosen.empty:
            raise EmptyFilter(f"give at least one filter; without any it would {verb} all runs")
        return chosen


_OPEN: Final = frozenset(status.value for status in RunStatus if not status.ended)
_PAUSABLE: Final = frozenset({"pending", "active", "waiting"})
_PAUSED: Final = frozenset({"paused"})
_FAILED: Final = frozenset({"failed"})
