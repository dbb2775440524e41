"""Certificates of erasure as evidence: one key signs all that a log is signed with, and nothing that
left while the contact's key still existed is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine, EngineConfig
from dee_es.engine.retention.erasure import Erased
from dee_es.errors import InvalidInput, StoreUnavailable
from tests.support.engines import outreach, publish_basics

# --- the key that signs ---------------------------------------------------------------------------


class Case:
    """A database of two contacts, and the folder in which its keys and its evidence are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = EngineConfig(
            f"sqlite:///{folder / 'dee.db'}",
            clock="manual",
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
