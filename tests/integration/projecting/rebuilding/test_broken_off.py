"""Rebuilds that are killed or broken off, at any moment, go on where they were."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dee_es import Engine
from dee_es.ports import beside
from tests.support.counts import count
from tests.support.engines import outreach
from tests.support.runs.busy import keep_busy, person, prepare
from tests.support.versions.code import WiderRunList, builds
from tests.support.versions.rebuilding import Killed, Place, child, killed_at


@pytest.mark.parametrize("committed", [False, True])
def test_a_rebuild_killed_anywhere_goes_on_where_it_was(place: Place, committed: bool) -> None:
    """In the transaction of each number: the first ones, each page's, those of the end."""
    engine = place.open()
    prepare(engine)
    keep_busy(engine, count(250, 2_000), seed=4)
    page = 40
    pages = engine.health().position // page
    resumed = set()
    for turn in range(1, 10_000):
        with killed_at(engine, turn, committed=committed):
            try:
                engine.projections.rebuild("run_list", page=page, restart=True)
                break
            except Killed:
                pass
        # Appends go on; the build that was broken off is never read.
        engine.execute(outreach(), contact=person(10**7 + turn))
        assert engine.list_runs(limit=1).total == engine._parts.store.log_head().ordinal
        states = list(builds(engine).values())
        if "building" in states:
            done = engine.projections.rebuild("run_list", page=page)
            resumed.add(done.resumed_at)
            assert done.comparison is not None
            assert done.comparison.same
        if len(builds(engine)) > 1:
            engine.projections.drop("run_list")
        assert engine.projections.verify("run_list").ok
    assert turn > pages
    assert {page * n for n in range(1, pages)} <= resumed


def test_who_breaks_it_off_while_the_next_page_is_read_leaves_nothing_open(
    place: Place, engine: Engine
) -> None:
    """The second page is on its way into the database then: it gets there."""
    store, page = engine._parts.store, 50
    read_log, left = store.read_log, 5

    def reading(after: int, limit: int) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return read_log(after, limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "read_log", reading)
        with pytest.raises(KeyboardInterrupt):
            engine.projections.rebuild("run_list", page=page)
    assert not beside.takes_turns()
    engine.execute(outreach(), contact=person(10**7))
    done = engine.projections.rebuild("run_list", page=page)
    assert done.resumed_at == 2 * page
    assert done.comparison is not None
    assert done.comparison.same


def test_kill_minus_nine(place: Place, engine: Engine) -> None:
    kills = count(4, 20)
    # However often it is killed, it is not to come to its end before.
    keep_busy(engine, 200 * kills, seed=6)
    for number in range(kills):
        with child(place) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("reading"):
                    break
            time.sleep(0.04 * number / kills)
            process.kill()
    with child(place) as process:
        said = process.communicate()[0]
    assert process.returncode == 0
    assert int(said.split()[-1]) > 0
    newer = place.open(run_list=WiderRunList())
    assert builds(newer) == {(1, 1): "kept", (2, 1): "serving"}
    assert newer.projections.verify("run_list").ok
