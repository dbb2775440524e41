"""Rows edited by hand, past the engine: they are refused where they are read, and nothing runs.

That verification finds every kind of it, the tamper matrix shows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dee_es import Engine, ExecutionRun
from dee_es.errors import DeeError, IntegrityViolation, UnknownEventVersion
from tests.support.engines import DAY, database_url, open_engine, outreach, publish_basics
from tests.support.evidence.exports import made_log

Fresh = Callable[[], str]


@dataclass
class Case:
    """A database with some runs, and a shell on it."""

    kind: str
    url: str
    engine: Engine
    runs: list[ExecutionRun]

    def shell(self, statement: str, *values: Any) -> None:
        """Run SQL as somebody who owns the database, with its protections switched off."""
        if self.kind == "sqlite":
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as raw, raw:
                triggers = raw.execute(
                    "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
                ).fetchall()
                for name, _ in triggers:
                    raw.execute(f"DROP TRIGGER {name}")
                raw.execute(statement, values)
                for _, sql in triggers:
                    raw.execute(sql)
        else:
            with psycopg.connect(self.url) as raw:
                raw.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
                raw.execute(statement.replace("?", "%s"), values)


@pytest.fixture(params=["sqlite", "postgres"])
def case(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Fresh) -> Iterator[Case]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    with open_engine(url) as engine:
        publish_basics(engine)
        people = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(5)]
        runs = [engine.execute(outreach(), person) for person in people]
        engine.tick()
        yield Case(request.param, url, engine, runs)


def test_a_run_whose_entry_was_edited_is_not_read(case: Case) -> None:
    victim = case.runs[1].id
    row = case.engine._parts.store.read_stream(victim)[1]
    case.shell(
        "UPDATE stored_events SET state = ? WHERE originator_id = ? AND originator_version = 2",
        row.state[:-1] + bytes([row.state[-1] ^ 1]),
        victim,
    )
    with pytest.raises(IntegrityViolation, match=f"{victim} entry 2"):
        case.engine.get_run(victim)
    assert case.engine.get_run(case.runs[2].id).id == case.runs[2].id


def test_a_hostile_topic_is_refused_and_imports_nothing(case: Case, tmp_path: Path) -> None:
    victim = case.runs[3].id
    trap = tmp_path / "sprung"
    module = tmp_path / "hostile_topic.py"
    module.write_text(f"open({str(trap)!r}, 'w').close()\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        case.shell(
            "UPDATE stored_events SET topic = 'hostile_topic:Run' "
            "WHERE originator_id = ? AND originator_version = 1",
            victim,
        )
        with pytest.raises((IntegrityViolation, UnknownEventVersion)):
            case.engine.get_run(victim)
        assert not case.engine.verify_log().valid
        assert not case.engine.verify_audit_chain(victim).valid
        with pytest.raises(DeeError):
            case.engine._projector.catch_up(case.engine._projector.projections[1])
    assert not trap.exists()


@pytest.mark.parametrize(
    "statement", ["UPDATE stored_events SET topic = 'x'", "DELETE FROM stored_events"]
)
def test_the_database_itself_refuses_changes(case: Case, statement: str) -> None:
    if case.kind == "sqlite":
        refused = pytest.raises(sqlite3.IntegrityError, match="append-only")
        with closing(sqlite3.connect(case.url.removeprefix("sqlite:///"))) as raw, refused:
            raw.execute(statement)
    else:
        with psycopg.connect(case.url) as raw, pytest.raises(psycopg.Error, match="append-only"):
            raw.execute(statement)
    assert case.engine.verify_log().valid


@pytest.mark.parametrize("name", ["CheckpointSigned", "ClockStarted"])
@pytest.mark.parametrize("held", [5, 1.5, "text"])
def test_what_sqlite_keeps_in_any_column_is_named(tmp_path: Path, name: str, held: object) -> None:
    """Verification and signing tell of the entry, and do not break on it."""
    with made_log("sqlite", tmp_path, str) as log:
        row = next(each for each in log.rows("system") if each.name == name)
        log.shell(
            ("UPDATE stored_events SET state = ? WHERE notification_id = ?", (held, row.position))
        )
        problems = log.engine.verify_log().problems
        assert any(f"system entry {row.version} " in problem for problem in problems)
        if row.version == 1:
            with pytest.raises(IntegrityViolation):
                log.engine.audit.checkpoint()
        with pytest.raises(IntegrityViolation):
            log.engine.audit.archives()


@pytest.mark.parametrize("column", ["archive", "checksum"])
def test_what_sqlite_keeps_of_an_archive_in_any_column_is_named(
    tmp_path: Path, column: str
) -> None:
    with made_log("sqlite", tmp_path, str) as log:
        engine = log.engine
        engine.run_until(30 * DAY)
        engine.audit.archive(engine.now().now, place=str(tmp_path / "archives"))
        engine.audit.checkpoint()
        one, other = engine._parts.store.tombstones(0, engine.audit.size())[3:5]
        log.shell(
            (f"UPDATE tombstones SET {column} = 'x' WHERE position = ?", (one.position,)),
            ("UPDATE tombstones SET archive = 99 WHERE position = ?", (other.position,)),
        )
        verdict = engine.verify_log()
        assert any(f"position {one.position}" in each or "archive 1" in each
                   for each in verdict.problems)  # fmt: skip
        assert not engine.audit.verify_archives()[0].valid
        problems = engine.audit.export(contact_id="c3").problems
        assert bool(problems) == (column == "checksum")


def test_a_head_that_was_set_far_ahead_keeps_nobody_waiting(case: Case) -> None:
    """Whatever it says, no more is read than there is."""
    before = case.engine.verify_log()
    assert before.valid
    case.shell("UPDATE log_head SET position = ?", 1 << 60)
    told: list[int] = []
    verdict = case.engine.verify_log(told.append)
    assert verdict.problems == (
        f"positions {before.entries + 1} to {1 << 60} are missing from the log",
    )
    assert len(told) <= 2


@pytest.mark.parametrize("held", ["x", 1.5, 0, -1])
def test_a_head_that_names_no_entry_is_told(tmp_path: Path, held: object) -> None:
    with made_log("sqlite", tmp_path, str) as log:
        log.shell(("UPDATE heads SET version = ? WHERE stream_id = 'system'", (held,)))
        assert log.engine.verify_audit_chain(log.run()).anchored_through == 0
        for call in (log.engine.audit.checkpoint, lambda: log.engine.audit.prove(log.run(), 1)):
            with pytest.raises(IntegrityViolation, match="names no entry"):
                call()
