"""An event that cannot be folded parks its run, and nobody else."""

from __future__ import annotations

import pytest

from dee_es.core.projection import Change
from dee_es.errors import InvalidInput, ProjectionStuck
from tests.support.counts import count
from tests.support.engines import outreach
from tests.support.runs.busy import keep_busy, person, prepare
from tests.support.versions.code import BrokenRunList, WiderRunList, builds
from tests.support.versions.rebuilding import Place


def test_poison_parks_its_run_and_nobody_else(place: Place) -> None:
    fault = BrokenRunList(count(40, 1_000))
    engine = place.open(run_list=fault)
    prepare(engine)
    keep_busy(engine, count(1_500, 60_000), seed=5)
    parked = engine.projections.parked()
    health = engine.health()
    assert parked
    assert not health.ok
    assert "has parked" in health.problems[0]
    assert "ZeroDivisionError at" in health.problems[0]
    assert "contact_1@example.com" not in "".join(health.problems)
    assert engine.projections.status()[0].parked == len(parked)
    for each in parked:
        assert fault.hits(each.stream_id)
        assert each.event == "StepEntered"
        assert each.held_back == engine.get_run(each.stream_id).version - each.entry + 1
        assert engine.get_events(each.stream_id)[each.entry - 1]
    # All others are right, and the parked ones are marked.
    stuck = {each.stream_id for each in parked}
    cursor, seen = None, 0
    while True:
        page = engine.list_runs(limit=200, cursor=cursor)
        for run in page.runs:
            seen += 1
            assert run.parked == (run.id in stuck)
            if not run.parked:
                assert run == engine.get_run(run.id)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == page.total
    # A rebuild with the same fault stops at the first event, named.
    for page in (7, 64, 5_000):
        with pytest.raises(ProjectionStuck, match=rf"StepEntered at position {parked[0].position}"):
            engine.projections.rebuild("run_list", page=page)
        assert engine.projections.verify("run_list", page=page).ok
    assert engine.projections.retry("run_list").parked == len(parked)
    mended = place.open()
    one = mended.projections.retry("run_list", parked[0].stream_id)
    assert (one.streams, one.parked) == (1, 0)
    assert mended.projections.retry("run_list").streams == len(parked) - 1
    assert mended.projections.parked() == ()
    assert mended.health().ok
    assert mended.projections.verify("run_list").ok
    with pytest.raises(InvalidInput, match="is not parked"):
        mended.projections.retry("run_list", parked[0].stream_id)


def test_a_parked_run_stays_parked_as_it_goes_on(place: Place) -> None:
    engine = place.open(run_list=BrokenRunList(1))
    prepare(engine)
    run = engine.execute(outreach(), contact=person(1))
    engine.run_until(1)
    (parked,) = engine.projections.parked()
    assert engine.get_run(run.id).version > engine.list_runs().runs[0].version == 1
    engine.cancel_run(run.id, "enough")
    (still,) = engine.projections.parked()
    assert (still.position, still.held_back) == (parked.position, parked.held_back + 1)
    mended = place.open()
    mended.projections.retry("run_list")
    assert mended.list_runs().runs[0] == mended.get_run(run.id)
    assert mended.projections.verify("run_list").ok


def test_what_a_former_version_has_parked_is_nobodys_to_fold(place: Place) -> None:
    """It is kept for code that reads it, which alone can take its streams up again."""
    broken = BrokenRunList(1)
    older = place.open(run_list=broken)
    prepare(older)
    run = older.execute(outreach(), contact=person(1))
    older.run_until(1)
    mended = WiderRunList()
    mended.change = Change(added=("last_send_tick",), former=broken)
    newer = place.open(run_list=mended)
    newer.projections.rebuild("run_list")
    assert newer.projections.parked() == ()
    assert newer.projections.status()[0].parked == 0
    done = newer.projections.retry("run_list")
    assert (done.streams, done.parked) == (0, 0)
    with pytest.raises(InvalidInput, match="is not parked"):
        newer.projections.retry("run_list", run.id)
    # Code that does read it goes on with it, and nobody else's rows change.
    last = place.open()
    assert builds(last) == {(1, 1): "kept", (2, 1): "serving"}
    done = last.projections.retry("run_list")
    assert (done.streams, done.parked) == (1, 0)
    assert last.list_runs().runs[0] == last.get_run(run.id)
