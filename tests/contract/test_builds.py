"""Builds of projection tables: what is known of them, set aside, made and dropped."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dee_es.core.views import RunFilter, RunRow
from dee_es.errors import ConcurrencyConflict, IntegrityViolation, TableGone
from dee_es.ports import BuildRow, EventStore, ParkedRow, RebuildRow, Views
from tests.support.storage.backends import Backend, open_at
from tests.support.storage.events import run, unit
from tests.support.storage.rows import AUDIT, RUNS, add_runs, key_of, prepare, run_row, some_entries

OTHER = replace(RUNS, build=2)
FIRST = BuildRow("run_list", 1, 1, "serving", 5, 3, 0)
SECOND = BuildRow("run_list", 1, 2, "building", 2, 1, 0)
NEWER = BuildRow("run_list", 2, 1, "kept", 0, 0, 0)
ELSEWHERE = BuildRow("audit", 1, 1, "serving", 9, 0, 0)


def save(views: Views, *rows: BuildRow) -> None:
    with views.transaction() as tx:
        for row in rows:
            tx.save_build(row)


def test_builds_come_in_order(store: EventStore, views: Views) -> None:
    assert views.standing() == (0, ())
    store.commit([unit(run(), 0, 3)])
    save(views, NEWER, SECOND, ELSEWHERE, FIRST)
    assert views.standing() == (3, (ELSEWHERE, FIRST, SECOND, NEWER))
    with views.transaction() as tx:
        assert tx.builds() == [ELSEWHERE, FIRST, SECOND, NEWER]
        assert tx.builds("run_list") == [FIRST, SECOND, NEWER]
        assert tx.builds("none") == []
        assert tx.head() == 3


def test_one_build_of_a_name_serves(views: Views) -> None:
    save(views, FIRST, SECOND)
    with pytest.raises(IntegrityViolation), views.transaction() as tx:
        tx.save_build(msgspec.structs.replace(SECOND, state="serving"))
    with views.transaction() as tx:
        tx.save_build(msgspec.structs.replace(FIRST, state="kept"))
        tx.save_build(msgspec.structs.replace(SECOND, state="serving"))
    assert [row.state for row in views.standing().builds] == ["kept", "serving"]


def test_a_build_moves_and_is_held(views: Views) -> None:
    save(views, FIRST)
    with views.building() as tx:
        assert tx.held(FIRST.key) == FIRST
        assert tx.held(SECOND.key) is None
        tx.move(FIRST.key, 8, 4)
        assert tx.held(FIRST.key) == msgspec.structs.replace(FIRST, position=8, ordinal=4)
    with views.transaction() as tx:
        tx.remove_build(FIRST.key)
    assert views.standing().builds == ()


def test_a_failed_transaction_on_builds_leaves_nothing(views: Views) -> None:
    save(views, FIRST)
    parked = ParkedRow(*FIRST.key, "s", 1, 1, "E", "x", 7)

    def fail() -> None:
        with views.building() as tx:
            tx.move(FIRST.key, 99, 99)
            tx.save_build(SECOND)
            tx.park([parked])
            tx.create([RUNS])
            tx.save_rebuild(RebuildRow(*FIRST.key, 1, None, 2, 3, 4, "d", "c"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert views.standing().builds == (FIRST,)
    assert views.parked() == []
    assert views.rebuilds() == []
    with pytest.raises(TableGone):
        views.run(RUNS, run())


def test_parked_streams(views: Views) -> None:
    save(views, FIRST, SECOND)
    rows = [
        ParkedRow(*FIRST.key, f"s{n}", 10 - n, n, "StepFailed", "KeyError at x.py:1 in f", 1_000)
        for n in range(3)
    ]
    with views.transaction() as tx:
        tx.park(rows)
        tx.park([msgspec.structs.replace(rows[0], error="other")])
        assert tx.parked(FIRST.key, ["s0", "s2", "s9"]) == {"s0", "s2"}
        assert tx.parked(SECOND.key, ["s0"]) == set()
    assert [row.stream_id for row in views.parked("run_list")] == ["s2", "s1", "s0"]
    assert views.parked()[2].error == "other"
    assert views.parked("audit") == []
    with views.transaction() as tx:
        tx.unpark(FIRST.key, ["s1"])
    assert len(views.parked()) == 2
    with views.transaction() as tx:
        tx.remove_build(FIRST.key)
    assert views.parked() == []


def test_only_the_build_that_is_named_is_changed(views: Views) -> None:
    """Each of the others differs from it in one thing: its name, its version or its number."""
    others = (ELSEWHERE, SECOND, NEWER)
    save(views, FIRST, *others)

    def parked() -> list[tuple[str, int, int]]:
        return sorted((row.name, row.version, row.number) for row in views.parked())

    with views.transaction() as tx:
        tx.park([ParkedRow(*row.key, "s", 1, 1, "E", "x", 7) for row in (FIRST, *others)])
        tx.move(FIRST.key, 8, 4)
        assert tx.held(FIRST.key) == msgspec.structs.replace(FIRST, position=8, ordinal=4)
        assert [tx.held(row.key) for row in others] == list(others)
        tx.unpark(FIRST.key, ["s"])
    assert parked() == sorted(row.key for row in others)
    with views.transaction() as tx:
        tx.park([ParkedRow(*FIRST.key, "s", 1, 1, "E", "x", 7)])
        tx.remove_build(FIRST.key)
    assert views.standing().builds == others
    assert parked() == sorted(row.key for row in others)


def test_what_is_known_of_rebuilds(views: Views) -> None:
    first = RebuildRow("run_list", 1, 2, 1_000, None, 50, 10, 0, "", "code")
    with views.building() as tx:
        tx.save_rebuild(first)
        tx.save_rebuild(msgspec.structs.replace(first, finished_ms=2_000, digest="ab"))
        tx.save_rebuild(RebuildRow("audit", 1, 1, 5, 6, 7, 8, 9, "x", "y"))
    assert [row.name for row in views.rebuilds()] == ["audit", "run_list"]
    assert (views.rebuilds()[1].finished_ms, views.rebuilds()[1].code) == (2_000, "code")


def test_builds_of_one_version_stand_side_by_side(views: Views) -> None:
    prepare(views, [RUNS, OTHER])
    with views.transaction() as tx:
        add_runs(tx, [run_row(1)])
        for index in OTHER.indexes:
            tx.index(OTHER, index)
    assert views.list_runs(RUNS, RunFilter(), limit=5).total == 1
    found = views.list_runs(OTHER, RunFilter(), limit=5)
    assert (found.rows, found.total) == ([], 0)
    assert found.build is not None
    assert found.build.key == key_of(OTHER)
    rows, size = views.size([RUNS])
    assert rows == 1
    assert size is None or size > 0
    views.settle([RUNS, OTHER])
    views.drop([OTHER])
    with pytest.raises(TableGone):
        views.list_runs(OTHER, RunFilter(), limit=5)
    with pytest.raises(TableGone):
        views.counts(OTHER, "plan")
    with pytest.raises(TableGone):
        views.size([OTHER])
    views.drop([OTHER])
    assert views.list_runs(RUNS, RunFilter(), limit=5).rows == [run_row(1)]


def test_a_page_of_a_build_nobody_knows_says_so(views: Views) -> None:
    with views.transaction() as tx:
        tx.create([RUNS])
    assert views.list_runs(RUNS, RunFilter(), limit=5).build is None


def test_a_column_that_a_version_lacks_is_read_as_its_default(views: Views) -> None:
    class Wider(RunRow, frozen=True):
        more: int | None = None

    wider = replace(RUNS, version=2, row_type=Wider)
    narrow = replace(wider, version=1, lacks=("more",))
    prepare(views, [wider, narrow])
    row = Wider(*msgspec.structs.astuple(run_row(1)), more=7)
    with views.transaction() as tx:
        tx.write(wider, [row], ())
        tx.write(narrow, [row], ())
        tx.write(narrow, (), [msgspec.structs.replace(row, status="paused")])
        assert tx.rows(wider, [row.run_id]) == {row.run_id: row}
        (read,) = tx.rows(narrow, [row.run_id]).values()
    assert (read.more, read.status) == (None, "paused")
    assert [column.name for column in narrow.columns] == list(RunRow.__struct_fields__)


def test_scans_go_by_key(views: Views) -> None:
    prepare(views, [RUNS, AUDIT])
    runs = sorted((run_row(n) for n in range(1, 40)), key=lambda row: row.run_id)
    entries = [replace_position(row, n * 7) for n, row in enumerate(some_entries_of(30), start=1)]
    with views.transaction() as tx:
        add_runs(tx, runs)
        tx.write(AUDIT, entries, ())
        tx.delete(RUNS, [runs[3].run_id, "none"])
        tx.delete(AUDIT, [14])
        tx.delete(AUDIT, [])
    with views.snapshot() as reader:
        assert reader.scan(RUNS, None, 5) == [*runs[:3], *runs[4:6]]
        assert reader.scan(RUNS, runs[6].run_id, 3) == runs[7:10]
        assert reader.scan(RUNS, runs[-1].run_id, 3) == []
        assert [row.position for row in reader.scan(AUDIT, 0, 3)] == [7, 21, 28]
        assert [row.position for row in reader.scan(AUDIT, 21, 2)] == [28, 35]
        counts = reader.all_counts(RUNS)
    assert counts["", "", -1] == len(runs)
    assert all(counts.values())


def some_entries_of(number: int) -> list[msgspec.Struct]:
    import random

    return list(some_entries(random.Random(3), number))


def replace_position(row: msgspec.Struct, position: int) -> msgspec.Struct:
    return msgspec.structs.replace(row, position=position)


def test_a_stream_is_read_from_an_entry_on(store: EventStore, views: Views) -> None:
    store.commit([unit(run(1), 0, 3), unit(run(2), 0, 2)])
    with views.snapshot() as reader:
        assert [row.version for row in reader.read_stream(run(1))] == [1, 2, 3]
        assert [row.position for row in reader.read_stream(run(2), 1)] == [5]
        assert reader.read_stream(run(9)) == []
        assert [row.position for row in reader.read_log(3, 9)] == [4, 5]


def test_a_snapshot_is_of_one_moment(disk_backend: Backend) -> None:
    store, views = disk_backend.open()
    prepare(views, [RUNS])
    store.commit([unit(run(1))])
    with views.snapshot() as reader:
        assert reader.head() == 1
        store.commit([unit(run(2))])
        with views.transaction() as tx:
            add_runs(tx, [run_row(1)])
        assert (reader.head(), reader.scan(RUNS, None, 9)) == (1, [])
    with views.snapshot() as reader:
        assert (reader.head(), len(reader.scan(RUNS, None, 9))) == (2, 1)


def test_building_keeps_nobody_from_appending(disk_backend: Backend) -> None:
    """On PostgreSQL; SQLite has one writer at a time, whatever it writes."""
    if disk_backend.kind != "postgres":
        return
    store, views = disk_backend.open()
    prepare(views, [RUNS])
    with views.building() as tx:
        tx.held(key_of(RUNS))
        add_runs(tx, [run_row(1)])
        store.commit([unit(run(1))])
    assert views.standing().head == 1


def test_a_name_is_rebuilt_by_one_at_a_time(backend: Backend) -> None:
    views = backend.open()[1]
    others = backend.open()[1] if backend.on_disk else views
    with views.rebuilding("run_list"):
        for each in (views, others):
            with (
                pytest.raises(ConcurrencyConflict, match="run_list is being rebuilt already"),
                each.rebuilding("run_list"),
            ):
                raise AssertionError("nobody else may begin")
        with others.rebuilding("audit"):
            pass
    with others.rebuilding("run_list"):
        pass
    with pytest.raises(ZeroDivisionError), views.rebuilding("run_list"):
        raise ZeroDivisionError
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(claim(others)))
    thread.start()
    thread.join()
    assert told == ["free"]


def test_a_claim_holds_under_every_name_of_the_file(tmp_path: Path) -> None:
    """A link to a database is that database."""
    (tmp_path / "link.db").symlink_to(tmp_path / "dee.db")
    opened = [open_at("sqlite", str(tmp_path / name)) for name in ("dee.db", "link.db")]
    try:
        (_, views), (_, others) = opened
        with views.rebuilding("run_list"), pytest.raises(ConcurrencyConflict):
            claim(others)
        assert claim(others)
    finally:
        for store, _ in opened:
            store.close()


def claim(views: Views) -> str:
    with views.rebuilding("run_list"):
        return "free"
