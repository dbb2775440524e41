"""Folding with faults, comparing, and pacing: what needs no engine."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dee_es.adapters.storage.memory import open_memory
from dee_es.core import events as e
from dee_es.core.projection import (
    Build,
    Change,
    CountKey,
    OneTable,
    Projection,
    Row,
    Table,
    former_of,
)
from dee_es.engine.log.journal import Journal
from dee_es.engine.projecting import pace as pacing
from dee_es.engine.projecting.comparison import Comparison, compare
from dee_es.engine.projecting.folding import fold
from dee_es.engine.projecting.pace import Pace
from dee_es.errors import InvalidInput
from dee_es.ports import BuildRow, TableTransaction, Views

META = e.Meta(5, "cmd", "tick", 0)


class Sum(Row, frozen=True):
    """How many events a stream has, and its newest step."""

    stream: str
    events: int
    step: str | None


class Entry(Row, frozen=True):
    """One event."""

    position: int
    stream: str


class Sums(OneTable):
    """A projection with a table, counts and lines, which fails where its steps say so."""

    name = "sums"
    appends_only = False
    table = Table("sums", 1, Sum, key="stream", counted=(("step", "text"),))
    lines = Table("entries", 1, Entry, key="position")

    def key(self, event: e.RecordedEvent) -> str | None:
        """The stream."""
        self._fail("key", event)
        return event.stream_id

    def fold(self, row: Sum | None, event: e.RecordedEvent) -> Sum:
        """One more."""
        self._fail("fold", event)
        step: str = event.event.step_id  # type: ignore[attr-defined]
        return Sum(event.stream_id, 1 if row is None else row.events + 1, step)

    def line(self, row: Any, event: e.RecordedEvent) -> Entry:
        """The event's own row."""
        self._fail("line", event)
        return Entry(event.position, event.stream_id)

    def tally(self, row: Sum) -> Iterable[CountKey]:
        """Its step."""
        if row.step == "tally":
            raise ValueError("secret@example.com")
        return ((row.step or "",),)

    def _fail(self, where: str, event: e.RecordedEvent) -> None:
        if event.event.step_id == where:  # type: ignore[attr-defined]
            raise ValueError("secret@example.com")


SUMS: Projection[Any] = Sums()


def made(steps: list[tuple[int, str]]) -> list[e.RecordedEvent]:
    """Events of streams by number, each with a step's name."""
    versions: dict[int, int] = {}
    found = []
    for position, (stream, step) in enumerate(steps, start=1):
        versions[stream] = versions.get(stream, 0) + 1
        event = e.WaitCompleted(step)
        found.append(
            e.RecordedEvent(f"s{stream}", versions[stream], "WaitCompleted", position, META, event)
        )
    return found


def opened(*builds: Build) -> Views:
    """Empty tables in memory."""
    views = open_memory()[1]
    with views.transaction() as tx:
        for build in builds:
            tx.create(build.tables)
            tx.save_build(BuildRow(*build.key, "kept", 0, 0, 0))
    return views


def held(tx: TableTransaction, build: Build) -> tuple[list[Row], list[Row], dict[CountKey, int]]:
    """Everything in a build."""
    assert build.lines is not None
    return (
        tx.scan(build.table, None, 999),
        tx.scan(build.lines, None, 999),
        tx.all_counts(build.table),
    )


FAULTS = ("key", "fold", "line")
STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c", *FAULTS])), max_size=25
)


@given(STEPS, st.lists(st.integers(1, 25), max_size=3))
def test_of_a_stream_that_fails_nothing_is_folded_from_there_on(
    steps: list[tuple[int, str]], cuts: list[int]
) -> None:
    """However the log is cut into pages, and all other streams as if that one were not there."""
    build = Build(SUMS)
    views = opened(build)
    events = made(steps)
    first_bad: dict[str, int] = {}
    for event in events:
        if event.event.step_id in FAULTS:  # type: ignore[attr-defined]
            first_bad.setdefault(event.stream_id, event.position)
    parked: set[str] = set()
    bounds = [0, *sorted(cuts), len(events)]
    with views.transaction() as tx:
        for low, high in pairwise(bounds):
            page = [event for event in events[low:high] if event.stream_id not in parked]
            poisoned = fold(tx, build, page)
            for poison in poisoned:
                assert "secret" not in str(poison)
                assert "ValueError at engine/test_projecting.py" in poison.error
            parked |= {poison.stream_id for poison in poisoned}
        assert parked == set(first_bad)
        rows, lines, counts = held(tx, build)
    for event in events:
        bad = first_bad.get(event.stream_id)
        there = any(line.position == event.position for line in lines)  # type: ignore[attr-defined]
        if bad is None:
            assert there
        elif event.position >= bad:
            assert not there
    for row in rows:
        assert isinstance(row, Sum)
        assert row.step not in FAULTS
        assert row.events == sum(line.stream == row.stream for line in lines)  # type: ignore[attr-defined]
    assert sum(counts.values()) == len(rows)


def test_a_row_that_cannot_be_counted_parks_its_stream_from_the_start_of_the_page() -> None:
    build = Build(SUMS)
    views = opened(build)
    events = made([(0, "a"), (1, "b"), (2, "key"), (0, "c"), (0, "tally"), (1, "b")])
    with views.transaction() as tx:
        assert fold(tx, build, events[:2]) == []
        poisoned = fold(tx, build, events[2:])
        assert [(each.stream_id, each.position) for each in poisoned] == [("s2", 3), ("s0", 4)]
        rows, lines, counts = held(tx, build)
    assert rows == [Sum("s0", 1, "a"), Sum("s1", 2, "b")]
    assert lines == [Entry(1, "s0"), Entry(2, "s1"), Entry(6, "s1")]
    assert counts == {("a",): 1, ("b",): 1}


# --- comparing ------------------------------------------------------------------------------------


def compared(old: list[Sum], new: list[Sum], change: Change | None = None) -> Comparison:
    """Two builds with these rows, counted as they are."""
    builds = Build(SUMS), Build(SUMS, 2)
    views = opened(*builds)
    with views.transaction() as tx:
        for build, rows in zip(builds, (old, new), strict=True):
            tx.write(build.table, rows, ())
            for row in rows:
                tx.add_counts(build.table, dict.fromkeys(SUMS.tally(row), 1))
    with views.snapshot() as reader:
        journal = Journal(None)  # type: ignore[arg-type]
        return compare(reader, journal, *builds, change, lambda _: (), lambda _: None)


ROWS = st.lists(
    st.builds(Sum, st.text("abc", min_size=1, max_size=2), st.integers(0, 2), st.just("x")),
    max_size=8,
    unique_by=lambda row: row.stream,
)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order(rows: list[Sum], chance: random.Random) -> None:
    other = list(rows)
    chance.shuffle(other)
    found = compared(rows, other)
    assert found.same
    assert found.digest_old == found.digest_new == compared(other, rows).digest_old


@given(ROWS, ROWS)
def test_whatever_differs_is_found(old: list[Sum], new: list[Sum]) -> None:
    before, after = {row.stream: row for row in old}, {row.stream: row for row in new}
    keys = before.keys() | after.keys()
    differing = [key for key in sorted(keys) if before.get(key) != after.get(key)]
    found = compared(old, new)
    assert found.differences == len(differing)
    assert [each.key for each in found.samples] == differing[:10]
    assert found.same == (not differing)
    assert (found.digest_old == found.digest_new) == (not differing)


def test_counts_that_do_not_fit_their_rows_are_found() -> None:
    builds = Build(SUMS), Build(SUMS, 2)
    views = opened(*builds)
    with views.transaction() as tx:
        for build in builds:
            tx.write(build.table, [Sum("a", 1, "x")], ())
            tx.add_counts(build.table, {("x",): 1})
        tx.add_counts(builds[0].table, {("x",): 1, ("y",): 1})
    with views.snapshot() as reader:
        journal = Journal(None)  # type: ignore[arg-type]
        found = compare(reader, journal, *builds, None, lambda _: (), lambda _: None)
    assert [(each.table, each.key) for each in found.samples] == [
        ("sums_v1_counts", "('x',)"),
        ("sums_v1_counts", "('y',)"),
    ]


def test_a_mapping_says_what_the_former_row_has_to_be() -> None:
    old, new = [Sum("a", 1, "x")], [Sum("a", 10, "x"), Sum("b", 10, "x")]

    def as_before(row: Sum) -> Sum | None:
        return None if row.stream == "b" else Sum(row.stream, row.events // 10, row.step)

    assert not compared(old, new).same
    assert compared(old, new, Change(former=SUMS, as_before=as_before)).same


# --- versions -------------------------------------------------------------------------------------


def test_the_former_of_a_version_that_added_columns() -> None:
    class Newer(Sums):
        table = replace(Sums.table, version=2, indexes=(("step", "stream"), ("events",)))
        lines = replace(Sums.lines, version=2)
        change = Change(added=("step",))

    former = former_of(Newer())
    assert former is not None
    assert [column.name for column in former.table.columns] == ["stream", "events"]
    assert former.table.indexes == (("events",),)
    assert [table.physical_name for table in Build(former).tables] == ["sums_v1", "entries_v1"]
    assert former.table.values(Sum("a", 3, "x")) == ("a", 3)
    assert former_of(former) is None
    assert former_of(SUMS) is None
    assert Build(SUMS, 3).table.physical_name == "sums_v1_b3"


# --- pace -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan"), 1e-300, True, "1", None])
def test_a_share_that_is_none(share: Any) -> None:
    with pytest.raises(InvalidInput, match="throttle"):
        Pace(share, 100)


def test_pieces_get_shorter_while_they_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rested = 0.0, 0.0

    def sleep(seconds: float) -> None:
        nonlocal rested
        rested += seconds

    # Its own view of the module: other threads' time goes on.
    monkeypatch.setattr(pacing, "time", SimpleNamespace(perf_counter=lambda: now, sleep=sleep))
    pace = Pace(0.25, 5_000)
    for _ in range(20):
        pace.begin()
        now += pace.page * 0.000_05
        pace.rest()
    assert 45 <= pace.page <= 75
    assert rested == pytest.approx(pace.worked_s * 3)
    full = Pace(1, 5_000)
    full.rest()
    assert full.page == 5_000
