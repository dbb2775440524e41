"""Pages of the run list, with an exact total, at any number of runs.

A dense creation ordinal is the only sort key and the suffix of every index, and counts stand
beside the table for (plan or all, status or any, bucket of 4,096 ordinals or all). So a page is a
walk down one index for each status asked for, and a total is a sum of counts; only the edges of a
range, which are smaller than a bucket, are counted in the index.

Ranges are written as row comparisons over the whole index, `(status, ordinal) < (?, ?)`, ordered by
the whole index: no other index gives that order, so that no statistics can mislead the planner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from dee_es.adapters.storage.relational.projection_tables import (
    RowReader,
    counts_relation,
    rows_relation,
)
from dee_es.adapters.storage.relational.session import Answer, Session, quoted
from dee_es.core.projection import Table
from dee_es.core.views import ALL_BUCKETS, ANY, BUCKET, RunFilter, RunRow, RunStatus

_END: Final = 2**62
"""An ordinal beyond every run."""
_SPAN: Final = 4
_WIDER: Final = 8
"""Times the buckets that an offset fills at the least are looked at first, and times as many as
before next: pages far down are found in one look, rare runs in a few."""

# Creation ticks never fall with the ordinal, so the first run at or behind a tick is found by
# halving, without an index on ticks that every enrolment would have to pay for. It is one of `n`
# ordinals from `low` on; how many are left does not depend on what a probe finds, so that each step
# needs but one. Gaps are harmless: each probe looks at the next run there is. Only runs that were
# brought in from another database can be late: where there are such, every run is looked at, which
# is for a scratch database.
_FIRST_AT: Final = """
WITH RECURSIVE bound (low, n) AS (
    SELECT CAST(1 AS bigint),
        CAST(coalesce((SELECT ordinal FROM {table} ORDER BY ordinal DESC LIMIT 1), 0) + 1 AS bigint)
    UNION ALL
    SELECT
        low + CASE WHEN (SELECT created_tick FROM {table} WHERE ordinal >= low + n / 2 - 1
            ORDER BY ordinal LIMIT 1) < ? THEN n / 2 ELSE 0 END,
        n - n / 2
    FROM bound WHERE n > 1
)
SELECT low, EXISTS (SELECT 1 FROM late_runs) FROM bound WHERE n = 1
"""
_PAGE: Final = """
SELECT {columns} FROM {table} WHERE {where}
ORDER BY {order} LIMIT ?
"""
# Runs that an offset leaves out are counted in the index alone: in a large list each of their rows
# may have to come from the disk.
_ORDINAL_AT: Final = """
SELECT ordinal FROM {table} WHERE {where}
ORDER BY {order} LIMIT 1 OFFSET ?
"""
_ARM: Final = """
SELECT ordinal FROM (
    SELECT ordinal FROM {table} WHERE {where} ORDER BY {order} LIMIT ?
) AS arm_{number}
"""
_MERGED: Final = """
SELECT ordinal FROM ({arms}) AS merged ORDER BY ordinal DESC LIMIT ? OFFSET ?
"""
_NEWEST: Final = "SELECT ordinal FROM {table} ORDER BY ordinal DESC LIMIT 1"
# The newest run's ordinal, and how many runs there are: the same where none is missing.
_NUMBERED: Final = """
SELECT coalesce((SELECT ordinal FROM {table} ORDER BY ordinal DESC LIMIT 1), 0),
    coalesce((SELECT n FROM {counts} WHERE plan_id = ? AND status = ? AND bucket = ?), 0)
"""
_BY_ORDINAL: Final = "SELECT {columns} FROM {table} WHERE ordinal IN ??"
_COUNT: Final = "(SELECT count(*) FROM {table} WHERE {where})"
_WHOLE: Final = """
SELECT CAST(coalesce(sum(n), 0) AS bigint) FROM {counts}
WHERE plan_id = ? AND status IN ?? AND bucket >= ? AND bucket < ?
"""
_BUCKETS: Final = """
SELECT bucket, CAST(sum(n) AS bigint) FROM {counts}
WHERE plan_id = ? AND status IN ?? AND bucket >= ? AND bucket < ?
GROUP BY bucket ORDER BY bucket DESC
"""


class _Subquery(NamedTuple):
    """What finds an ordinal."""

    statement: str
    values: tuple[object, ...]


class _Arm(Struct, frozen=True):
    """One walk down an index: its columns before the ordinal, their values, and what is left over
    to filter on the way."""

    columns: tuple[str, ...]
    values: tuple[object, ...]
    rest: str = ""
    rest_values: tuple[object, ...] = ()

    def where(self, low: int, high: int | _Subquery) -> tuple[str, list[object]]:
        """The condition for ordinals from `low` up to, but not including, `high`; up to and with
        what a subquery finds."""
        listed = ", ".join((*self.columns, "ordinal"))
        marks = "?, " * len(self.columns)
        if isinstance(high, _Subquery):
            upper, values = f"<= ({marks}({high.statement}))", high.values
        else:
            upper, values = f"< ({marks}?)", (high,)
        text = f"({listed}) >= ({marks}?) AND ({listed}) {upper}{self.rest}"
        return text, [*self.values, low, *self.values, *values, *self.rest_values]

    @property
    def order(self) -> str:
        """Newest first, in the words of the index."""
        return ", ".join(f"{column} DESC" for column in (*self.columns, "ordinal"))


class Within(NamedTuple):
    """The ordinals that the times of a filter mean, `high` exclusive; with `each`, all, of which
    each run's own time decides."""

    low: int
    high: int
    each: bool


def _timed(arm: _Arm, chosen: RunFilter) -> _Arm:
    """The arm without the runs of other times."""
    given = {">=": chosen.created_from, "<": chosen.created_before}
    ticks = {operator: tick for operator, tick in given.items() if tick is not None}
    text = "".join(f" AND created_tick {operator} ?" for operator in ticks)
    return replace(arm, rest=arm.rest + text, rest_values=(*arm.rest_values, *ticks.values()))


def _arms(chosen: RunFilter) -> list[_Arm]:
    statuses = tuple(dict.fromkeys(chosen.statuses))
    if chosen.contact_id is not None:
        rest = ""
        values: list[object] = []
        # Appending nothing to a column keeps the planner from using another column's index.
        if chosen.plan_id is not None:
            rest += " AND plan_id || '' = ?"
            values.append(chosen.plan_id)
        if statuses:
            rest += " AND status || '' IN ??"
            values.append(list(statuses))
        return [_Arm(("contact_id",), (chosen.contact_id,), rest, tuple(values))]
    if chosen.plan_id is not None:
        every = statuses or tuple(str(status) for status in RunStatus)
        return [_Arm(("plan_id", "status"), (chosen.plan_id, status)) for status in every]
    if statuses:
        return [_Arm(("status",), (status,)) for status in statuses]
    return [_Arm((), ())]


class _Term(NamedTuple):
    """Part of a total: runs by ordinal, or the counts of whole buckets; `high` is exclusive."""

    of: Literal["runs", "buckets"]
    low: int
    high: int


def _edge(low: int, high: int) -> list[tuple[int, _Term]]:
    """Count a part of one bucket, or what the part leaves over, whichever is less to look at."""
    if low >= high:
        return []
    if 2 * (high - low) <= BUCKET:
        return [(1, _Term("runs", low, high))]
    bucket = low // BUCKET
    left = [(-1, _Term("runs", bucket * BUCKET, low))] if low % BUCKET else []
    right = [(-1, _Term("runs", high, (bucket + 1) * BUCKET))] if high % BUCKET else []
    return [(1, _Term("buckets", bucket, bucket + 1)), *left, *right]


class RunPages:
    """Answers one question about the run list, inside one snapshot.

    `within` is where the times of the filter lead, if another question about the same times has
    found that already.
    """

    def __init__(
        self,
        session: Session,
        table: Table[RunRow],
        chosen: RunFilter,
        within: Within | None = None,
    ) -> None:
        self._session = session
        self._table = table
        self._arms = _arms(chosen)
        # What is counted for no plan in particular stands where a plan without a name would.
        by_counts = chosen.contact_id is None and chosen.plan_id != ANY
        self._counted = table.counted if by_counts else ()
        self._count_key = (
            chosen.plan_id or ANY,
            list(dict.fromkeys(chosen.statuses)) or [ANY],
        )
        relation = rows_relation(table)
        self._names = {
            "table": quoted(relation.name),
            "counts": quoted(counts_relation(table).name),
            "columns": relation.listed,
        }
        self.within = within or self._bounds(chosen)
        self._low, self._high, each = self.within
        if each:
            self._arms = [_timed(arm, chosen) for arm in self._arms]
            self._counted = ()

    def total(self) -> Callable[[], int]:
        """Ask how many runs the filter chooses; calling the result waits for the number."""
        terms = self._terms(self._low, self._high)
        if self._counted and len(terms) > 1 and self._count_key == (ANY, [ANY]):
            return self._total_of_all(terms)
        return self._sum(terms)

    def _sum(self, terms: Sequence[tuple[int, _Term]]) -> Callable[[], int]:
        asked = [(sign, self._ask_for(term)) for sign, term in terms]
        return lambda: sum(sign * int(answer.fetchall()[0][0]) for sign, answer in asked)

    def _total_of_all(self, terms: Sequence[tuple[int, _Term]]) -> Callable[[], int]:
        """How many runs have these ordinals: all of them, as long as no run was archived."""
        everything = (ANY, ANY, ALL_BUCKETS)
        asked = self._session.ask(_NUMBERED.format(**self._names), everything)

        def total() -> int:
            ((newest, runs),) = asked.fetchall()
            if newest != runs:
                return self._sum(terms)()
            return int(max(min(self._high, newest + 1) - max(self._low, 1), 0))

        return total

    def _terms(self, low: int, high: int) -> list[tuple[int, _Term]]:
        """What to add and what to take away: whole buckets, and the edges of the range."""
        if low >= high:
            return []
        if not self._counted:
            return [(1, _Term("runs", low, high))]
        if low == 0 and high == _END:
            return [(1, _Term("buckets", ALL_BUCKETS, ALL_BUCKETS + 1))]
        first, end = -(-low // BUCKET), high // BUCKET
        if first > end:
            return [(1, _Term("runs", low, high))]
        terms = [(1, _Term("buckets", first, end))] if first < end else []
        terms += _edge(low, first * BUCKET)
        return terms if high == _END else terms + _edge(end * BUCKET, high)

    def page(self, limit: int, offset: int, before: int | None) -> list[RunRow]:
        """Up to `limit` runs, newest first, below ordinal `before`, without the first `offset`."""
        high = self._high if before is None else min(self._high, before)
        if self._counted and offset >= BUCKET:
            high, offset = self._skip(high, offset)
        if limit <= 0 or self._low >= high:
            return []
        if len(self._arms) == 1:
            return self._walk(high, limit, offset)
        return self._merge(high, limit, offset)

    # --- rows -------------------------------------------------------------------------------------

    def _walk(self, high: int, limit: int, offset: int) -> list[RunRow]:
        (arm,) = self._arms
        where, values = arm.where(self._low, high)
        if offset:
            first = _ORDINAL_AT.format(where=where, order=arm.order, **self._names)
            where, values = arm.where(self._low, _Subquery(first, (*values, offset)))
        statement = _PAGE.format(where=where, order=arm.order, **self._names)
        return self._rows(self._ask(statement, (*values, limit)))

    def _merge(self, high: int, limit: int, offset: int) -> list[RunRow]:
        texts: list[str] = []
        params: list[object] = []
        for number, arm in enumerate(self._arms):
            where, values = arm.where(self._low, high)
            texts.append(_ARM.format(where=where, order=arm.order, number=number, **self._names))
            params += [*values, limit + offset]
        merged = _MERGED.format(arms="UNION ALL".join(texts))
        ordinals = [row[0] for row in self._ask(merged, (*params, limit, offset))]
        if not ordinals:
            return []
        rows = self._rows(self._ask(_BY_ORDINAL.format(**self._names), (ordinals,)))
        return sorted(rows, key=lambda row: row.ordinal, reverse=True)

    def _skip(self, high: int, offset: int) -> tuple[int, int]:
        """Leave out whole buckets from the top: the ordinal to go on from, and what is left."""
        if high == _END:
            newest = self._ask(_NEWEST.format(**self._names), ())
            end = newest[0][0] // BUCKET + 1 if newest else 0
        else:
            end = high // BUCKET
            if end * BUCKET <= self._low:
                return high, offset
            edge = self._count(end * BUCKET, high)
            if edge > offset:
                return high, offset
            high, offset = end * BUCKET, offset - edge
        first = -(-self._low // BUCKET)
        span = _SPAN * (offset // BUCKET + 1)
        statement = _BUCKETS.format(**self._names)
        while first < end:
            start = max(first, end - span)
            for bucket, n in self._ask(statement, (*self._count_key, start, end)):
                if n > offset:
                    # Nothing lies between this bucket and the one above it.
                    return min(high, (bucket + 1) * BUCKET), offset
                high, offset = bucket * BUCKET, offset - n
            end, span = start, span * _WIDER
        return high, offset

    # --- counts -----------------------------------------------------------------------------------

    def _ask_for(self, term: _Term) -> Answer:
        if term.of == "buckets":
            params = (*self._count_key, term.low, term.high)
            return self._session.ask(_WHOLE.format(**self._names), params)
        counts: list[str] = []
        values: list[object] = []
        for arm in self._arms:
            where, bounds = arm.where(term.low, term.high)
            counts.append(_COUNT.format(where=where, **self._names))
            values += bounds
        return self._session.ask(f"SELECT {' + '.join(counts)}", values)

    def _count(self, low: int, high: int) -> int:
        return int(self._ask_for(_Term("runs", low, high)).fetchall()[0][0])

    def _bounds(self, chosen: RunFilter) -> Within:
        """The ordinals from and before which runs were created in the ticks chosen."""
        statement = _FIRST_AT.format(**self._names)
        ticks = (chosen.created_from, chosen.created_before)
        asked = [None if t is None else self._session.ask(statement, (t,)) for t in ticks]
        low, high = (None if a is None else a.fetchall()[0] for a in asked)
        late = any(found is not None and found[1] for found in (low, high))
        if late:
            return Within(0, _END, True)
        first, end = 0 if low is None else low[0], _END if high is None else high[0]
        return Within(int(first), int(end), False)

    def _ask(self, statement: str, params: Sequence[object]) -> list[Any]:
        return self._session.ask(statement, params).fetchall()

    def _rows(self, values: list[Any]) -> list[RunRow]:
        return RowReader(self._table).rows(values)
