"""Projections rebuilt beside the live ones, on every backend, with everything that may go wrong."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from dee_es import Contact, Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.storage.memory.views import MemoryViews
from dee_es.adapters.storage.relational.views import RelationalViews
from dee_es.core.projection import Build, Change
from dee_es.core.registry import REGISTRY
from dee_es.engine.projecting import overlay, pace, projector
from dee_es.engine.projecting.building import code_of
from dee_es.engine.projecting.folding import advance
from dee_es.engine.projecting.models import RebuildProgress
from dee_es.engine.projecting.pages import open_page
from dee_es.errors import (
    ConcurrencyConflict,
    IntegrityViolation,
    InvalidInput,
    ProjectionStuck,
    ProjectionUnavailable,
    RebuildRefused,
    UnknownEventVersion,
)
from dee_es.ports import Action, ChannelResult, SendContext, beside
from projections import RUN_LIST
from tests.support.cli.commands import ROOT
from tests.support.counts import count
from tests.support.engines import BACKENDS, database_url, fickle, outreach
from tests.support.runs.busy import keep_busy, person, prepare
from tests.support.storage.originals import Originals
from tests.support.versions.code import (
    BrokenRunList,
    DeclaredRunList,
    LouderRunList,
    WiderRow,
    WiderRunList,
    builds,
    contents,
    engine_with,
    served,
    views_of,
)
from tests.support.versions.schemas import register

NAMES = ("run_list", "audit_trail", "contact_history", "step_funnel")
DISK = ("sqlite", "postgres")


class Place:
    """An empty database that several engines, of several versions of the code, may open."""

    def __init__(self, kind: str, url: str, folder: Path) -> None:
        self.kind = kind
        self.url = url
        self.folder = folder
        self.keys = folder / "keys.db"
        self._opened: list[Engine] = []

    def open(self, **given: Any) -> Engine:
        """An engine on it; closed when the test ends."""
        given.setdefault("channel", MemoryChannel(fickle))
        engine = engine_with(self.url, self.keys, **given)
        self._opened.append(engine)
        return engine

    def close(self) -> None:
        """Close all that were opened."""
        while self._opened:
            self._opened.pop().close()


@pytest.fixture(params=DISK)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Place]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    place = Place(request.param, url, tmp_path)
    yield place
    place.close()


def _fill(url: str, folder: Path) -> None:
    with engine_with(url, folder / "keys.db", channel=MemoryChannel(fickle)) as engine:
        prepare(engine)
        keep_busy(engine, 600, seed=1)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Originals[None]]:
    with closing(Originals(tmp_path_factory.mktemp("busy"), postgres_url, _fill)) as originals:
        yield originals


@pytest.fixture
def engine(place: Place, busy: Originals[None]) -> Iterator[Engine]:
    """An engine whose log has something of everything."""
    with busy.copied(place.kind, place.folder) as (place.url, _):
        yield place.open()
        place.close()


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
    stop = threading.Event()
    failed: list[BaseException] = []

    def write(number: int) -> None:
        other = place.open()
        try:
            n = 0
            while not stop.is_set():
                other.execute(outreach(), contact=person(10**6 * (number + 1) + n))
                n += 1
                # Folding one event in a transaction is no quicker than writing one.
                stop.wait(0.05 if page < 100 else 0)
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    try:
        for name in NAMES:
            done = engine.projections.rebuild(name, page=page)
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
    assert total == engine._parts.store.log_head().ordinal


class Killed(BaseException):
    """What ends a rebuild here as kill -9 would: nothing after it is done."""


@contextmanager
def killed_at(engine: Engine, turn: int, *, committed: bool) -> Iterator[None]:
    """Break off in the transaction of this number, right before or right after its commit."""
    views: Any = views_of(engine)
    seen = 0

    def broken(original: Callable[[], Any]) -> Callable[[], Any]:
        @contextmanager
        def turned() -> Iterator[Any]:
            nonlocal seen
            seen += 1
            mine = seen
            with original() as tx:
                yield tx
                if mine == turn and not committed:
                    raise Killed
            if mine == turn and committed:
                raise Killed

        return turned

    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        for name in ("building", "transaction"):
            patch.setattr(views, name, broken(getattr(views, name)))
        yield


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


CHILD = """
import sys
from pathlib import Path
from tests.support.versions.code import engine_with, WiderRunList
with engine_with(sys.argv[1], Path(sys.argv[2]), run_list=WiderRunList()) as engine:
    print("ready", flush=True)
    done = engine.projections.rebuild("run_list", page=5, throttle=float(sys.argv[3]),
        on_progress=lambda p: print(p.phase, p.done, flush=True))
    print("done", done.resumed_at, flush=True)
"""


def child(place: Place, throttle: float = 1.0) -> subprocess.Popen[str]:
    """A process that rebuilds the run list of version 2."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, place.url, str(place.keys), str(throttle)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


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


# --- a new version --------------------------------------------------------------------------------


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


# --- drift ----------------------------------------------------------------------------------------


def tamper(engine: Engine, statement: str) -> None:
    """Change a projection table past the engine."""
    with views_of(engine).building() as tx:
        tx._session.ask(statement).fetchall()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "statement, said",
    [
        ("UPDATE run_list_v1 SET steps_completed = 77 WHERE ordinal = 1 RETURNING 1", "steps_"),
        ("DELETE FROM run_list_v1 WHERE ordinal = 2 RETURNING 1", "run_list"),
        ("UPDATE run_list_v1_counts SET n = n + 1 WHERE status = 'waiting' RETURNING 1", "counts"),
    ],
)  # fmt: skip
def test_drift_is_found_and_put_right(
    place: Place, engine: Engine, statement: str, said: str
) -> None:
    assert engine.projections.verify("run_list").ok
    tamper(engine, statement)
    found = engine.projections.verify("run_list")
    assert not found.ok
    assert found.comparison.differences >= 1
    assert any(said in f"{s.table} {s.only_old}" for s in found.comparison.samples)
    assert builds(engine) == {(1, 1): "serving"}
    with pytest.raises(RebuildRefused):
        engine.projections.rebuild("run_list")
    engine.projections.rebuild("run_list", accept=True)
    assert engine.projections.verify("run_list").ok


def test_a_row_of_a_run_that_the_log_has_not_is_told_of(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghost = "run_" + "a" * 26
    tamper(engine, f"UPDATE run_list_v1 SET run_id = '{ghost}' WHERE ordinal = 1 RETURNING 1")
    looks = []
    look = engine._queries._rows

    def looked(*given: Any) -> Any:
        looks.append(given)
        assert len(looks) < 20, "it looks again and again"
        return look(*given)

    monkeypatch.setattr(engine._queries, "_rows", looked)
    with pytest.raises(IntegrityViolation, match=f"{ghost}.*dee projections verify run_list"):
        engine.list_runs(limit=10_000)
    assert not engine.projections.verify("run_list").ok


def test_the_rows_of_one_run_or_contact_are_made_anew(place: Place, engine: Engine) -> None:
    run = engine.list_runs(limit=1, plan_id="outreach").runs[0]
    for name in NAMES:
        served(engine, name)
    before = {name: contents(engine, served(engine, name)) for name in NAMES}
    for table, column in [
        ("run_list_v1", "run_id"),
        ("step_funnel_v1", "run_id"),
        ("audit_trail_v3", "stream_id"),
    ]:
        tamper(engine, f"UPDATE {table} SET plan_id = 'x' WHERE {column} = '{run.id}' RETURNING 1")
    tamper(engine, f"DELETE FROM contact_history_v1 WHERE run_id = '{run.id}' RETURNING 1")
    for name in NAMES:
        by_run = name in ("run_list", "contact_history")
        given = {"run_id": run.id} if by_run else {"contact_id": run.contact_id}
        assert engine.projections.refold(name, **given).parked == 0
    # What the tampered rows were counted as was not what had been counted.
    for name in ("audit_trail", "contact_history"):
        assert contents(engine, served(engine, name)) == before[name]
    for name in ("run_list", "step_funnel"):
        after, was = contents(engine, served(engine, name)), before[name]
        assert {n: rows for n, (rows, _) in after.items()} == {n: r for n, (r, _) in was.items()}
    with pytest.raises(InvalidInput, match="either a run or a contact"):
        engine.projections.refold("run_list")
    with pytest.raises(InvalidInput, match="nothing of it"):
        engine.projections.refold("run_list", run_id="run_" + "a" * 26)


# --- poison ---------------------------------------------------------------------------------------


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


# --- what never happens ---------------------------------------------------------------------------


def test_no_channel_is_touched(place: Place, engine: Engine) -> None:
    def refuse(_: Action, __: SendContext) -> ChannelResult:
        raise AssertionError("a rebuild must send nothing")

    newer = place.open(run_list=WiderRunList(), channel=MemoryChannel(refuse))
    newer.projections.rebuild("run_list", page=50)
    for name in NAMES[1:]:
        newer.projections.rebuild(name, page=50)
        newer.projections.verify(name)
    assert newer.projections.verify("run_list").ok


def test_an_estimate_writes_nothing(place: Place, engine: Engine) -> None:
    newer = place.open(run_list=WiderRunList())
    found = newer.projections.estimate("run_list")
    assert (found.version, found.served_version, found.measured) == (2, 1, False)
    assert found.events == engine.health().position
    assert found.rows == engine.list_runs(limit=1).total
    assert found.rate > 0
    assert builds(newer) == {(1, 1): "serving"}
    newer.projections.rebuild("run_list")
    assert newer.projections.estimate("run_list").measured


def test_an_estimate_tells_what_a_version_that_is_behind_will_be(
    place: Place, engine: Engine
) -> None:
    """Nobody has asked for the audit trail yet: what it holds says nothing of what it will."""
    head = engine.health().position
    found = engine.projections.estimate("audit_trail")
    assert (found.rows, found.bytes, found.served_lag) == (None, None, head)
    engine.projections.catch_up("audit_trail")
    level = engine.projections.estimate("audit_trail")
    assert level.served_lag == 0
    assert level.rows == engine.list_runs(limit=1).total
    with views_of(engine).transaction() as tx:
        # As if as much again had been written since.
        row = next(row for row in tx.builds("audit_trail"))
        tx.save_build(msgspec.structs.replace(row, position=head // 2))
    assert engine.projections.estimate("audit_trail").rows == level.rows * head // (head // 2)


@pytest.mark.parametrize("work", ["rebuild", "verify"])
@pytest.mark.parametrize("throttle", [1.0, 0.9])
def test_what_the_served_version_lacks_is_folded_in_pieces_that_are_told(
    place: Place, engine: Engine, work: str, throttle: float
) -> None:
    """Nobody may have read it for a long time, and each piece holds up those who write."""
    head = engine.health().position
    told: list[RebuildProgress] = []
    act = getattr(engine.projections, work)
    act("audit_trail", page=100, throttle=throttle, on_progress=told.append)
    pieces = [each.done for each in told if each.phase == "catching up"]
    assert len(pieces) >= head // 100
    assert pieces == sorted(pieces)
    assert (pieces[0], pieces[-1]) == (100 if throttle == 1 else pieces[0], head)
    assert {each.total for each in told if each.phase == "catching up"} == {head}


def test_writers_get_their_turn_while_what_is_served_catches_up(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a rebuild that rests nowhere else: SQLite gives a lock to whoever happens to ask.
    PostgreSQL keeps a queue."""
    rests: dict[str, int] = {}
    phase = "reading"

    def rest(seconds: float) -> None:
        rests[phase] = rests.get(phase, 0) + 1

    def tell(progress: RebuildProgress) -> None:
        nonlocal phase
        phase = progress.phase

    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=time.perf_counter, sleep=rest))
    engine.projections.rebuild("audit_trail", page=100, on_progress=tell)
    turns = engine.health().position // 100 - 1
    assert (rests.get("catching up", 0) >= turns) == (not views_of(engine).queues)


def test_writers_get_their_turn_while_a_query_catches_up(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may have asked for a long time; who asks often waits for nobody."""
    rests: list[float] = []
    clock = SimpleNamespace(perf_counter=time.perf_counter, sleep=rests.append)
    monkeypatch.setattr(pace, "time", clock)
    pieces = -(-engine.health().position // projector.PIECE)
    assert pieces > 1
    engine.audit.query(limit=1)
    assert len(rests) == (0 if views_of(engine).queues else pieces - 1)
    rests.clear()
    engine.execute(outreach(), contact=person(10**8))
    engine.audit.query(limit=1)
    assert not rests


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


def test_status(place: Place, engine: Engine) -> None:
    served(engine, "audit_trail")
    status = {each.name: each for each in engine.projections.status()}
    head = engine.health().position
    assert status["run_list"].lag_events == status["audit_trail"].lag_events == 0
    assert status["step_funnel"].lag_events == head
    assert status["step_funnel"].lag_seconds > 0
    assert status["audit_trail"].rows == status["run_list"].rows
    assert status["run_list"].rows == engine.list_runs(limit=1).total
    assert (status["run_list"].bytes or 0) > 1_000
    # What the number of runs tells is what is counted, where it says so.
    counted = {each.name: each for each in engine.projections.status(count=True)}
    assert all(each.rows_exact for each in counted.values())
    for name, each in status.items():
        assert each.rows_exact == (each.lag_events == 0 or each.position == 0)
        assert each.rows == counted[name].rows
    assert status["run_list"].last_rebuild is None
    engine.projections.rebuild("run_list")
    last = engine.projections.status()[0].last_rebuild
    assert last is not None
    assert last.finished is not None
    assert (last.events, last.rate > 0, len(last.digest)) == (head, True, 64)
    engine.execute(outreach(), Contact(id="one-more", email="m@example.com", firstName="M"))
    behind = {each.name: each for each in engine.projections.status()}
    assert not behind["audit_trail"].rows_exact
    assert behind["run_list"].rows == status["run_list"].rows + 1


def test_status_reads_through_no_table_unless_it_is_asked_to(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(*_: object) -> tuple[int, int]:
        raise AssertionError("nobody asked to count")

    for views in (RelationalViews, MemoryViews):
        monkeypatch.setattr(views, "size", size)
    served(engine, "audit_trail")
    assert all(each.rows_exact for each in engine.projections.status())
    with pytest.raises(AssertionError, match="nobody asked"):
        engine.projections.status(count=True)


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
