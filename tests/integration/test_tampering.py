"""Rows edited by hand, past the engine: verification names the entry, and nothing hostile runs."""

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
from tests.support.engines import database_url, open_engine, outreach, publish_basics

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


CHANGES = {
    "topic": "topic = 'RunPaused'",
    "originator_id": "originator_id = 'run_other'",
    "originator_version": "originator_version = 77",
    "notification_id": "notification_id = 7777",
}


@pytest.mark.parametrize("column", sorted(CHANGES))
def test_an_edited_column_is_found_and_named(case: Case, column: str) -> None:
    victim = case.runs[2].id
    assert case.engine.verify_log().valid
    where = "WHERE originator_id = ? AND originator_version = 3"
    case.shell(f"UPDATE stored_events SET {CHANGES[column]} {where}", victim)
    verdict = case.engine.verify_log()
    assert not verdict.valid
    assert any(victim in problem or "run_other" in problem for problem in verdict.problems)
    if column != "notification_id":
        chain = case.engine.verify_audit_chain(victim)
        assert not chain.valid
        assert chain.first_bad_entry is not None
    for run in case.runs:
        if run.id != victim:
            assert case.engine.verify_audit_chain(run.id).valid


@pytest.mark.parametrize("place", [0, 3, 10, 40, 70, 90, -1])
def test_a_flipped_byte_of_the_state_is_found_and_named(case: Case, place: int) -> None:
    victim = case.runs[1].id
    store = case.engine._parts.store
    row = store.read_stream(victim)[1]
    state = bytearray(row.state)
    state[place] ^= 1
    case.shell(
        "UPDATE stored_events SET state = ? WHERE originator_id = ? AND originator_version = 2",
        bytes(state),
        victim,
    )
    chain = case.engine.verify_audit_chain(victim)
    assert not chain.valid
    assert chain.first_bad_entry in (2, 3)
    verdict = case.engine.verify_log()
    assert not verdict.valid
    assert victim in verdict.problems[0]
    with pytest.raises(IntegrityViolation, match=victim):
        case.engine.get_run(victim)


def test_a_cut_tail_of_a_run_is_found(case: Case) -> None:
    victim = case.runs[4].id
    case.shell(
        "DELETE FROM stored_events WHERE originator_id = ? AND originator_version > 4", victim
    )
    chain = case.engine.verify_audit_chain(victim)
    assert not chain.valid
    assert "missing at the end" in str(chain.problem)
    assert not case.engine.verify_log().valid


def test_a_removed_run_is_found(case: Case) -> None:
    victim = case.runs[0].id
    case.shell("DELETE FROM stored_events WHERE originator_id = ?", victim)
    verdict = case.engine.verify_log()
    assert not verdict.valid
    assert not case.engine.verify_audit_chain(victim).valid


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
