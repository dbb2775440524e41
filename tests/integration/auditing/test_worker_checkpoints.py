"""A worker signs the log by itself: when, how much is read for it, and what goes wrong with it."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.anchors import create_signer
from dee_es.adapters.keys import open_sqlite_keys
from dee_es.core.events import CheckpointSigned, HoldPlaced
from dee_es.core.evidence import chain, merkle
from dee_es.engine.auditing import periodic
from dee_es.engine.auditing.signing import SignedCheckpoint
from dee_es.errors import IntegrityViolation
from dee_es.ports import Signer
from tests.support.counts import count
from tests.support.engines import EPOCH, database_url, master_of, outreach, publish_basics
from tests.support.waiting import PATIENCE_S

Fresh = Callable[[], str]


@dataclass
class Case:
    """A database with two places for its checkpoints."""

    url: str
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def places(self) -> list[Path]:
        return [self.folder / "places", self.folder / "repository"]

    def open(self, **changes: Any) -> Engine:
        """An engine as a process of its own would have it."""
        values: dict[str, Any] = {
            "clock": "manual",
            "epoch": EPOCH,
            "checkpoints": f"{self.places[0]} git:{self.places[1]}",
            "checkpoint_every_events": 5,
            "checkpoint_every_s": 60,
            "audit_key_file": str(self.folder / "audit.key"),
            "outbox": str(self.folder / "outbox"),
            **self.settings,
            **changes,
        }
        keys = self.folder / "keys.db"
        return Engine(
            EngineConfig(self.url, **values), keys=open_sqlite_keys(str(keys), master_of(keys))
        )


@pytest.fixture(params=["sqlite", "postgres"])
def case(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Fresh) -> Case:
    case = Case(database_url(request.param, tmp_path, fresh_postgres), tmp_path)
    with case.open() as engine:
        publish_basics(engine)
    return case


def enroll(engine: Engine, first: int, many: int) -> None:
    people = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"}
              for n in range(first, first + many)]  # fmt: skip
    assert engine.bulk_execute(outreach(), people).created == many


def signed(engine: Engine) -> list[CheckpointSigned]:
    rows = engine._journal.open(engine._parts.store.read_stream("system"))
    return [row.event for row in rows if isinstance(row.event, CheckpointSigned)]


def work_until(engine: Engine, holds: Callable[[], bool]) -> list[SignedCheckpoint]:
    """Let the engine's own worker work until something holds between two of its ticks."""
    told: list[SignedCheckpoint] = []
    stop = threading.Event()
    until = time.monotonic() + PATIENCE_S

    def on_begin() -> None:
        if holds() or time.monotonic() > until:
            stop.set()

    engine.worker(stop, None, on_begin, told.append)
    assert holds()
    return told


def ticks(engine: Engine, many: int = 3) -> list[SignedCheckpoint]:
    """Let the worker work for so many ticks."""
    left = iter(range(many))
    return work_until(engine, lambda: next(left, None) is None)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look more often than every half second."""
    monkeypatch.setattr("dee_es.engine.scheduling.scheduler.POLL_S", 0.01)


# --- when -----------------------------------------------------------------------------------------


def test_signed_after_so_many_events(case: Case) -> None:
    with case.open(checkpoint_every_events=20, checkpoint_every_s=0) as engine:
        assert ticks(engine) == []
        enroll(engine, 0, 20 - engine.health().position)
        size = engine.health().position
        # The runs' own events come first: a worker signs between its ticks.
        (done,) = ticks(engine)
        assert done.size > size >= 20
        assert done.failed == ()
        assert [len(list(place.glob("checkpoint-*"))) for place in case.places] == [1, 1]
        # What was appended since is the record of the checkpoint alone, at any time.
        engine.run_until(10_000)
        assert ticks(engine) == []
        (entry,) = engine.audit.query(actions=["checkpoint.signed"]).entries
        assert entry.actor is None
        verdict = engine.verify_log()
        assert (verdict.valid, verdict.anchored_through) == (True, done.size)


def test_signed_after_so_many_seconds_of_the_log_s_own_time(case: Case) -> None:
    with case.open(checkpoint_every_events=0) as engine:
        assert ticks(engine) == []
        engine.run_until(59)
        assert ticks(engine) == []
        engine.run_until(60)
        (done,) = ticks(engine)
        assert done.size == engine.health().position - 1
        engine.suppress("c1")
        engine.run_until(119)
        assert ticks(engine) == []
        engine.run_until(120)
        (again,) = ticks(engine)
        assert again.size == done.size + 2
        assert [event.size for event in signed(engine)] == [done.size, again.size]


def test_both_triggers_can_be_switched_off_and_need_a_place(case: Case) -> None:
    with case.open(checkpoint_every_events=0, checkpoint_every_s=0) as engine:
        engine.run_until(1_000_000)
        assert ticks(engine) == []
    with case.open(checkpoints=None) as engine:
        assert ticks(engine) == []
        assert engine.health().unsigned is None
        assert engine.metrics().unanchored is None


def test_much_is_signed_in_several_checkpoints(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "MOST_AT_ONCE", 4)
    with case.open() as engine:
        enroll(engine, 0, 10)
        engine.tick()
        told = work_until(engine, lambda: engine.metrics().unanchored < 5)  # type: ignore[operator]
        sizes = [done.size for done in told]
        assert sizes == list(range(4, sizes[-1] + 1, 4))
        assert engine.verify_log().valid
        assert engine.verify_log().checkpoints == len(sizes)


def test_of_two_workers_one_signs(case: Case) -> None:
    """The one signs while the other is just about to record: no error, and one is enough."""
    with case.open(partition=(0, 2)) as one, case.open(partition=(1, 2)) as other:
        enroll(one, 0, 5)
        last: Any = one._parts.anchors[-1]
        put = last.put

        def overtaken(size: int, note: str) -> None:
            put(size, note)
            assert other._periodic_signing.attempt() is not None

        last.put = overtaken
        assert one._periodic_signing.attempt() is None
        last.put = put
        assert len(signed(one)) == 1
        assert one._periodic_signing.attempt() is None
        assert (one.metrics().checkpoints, other.metrics().checkpoints) == (0, 1)
        assert (one.metrics().checkpoint_failures, other.metrics().checkpoint_failures) == (0, 0)
        assert one.verify_log().valid


def test_a_key_that_another_worker_made_at_the_same_moment(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(path: Path, name: str) -> Signer:
        create_signer(path, name)
        return create_signer(path, name)

    monkeypatch.setattr("dee_es.adapters.anchors.create_signer", overtaken)
    with case.open() as engine:
        engine.audit.checkpoint()
    with case.open() as engine:
        assert engine.verify_log().checkpoints == 1


# --- how much is read -----------------------------------------------------------------------------


def test_only_what_came_after_the_last_one_is_read(tmp_path: Path) -> None:
    case = Case(f"sqlite:///{tmp_path / 'dee.db'}", tmp_path)
    with case.open(checkpoints=str(tmp_path / "places")) as engine:
        publish_basics(engine)
        enroll(engine, 0, 50)
        for number in range(60):
            engine.suppress(f"s{number}")
            engine.audit.checkpoint()
    with case.open(checkpoints=str(tmp_path / "places")) as engine:
        engine.suppress("one", reason="asked")
        engine.suppress("two", reason="asked")
        store: Any = engine._parts.store
        streams, log = store.read_stream, store.read_log
        read: list[Any] = []
        store.read_stream = lambda *args: read.append(streams(*args)) or read[-1]
        store.read_log = lambda *args: read.append(log(*args)) or read[-1]
        before = engine.health().unsigned
        read.clear()
        done = engine.audit.checkpoint()
        rows = [row for rows in read for row in rows]
        # The last entries of the system's stream, and the three that were not signed.
        assert sum(row.stream_id == "system" for row in rows) <= 9
        assert len(rows) <= 8 + 3
        assert before == 2
        store.read_stream, store.read_log = streams, log
        leaves = [chain.unseal(row.state, "").checksum for row in log(0, done.size)]
        assert done.root == merkle.Edge().extended(leaves).root.hex()


def test_the_last_one_is_found_behind_other_entries_of_the_system(case: Case) -> None:
    with case.open() as engine:
        done = engine.audit.checkpoint()
        store = engine._parts.store
        tail = engine._periodic_signing._signing._log.tail
        assert tail().checkpoint == signed(engine)[-1]
        for number in range(40):
            meta = engine._meta("hold", None, None, "a lawsuit")
            engine._system_log.record(HoldPlaced(f"h{number}", run_id="run_1"), meta)
        assert tail().checkpoint == signed(engine)[-1]
        assert tail().newest == store.read_stream("system")[-1]
        again = engine.audit.checkpoint()
        assert again.size == done.size + 41
        assert engine.verify_log().valid


def test_what_was_archived_before_it_was_signed_is_signed_all_the_same(case: Case) -> None:
    with case.open(checkpoint_every_events=1) as engine:
        engine.audit.checkpoint()
        enroll(engine, 0, 3)
        engine.run_until_idle()
        before = engine.now().now + timedelta(seconds=1)
        engine.run_until(engine.now().tick + 10)
        done = engine.audit.archive(before, place=str(case.folder / "archives"))
        assert done.runs == 3
        assert engine.health().ok, engine.health().problems
        (signed_now,) = ticks(engine)
        assert signed_now.size == engine._parts.store.log_head().position - 1
        assert engine.metrics().checkpoint_failures == 0
        assert engine.health().ok


# --- what goes wrong ------------------------------------------------------------------------------


def pauses(monkeypatch: pytest.MonkeyPatch, first: float) -> None:
    monkeypatch.setattr(periodic, "FIRST_PAUSE_S", first)


def test_a_place_that_cannot_be_reached_is_told_counted_and_tried_again(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses(monkeypatch, 0.02)
    blocked = case.folder / "blocked"
    blocked.write_text("a file")
    with case.open(checkpoints=f"{blocked}/in") as engine:
        enroll(engine, 0, 5)
        assert work_until(engine, lambda: engine.metrics().checkpoint_failures >= 3) == []
        # Messages left meanwhile.
        assert engine.list_runs(status="waiting").total == 5
        told = [record for record in caplog.records if record.message == "checkpoint_failed"]
        assert {record.levelno for record in told} == {logging.WARNING}
        waits = [vars(record)["again_in_s"] for record in told]
        assert waits[:3] == [0.02, 0.04, 0.08]
        assert str(blocked) in vars(told[0])["problem"]
        health = engine.health()
        assert health.ok
        assert any(str(blocked) in text for text in health.advice)
        assert signed(engine) == []
        blocked.unlink()
        (done,) = work_until(engine, lambda: engine.metrics().checkpoints == 1)
        assert len(list((blocked / "in").iterdir())) == 1
        assert engine.verify_log().anchored_through == done.size
        assert engine.health().advice == ()


def test_one_place_of_two_is_enough_and_the_other_gets_it_later(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses(monkeypatch, 0.02)
    blocked = case.folder / "blocked"
    blocked.write_text("a file")
    with case.open(checkpoints=f"{blocked}/in git:{case.places[1]}") as engine:
        enroll(engine, 0, 5)
        told = work_until(engine, lambda: engine.metrics().checkpoint_failures >= 2)
        assert [len(done.places) for done in told] == [1]
        assert len(signed(engine)) == 1
        assert "checkpoint_not_kept" in {record.message for record in caplog.records}
        blocked.unlink()
        # The same one, without another signature.
        assert work_until(engine, (blocked / "in").exists) == []
        (path,) = (blocked / "in").glob("checkpoint-*")
        assert path.read_text() == told[0].note
        failures = engine.metrics().checkpoint_failures
        ticks(engine, 10)
        assert engine.metrics().checkpoint_failures == failures


def test_a_key_that_is_missing_never_ends_a_worker(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    with case.open() as engine:
        engine.audit.checkpoint()
    (case.folder / "audit.key").unlink()
    with case.open() as engine:
        enroll(engine, 0, 5)
        assert ticks(engine) == []
        assert engine.list_runs(status="waiting").total == 5
        (told,) = [record for record in caplog.records if record.message == "checkpoint_failed"]
        assert "audit_key_file" in vars(told)["problem"]
        assert any("key that signs" in text for text in engine.health().advice)


def test_a_place_that_fails_in_a_way_nobody_foresaw(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with case.open(checkpoints="memory://evidence/unforeseen") as engine:
        anchor: Any = engine._parts.anchors[0]
        monkeypatch.setattr(anchor, "put", lambda *_: 1 / 0)
        enroll(engine, 0, 5)
        assert ticks(engine) == []
        (told,) = [record for record in caplog.records if record.message == "checkpoint_failed"]
        assert vars(told)["problem"] == "ZeroDivisionError"
        assert engine.metrics().checkpoint_failures == 1


# --- the log is not what was signed ---------------------------------------------------------------


def shell(case: Case, statement: str, *values: object) -> None:
    """Run SQL as somebody who owns the database, with its protections switched off."""
    if case.url.startswith("sqlite"):
        with closing(sqlite3.connect(case.url.removeprefix("sqlite:///"))) as raw, raw:
            for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
                raw.execute(f"DROP TRIGGER {name}")
            raw.execute(statement, values)
    else:
        with psycopg.connect(case.url) as raw:
            raw.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
            raw.execute(statement.replace("?", "%s").encode(), values)


def test_a_log_that_is_not_what_was_signed_is_loud(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses(monkeypatch, 0.02)
    with case.open() as engine:
        ticks(engine)
        enroll(engine, 0, 5)
        engine.suppress("nobody", reason="asked")
        victim = engine._parts.store.log_head().position
        (row,) = engine._parts.store.read_log(victim - 1, 1)
        shell(case, "UPDATE stored_events SET state = ? WHERE notification_id = ?",
              row.state.replace(b"asked", b"liked"), victim)  # fmt: skip
        before = len(signed(engine))
        assert work_until(engine, lambda: engine.metrics().checkpoint_failures >= 2) == []
        told = [record for record in caplog.records if record.message == "log_not_as_signed"]
        assert {record.levelno for record in told} == {logging.CRITICAL}
        assert f"position {victim}" in vars(told[0])["problem"]
        assert len(signed(engine)) == before
        assert not engine.health().ok
        # The worker went on with its work.
        assert engine.list_runs(status="waiting").total == 5
    with case.open() as another:
        health = another.health()
        assert not health.ok
        assert any(f"position {victim}" in problem for problem in health.problems)


def test_an_older_copy_of_the_database_is_not_signed_on(tmp_path: Path) -> None:
    """A backup is put back: all in it agrees, but more was signed once."""
    case = Case(f"sqlite:///{tmp_path / 'dee.db'}", tmp_path)
    with case.open() as engine:
        publish_basics(engine)
        engine.audit.checkpoint()
    copy = (tmp_path / "dee.db").read_bytes()
    with case.open() as engine:
        enroll(engine, 0, 20)
        newest = engine.audit.checkpoint()
    (tmp_path / "dee.db").write_bytes(copy)
    with case.open() as engine:
        assert ticks(engine) == []
        (problem,) = engine.health().problems
        assert f"one of {newest.size:,} entries was signed" in problem
        with pytest.raises(IntegrityViolation, match="the log ends at position"):
            engine.audit.checkpoint()
        # Grown beyond what was signed, it is still another log.
        enroll(engine, 100, 40)
        assert engine._parts.store.log_head().position > newest.size
        with pytest.raises(IntegrityViolation, match="are not what was signed"):
            engine.audit.checkpoint()
        assert not engine.health().ok
        assert len(signed(engine)) == 1


def test_a_checkpoint_cut_off_while_a_worker_works(case: Case) -> None:
    with case.open() as engine:
        engine.audit.checkpoint()
        enroll(engine, 0, 5)
        last = engine.audit.checkpoint()
        shell(case, "DELETE FROM stored_events WHERE notification_id > ?", last.size)
        with pytest.raises(IntegrityViolation, match="missing"):
            engine.audit.checkpoint()
        assert ticks(engine) == []
        assert not engine.health().ok


def test_a_checkpoint_taken_out_of_a_place_is_told_by_health(case: Case) -> None:
    with case.open() as engine:
        (done,) = ticks(engine)
        for path in case.places[0].iterdir():
            path.unlink()
        (problem,) = engine.health().problems
        assert f"the checkpoint of {done.size:,} entries is missing there" in problem


# --- health ---------------------------------------------------------------------------------------


def test_health_counts_what_is_not_signed_and_advises(case: Case) -> None:
    with case.open() as engine:
        ticks(engine)
        assert engine.health().unsigned == 0
        # Their plan is published with them.
        enroll(engine, 0, 49)
        health = engine.health()
        assert (health.ok, health.unsigned, health.advice) == (True, 50, ())
        engine.suppress("stranger")
        health = engine.health()
        assert (health.ok, health.unsigned) == (True, 51)
        (advice,) = health.advice
        assert "51 entries are not signed yet" in advice
        assert engine.metrics().unanchored == 51
        engine.audit.checkpoint()
        assert (engine.health().unsigned, engine.health().advice) == (0, ())


# --- kill -9 --------------------------------------------------------------------------------------


@dataclass
class Workers:
    """Starts workers that are killed at a step of a checkpoint."""

    process: subprocess.Popen[str]

    def steps(self, case: Case, last: int = 0) -> int | None:
        """How many steps a worker made; None if it was killed at step `last`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{case.url} {case.folder} {last}\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline().strip()
        return None if said == "killed" else int(said)


@pytest.fixture
def workers() -> Iterator[Workers]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.processes.checkpoint"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield Workers(process)
    process.communicate(timeout=60)
    assert process.returncode == 0


def recovered(case: Case, many: int) -> None:
    """The next worker brings everything to the state that an undisturbed one had left."""
    with case.open(checkpoint_every_events=1) as engine:
        # What is half done is believed by nobody, and disturbs nobody.
        assert engine.verify_log().valid
        assert engine.health().ok, engine.health().problems
        ticks(engine)
        sizes = [event.size for event in signed(engine)]
        verdict = engine.verify_log()
        assert (verdict.valid, verdict.anchored_through) == (True, sizes[-1])
        assert len(sizes) == many
        assert engine.health().unsigned == 0
    for place in case.places:
        names = [path.name for path in sorted(place.glob("checkpoint-*"))]
        assert names == [f"checkpoint-{size:020d}.txt" for size in sizes]
    shown = subprocess.run(
        ["git", "-C", str(case.places[1]), "status", "--porcelain", "--", "checkpoint-*"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert shown == ""


def test_a_worker_killed_at_any_step_of_a_checkpoint(case: Case, workers: Workers) -> None:
    assert workers.steps(case) is not None
    with case.open() as engine:
        engine.suppress("first")
    steps = workers.steps(case)
    # Files made durable, calls of git, and one commit: before and after each.
    assert steps is not None
    assert steps >= 16
    for done, step in enumerate(range(1, steps + 1, count(2, 1)), start=3):
        with case.open() as engine:
            engine.suppress(f"s{step}")
        assert workers.steps(case, step) is None
        recovered(case, done)


def test_a_worker_killed_at_any_step_of_the_first_checkpoint(
    tmp_path: Path, workers: Workers
) -> None:
    """The key and the repository are made with it."""
    case = Case(f"sqlite:///{tmp_path / 'dee.db'}", tmp_path)
    with case.open() as engine:
        publish_basics(engine)
    copy = (tmp_path / "dee.db").read_bytes()
    steps: int | None = 1
    for step in range(1, 100, count(3, 1)):
        for made in (*case.places, *tmp_path.glob("dee.db*"), *tmp_path.glob("*audit.key*")):
            if made.is_dir():
                shutil.rmtree(made)
            else:
                made.unlink(missing_ok=True)
        (tmp_path / "dee.db").write_bytes(copy)
        steps = workers.steps(case, step)
        recovered(case, 1)
        if steps is not None:
            break
    assert steps is not None
    assert steps >= 20
