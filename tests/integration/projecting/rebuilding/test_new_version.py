"""A new version of a projection, from the deploy to the drop of the former one."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from dee_es import Engine
from dee_es.engine.projecting.building import code_of
from dee_es.errors import InvalidInput, ProjectionUnavailable, RebuildRefused
from projections import RUN_LIST
from tests.support.counts import count
from tests.support.engines import outreach
from tests.support.runs.busy import person
from tests.support.versions.code import (
    DeclaredRunList,
    LouderRunList,
    WiderRow,
    WiderRunList,
    builds,
    contents,
    served,
    views_of,
)
from tests.support.versions.rebuilding import NAMES, Killed, Place, killed_at


def advised(engine: Engine) -> list[str]:
    """What is advised about projections."""
    return [each for each in engine.health().advice if each.startswith("projection ")]


def test_a_new_version_from_deploy_to_drop(place: Place, engine: Engine) -> None:
    before = contents(engine, served(engine))["run_list"]
    newer = place.open(run_list=WiderRunList())
    # It keeps serving, and folding, the former version.
    assert builds(newer) == {(1, 1): "serving"}
    newer.execute(outreach(), contact=person(10**8))
    assert newer.list_runs(contact_id=f"contact_{10**8}").total == 1
    assert engine.list_runs(contact_id=f"contact_{10**8}").total == 1
    (advice,) = advised(newer)
    assert "version 1 is served and this code wants 2" in advice
    assert "dee projections rebuild run_list" in advice
    assert newer.health().ok
    status = newer.projections.status()[0]
    assert (status.version, status.wanted, status.read) == (1, 2, 1)
    newer.projections.rebuild("run_list")
    assert builds(newer) == {(1, 1): "kept", (2, 1): "serving"}
    rows = contents(newer, served(newer))["run_list"]
    sent = [row for row in rows[0] if isinstance(row, WiderRow) and row.last_send_tick is not None]
    assert sent
    assert len(rows[0]) == len(before[0]) + 1
    assert advised(newer) == []
    # Code that lacks the new version still appends, and reads the old one.
    engine.execute(outreach(), contact=person(10**8 + 1))
    assert engine.list_runs(limit=1).total == newer.list_runs(limit=1).total == len(before[0]) + 2
    assert engine.health().ok
    assert "upgrade dee-es before that is dropped" in advised(engine)[0]
    assert newer.projections.drop("run_list") == ("run_list_v1",)
    with pytest.raises(ProjectionUnavailable, match=r"version 2 .* can read version 1; upgrade"):
        engine.list_runs()
    engine.execute(outreach(), contact=person(10**8 + 2))
    assert newer.list_runs(limit=1).total == len(before[0]) + 3
    assert newer.projections.verify("run_list").ok


def test_code_does_not_drop_what_it_reads(place: Place, engine: Engine) -> None:
    """A former version is kept for those that cannot read the new one: they do not take it away
    from themselves."""
    newer = place.open(run_list=WiderRunList())
    newer.projections.rebuild("run_list")
    for version in (None, 1):
        with pytest.raises(InvalidInput, match="version 1 of 'run_list' is kept for this code"):
            engine.projections.drop("run_list", version)
    assert engine.list_runs(limit=1).total == newer.list_runs(limit=1).total
    assert newer.projections.drop("run_list") == ("run_list_v1",)


def test_what_is_half_dropped_is_told_until_it_is_gone(place: Place, engine: Engine) -> None:
    """As when somebody has it read in a transaction that does not end."""
    engine.projections.rebuild("run_list")
    with views_of(engine).transaction() as tx:
        (former,) = [row for row in tx.builds("run_list") if row.state == "kept"]
        tx.save_build(msgspec.structs.replace(former, state="dropping"))
    told = engine.projections.status()[0].advice
    assert told == "version 1 is dropped by half: run `dee projections drop run_list` again"
    assert f"projection run_list: {told}" in engine.health().advice
    assert engine.projections.drop("run_list") == ("run_list_v1",)
    assert engine.projections.status()[0].advice is None


def test_both_versions_are_written_while_the_rebuild_runs(place: Place, engine: Engine) -> None:
    newer = place.open(run_list=WiderRunList())

    class Halt(Exception):
        pass

    def halt(progress: Any) -> None:
        if progress.phase == "swapping":
            raise Halt

    with pytest.raises(Halt):
        newer.projections.rebuild("run_list", on_progress=halt)
    assert builds(newer) == {(1, 1): "serving", (2, 1): "building"}
    newer.execute(outreach(), contact=person(10**8))
    head = newer.health().position
    positions = {row.version: row.position for row in views_of(newer).standing().builds
                 if row.name == "run_list"}  # fmt: skip
    assert positions == {1: head, 2: head}
    # Code of the former version does not know the new one, which is then behind and no harm done.
    engine.execute(outreach(), contact=person(10**8 + 1))
    newer.execute(outreach(), contact=person(10**8 + 2))
    assert newer.projections.rebuild("run_list").resumed_at == head
    assert newer.projections.verify("run_list").ok


def test_writers_of_both_versions_get_far_ahead_before_the_swap(
    place: Place, engine: Engine
) -> None:
    """Code that knows the new build moves it on; then code that does not leaves it behind."""
    newer = place.open(run_list=WiderRunList())

    def ahead(progress: Any) -> None:
        if progress.phase == "swapping":
            place.open(run_list=WiderRunList()).execute(outreach(), contact=person(10**8))
            engine.bulk_execute(outreach(), [person(10**7 + n) for n in range(1_300)])

    assert newer.projections.rebuild("run_list", page=100, on_progress=ahead).version == 2
    assert newer.projections.verify("run_list").ok


def test_other_code_does_not_go_on_with_what_was_begun(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at(engine, 5, committed=True), pytest.raises(Killed):
        engine.projections.rebuild("run_list", page=50)
    assert engine.projections.estimate("run_list").resumes_at > 0
    with monkeypatch.context() as changed:
        changed.setattr("dee_es.engine.projecting.rebuild.code_of", lambda _: "other")
        assert engine.projections.estimate("run_list").resumes_at == 0
        assert engine.projections.rebuild("run_list", page=50).resumed_at == 0
    assert code_of(RUN_LIST) != code_of(WiderRunList())
    assert code_of(RUN_LIST) == code_of(RUN_LIST)


def test_what_differs_without_being_declared_stops_it(place: Place, engine: Engine) -> None:
    engine.run_until(engine.now().tick + 10**7)
    newer = place.open(run_list=LouderRunList())
    with pytest.raises(RebuildRefused) as refused:
        newer.projections.rebuild("run_list")
    assert "version 2 of 'run_list' differs from version 1" in str(refused.value)
    assert "outcome 'silent' became 'SILENT'" in str(refused.value)
    assert "and" in str(refused.value)
    assert builds(newer) == {(1, 1): "serving", (2, 1): "building"}
    assert newer.list_runs("completed", limit=1).runs[0].outcome == "silent"
    done = newer.projections.rebuild("run_list", accept=True)
    assert done.comparison is not None
    assert done.comparison.differences > 10
    assert newer.list_runs("completed", limit=1).runs[0].outcome == "SILENT"


def test_what_is_declared_to_differ_does_not(place: Place, engine: Engine) -> None:
    engine.run_until(engine.now().tick + 10**7)
    newer = place.open(run_list=DeclaredRunList())
    done = newer.projections.rebuild("run_list")
    assert done.comparison is not None
    assert done.comparison.same
    assert newer.list_runs("completed", limit=1).runs[0].outcome == "SILENT"


def test_a_served_version_that_the_code_does_not_know(place: Place, engine: Engine) -> None:
    class Later(WiderRunList):
        table = replace(WiderRunList.table, version=5)
        change = None

    newest = place.open(run_list=Later())
    newest.execute(outreach(), contact=person(10**8))
    with pytest.raises(ProjectionUnavailable, match="--no-compare"):
        newest.list_runs()
    assert newest.projections.status()[0].read is None
    with pytest.raises(RebuildRefused, match="nothing can be compared"):
        newest.projections.rebuild("run_list")
    newest.projections.rebuild("run_list", compare=False)
    assert newest.list_runs(limit=1).total == engine.list_runs(limit=1).total
    assert newest.projections.drop("run_list") == ("run_list_v1",)


def test_readers_see_the_old_or_the_new_and_never_an_error(place: Place, engine: Engine) -> None:
    stop = threading.Event()
    failed: list[BaseException] = []
    total = engine.list_runs(limit=1).total

    def read() -> None:
        mine = place.open()
        try:
            while not stop.is_set():
                page = mine.list_runs(limit=20)
                assert page.total == total
                assert len(page.runs) == 20
                mine.step_funnel("outreach")
                mine.contact_at("contact_1")
        except BaseException as error:
            failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(count(3, 20)):
            for name in NAMES:
                engine.projections.rebuild(name)
                engine.projections.drop(name)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert failed == []
