"""Every way to tamper with a log, on every database: verification finds it and names it.

What only a checkpoint can show is looked at a second time on a log that has none: nobody can find
it there, and the verdict about completeness says so.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import get_args

import pytest

from dee_es import Engine
from dee_es.engine.auditing import verification
from dee_es.errors import RunArchived
from tests.support.counts import count
from tests.support.engines import DAY
from tests.support.evidence.owned_log import OwnedLog, enroll
from tests.support.evidence.owner import Kind, Row
from tests.support.evidence.tampering import CASES, Case

KINDS: tuple[Kind, ...] = get_args(Kind)
COLUMNS = ("notification_id", "originator_id", "originator_version", "topic", "state")


def _logs(
    request: pytest.FixtureRequest, factory: pytest.TempPathFactory, signed: bool
) -> Iterator[dict[Kind, OwnedLog]]:
    server: str = request.getfixturevalue("postgres_url")
    logs = {kind: OwnedLog(kind, factory.mktemp(f"owned-{kind}-"), server) for kind in KINDS}
    for log in logs.values():
        log.prepare(signed=signed)
    yield logs
    for log in logs.values():
        log.remove()


@pytest.fixture(scope="module")
def signed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Kind, OwnedLog]]:
    """A log with checkpoints, on each database."""
    yield from _logs(request, tmp_path_factory, signed=True)


@pytest.fixture(scope="module")
def unsigned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Kind, OwnedLog]]:
    """A log without any, on each database."""
    yield from _logs(request, tmp_path_factory, signed=False)


def _each(shows: tuple[str, ...]) -> pytest.MarkDecorator:
    cases = [(kind, case) for case in CASES if case.shows in shows for kind in case.kinds]
    names = [f"{case.name}-{kind}" for kind, case in cases]
    return pytest.mark.parametrize("kind, case", cases, ids=names)


@_each(("chain", "log", "checkpoint", "places"))
def test_it_is_found_and_named(
    signed: dict[Kind, OwnedLog], kind: Kind, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = signed[kind]
    log.reset()
    finding = case.tamper(log.owner)
    code, problems = log.verified()
    assert code == 1
    assert finding in problems[0], problems
    if problems[0].startswith("dee: "):
        return
    with log.reading() as engine:
        # However small the pieces are in which it is verified, the same is found.
        for size in (1, 8):
            monkeypatch.setattr(verification, "CHUNK", size)
            assert list(engine.verify_log().problems) == problems


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_found_where_nothing_happened(
    signed: dict[Kind, OwnedLog], unsigned: dict[Kind, OwnedLog], kind: Kind
) -> None:
    for logs, checkpoints in ((signed, 2), (unsigned, 0)):
        logs[kind].reset()
        assert logs[kind].verified() == (0, [])
        verdict = logs[kind].verdict()
        assert verdict.valid
        assert verdict.checkpoints == checkpoints
        rows = logs[kind].owner.rows()
        assert verdict.entries == len(rows)
        assert verdict.streams == len({row.stream for row in rows})


@_each(("chain",))
def test_the_run_s_own_chain_shows_it(signed: dict[Kind, OwnedLog], kind: Kind, case: Case) -> None:
    log = signed[kind]
    log.reset()
    before, victim = log.owner.rows(), log.owner.victim[0].stream
    case.tamper(log.owner)
    changed = {row.stream for row in {*before} ^ {*log.owner.rows()}}
    with log.reading() as engine:
        chain = engine.verify_audit_chain(victim)
        assert not chain.valid
        assert chain.problem is not None
        assert chain.first_bad_entry is not None
        for run in {row.stream for row in before if row.stream.startswith("run_")} - changed:
            assert engine.verify_audit_chain(run).valid or case.name.endswith("closed")
    assert log.dee("audit", "verify", victim)[0] == 1


@_each(("checkpoint",))
def test_what_no_chain_can_show_is_no_secret(
    unsigned: dict[Kind, OwnedLog], kind: Kind, case: Case
) -> None:
    log = unsigned[kind]
    log.reset()
    before = log.owner.rows()
    case.tamper(log.owner)
    assert log.owner.rows() != before
    verdict = log.verdict()
    assert verdict.problems == ()
    assert (verdict.checkpoints, verdict.anchored_through) == (0, 0)
    assert verdict.unanchored_events == verdict.entries
    code, out, _ = log.dee("audit", "verify")
    assert code == 0
    assert "no signed checkpoint was compared: a log cut at its end would look the same" in out


@pytest.mark.parametrize("kind", KINDS)
def test_behind_the_last_checkpoint_a_cut_is_only_measured(
    signed: dict[Kind, OwnedLog], kind: Kind
) -> None:
    log = signed[kind]
    log.reset()
    before, rows = log.verdict(), log.owner.rows()
    assert before.valid
    assert before.anchored_through == log.owner.size() < before.entries
    log.owner.rewrite(rows[:-3])
    after = log.verdict()
    assert after.valid
    assert after.anchored_through == before.anchored_through
    assert after.unanchored_events == before.unanchored_events - 3
    told = f"not signed yet: the last {after.unanchored_events} entries"
    assert told in log.dee("audit", "verify")[1]


# --- what is decided by beside the log ------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_shell_says_what_the_tables_beside_the_log_have_otherwise(
    signed: dict[Kind, OwnedLog], kind: Kind
) -> None:
    log = signed[kind]
    log.reset()
    code, out, _ = log.dee("audit", "verify", "--indexes")
    assert code == 0
    entries = len(log.owner.rows())
    told = f"{entries} entries, 15 runs, 0 contacts"
    assert out == f"the tables beside the log are what it says: {told}\n"
    victim = log.owner.victim[0].stream
    log.owner.change(("UPDATE heads SET due_tick = NULL WHERE stream_id = ?", (victim,)))
    # No chain knows of it, and no checkpoint.
    assert log.verified() == (0, [])
    code, out, _ = log.dee("audit", "verify", "--indexes")
    lines = out.splitlines()
    assert code == 1
    assert lines[0].startswith("the tables beside the log are NOT what it says, of ")
    assert lines[1].startswith(f"  - {victim}: due_tick: ")
    assert lines[1].endswith(" by the log, none in the table")
    assert lines[2].startswith("somebody wrote to these tables past dee-es: stop the workers")
    code, out, _ = log.dee("audit", "verify", "--indexes", "--json")
    (one,) = json.loads(out)["differences"]
    assert (code, one["stream"], one["what"], one["table"]) == (1, victim, "due_tick", "none")
    assert log.dee("audit", "verify", "--indexes", "--workers", "2")[0] == 2
    assert log.dee("audit", "verify", "--indexes", victim)[0] == 2


# --- one bit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_anywhere_is_found(signed: dict[Kind, OwnedLog], kind: Kind) -> None:
    log = signed[kind]
    log.reset()
    owner, chance = log.owner, random.Random(7)
    rows = owner.rows()
    with log.engine() as engine:
        for _ in range(count(40, 1_000)):
            row = chance.choice(rows)
            column = chance.choice(COLUMNS + ("state",) * 5)
            value = row[COLUMNS.index(column)]
            flipped = _flipped(value, chance, ascii_only=kind == "postgres")
            here = _moved(row, column, flipped)
            if here[1:3] != row[1:3] and here[1:3] in {each[1:3] for each in rows}:
                continue
            if here.position != row.position and here.position in range(1, len(rows) + 1):
                continue
            _put(log, row, column, flipped)
            problems = engine.verify_log().problems
            assert problems, (row, column)
            assert any(f"position {row.position} is missing" in p or f"{row.position})" in p
                       for p in problems[:2]), (problems, row, column)  # fmt: skip
            _put(log, here, column, value)
        assert engine.verify_log().valid


def _flipped(value: object, chance: random.Random, ascii_only: bool) -> object:
    """The value with one bit turned; PostgreSQL takes no text that is none."""
    if isinstance(value, int):
        return value ^ 1 << chance.randrange(40)
    data = bytearray(value.encode() if isinstance(value, str) else bytes(value))  # type: ignore[call-overload]
    while True:
        turned = bytearray(data)
        turned[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if not isinstance(value, str):
            return bytes(turned)
        if 0 not in turned and not (ascii_only and max(turned) > 127):
            return turned.decode("utf-8", "surrogateescape")


def _moved(row: Row, column: str, value: object) -> Row:
    return Row(*(value if name == column else old for name, old in zip(COLUMNS, row, strict=True)))


def _put(log: OwnedLog, row: Row, column: str, value: object) -> None:
    """Set a column of a row, which is found by the others."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
        set_to = "CAST(? AS TEXT)" if log.kind == "sqlite" else "convert_from(?, 'UTF8')"
    else:
        set_to = "?"
    where = "originator_id = ? AND originator_version = ?"
    key: tuple[object, ...] = row.this
    if column != "notification_id":
        where, key = "notification_id = ?", (row.position,)
    log.owner.change((f"UPDATE stored_events SET {column} = {set_to} WHERE {where}", (value, *key)))


# --- nothing is found where nothing is ------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_clean_runs_verify_by_any_number_of_processes(
    signed: dict[Kind, OwnedLog], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = signed[kind]
    log.reset()
    runs = count(300, 10_000)
    with log.engine() as engine:
        for number in range(10):
            enroll(engine, 1_000 * (number + 1), runs // 10)
            if number % 3 == 0:
                engine.run_until(engine.clock.now() + 1)
            engine.audit.checkpoint()
        told: list[int] = []
        alone = engine.verify_log(told.append)
        assert alone.valid, alone.problems
        assert alone.checkpoints == 12
        assert alone.entries == told[-1] == len(log.owner.rows())
        monkeypatch.setattr(verification, "CHUNK", 32)
        told.clear()
        shared = engine.verify_log(told.append, workers=2)
        assert replace(shared, unanchored_seconds=0) == replace(alone, unanchored_seconds=0)
        assert told == sorted(told)
        assert len(told) >= 16
        # What is wrong is found by whichever process has it.
        victims = random.Random(1).sample(log.owner.rows()[1:], 20)
        renamed = "UPDATE stored_events SET topic = 'X' WHERE notification_id = ?"
        log.owner.change(*((renamed, (row.position,)) for row in victims))
        found = engine.verify_log(workers=2).problems
        assert found == engine.verify_log().problems
        first_of = {row.stream: row for row in sorted(victims, reverse=True)}
        for row in first_of.values():
            assert f"{row.named()}: the checksum does not match what is stored" in found


def test_a_log_that_grows_meanwhile_is_no_fault(
    unsigned: dict[Kind, OwnedLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in KINDS:
        unsigned[kind].reset()
        with unsigned[kind].engine() as engine:
            monkeypatch.setattr(verification, "CHUNK", 16)
            end = engine.health().position
            grown = iter(range(100, 10_000, 5))

            def grow(_: int, engine: Engine = engine, grown: Iterator[int] = grown) -> None:
                enroll(engine, next(grown), 2)
                engine.run_until(engine.clock.now() + 1)

            verdict = engine.verify_log(grow)
            assert verdict.problems == ()
            assert verdict.entries == end < engine.health().position
            assert engine.verify_log().valid


def test_a_hundred_problems_are_enough(
    unsigned: dict[Kind, OwnedLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in KINDS:
        log = unsigned[kind]
        log.reset()
        with log.engine() as engine:
            enroll(engine, 1_000, 150)
            log.owner.change(("UPDATE stored_events SET topic = 'X'", ()))
            whole = engine.verify_log()
            assert len(whole.problems) == verification.MOST_PROBLEMS
            assert whole.problems[0].startswith("system entry 1 (position 1): the checksum")
            for size in (8, 32):
                monkeypatch.setattr(verification, "CHUNK", size)
                assert engine.verify_log().problems == whole.problems
            monkeypatch.undo()


# --- archived entries -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_tombstones_stand_for_what_was_archived(
    signed: dict[Kind, OwnedLog], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = signed[kind]
    log.reset()
    with log.engine() as engine:
        engine.run_until_idle()
        run = engine.list_runs(limit=1).runs[0].id
        engine.run_until(engine.clock.now() + 2 * DAY)
        enroll(engine, 100, 3)
        gone = engine.audit.archive(
            engine.now().now - timedelta(days=1), place=str(log.folder / "archives")
        )
        assert gone.entries > 50
        done = engine.audit.checkpoint()
        stone = engine._parts.store.tombstones(0, 99)[-1]
        for size in (1, 8, 1 << 14):
            monkeypatch.setattr(verification, "CHUNK", size)
            verdict = engine.verify_log()
            assert verdict.problems == ()
            assert (verdict.checkpoints, verdict.anchored_through) == (3, done.size)
        with pytest.raises(RunArchived, match="archive 1"):
            engine.verify_audit_chain(run)
        assert engine.audit.prove("system", 1).size == done.size
        for changed, told in (
            ("checksum = ?", "archive 1: what the log keeps of its"),
            ("archive = length(?)", "the entry is missing, and no archive 32 was recorded"),
        ):
            monkeypatch.setattr(verification, "CHUNK", 8)
            statement = f"UPDATE tombstones SET {changed} WHERE position = ?"
            log.owner.change((statement, (bytes(32), stone.position)))
            assert any(told in problem for problem in engine.verify_log().problems)
            assert log.verified()[0] == 1
        # An entry that says of itself that it was archived is believed by nobody.
        forged = "UPDATE stored_events SET state = ? WHERE notification_id = ?"
        last = engine.health().position
        log.owner.change((forged, (stone.checksum, last)))
        assert any(f"(position {last})" in problem for problem in engine.verify_log().problems)
