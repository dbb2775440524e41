"""Archiving: ended runs leave the log for files, and nothing else notices but by their absence."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from dee_es import Contact, Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.engine.retention import archiver as archiving
from dee_es.errors import (
    AnchorUnavailable,
    ConcurrencyConflict,
    ContactSuppressed,
    HoldInForce,
    IntegrityViolation,
    InvalidInput,
    RunArchived,
    RunNotFound,
)
from dee_es.ports import Action, ChannelResult, SendContext
from tests.support.counts import count
from tests.support.engines import (
    BACKENDS,
    DAY,
    EPOCH,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    people,
    publish_basics,
)
from tests.support.evidence.exports import made_log
from tests.support.runs.busy import keep_busy, person, prepare
from tests.support.storage.originals import Originals

EVENTS = count(400, 20_000)
NAMES = ("run_list", "audit_trail", "contact_history", "step_funnel")


@dataclass
class Case:
    """A busy database, and a folder for its archives."""

    engine: Engine
    folder: Path
    url: str

    @property
    def place(self) -> str:
        return str(self.folder / "archives")

    def archive(self, days: float = 0.25, **options: object) -> archiving.ArchiveResult:
        before = self.engine.now().now - timedelta(days=days)
        return self.engine.audit.archive(before, place=self.place, actor="ann", **options)  # type: ignore[arg-type]

    def ended(self, days: float = 0.25) -> set[str]:
        before = self.engine.now().now - timedelta(days=days)
        return {
            run.id
            for run in every_run(self.engine)
            if run.completed_at is not None and run.completed_at < before
        }


def every_run(engine: Engine) -> list[object]:
    found, cursor = [], None
    while True:
        page = engine.list_runs(limit=500, cursor=cursor)
        found += page.runs
        cursor = page.next_cursor
        if cursor is None:
            assert len(found) == page.total
            return found


def _live(engine: Engine) -> None:
    prepare(engine)
    keep_busy(engine, EVENTS, seed=1)
    engine.run_until(engine.now().tick + 7 * DAY)
    keep_busy(engine, EVENTS // 3, seed=2, first=1_000)


def _fill(url: str, folder: Path) -> None:
    with open_engine(url, keys=folder / "keys.db") as engine:
        _live(engine)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Originals[None]]:
    with closing(Originals(tmp_path_factory.mktemp("busy"), postgres_url, _fill)) as originals:
        yield originals


@pytest.fixture(params=BACKENDS)
def case(request: pytest.FixtureRequest, tmp_path: Path, busy: Originals[None]) -> Iterator[Case]:
    keys = tmp_path / "keys.db"
    if request.param == "memory":
        with open_engine(":memory:", keys=keys) as engine:
            _live(engine)
            yield Case(engine, tmp_path, ":memory:")
        return
    with busy.copied(request.param, tmp_path) as (url, _), open_engine(url, keys=keys) as engine:
        yield Case(engine, tmp_path, url)


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_limits_counted_on_days_long_gone_leaves_too(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    with open_engine(database_url(kind, tmp_path, fresh_postgres)) as engine:
        publish_basics(engine)
        budget = {"amount": 9, "currency": "EUR", "costPerSend": {"email": 1}, "per": "total"}
        engine.publish_policy({"limits": {"perDay": {"channel": {"email": 5}}}, "budget": budget})
        store = engine._parts.store
        first = EPOCH.toordinal() - date(1970, 1, 1).toordinal()
        mails = [("channel:email", first + day) for day in range(5)]
        total = ("budget:total:EUR", 0)
        for day in range(6):
            engine.execute(outreach(f"of{day}"), people(6)[day])
            engine.run_until(day * DAY + 60)
        sent = store.counters([*mails, total])
        assert set(sent) == {*mails, total}

        def archive(before: timedelta, **options: bool) -> None:
            time = EPOCH + before
            engine.audit.archive(time, place=str(tmp_path / "archives"), actor="ann", **options)  # type: ignore[arg-type]

        archive(timedelta(days=3, hours=5), dry_run=True)
        assert store.counters([*mails, total]) == sent
        archive(timedelta(days=3, hours=5))
        kept = {key: n for key, n in sent.items() if key not in mails[:2]}
        assert store.counters([*mails, total]) == kept
        # Days to come are not over, whatever is asked for.
        archive(timedelta(days=900))
        kept = {key: n for key, n in sent.items() if key in (*mails[4:], total)}
        assert store.counters([*mails, total]) == kept


def test_ended_runs_leave_and_all_else_stays_as_it_was(case: Case) -> None:
    engine = case.engine
    gone = case.ended()
    before = {run.id: run for run in every_run(engine)}
    entries = {run_id: engine.audit.get_by_run(run_id) for run_id in gone}
    head = engine.health().position
    assert len(gone) > 5
    assert len(gone) < len(before)
    result = case.archive()
    assert (result.runs, result.held) == (len(gone), 0)
    assert result.entries == sum(map(len, entries.values()))
    after = {run.id: run for run in every_run(engine)}
    assert after == {run_id: run for run_id, run in before.items() if run_id not in gone}
    archives = engine.audit.archives()
    numbers = "|".join(str(number) for number in range(1, len(archives) + 1))
    for run_id in gone:
        with pytest.raises(
            RunArchived, match=f"{run_id} has left the log for archive ({numbers}):"
        ):
            engine.get_run(run_id)
        with pytest.raises(RunNotFound):
            engine.get_timeline(run_id)
        with pytest.raises(RunNotFound):
            engine.ingest_event("email.replied", before[run_id].contact_id, run_id)
    assert sum(archive.runs for archive in archives) == len(gone)
    assert sum(archive.entries for archive in archives) == result.entries
    assert {archive.actor for archive in archives} == {"ann"}
    assert engine.health().position == head + len(archives)
    # All the trail has is what the log has: every other entry, and those of the archives.
    assert engine.audit.query(limit=1).total == head + len(archives) - result.entries
    assert_replays(engine)
    assert case.archive().runs == 0


def test_a_run_that_ended_at_that_very_tick_stays() -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), Contact(id="c", email="c@example.com", firstName="N"))
        engine.run_until(5)
        ended = engine.cancel_run(run.id, "over").completed_at
        assert ended is not None
        engine.run_until(9)
        assert engine.audit.archive(ended, place="memory://archives").runs == 0
        later = ended + timedelta(seconds=1)
        assert engine.audit.archive(later, place="memory://archives").runs == 1


def test_projections_are_what_a_rebuild_makes_of_the_rest(case: Case) -> None:
    engine = case.engine
    engine.audit.query(limit=1)
    gone = case.ended()
    case.archive()
    for name in NAMES:
        assert engine.projections.verify(name).ok, name
    runs = {run.id: run for run in every_run(engine)}
    # The question itself is an event, too.
    left = engine.audit.query(limit=1).total + 1
    for name in NAMES:
        assert engine.projections.estimate(name).events == left
        assert engine.projections.rebuild(name).events == left
        assert engine.projections.verify(name).ok, name
        # Of a run that has left, nothing can be made anew.
        with pytest.raises(InvalidInput, match="nothing of it"):
            engine.projections.refold(name, run_id=min(gone))
    for status in engine.projections.status():
        assert status.last_rebuild is not None
        assert status.last_rebuild.events == left
    # Runs keep their numbers, although those of others are missing now.
    assert {run.id: run for run in every_run(engine)} == runs
    assert not gone & runs.keys()
    keep_busy(engine, 100, seed=3, first=10_000)
    case.archive(0)
    for name in NAMES:
        assert engine.projections.verify(name).ok, name
    assert_replays(engine)


def test_a_projection_that_was_behind_misses_nothing(case: Case) -> None:
    """The lazy ones have folded nothing of the runs that leave."""
    engine = case.engine
    case.archive()
    for name in NAMES:
        assert engine.projections.verify(name).ok, name
    head = engine.health().position
    assert engine.audit.query(limit=1).total == head - engine._parts.store.archived()


def test_whoever_was_archived_is_enrolled_anew_under_the_next_number(case: Case) -> None:
    engine = case.engine
    runs = {run.contact_id: run for run in every_run(engine) if run.id in case.ended()}
    may_be = [run for run in runs.values() if run.plan_id == "outreach"]
    people = [Contact(id=run.contact_id, email="new@example.com") for run in may_be]
    chosen, person_again = next(
        (run, contact)
        for run, contact in zip(may_be, people, strict=True)
        if engine.bulk_execute(outreach(), [contact], dry_run=True).created
    )
    case.archive()
    again = engine.execute(outreach(), person_again)
    assert again.enrollment == chosen.enrollment + 1
    assert again.ordinal > chosen.ordinal
    engine.run_until_idle()
    assert engine.verify_audit_chain(again.id).valid


def test_a_file_holds_the_runs_as_they_were_stored(case: Case) -> None:
    engine = case.engine
    stored = {run_id: engine._parts.store.read_stream(run_id) for run_id in case.ended()}
    case.archive()
    positions, runs = list[int](), 0
    for archive in engine.audit.archives():
        path = case.folder / "archives" / archive.name
        assert path.stat().st_mode & 0o777 == 0o600
        content = gzip.decompress(path.read_bytes())
        lines = [json.loads(line) for line in content.splitlines()]
        assert lines[0]["format"] == "dee-archive/1"
        held = [line["position"] for line in lines[1:-1]]
        assert held == sorted(held)
        assert (lines[-1]["runs"], lines[-1]["entries"]) == (archive.runs, len(held))
        assert b"@example.com" not in content
        positions += held
        runs += archive.runs
    assert runs == len(stored)
    assert sorted(positions) == sorted(row.position for rows in stored.values() for row in rows)
    for run_id, rows in stored.items():
        assert engine._archiver.stream(run_id) == rows


def test_an_archived_run_is_taken_out_and_looked_at_elsewhere(case: Case, tmp_path: Path) -> None:
    engine = case.engine
    chosen = sorted(case.ended())[0]
    before = engine.get_run(chosen)
    timeline = engine.get_timeline(chosen)
    case.archive()
    content = engine.export_run(chosen)
    with open_engine(f"sqlite:///{tmp_path / 'scratch.db'}") as scratch:
        assert scratch.import_run(content) == chosen
        found = scratch.get_run(chosen)
        assert found.variables == before.variables
        assert (found.status, found.outcome) == (before.status, before.outcome)
        assert scratch.get_timeline(chosen) == timeline
        assert scratch.replay(chosen).identical


def test_who_asks_for_an_archived_run_is_told_where_it_is(case: Case) -> None:
    """It was told that nobody had tried to enroll the contact, and that the run had no entry."""
    engine = case.engine
    chosen = sorted(case.ended())[0]
    run = engine.get_run(chosen)
    left = len(case.ended() & {each.id for each in engine.list_runs(
        contact_id=run.contact_id, plan_id=run.plan_id).runs})  # fmt: skip
    case.archive()
    told = engine.explain_contact(run.contact_id, run.plan_id)
    assert f" {left} left the log for an archive." in told.now
    assert f"dee archive export {chosen} FILE" in told.advice
    assert "nobody tried" not in told.now
    with pytest.raises(RunArchived):
        engine.audit.prove(chosen, 1)


def test_several_files_where_there_is_much(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = case.ended()
    monkeypatch.setattr(archiving, "RUNS_A_FILE", 7)
    monkeypatch.setattr(archiving, "BYTES_A_FILE", 20_000)
    told: list[int] = []
    result = case.archive(on_progress=lambda so_far: told.append(so_far.runs))
    assert result.runs == len(gone)
    assert told == sorted(told)
    assert told[-1] == len(gone)
    archives = case.engine.audit.archives()
    assert [each.number for each in archives] == list(range(1, len(archives) + 1))
    assert len(archives) > len(gone) / 7
    verdicts = case.engine.audit.verify_archives()
    assert all(verdict.valid for verdict in verdicts)
    assert len(verdicts) == len(archives)


def test_counting_first_writes_nothing(case: Case) -> None:
    head = case.engine.health().position
    result = case.archive(dry_run=True)
    assert result.runs == len(case.ended())
    assert result.archives == []
    assert case.engine.health().position == head
    assert not Path(case.place).exists()
    assert result.entries == case.archive().entries


# --- holds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_that_was_cancelled_while_its_message_was_under_way_stays_until_that_is_settled(
    backend: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    def cancel_and_fall_silent(action: Action, _: SendContext) -> ChannelResult:
        engine.cancel_run(action.run_id, "not wanted any more")
        raise KeyboardInterrupt

    url = database_url(backend, tmp_path, fresh_postgres)
    with open_engine(url, channel=MemoryChannel(cancel_and_fall_silent)) as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), Contact(id="ada", email="a@example.com", firstName="Ada"))
        with pytest.raises(KeyboardInterrupt):
            engine.tick()
        engine.clock.move_to(DAY)
        place = str(tmp_path / "archives")
        assert engine.audit.archive(engine.now().now, place=place, dry_run=True).runs == 0
        assert engine.audit.archive(engine.now().now, place=place).runs == 0
        engine.run_until_idle()
        assert engine.get_timeline(run.id)[-1].action == "error.outcome_unknown"
        assert engine.audit.archive(engine.now().now, place=place).runs == 1
        assert engine.metrics().due == 0


def test_what_is_held_stays(case: Case) -> None:
    engine = case.engine
    gone = sorted(case.ended())
    runs = {run.id: run for run in every_run(engine)}
    first = engine.place_hold(run_id=gone[0], reason="Smith v. Jones", actor="lawyer")
    second = engine.place_hold(contact_id=runs[gone[1]].contact_id, reason="inquiry")
    held = {run for run in gone if runs[run].contact_id == runs[gone[1]].contact_id} | {gone[0]}
    assert [hold.hold_id for hold in engine.holds()] == ["hold_1", "hold_2"]
    assert (first.run_id, first.actor, first.reason) == (gone[0], "lawyer", "Smith v. Jones")
    result = case.archive()
    assert (result.runs, result.held) == (len(gone) - len(held), len(held))
    assert result.holds == {"hold_1", "hold_2"}
    for run in held:
        assert engine.get_run(run).id == run
    engine.lift_hold(second.hold_id, "inquiry is over")
    engine.lift_hold(first.hold_id, "settled")
    assert engine.holds() == []
    assert case.archive().runs == len(held)
    assert engine.place_hold(run_id=gone[0], reason="again").hold_id == "hold_3"


def test_a_hold_stops_an_erasure(case: Case) -> None:
    engine = case.engine
    run = every_run(engine)[0]
    head = engine.health().position
    hold = engine.place_hold(run_id=run.id, reason="Smith v. Jones", actor="lawyer")
    with pytest.raises(HoldInForce, match=r"legal hold hold_1, placed by lawyer at .*Smith"):
        engine.erase_contact(run.contact_id, "asked")
    assert engine.health().position == head + 1
    engine.lift_hold(hold.hold_id, "settled")
    again = engine.place_hold(contact_id=run.contact_id, reason="inquiry")
    with pytest.raises(HoldInForce, match="hold_2"):
        engine.erase_contact(run.contact_id, "asked")
    engine.lift_hold(again.hold_id, "over")
    assert engine.erase_contact(run.contact_id, "asked").key_destroyed
    with pytest.raises(InvalidInput, match="was erased; there is nothing to hold"):
        engine.place_hold(contact_id=run.contact_id, reason="late")


def test_a_hold_is_told_in_a_line(case: Case) -> None:
    case.engine.place_hold(contact_id="contact_1", reason="lawsuit\n\x1b[2J\u202ecase")
    with pytest.raises(HoldInForce) as caught:
        case.engine.erase_contact("contact_1", "asked")
    assert str(caught.value).isprintable()


def test_a_hold_keeps_an_archived_run_readable(case: Case) -> None:
    engine = case.engine
    chosen = sorted(case.ended())[0]
    contact = engine.get_run(chosen).contact_id
    case.archive()
    engine.place_hold(run_id=chosen, reason="Smith v. Jones")
    with pytest.raises(HoldInForce):
        engine.erase_contact(contact, "asked")


@pytest.mark.parametrize(
    "given, problem",
    [
        ({"reason": "x"}, "either a run or a contact"),
        ({"reason": " ", "contact_id": "contact_0"}, "reason"),
        ({"reason": "x", "contact_id": "nobody"}, "nothing is known"),
        ({"reason": "x", "contact_id": "contact_0", "run_id": "run_x"}, "either"),
    ],
)
def test_a_hold_on_nothing_is_refused(case: Case, given: dict[str, str], problem: str) -> None:
    head = case.engine.health().position
    with pytest.raises(InvalidInput, match=problem):
        case.engine.place_hold(**given)  # type: ignore[arg-type]
    with pytest.raises(RunNotFound):
        case.engine.place_hold(run_id="run_" + "a" * 26, reason="x")
    with pytest.raises(InvalidInput, match="no hold 'hold_9' is in force"):
        case.engine.lift_hold("hold_9", "x")
    assert case.engine.health().position == head


def test_a_hold_is_placed_once_for_one_command(case: Case) -> None:
    engine = case.engine
    first = engine.place_hold(contact_id="contact_0", reason="x", command_id="cmd_1")
    assert engine.place_hold(contact_id="contact_0", reason="x", command_id="cmd_1") == first
    assert len(engine.holds()) == 1


# --- what can be wrong ----------------------------------------------------------------------------


def test_a_place_that_lies_lets_nothing_go(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = case.engine
    runs, head = every_run(engine), engine.health().position
    real = engine._archiver._places

    class Lossy:
        """Gives back less than was written, as a full disk might."""

        def __init__(self, url: str) -> None:
            self._inner = real(url)
            self.address = self._inner.address
            self.write = self._inner.write

        def read(self, name: str) -> Iterator[bytes]:
            yield b"".join(self._inner.read(name))[:-20]

    monkeypatch.setattr(engine._archiver, "_places", Lossy)
    with pytest.raises(IntegrityViolation, match=r"cannot be read back|was cut off"):
        case.archive()
    assert every_run(engine) == runs
    assert engine.health().position == head
    assert engine.audit.archives() == []


def test_a_run_that_does_not_verify_is_not_archived(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = case.engine._parts.store
    real = store.read_streams

    def damaged(ids: list[str]) -> dict[str, list[object]]:
        found = real(ids)
        for rows in found.values():
            del rows[1]
        return found  # type: ignore[return-value]

    monkeypatch.setattr(store, "read_streams", damaged, raising=False)
    with pytest.raises(IntegrityViolation, match=r"entry 2 is missing .* was not archived"):
        case.archive()
    assert store.tombstones(0, 1) == []


def test_a_place_that_is_not_there(case: Case) -> None:
    (case.folder / "file").write_text("x")
    before = case.engine.now().now
    with pytest.raises(AnchorUnavailable, match="file"):
        case.engine.audit.archive(before, place=str(case.folder / "file" / "inside"))
    with pytest.raises(InvalidInput, match="DEE_ARCHIVES"):
        case.engine.audit.archive(before)
    assert case.engine.audit.archives() == []


def test_no_rebuild_runs_beside_it(case: Case) -> None:
    with case.engine._parts.views.rebuilding("run_list"), pytest.raises(ConcurrencyConflict):
        case.archive()


def test_an_archive_that_was_touched_is_named(case: Case) -> None:
    engine = case.engine
    case.archive()
    archive, *others = engine.audit.archives()
    path = case.folder / "archives" / archive.name
    content = path.read_bytes()
    for damaged in (content[:-9], content[:50] + b"x" + content[51:], b""):
        path.write_bytes(damaged)
        verdict, *rest = engine.audit.verify_archives()
        assert verdict.valid is False
        assert [each.valid for each in rest] == [True] * len(others)
        assert "is not the file that was archived" in str(verdict.problem)
    moved = case.folder / "elsewhere"
    moved.mkdir()
    (moved / archive.name).write_bytes(content)
    path.unlink()
    unread = engine.audit.verify_archives()[0]
    assert unread.valid is None, "nobody can tell what is in a file that is not there"
    assert archive.name in str(unread.problem)
    assert engine.audit.verify_archives(place=str(moved))[0].valid
    shutil.rmtree(moved)


def test_an_erasure_knows_the_addresses_of_archived_runs(case: Case) -> None:
    engine = case.engine
    chosen = sorted(case.ended())[0]
    contact = engine.get_run(chosen).contact_id
    others = [run.id for run in every_run(engine) if run.contact_id == contact]
    number = int(contact.removeprefix("contact_"))
    case.archive()
    done = engine.erase_contact(contact, "asked")
    assert set(others) == set(done.runs)
    told = json.loads(done.certificate.partition("\n\n")[0])
    assert [each["number"] for each in told["left"]["archives"]] == [1]
    same = person(number)
    with pytest.raises(Exception, match="suppressed"):
        engine.execute(outreach("other"), Contact(id="somebody-else", email=same.email))
    # What is archived can be read, but for what is personal.
    with open_engine(f"sqlite:///{case.folder / 'scratch.db'}") as scratch:
        scratch.import_run(engine.export_run(chosen))
        assert scratch.get_run(chosen).variables == {}
        assert scratch.replay(chosen).verdict in ("erased", "identical")


def test_an_erasure_knows_what_is_archived_while_it_begins(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = case.engine
    contact = engine.execute(outreach(), Contact(id="moved", email="moved@example.com",
                                                 firstName="M")).contact_id  # fmt: skip
    run = engine.list_runs(contact_id=contact).runs[0].id
    engine.cancel_run(run, "over")
    engine.run_until(engine.now().tick + DAY)
    erasure = engine._erasure
    places = erasure._places

    def archived_meanwhile(place: str) -> object:
        case.archive()
        return places(place)

    monkeypatch.setattr(erasure, "_places", archived_meanwhile)
    done = engine.erase_contact(contact, "asked")
    with pytest.raises(RunArchived):
        engine.get_run(run)
    assert done.runs == (run,)
    told = json.loads(done.certificate.partition("\n\n")[0])
    assert [each["number"] for each in told["left"]["archives"]] == [1]
    with pytest.raises(ContactSuppressed):
        engine.execute(outreach("other"), Contact(id="somebody-else", email="moved@example.com"))


@pytest.mark.parametrize("deleted", [False, True])
def test_archives_are_held_against_what_the_log_keeps_of_them(
    tmp_path: Path, deleted: bool
) -> None:
    """Somebody changes what is left in the log of entries that were archived."""
    with made_log("sqlite", tmp_path, str) as log:
        log.engine.run_until(30 * DAY)
        log.engine.audit.archive(log.engine.now().now, place=str(tmp_path / "archives"))
        assert log.engine.audit.verify_archives()[0].valid
        stone = log.engine._parts.store.tombstones(0, log.engine.audit.size())[3]
        change = "DELETE FROM tombstones WHERE position = ?"
        if not deleted:
            change = "UPDATE tombstones SET checksum = zeroblob(32) WHERE position = ?"
        log.shell((change, (stone.position,)))
        (verdict,) = log.engine.audit.verify_archives()
        assert not verdict.valid
        assert "what the log keeps" in str(verdict.problem)
        # Nor is such a run believed where an erasure reads what it began with.
        with pytest.raises(IntegrityViolation, match="not what left the log"):
            log.engine._archiver.stream(stone.stream_id)


def test_time_goes_by_the_log(case: Case) -> None:
    assert case.engine.audit.archive(EPOCH, place=case.place).runs == 0
