"""How fast runs are listed with an exact total, whatever they are filtered by.

On PostgreSQL the engine lives through 100,000 runs at most; `multiplying` makes more out of them.
A page and its total by each filter are compared with what SQL says before they are timed.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from dee_es import Engine
from projections import RUN_LIST
from scripts.benchmarks.figures import Figure, percentile, timed_ms
from scripts.benchmarks.harness import (
    EPOCH,
    beside,
    config_of,
    engine_on,
    is_sqlite,
    people,
    plan,
    settle,
)
from scripts.benchmarks.multiplying import HOUR, multiply

BAR_MS: Final = 5
"""99th percentile of a page of 50 with its total, by any filter or two."""
UPDATED_BAR_MS: Final = 10
"""The same behind an offset where rows have just been updated."""
GROWTH_BAR: Final = 1.5
"""Times what it is at `SMALL` runs."""
SMALL: Final = 10_000
LIVED: Final = 100_000
"""Runs that the engine lives through itself, and that an hour holds after that."""
CALLS: Final = 500
UPDATED: Final = 6_000
"""Of the newest runs, whose rows are updated right before; a tenth of all runs at the most."""
_PAGE: Final = 50
_DAY: Final = 86_400
_DAYS: Final = 20

Filters = dict[str, Any]


def measure(url: str, folder: Path, runs: int, repeats: int) -> Iterator[Figure]:
    """Latency of `list_runs` by each filter, at `runs` runs of several plans and statuses.

    Beside it, call by call, the same is asked of a small database: what else the machine does then
    slows both.
    """
    times = 1 if is_sqlite(url) else -(-runs // LIVED)
    yield from _filled(url, folder, "lists", runs // times, times)
    with ExitStack() as stack:
        asked = [stack.enter_context(_asking(url, folder, "lists", runs // times, times))]
        if runs > SMALL:
            for _ in _filled(url, folder, "small_lists", SMALL, 1):
                pass
            asked.append(stack.enter_context(_asking(url, folder, "small_lists", SMALL, 1)))
        yield from _pages(asked, repeats)


@contextmanager
def _asking(url: str, folder: Path, name: str, lived: int, times: int) -> Iterator[Asked]:
    """An engine that was just opened, and what it is asked."""
    with Engine(config_of(url, folder, name)) as engine:
        database = url if is_sqlite(url) else beside(url, name)
        yield Asked(engine, database, lived * times, lived)


@dataclass(frozen=True, slots=True)
class _Found:
    """What pages by a filter took, in ms, and how many runs were on one."""

    times: list[float]
    rows: int


def _filled(url: str, folder: Path, name: str, lived: int, times: int) -> Iterator[Figure]:
    """So many runs that the engine lived through, and so many times as many by SQL."""
    with engine_on(url, folder, name) as engine:
        start = time.perf_counter()
        fill(engine, lived)
        rate = lived / (time.perf_counter() - start)
        yield Figure("filled with runs of 3 plans over 20 days", rate, "runs/s")
        if times > 1:
            start = time.perf_counter()
            runs = multiply(engine, beside(url, name), times, rare="seldom", usual="usual")
            rate = (runs - lived) / (time.perf_counter() - start)
            yield Figure("multiplied by SQL", rate, "runs/s")
    settle(url, name)


def _pages(asked: Sequence[Asked], repeats: int) -> Iterator[Figure]:
    """What pages take, and how much longer that is than at the smallest size."""
    calls = min(CALLS, max(asked[0].runs // 50, 20)) * repeats
    found = dict[str, list[_Found]]()
    for what in asked[0].filters():
        found[what] = _timed(asked, what, what, calls)
        yield _told(what, found[what], BAR_MS)
    for each in asked:
        each.update(min(UPDATED, each.runs // 10))
    for what in asked[0].deep():
        told = f"{what}, rows just updated"
        found[told] = _timed(asked, what, told, calls)
        yield _told(told, found[told], UPDATED_BAR_MS)
    if len(asked) > 1:
        yield from _growth(found)


def _timed(asked: Sequence[Asked], what: str, told: str, calls: int) -> list[_Found]:
    """What so many pages take of each, after one that is compared and some that are not counted."""
    rows, chosen, times = [], [], list[list[float]]()
    for each in asked:
        filters = each.filters()[what]
        rows.append(each.compared(told, filters()))
        chosen.append([partial(each.engine.list_runs, **filters()) for _ in range(calls)])
        times.append([])
    for number, together in enumerate(zip(*(some[:20] + some for some in chosen), strict=True)):
        for call, own in zip(together, times, strict=True):
            took = timed_ms(call)
            if number >= 20:
                own.append(took)
    return [_Found(*each) for each in zip(times, rows, strict=True)]


def _told(what: str, found: list[_Found], bar: float) -> Figure:
    """99th percentile in ms, with median and maximum as the spread.

    The 95th, and the 99th of the small database at the same moments, say whether it is the list
    that is slow, or the machine at times.
    """
    key, times = f"list_runs by {what}", found[0].times
    beside_it = "".join(f"; {SMALL:,}: {percentile(each.times, 0.99):.2f}" for each in found[1:])
    work = f"{key} (p95 {percentile(times, 0.95):.2f}{beside_it})"
    spread = (statistics.median(times), max(times))
    return Figure(work, percentile(times, 0.99), "ms p99", spread, bar, False, key)


def _growth(found: dict[str, list[_Found]]) -> Iterator[Figure]:
    """How much longer than at the smallest size pages take that are as full there."""
    same = {what: (big, small) for what, (big, small) in found.items() if big.rows == small.rows}
    for share in (0.5, 0.99):
        ratios = {
            what: percentile(big.times, share) / percentile(small.times, share)
            for what, (big, small) in same.items()
        }
        worst = max(ratios, key=ratios.__getitem__)
        figures = {"median of filters": statistics.median(ratios.values()), "worst": ratios[worst]}
        for which, value in figures.items():
            key = f"p{100 * share:.0f} to that at {SMALL:,} runs, {which}"
            work = f"{key} ({worst})" if which == "worst" else key
            yield Figure(work, value, "times", None, GROWTH_BAR, False, key, steady=False)


def fill(engine: Engine, runs: int) -> None:
    """Start so many runs of 3 plans over 20 days; some are cancelled, some paused."""
    share = runs // _DAYS
    plans = [plan(name) for name in ("common", "common", "common", "usual", "usual", "seldom")]
    chance = random.Random(0)
    for day in range(_DAYS):
        chosen = plans[chance.randrange(len(plans))] if day else plans[-1]
        size = share // 100 if chosen.id == "seldom" and day else share
        engine.bulk_execute(chosen, people(size, day * share), batch_size=5_000)
        if size < share:
            engine.bulk_execute(
                plans[0], people(share - size, day * share + size), batch_size=5_000
            )
        some = engine.list_runs(limit=200).runs
        cancelled, paused = min(50, share // 10), min(70, share // 10)
        for run in some[:cancelled]:
            engine.cancel_run(run.id, "measured")
        for run in some[cancelled : cancelled + paused]:
            engine.pause_run(run.id)
        # The clock moves on without the runs acting: what is measured is the list, not the runs.
        engine.clock.move_to(engine.now().tick + _DAY)


class Asked:
    """What the list of so many runs is asked for; `lived` of them were not multiplied."""

    def __init__(self, engine: Engine, database: str, runs: int, lived: int) -> None:
        self.engine = engine
        self._database = database
        self.runs = runs
        self._lived = lived
        self._chance = random.Random(1)

    def filters(self) -> dict[str, Callable[[], Filters]]:
        """Every single filter and pairs of them; a call gives other values where there are many."""
        active, seldom, common = {"status": "active"}, {"plan_id": "seldom"}, {"plan_id": "common"}
        rare, two = {"status": "cancelled"}, {"status": ["paused", "cancelled"]}
        after, before, contact = self._after, self._before, self._contact
        return {
            "nothing": dict,
            "a frequent status": lambda: active,
            "a rare status": lambda: rare,
            "two statuses": lambda: two,
            "a frequent plan": lambda: common,
            "a rare plan": lambda: seldom,
            "a contact": contact,
            "started after": after,
            "started before": before,
            "started between": self._between,
            "a frequent plan and a frequent status": lambda: common | active,
            "a frequent plan and a rare status": lambda: common | rare,
            "a rare plan and a frequent status": lambda: seldom | active,
            "a rare plan and a rare status": lambda: seldom | rare,
            "a frequent plan and started after": lambda: common | after(),
            "a frequent plan and started before": lambda: common | before(),
            "a rare plan and started after": lambda: seldom | after(),
            "a rare plan and started before": lambda: seldom | before(),
            "a frequent status and started after": lambda: active | after(),
            "a rare status and started before": lambda: rare | before(),
            "two statuses and started before": lambda: two | before(),
            "a contact and a status": lambda: contact() | active,
            "a contact and a plan": lambda: contact() | common,
            "a contact and started after": lambda: contact() | after(),
            **self.deep(),
        }

    def deep(self) -> dict[str, Callable[[], Filters]]:
        """What is asked for once more when rows have just been updated."""
        deep = {"offset": 5_000}
        active, common = {"status": "active"}, {"plan_id": "common"}
        return {
            "nothing, offset 5,000": lambda: deep,
            "a frequent status, offset 5,000": lambda: deep | active,
            "a frequent plan, offset 5,000": lambda: deep | common,
            "a frequent plan and a frequent status, offset 5,000": lambda: deep | common | active,
            "two statuses, offset 5,000": lambda: deep | {"status": ["paused", "active"]},
            "started before, offset 5,000": lambda: deep | self._before(),
        }

    def _moment(self) -> Any:
        """A time in the hour or on the day of a run that is as good as any."""
        n = self._chance.randrange(self.runs)
        if n < self._lived:
            first, length = n * _DAYS // self._lived * _DAY, _DAY
        else:
            first, length = _DAYS * _DAY + (n // self._lived - 1) * HOUR, HOUR
        return EPOCH + timedelta(seconds=first + self._chance.randrange(length))

    def _after(self) -> Filters:
        return {"started_after": self._moment()}

    def _before(self) -> Filters:
        return {"started_before": self._moment()}

    def _between(self) -> Filters:
        first, last = sorted((self._moment(), self._moment()))
        return {"started_after": first, "started_before": last}

    def _contact(self) -> Filters:
        return {"contact_id": f"contact_{self._chance.randrange(self.runs)}"}

    def update(self, runs: int) -> None:
        """Change the rows of so many of the newest runs."""
        for run in self.engine.list_runs(status="active", limit=runs).runs:
            self.engine.pause_run(run.id)

    # --- what SQL says ----------------------------------------------------------------------------

    def compared(self, what: str, filters: Filters) -> int:
        """Hold a page and its total against what a plain statement says; its runs."""
        page = self.engine.list_runs(**filters, limit=_PAGE)
        if is_sqlite(self._database):
            return len(page.runs)
        table = self.engine._projector.catch_up(RUN_LIST).table.physical_name
        where, values = _where(filters)
        with closing(psycopg.connect(self._database)) as own:
            count = f"SELECT count(*) FROM {table} WHERE {where}"
            (total,) = own.execute(count.encode(), values).fetchone() or (0,)
            listed = f"SELECT run_id FROM {table} WHERE {where} ORDER BY ordinal DESC"
            listed += f" LIMIT {_PAGE} OFFSET {filters.get('offset', 0)}"
            ids = [run for (run,) in own.execute(listed.encode(), values).fetchall()]
        if page.total != total or [run.id for run in page.runs] != ids:
            raise SystemExit(
                f"list_runs by {what}: {page.total} runs, but SQL counts {total}, or others"
            )
        return len(ids)


def _where(filters: Filters) -> tuple[str, list[object]]:
    """The same choice in plain SQL."""
    parts, values = ["true"], list[object]()
    for name, value in filters.items():
        match name:
            case "status":
                parts.append("status = ANY(%s)")
                values.append([value] if isinstance(value, str) else value)
            case "plan_id" | "contact_id":
                parts.append(f"{name} = %s")
                values.append(value)
            case "started_after" | "started_before":
                parts.append(f"created_tick {'>=' if name == 'started_after' else '<'} %s")
                values.append(int((value - EPOCH).total_seconds()))
    return " AND ".join(parts), values
