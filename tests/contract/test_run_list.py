"""`Views.list_runs`: every filter, alone and combined, against a look at each row."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from importlib import import_module

import pytest
from msgspec.structs import replace

from dee_es.adapters.storage.relational import run_list
from dee_es.core.views import BUCKET, RunFilter, RunRow
from dee_es.ports import Views
from tests.support.counts import count
from tests.support.storage.backends import Backend
from tests.support.storage.rows import (
    RUNS,
    STATUSES,
    add_runs,
    chosen_runs,
    move_runs,
    prepare,
    some_runs,
)

RUN_COUNT = 9_000
"""Three buckets of ordinals, the last one not full."""


@pytest.fixture
def rows(views: Views) -> list[RunRow]:
    """Runs as they are in the list; many have moved since they were added."""
    assert RUN_COUNT > 2 * BUCKET
    chance = random.Random(11)
    rows = some_runs(chance, RUN_COUNT)
    prepare(views, [RUNS])
    for start in range(0, RUN_COUNT, 2_500):
        with views.transaction() as tables:
            add_runs(tables, rows[start : start + 2_500])
    for _ in range(3):
        moved = [
            replace(row, status=chance.choice(STATUSES), version=row.version + 1)
            for row in chance.sample(rows, 1_000)
        ]
        with views.transaction() as tables:
            move_runs(tables, moved)
        for row in moved:
            rows[row.ordinal - 1] = row
    return rows


def some_filter(chance: random.Random, rows: list[RunRow], fields: tuple[bool, ...]) -> RunFilter:
    """A filter with these of its five fields set."""
    some = chance.choice(rows)
    statuses = chance.sample(STATUSES, chance.choice([1, 1, 2, 3, 7]))
    ticks = sorted(chance.choice(rows).created_tick + chance.choice([-1, 0, 0, 1]) for _ in "12")
    has_status, has_plan, has_contact, has_from, has_before = fields
    return RunFilter(
        statuses=tuple(statuses) if has_status else (),
        plan_id=chance.choice([some.plan_id, "rare", "none"]) if has_plan else None,
        contact_id=chance.choice([some.contact_id, some.contact_id, "none"])
        if has_contact
        else None,
        created_from=ticks[0] if has_from else None,
        created_before=ticks[1] if has_before else None,
    )


def test_every_combination_of_filters(views: Views, rows: list[RunRow]) -> None:
    chance = random.Random(12)
    for fields in itertools.product((False, True), repeat=5):
        for _ in range(count(6, 60)):
            chosen = some_filter(chance, rows, fields)
            expected = chosen_runs(rows, chosen)
            before = chance.choice([None, None, chance.randrange(1, RUN_COUNT + 2), BUCKET])
            offset = chance.choice([0, 0, 1, 7, chance.randrange(len(expected) + 3)])
            limit = chance.choice([1, 3, 50])
            found, total, _, _ = views.list_runs(
                RUNS, chosen, limit=limit, offset=offset, before_ordinal=before
            )
            below = [row for row in expected if before is None or row.ordinal < before]
            asked = (chosen, limit, offset, before)
            assert total == len(expected), asked
            assert found == below[offset : offset + limit], asked


def test_counts_by_status_under_every_other_filter(views: Views, rows: list[RunRow]) -> None:
    chance = random.Random(13)
    for fields in itertools.product((False, True), repeat=5):
        for _ in range(count(2, 20)):
            chosen = some_filter(chance, rows, fields)
            of = replace(chosen, statuses=())
            standing = Counter(row.status for row in chosen_runs(rows, of))
            found, head, build = views.count_runs(RUNS, chosen, [*STATUSES, "nothing"])
            assert found == {status: standing[status] for status in (*STATUSES, "nothing")}, chosen
            listed = views.list_runs(RUNS, of, limit=1)
            assert (sum(found.values()), head, build) == (listed.total, listed.head, listed.build)


@pytest.mark.parametrize("many", [0, 1, 40, 10_000])
def test_all_runs_of_many_contacts(views: Views, rows: list[RunRow], many: int) -> None:
    known = sorted({row.contact_id for row in rows})
    asked = ["none", *random.Random(3).sample(known, min(many, len(known)))]
    found = views.runs_of(RUNS, asked)
    wanted = [row for row in reversed(rows) if row.contact_id in asked]
    assert (found.rows, found.total) == (wanted, len(wanted))
    assert (len(found.rows) > 0) == (many > 0)
    whole = views.list_runs(RUNS, RunFilter(), limit=1)
    assert (found.head, found.build) == (whole.head, whole.build)


def test_a_plan_without_a_name_has_no_runs(views: Views, rows: list[RunRow]) -> None:
    """Counts of all plans stand under an empty name."""
    nameless = RunFilter(plan_id="")
    assert views.list_runs(RUNS, nameless, limit=1)[:2] == ([], 0)
    assert set(views.count_runs(RUNS, nameless, STATUSES).counts.values()) == {0}


@pytest.mark.parametrize(
    "chosen",
    [
        RunFilter(),
        RunFilter(("active",)),
        RunFilter(("active", "paused", "active")),
        RunFilter(plan_id="common"),
        RunFilter(("failed", "waiting"), plan_id="other"),
    ],
)
def test_pages_by_offset_and_by_ordinal_are_the_whole(
    views: Views, rows: list[RunRow], chosen: RunFilter
) -> None:
    expected = chosen_runs(rows, chosen)
    size = 701
    by_offset: list[RunRow] = []
    for offset in range(0, len(expected) + size, size):
        by_offset += views.list_runs(RUNS, chosen, limit=size, offset=offset)[0]
    assert by_offset == expected
    by_ordinal: list[RunRow] = []
    before = None
    while page := views.list_runs(RUNS, chosen, limit=size, before_ordinal=before):
        found, total, _, _ = page
        assert total == len(expected), "the total does not depend on where a page begins"
        if not found:
            break
        by_ordinal += found
        before = found[-1].ordinal
    assert by_ordinal == expected


def test_offsets_that_take_several_looks_at_the_counts(
    views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ten buckets that are half full, as after an archive, of which two are looked at a time.
    monkeypatch.setattr(run_list, "_SPAN", 1)
    monkeypatch.setattr(run_list, "_WIDER", 1)
    runs = some_runs(random.Random(14), 5 * BUCKET)
    rows = [replace(row, ordinal=2 * row.ordinal) for row in runs]
    prepare(views, [RUNS])
    with views.transaction() as tables:
        add_runs(tables, rows)
    for chosen in (RunFilter(), RunFilter(created_from=rows[50].created_tick)):
        expected = chosen_runs(rows, chosen)
        for offset in (BUCKET - 1, BUCKET, 3 * BUCKET + 5, len(expected) - 2, len(expected)):
            for before in (None, 9 * BUCKET + 7, 4 * BUCKET):
                below = [row for row in expected if before is None or row.ordinal < before]
                found = views.list_runs(RUNS, chosen, limit=5, offset=offset, before_ordinal=before)
                assert found.rows == below[offset : offset + 5], (chosen, offset, before)
                assert found.total == len(expected)


def test_time_ranges_at_every_edge(views: Views, rows: list[RunRow]) -> None:
    first, last = rows[0].created_tick, rows[-1].created_tick
    at_bucket = [rows[n * BUCKET + d].created_tick for n in (1, 2) for d in (-2, -1, 0, 1)]
    ticks = [None, first - 5, first, first + 1, *at_bucket, last, last + 1, last + 100]
    for since, before in itertools.product(ticks, ticks):
        for plan in (None, "other"):
            chosen = RunFilter(plan_id=plan, created_from=since, created_before=before)
            expected = chosen_runs(rows, chosen)
            found, total, _, _ = views.list_runs(RUNS, chosen, limit=3)
            assert (total, found) == (len(expected), expected[:3]), chosen


@pytest.mark.parametrize("gone", [range(1, 2), range(RUN_COUNT, RUN_COUNT + 1), range(700, 5_000)])
def test_time_ranges_where_runs_are_missing(views: Views, gone: range) -> None:
    """As after an archive: of the oldest, of the newest, of a bucket and more between."""
    every = some_runs(random.Random(15), RUN_COUNT)
    rows = [row for row in every if row.ordinal not in gone]
    prepare(views, [RUNS])
    with views.transaction() as tables:
        add_runs(tables, rows)
    ends = [every[0], every[BUCKET - 1], every[BUCKET], every[2 * BUCKET + 9], every[-1]]
    around = [every[n - 1] for n in (gone.start, gone.stop - 1)]
    ticks = [None, *sorted({row.created_tick + d for row in (*ends, *around) for d in (0, 1)})]
    for since, before in itertools.product(ticks, ticks):
        chosen = RunFilter(created_from=since, created_before=before)
        found = views.list_runs(RUNS, chosen, limit=1, offset=1)
        expected = chosen_runs(rows, chosen)
        assert (found.total, found.rows) == (len(expected), expected[1:2]), chosen


def test_runs_that_came_late_into_a_database_of_before(
    bare_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it took in from elsewhere is known by the record of that alone."""
    opener = import_module(f"dee_es.adapters.storage.{bare_backend.kind}.store")
    with monkeypatch.context() as before:
        before.setattr(opener, "MIGRATIONS", opener.MIGRATIONS[:5])
        bare_backend.open()[0].close()
    state = "x'00'" if bare_backend.kind == "sqlite" else "'x'"
    bare_backend.raw(
        "INSERT INTO stored_events "
        "(notification_id, originator_id, originator_version, topic, state) "
        f"VALUES (1, 'system', 1, 'LogImported', {state})"
    )
    _, views = bare_backend.open()
    rows = [
        replace(row, created_tick=100 - row.ordinal) for row in some_runs(random.Random(3), 100)
    ]
    prepare(views, [RUNS])
    with views.transaction() as tables:
        add_runs(tables, rows)
    chance = random.Random(4)
    for fields in itertools.product([False, True], repeat=5):
        chosen = some_filter(chance, rows, fields)
        expected = chosen_runs(rows, chosen)
        found = views.list_runs(RUNS, chosen, limit=20, offset=2)
        assert (found.rows, found.total) == (expected[2:22], len(expected))
        counts = views.count_runs(RUNS, chosen, STATUSES).counts
        standing = Counter(row.status for row in chosen_runs(rows, replace(chosen, statuses=())))
        assert counts == {status: standing[status] for status in STATUSES}


def test_one_run_by_its_id(views: Views, rows: list[RunRow]) -> None:
    for row in rows[:: RUN_COUNT // 20]:
        assert views.run(RUNS, row.run_id) == row
    assert views.run(RUNS, "run_none") is None


def test_a_page_of_none_has_its_total(views: Views, rows: list[RunRow]) -> None:
    assert views.list_runs(RUNS, RunFilter(), limit=0)[:2] == ([], RUN_COUNT)
    assert views.list_runs(RUNS, RunFilter(), limit=5, offset=RUN_COUNT)[:2] == ([], RUN_COUNT)
    assert views.list_runs(RUNS, RunFilter(), limit=5, before_ordinal=1)[:2] == ([], RUN_COUNT)
