"""Certificates of erasure as evidence: one key signs a log and all of them, and nothing that left
while the contact's key still existed is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dee_es import Engine, EngineConfig
from dee_es.core import events as e
from dee_es.engine.retention.certificate import FORMAT
from dee_es.engine.retention.erasure import Erased
from dee_es.errors import AnchorUnavailable, InvalidInput, StoreUnavailable
from tests.support.engines import EPOCH, outreach, publish_basics

# --- the key that signs ---------------------------------------------------------------------------


class Case:
    """A database of two contacts, and the folder in which its keys and its evidence are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = EngineConfig(
            f"sqlite:///{folder / 'dee.db'}",
            clock="manual",
            epoch=EPOCH,
            outbox=str(folder / "outbox"),
            checkpoints=str(folder / "places"),
            certificates=str(folder / "certificates"),
        )
        with self.engine() as engine:
            publish_basics(engine)
            for who in ("c0", "c1"):
                engine.execute(outreach(), person(who))

    def engine(self) -> Engine:
        return Engine(self.config)

    def key_files(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*audit.key*"))

    def lose_the_key(self) -> None:
        for path in self.folder.glob("*audit.key*"):
            path.rename(path.with_name(f"lost.{path.suffix}"))


def person(who: str) -> dict[str, str]:
    return {"id": who, "email": f"{who}@example.com", "firstName": f"Forename of {who}"}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_an_erasure_makes_no_second_key_for_a_log_that_is_signed(case: Case) -> None:
    with case.engine() as engine:
        engine.audit.checkpoint()
    case.lose_the_key()
    with case.engine() as engine:
        head = engine.health().position
        with pytest.raises(InvalidInput, match="audit_key_file"):
            engine.erase_contact("c0", "asked")
        assert engine.health().position == head
        assert case.key_files() == []
        (run,) = engine.list_runs(contact_id="c0").runs
        (first, *_) = engine.get_logs(run.id)
        assert "Forename of c0" in repr(first), "it can still be read"
        assert engine.verify_log().valid


def test_nor_for_one_of_which_a_certificate_was_signed(case: Case) -> None:
    """What the log tells is that somebody was erased: before that the key is there."""
    with case.engine() as engine:
        engine.suppress("c1")
        engine.erase_contact("c0", "asked")
    case.lose_the_key()
    with case.engine() as engine:
        head = engine.health().position
        for sign in (
            lambda: engine.erase_contact("c1", "asked"),
            lambda: engine.erase_contact("c0", "asked"),
            engine.audit.checkpoint,
        ):
            with pytest.raises(InvalidInput, match="audit_key_file"):
                sign()
        assert engine.health().position == head
        assert case.key_files() == []


def test_the_first_that_is_signed_makes_the_key_of_all_others(case: Case) -> None:
    with case.engine() as engine:
        engine.suppress("c1")
        certificate = engine.erase_contact("c0", "asked").certificate
        assert case.key_files() == ["dee.audit.key", "dee.audit.key.pub"]
        noted = engine.audit.checkpoint().note
        assert certificate.split()[-2] == noted.split()[-2], "they name one signer"
        engine.erase_contact("c1", "asked")
        assert engine.verify_log().valid


# --- what had left --------------------------------------------------------------------------------


@pytest.fixture
def engine(case: Case) -> Iterator[Engine]:
    with case.engine() as engine:
        yield engine


def listed(done: Erased) -> list[int]:
    """The positions of the exports that a certificate lists."""
    told = json.loads(done.certificate.partition("\n\n")[0])
    return [each["position"] for each in told["left"]["exports"]]


def recorded(engine: Engine, *, certificates: bool = False) -> list[e.RecordedEvent]:
    """What was given out so far, in order; either certificates alone or all else."""
    return [
        each
        for each in engine._system_log.history()
        if isinstance(each.event, e.LogExported) and (each.event.format == FORMAT) == certificates
    ]


def break_off(engine: Engine, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """Erase somebody, but for the key: its store cannot be reached at that moment."""

    def away(key_id: bytes) -> None:
        raise StoreUnavailable("the key store is away")

    with monkeypatch.context() as patched:
        patched.setattr(engine._parts.keys, "destroy", away)
        with pytest.raises(StoreUnavailable):
            engine.erase_contact(who, "asked")


def test_what_left_while_the_key_was_not_destroyed_yet_is_listed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = engine.list_runs(contact_id="c0").runs
    (other,) = engine.list_runs(contact_id="c1").runs
    engine.audit.export(run.id)
    break_off(engine, monkeypatch, "c0")
    shown = engine.audit.export(run.id).content
    assert shown is not None
    assert b"Forename of c0" in shown
    engine.export_run(run.id)
    engine.audit.bundle(contact_id="c0")
    engine.audit.export(since=EPOCH)
    engine.audit.query()
    held = [each.position for each in recorded(engine)]
    engine.audit.export(other.id)
    done = engine.erase_contact("c0", "asked")
    assert len(held) == 6
    assert listed(done) == held


def test_what_leaves_afterwards_does_not_change_the_certificate(engine: Engine) -> None:
    (run,) = engine.list_runs(contact_id="c0").runs
    engine.audit.export(run.id)
    done = engine.erase_contact("c0", "asked")
    assert len(listed(done)) == 1
    engine.audit.export(run.id)
    engine.audit.export(since=EPOCH)
    engine.export_run(run.id)
    engine.audit.query()
    engine.audit.get_at(1, engine.health().position)
    assert engine.erase_contact("c0", "again").certificate == done.certificate


def test_an_export_that_was_being_made_is_listed_once_it_is_on_record(engine: Engine) -> None:
    """It has read what was readable, and tells of itself when all is over."""
    erased: list[Erased] = []

    def erase(_: int, __: int) -> None:
        if not erased:
            erased.append(engine.erase_contact("c0", "asked"))

    shown = engine.audit.export(since=EPOCH, on_progress=erase)
    assert shown.content is not None
    assert b"Forename of c0" in shown.content
    assert listed(erased[0]) == []
    again = engine.erase_contact("c0", "asked")
    assert len(listed(again)) == 1
    assert engine.erase_contact("c0", "asked").certificate == again.certificate


def test_a_certificate_is_on_record_before_it_is_written(
    engine: Engine, case: Case, tmp_path: Path
) -> None:
    (case.folder / "certificates").write_text("no folder")
    with pytest.raises(AnchorUnavailable):
        engine.erase_contact("c0", "asked", "ann")
    (entry,) = recorded(engine, certificates=True)
    done = engine.erase_contact("c0", "again", certificate=str(tmp_path / "elsewhere"))
    assert (entry.meta.actor, entry.meta.reason) == ("ann", "asked")
    assert isinstance(entry.event, e.LogExported)
    assert (entry.event.kind, entry.event.contact_id) == ("report", "c0")
    assert entry.event.digest == hashlib.sha256(done.certificate.encode()).hexdigest()
    assert entry.event.target == str(case.folder / "certificates" / "erasure-c0.txt")
    head = engine.health().position
    engine.erase_contact("c0", "again", certificate=str(tmp_path / "elsewhere"))
    assert engine.health().position == head, "once is enough"
