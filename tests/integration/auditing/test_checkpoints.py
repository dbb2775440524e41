"""Checkpoints outside the database: what they prove, and what they show when somebody owned it."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.anchors import FileAnchor, GitAnchor, open_anchor
from dee_es.adapters.keys import open_memory_keys
from dee_es.core.evidence import chain, merkle
from dee_es.core.evidence.checkpoint import parse_body
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.auditing import signed_log
from dee_es.errors import AnchorUnavailable, IntegrityViolation, InvalidInput, RunNotFound
from dee_es.ports import StoredRow
from tests.support.engines import EPOCH, database_url, outreach, publish_basics

Fresh = Callable[[], str]


@dataclass
class Case:
    """A database with some runs, two places for its checkpoints, and a shell on it."""

    url: str
    folder: Path
    engine: Engine

    @property
    def places(self) -> list[Path]:
        return [self.folder / "places", self.folder / "repository"]

    def enroll(self, first: int, count: int) -> None:
        people = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"}
                  for n in range(first, first + count)]  # fmt: skip
        assert self.engine.bulk_execute(outreach(), people).created == count

    def shell(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Run SQL as somebody who owns the database, with its protections switched off."""
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as raw, raw:
                triggers = raw.execute(
                    "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
                ).fetchall()
                for name, _ in triggers:
                    raw.execute(f"DROP TRIGGER {name}")
                for statement, values in statements:
                    raw.execute(statement, values)
                for _, sql in triggers:
                    raw.execute(sql)
        else:
            with psycopg.connect(self.url) as raw:
                raw.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
                for statement, values in statements:
                    raw.execute(statement.replace("?", "%s"), values)


@pytest.fixture(params=["sqlite", "postgres"])
def case(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Fresh) -> Iterator[Case]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    config = EngineConfig(
        url,
        clock="manual",
        epoch=EPOCH,
        checkpoints=f"{tmp_path / 'places'} git:{tmp_path / 'repository'}",
        audit_key_file=str(tmp_path / "audit.key"),
        outbox=str(tmp_path / "outbox"),
    )
    with Engine(config, keys=open_memory_keys()) as engine:
        publish_basics(engine)
        case = Case(url, tmp_path, engine)
        case.enroll(0, 10)
        yield case


def leaves(case: Case) -> list[bytes]:
    store = case.engine._parts.store
    return [chain.unseal(row.state, "").checksum for row in store.read_log(0, 10_000)]


def test_a_checkpoint_is_kept_in_every_place_and_recorded(case: Case) -> None:
    size = case.engine.health().position
    done = case.engine.audit.checkpoint("ann")
    assert done.size == size
    assert done.failed == ()
    assert done.root == merkle.Edge().extended(leaves(case)[:size]).root.hex()
    for place in case.places:
        (path,) = place.glob("checkpoint-*.txt")
        assert path.read_text() == done.note
    stated = parse_body(done.note)
    assert (stated.origin, stated.size, stated.root.hex()) == (done.origin, size, done.root)
    (entry,) = case.engine.audit.query(actions=["checkpoint.signed"]).entries
    assert entry.actor == "ann"
    log = subprocess.run(
        ["git", "-C", str(case.places[1]), "log", "--format=%s"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert log == f"Checkpoint of {size} entries\n"


def test_nothing_is_signed_anew_when_nothing_happened(case: Case) -> None:
    first = case.engine.audit.checkpoint()
    head = case.engine.health().position
    for path in case.places[0].iterdir():
        path.unlink()
    assert case.engine.audit.checkpoint() == first
    assert case.engine.health().position == head
    # It is kept again where it was missing.
    assert [path.read_text() for path in case.places[0].iterdir()] == [first.note]


def test_each_goes_on_from_the_edge_of_the_one_before(case: Case) -> None:
    sizes = [0]
    for number in range(4):
        case.enroll(100 * (number + 1), number + 1)
        done = case.engine.audit.checkpoint()
        sizes.append(done.size)
        assert done.root == merkle.Edge().extended(leaves(case)[: done.size]).root.hex()
    roots = {size: merkle.Edge().extended(leaves(case)[:size]).root for size in sizes}
    for old in sizes:
        for new in sizes:
            if old <= new:
                path = case.engine.audit.consistency(old, new)
                assert merkle.is_consistent(old, new, roots[old], roots[new], path)


def test_what_is_covered_and_what_is_not(case: Case) -> None:
    before = case.engine.verify_log()
    assert before.valid
    assert (before.checkpoints, before.anchored_through) == (0, 0)
    assert before.unanchored_events == before.entries
    done = case.engine.audit.checkpoint()
    run = case.engine.list_runs(limit=1).runs[0].id
    case.engine.run_until(30)
    case.enroll(50, 1)
    after = case.engine.verify_log()
    assert after.valid
    assert (after.checkpoints, after.anchored_through) == (1, done.size)
    assert after.unanchored_events == after.entries - done.size > 1
    assert after.unanchored_seconds == 30
    verdict = case.engine.verify_audit_chain(run)
    assert 0 < verdict.anchored_through < verdict.entries
    case.engine.audit.checkpoint()
    assert case.engine.verify_audit_chain(run).anchored_through == verdict.entries


def test_a_proof_needs_no_database(case: Case) -> None:
    case.engine.tick()
    run = case.engine.list_runs(limit=1).runs[0].id
    with pytest.raises(InvalidInput, match="no checkpoint covers it yet"):
        case.engine.audit.prove(run, 1)
    done = case.engine.audit.checkpoint()
    for stream, entry in ((run, 1), (run, 2), ("system", 1), ("plan:outreach", 1)):
        proof = case.engine.audit.prove(stream, entry)
        assert (proof.stream, proof.version, proof.checkpoint) == (stream, entry, done.note)
        path = [bytes.fromhex(each) for each in proof.path]
        sealed = chain.unseal(bytes.fromhex(proof.state), "")
        own = chain.checksum(stream, entry, proof.name, sealed.previous, sealed.payload)
        assert own.hex() == proof.checksum
        root = merkle.root_of_inclusion(own, proof.index, proof.size, path)
        assert root == parse_body(proof.checkpoint).root
        assert "@example.com" not in json.dumps(proof.state)
    with pytest.raises(InvalidInput, match="has no entry 99"):
        case.engine.audit.prove(run, 99)
    with pytest.raises(RunNotFound):
        case.engine.audit.prove("run_" + "a" * 26, 1)


# --- the database is in other hands ---------------------------------------------------------------


def test_a_chain_that_was_recomputed_throughout(case: Case) -> None:
    """Somebody rewrites an event, and every checksum behind it, heads included."""
    case.engine.audit.checkpoint()
    store = case.engine._parts.store
    victim = case.engine.list_runs(limit=1).runs[0].id
    rows = store.read_stream(victim)
    previous = chain.GENESIS
    statements: list[tuple[str, tuple[object, ...]]] = []
    for row in rows:
        payload = chain.unseal(row.state, "").payload.replace(b'"outreach"', b'"outreacH"')
        previous, state = chain.seal(victim, row.version, row.name, previous, payload)
        statements.append(
            (
                "UPDATE stored_events SET state = ? WHERE originator_id = ? "
                "AND originator_version = ?",
                (state, victim, row.version),
            )
        )
    case.shell(
        *statements, ("UPDATE heads SET checksum = ? WHERE stream_id = ?", (previous, victim))
    )
    assert case.engine.verify_audit_chain(victim).valid, "the chain alone cannot tell"
    with pytest.raises(IntegrityViolation, match="not what the last checkpoint says"):
        case.engine.audit.prove(victim, 1)


def test_a_forged_checkpoint(case: Case) -> None:
    done = case.engine.audit.checkpoint()
    (path,) = case.places[0].glob("checkpoint-*")
    lines = done.note.split("\n")
    lines[2] = base64.b64encode(bytes(32)).decode()
    path.write_text("\n".join(lines))
    with pytest.raises(IntegrityViolation, match="fork"):
        case.engine.audit.checkpoint()


def test_of_many_checkpoints_only_the_last_is_read(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        case.enroll(100 + number, 1)
        case.engine.audit.checkpoint()
    store = case.engine._parts.store
    run = case.engine.list_runs(limit=1).runs[0].id
    monkeypatch.setattr(signed_log, "_FIRST_LOOK", 3)
    read: list[int] = []

    def counted(stream: str, after: int = 0, upto: int | None = None) -> list[StoredRow]:
        rows = type(store).read_stream(store, stream, after, upto)
        read.append(len(rows) if stream == SYSTEM_STREAM else 0)
        return rows

    monkeypatch.setattr(store, "read_stream", counted)
    verdict = case.engine.verify_audit_chain(run)
    assert verdict.anchored_through == verdict.entries
    assert sum(read) <= 4
    case.enroll(200, 1)
    read.clear()
    case.engine.audit.checkpoint()
    assert sum(read) <= 4


def test_a_checkpoint_that_nobody_signed_covers_nothing(case: Case) -> None:
    case.engine.audit.checkpoint()
    run = case.engine.list_runs(limit=1).runs[0].id
    assert case.engine.verify_audit_chain(run).anchored_through > 0
    store = case.engine._parts.store
    first, second = store.read_stream(SYSTEM_STREAM)
    before = chain.unseal(first.state, "").checksum
    payload = chain.unseal(second.state, "").payload
    forged = payload.replace(b"dee-es/", b"dee-eS/")
    own, state = chain.seal(SYSTEM_STREAM, 2, second.name, before, forged)
    case.shell(
        ("UPDATE stored_events SET state = ? WHERE notification_id = ?", (state, second.position)),
        ("UPDATE heads SET checksum = ? WHERE stream_id = ?", (own, SYSTEM_STREAM)),
    )
    verdict = case.engine.verify_audit_chain(run)
    assert verdict.valid
    assert verdict.anchored_through == 0
    with pytest.raises(IntegrityViolation, match="the last checkpoint in the log"):
        case.engine.audit.checkpoint()


def test_an_edge_that_does_not_lead_to_the_signed_root(case: Case) -> None:
    """Whoever rewrites the log would have the next checkpoint go on from their own tree."""
    done = case.engine.audit.checkpoint()
    run = case.engine.list_runs(limit=1).runs[0].id
    first, second = case.engine._parts.store.read_stream(SYSTEM_STREAM)
    payload = chain.unseal(second.state, "").payload
    edge = re.search(rb'"edge":\["([0-9a-f]{64})', payload)
    assert edge is not None
    forged = payload.replace(edge[1], bytes(64 * [ord("0")]))
    before = chain.unseal(first.state, "").checksum
    own, state = chain.seal(SYSTEM_STREAM, 2, second.name, before, forged)
    case.shell(
        ("UPDATE stored_events SET state = ? WHERE notification_id = ?", (state, second.position)),
        ("UPDATE heads SET checksum = ? WHERE stream_id = ?", (own, SYSTEM_STREAM)),
    )
    assert done.note.encode().replace(b"\n", b"\\n") in forged, "its note is the true one"
    assert case.engine.verify_audit_chain(run).anchored_through == 0
    case.enroll(10, 1)
    for asked in (case.engine.audit.checkpoint, lambda: case.engine.audit.prove(run, 1)):
        with pytest.raises(IntegrityViolation, match="is not what was signed"):
            asked()


def test_nothing_is_signed_behind_an_entry_that_was_put_in_the_place_of_another(
    case: Case,
) -> None:
    """It agrees with its own checksum and with the entry before it, and no checkpoint covers it."""
    case.engine.audit.checkpoint()
    held, other = (run.id for run in case.engine.list_runs(limit=2).runs)
    case.engine.place_hold(run_id=held, reason="a lawsuit")
    before, row = case.engine._parts.store.read_stream(SYSTEM_STREAM)[-2:]
    payload = chain.unseal(row.state, "").payload.replace(held.encode(), other.encode())
    previous = chain.unseal(before.state, "").checksum
    _, state = chain.seal(SYSTEM_STREAM, row.version, row.name, previous, payload)
    case.shell(
        ("UPDATE stored_events SET state = ? WHERE notification_id = ?", (state, row.position))
    )
    with pytest.raises(IntegrityViolation, match="not the entry that the one after it names"):
        case.engine.audit.checkpoint()
    with pytest.raises(IntegrityViolation, match="not the entry that the one after it names"):
        case.engine.audit.prove(other, 1)


def test_without_the_key_nothing_was_looked_at(case: Case) -> None:
    case.engine.audit.checkpoint()
    (case.folder / "audit.key").unlink()
    case.shell(("DELETE FROM stored_events WHERE originator_version = 2 AND originator_id = ?",
                (SYSTEM_STREAM,)))  # fmt: skip
    config = EngineConfig(
        case.url, checkpoints=str(case.places[0]), audit_key_file=str(case.folder / "audit.key")
    )
    with Engine(config, keys=open_memory_keys()) as engine:
        told = engine.verify_log().unchecked
    assert told == ("the key that signs checkpoints is not here: none was looked at",)


@pytest.mark.parametrize("name", [f"checkpoint-{'9' * 20}.txt", f"checkpoint-{'٩' * 20}.txt"])
def test_what_cannot_be_read_in_a_place_hides_nothing_beside_it(case: Case, name: str) -> None:
    """Somebody lays a folder, or a name of other digits, where the newest checkpoint would be."""
    done = case.engine.audit.checkpoint()
    (case.places[0] / name).mkdir()
    verdict = case.engine.verify_log()
    assert (verdict.valid, verdict.anchored_through) == (True, done.size)
    assert len(verdict.unchecked) == name.isascii()
    (kept,) = case.places[0].glob(f"checkpoint-{done.size:020d}.txt")
    kept.write_text(kept.read_text().replace("dee-es/", "dee-se/"))
    assert any(str(case.places[0]) in problem for problem in case.engine.verify_log().problems)


# --- places ---------------------------------------------------------------------------------------


def test_without_a_place_nothing_is_signed(tmp_path: Path) -> None:
    unnamed = pytest.raises(InvalidInput, match="checkpoints: name a place")
    with Engine(f"sqlite:///{tmp_path / 'dee.db'}") as engine, unnamed:
        engine.audit.checkpoint()


def test_a_place_that_cannot_be_reached(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    config = EngineConfig(
        f"sqlite:///{tmp_path / 'dee.db'}", checkpoints=f"{blocked}/in {tmp_path / 'good'}"
    )
    with Engine(config) as engine:
        done = engine.audit.checkpoint()
        assert done.places == (str(tmp_path / "good"),)
        assert str(blocked) in done.failed[0]
    config = EngineConfig(f"sqlite:///{tmp_path / 'dee.db'}", checkpoints=f"{blocked}/in")
    with Engine(config) as engine, pytest.raises(AnchorUnavailable, match="blocked"):
        engine.audit.checkpoint()


def test_places_of_every_kind_keep_notes_for_ever(tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(bare), str(clone)], check=True)
    for url in (str(tmp_path / "folder"), f"git:{clone}", "memory://bucket/path"):
        anchor = open_anchor(url)
        assert list(anchor.notes()) == []
        anchor.put(5, "five\n")
        anchor.put(12, "twelve\n")
        anchor.put(5, "five\n")
        assert list(anchor.notes()) == [(12, "twelve\n"), (5, "five\n")]
        with pytest.raises(IntegrityViolation, match="fork"):
            anchor.put(5, "other\n")
    pushed = subprocess.run(
        ["git", "-C", str(bare), "log", "--all", "--format=%s"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert pushed.split("\n")[:2] == ["Checkpoint of 12 entries", "Checkpoint of 5 entries"]


def test_a_place_is_told_without_its_credentials() -> None:
    assert FileAnchor("memory://user:secret@bucket/path").place == "memory://bucket/path"


def test_a_remote_that_is_gone_is_said(tmp_path: Path) -> None:
    anchor = GitAnchor(str(tmp_path / "work"))
    anchor.put(1, "one\n")
    subprocess.run(
        ["git", "-C", str(tmp_path / "work"), "remote", "add", "origin", str(tmp_path / "gone")],
        check=True,
    )
    with pytest.raises(AnchorUnavailable, match="git push"):
        anchor.put(2, "two\n")
