"""Projections rebuilt beside the live ones, on every backend, while others write."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.projection import Build
from dee_es.core.registry import REGISTRY
from dee_es.engine.projecting import overlay
from dee_es.engine.projecting.folding import advance
from dee_es.engine.projecting.models import RebuildProgress
from dee_es.engine.projecting.pages import open_page
from dee_es.errors import ConcurrencyConflict, InvalidInput, UnknownEventVersion
from dee_es.ports import Action, ChannelResult, SendContext, beside
from projections import RUN_LIST
from tests.support.counts import count
from tests.support.engines import BACKENDS, database_url, fickle, outreach
from tests.support.runs.busy import keep_busy, person, prepare
from tests.support.versions.code import (
    WiderRunList,
    builds,
    contents,
    engine_with,
    served,
    views_of,
)
from tests.support.versions.rebuilding import NAMES, Killed, Place, child, killed_at, tamper
from tests.support.versions.schemas import register


def test_a_rebuild_is_what_live_folding_made(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    for kind in BACKENDS:
        url = database_url(kind, tmp_path, fresh_postgres)
        with engine_with(url, channel=MemoryChannel(fickle)) as engine:
            prepare(engine)
            keep_busy(engine, 800, seed=2)
            for name in NAMES:
                old = served(engine, name)
                before = contents(engine, old)
                told: list[str] = []
                done = engine.projections.rebuild(
                    name, page=64, on_progress=lambda p, told=told: told.append(p.phase)
                )
                new = served(engine, name)
                assert new.number == 2
                assert contents(engine, new) == before
                assert done.events == engine.health().position
                assert done.rows == len(before[new.table.name][0])
                assert done.comparison is not None
                assert done.comparison.same
                assert set(told) >= {"reading", "comparing", "swapping"} - {"comparing"}
                assert engine.projections.drop(name)
                assert builds(engine, name) == {(old.version, 2): "serving"}
            assert engine.health().ok


@pytest.mark.parametrize("page", [1, 7, 5_000])
def test_a_rebuild_with_writers_at_work(place: Place, page: int) -> None:
    """Writers in other threads, other engines and another process; nothing twice, nothing left."""
    engine = place.open()
    prepare(engine)
    keep_busy(engine, count(200, 100_000), seed=3)
    before = engine.list_runs(limit=1).total
    stop, turns = threading.Event(), threading.Semaphore(0)
    failed: list[BaseException] = []
    pages = itertools.count(1)

    def on_progress(_: RebuildProgress) -> None:
        # To fold one event in a transaction takes no less than to write one: where pages are small,
        # writers wait for so many of them that what they write is folded some day.
        if page * next(pages) % 14 < page:
            turns.release()

    def write(number: int) -> None:
        other = place.open()
        try:
            n = 0
            while not stop.is_set():
                if page > 100 or turns.acquire(timeout=0.05):
                    other.execute(outreach(), contact=person(10**6 * (number + 1) + n))
                    n += 1
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    try:
        for name in NAMES:
            done = engine.projections.rebuild(name, page=page, on_progress=on_progress)
            assert done.comparison is not None
            assert done.comparison.same
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert failed == []
    for name in NAMES:
        # The live build has gone on since; the former one is caught up by nobody.
        found = engine.projections.verify(name)
        assert found.ok, found.comparison.samples
    total = engine.list_runs(limit=1).total
    assert total > before, "they were at work"
    assert total == engine._parts.store.log_head().ordinal


@pytest.mark.parametrize("often", [0, 0.5])
def test_when_the_database_answers_changes_no_row(
    often: float, place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page's rows may be read before, or after, those ahead of it are written."""
    chance, go_on = random.Random(1), beside.go_on
    monkeypatch.setattr(beside, "go_on", lambda: go_on() if chance.random() < often else None)
    before = contents(engine, served(engine))
    for page in (9, 30):
        done = engine.projections.rebuild("run_list", page=page)
        assert done.comparison is not None
        assert done.comparison.same
        assert contents(engine, served(engine)) == before
        engine.projections.drop("run_list")


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_compared_page_by_page(
    name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are read through one connection, each page while others are looked at."""
    monkeypatch.setattr(overlay, "PAGE", 7)
    assert engine.projections.verify(name).ok
    build = served(engine, name)
    table, key = build.table.physical_name, build.table.key
    tamper(
        engine,
        f"DELETE FROM {table} WHERE {key} = (SELECT max({key}) FROM {table}) RETURNING 1",
    )
    assert not engine.projections.verify(name).ok
    assert not beside.takes_turns()
    assert builds(engine, name) == {(build.version, 1): "serving"}


@pytest.mark.parametrize("page", [7, 64])
def test_what_others_fold_into_it_on_its_way_is_not_folded_again(
    place: Place, engine: Engine, page: int
) -> None:
    """Pages that were made ready before are no use then."""
    views, journal = views_of(engine), engine._projector._journal
    others: list[int] = []

    def meanwhile(progress: RebuildProgress) -> None:
        if progress.phase != "reading" or progress.done // 100 == len(others):
            return
        with views.transaction() as tx:
            (row,) = [each for each in tx.builds("run_list") if each.state == "building"]
            rows = tx.read_log(row.position, 10)
            opened = open_page(journal, rows, row.ordinal, tx)
            advance(tx, Build(RUN_LIST, row.number), row, opened, None)
        others.append(row.position)

    done = engine.projections.rebuild("run_list", page=page, on_progress=meanwhile)
    assert len(others) > 2
    assert done.comparison is not None
    assert done.comparison.same
    assert done.events == engine.health().position


def test_one_rebuild_of_a_name_at_a_time_and_several_names_at_once(
    place: Place, engine: Engine
) -> None:
    with child(place, throttle=0.2) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("reading"):
                break
        for busy in (
            lambda: engine.projections.rebuild("run_list"),
            lambda: engine.projections.verify("run_list"),
            lambda: engine.projections.drop("run_list"),
        ):
            with pytest.raises(ConcurrencyConflict, match="run_list is being rebuilt already"):
                busy()
        engine.projections.rebuild("audit_trail")
        assert process.poll() is None
        process.communicate()
    assert process.returncode == 0


def test_no_channel_is_touched(place: Place, engine: Engine) -> None:
    def refuse(_: Action, __: SendContext) -> ChannelResult:
        raise AssertionError("a rebuild must send nothing")

    newer = place.open(run_list=WiderRunList(), channel=MemoryChannel(refuse))
    newer.projections.rebuild("run_list", page=50)
    for name in NAMES[1:]:
        newer.projections.rebuild(name, page=50)
        newer.projections.verify(name)
    assert newer.projections.verify("run_list").ok


def test_a_throttled_rebuild_is_the_same(place: Place, engine: Engine) -> None:
    told: list[RebuildProgress] = []
    done = engine.projections.rebuild("run_list", throttle=0.5, on_progress=told.append)
    assert done.comparison is not None
    assert done.comparison.same
    # What is left is told by the clock, of which half is rest.
    for each in told:
        if each.seconds_left is not None:
            assert each.seconds_left == pytest.approx((each.total - each.done) / each.rate * 2)
    assert any(each.seconds_left for each in told)


def test_what_is_told_of_a_rebuild_is_exact(place: Place, engine: Engine) -> None:
    """Others append up to the very swap."""
    head = engine.health().position
    told: list[RebuildProgress] = []

    def listen(progress: RebuildProgress) -> None:
        told.append(progress)
        if progress.phase == "swapping":
            engine.execute(outreach(), contact=person(10**8))

    page = head // 4
    with killed_at(engine, 4, committed=True), suppress(Killed):
        engine.projections.rebuild("run_list", page=page)
    done = engine.projections.rebuild("run_list", page=page, on_progress=listen)
    assert done.resumed_at > 0
    last = engine.projections.status()[0].last_rebuild
    assert last is not None
    assert done.events == last.events == engine.health().position > head
    made = [(each.done, each.total) for each in told if each.phase == "indexing"]
    later = views_of(engine).indexes_later
    assert made == ([(n, 4) for n in range(5)] if later else [])


def test_bad_calls(place: Place, engine: Engine) -> None:
    for call, told in [
        (lambda: engine.projections.rebuild("runs"), "there is no projection 'runs'"),
        (lambda: engine.projections.rebuild("run_list", page=0), "page"),
        (lambda: engine.projections.rebuild("run_list", throttle=0), "throttle"),
        (lambda: engine.projections.rebuild("run_list", throttle=1.5), "throttle"),
        (lambda: engine.projections.drop("run_list"), "there is nothing else"),
        (lambda: engine.projections.drop("run_list", 1), "it serves"),
        (lambda: engine.projections.drop("run_list", 9), "version 9"),
    ]:
        with pytest.raises(InvalidInput, match=told):
            call()


def test_an_event_that_newer_code_wrote_is_refused_by_name(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be right without it, so nothing is shown; but appending goes on."""
    run = engine.execute(outreach(), contact=person(10**8))
    with monkeypatch.context() as newer:
        entry = REGISTRY["RunCancelled"]
        register(newer, "RunCancelled", entry._replace(schema=2))
        newer.setattr("dee_es.engine.projecting.projector.Projector.inline", lambda *_: None)
        place.open().cancel_run(run.id, "by newer code")
    told = "RunCancelled has schema 2, known up to 1; upgrade dee-es"
    older = place.open()
    older.execute(outreach(), contact=person(10**8 + 1))
    for name in NAMES:
        with pytest.raises(UnknownEventVersion, match=told):
            served(older, name)
        with pytest.raises(UnknownEventVersion, match=told):
            older.projections.rebuild(name)
    with pytest.raises(UnknownEventVersion, match=told):
        older.list_runs()
    assert any(told in problem for problem in older.health().problems)
    assert older.projections.parked() == ()
