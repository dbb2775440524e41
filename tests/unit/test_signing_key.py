"""The file of the key that signs checkpoints: made once, for its owner, and never touched again."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dee_es.adapters.anchors import create_signer, load_signer
from dee_es.errors import InvalidInput

NAME = "dee-es/log"


def test_it_is_its_owners_and_its_public_half_is_beside_it(tmp_path: Path) -> None:
    made = create_signer(tmp_path / "audit.key", NAME)
    assert {path.name for path in tmp_path.iterdir()} == {"audit.key", "audit.key.pub"}
    assert stat.S_IMODE((tmp_path / "audit.key").stat().st_mode) == 0o600
    assert load_signer(tmp_path / "audit.key", NAME).key == made.key
    assert (tmp_path / "audit.key.pub").read_text() == f"{made.key}\n"


def test_what_was_left_aside_is_not_written_into(tmp_path: Path) -> None:
    """A process was killed between linking and unlinking, and another one, of the same number in a
    container of its own, makes a key at the same moment: the first one's must stay."""
    path = tmp_path / "audit.key"
    made = create_signer(path, NAME)
    (tmp_path / f".audit.key.{os.getpid()}").hardlink_to(path)
    with pytest.raises(InvalidInput, match="never replaced"):
        create_signer(path, NAME)
    assert load_signer(path, NAME).key == made.key


def test_what_others_laid_aside_gives_nobody_the_key(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    (tmp_path / f".audit.key.{os.getpid()}").touch(0o644)
    create_signer(path, NAME)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_power_cut_takes_the_key_away_that_has_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name has to be on the disk, too, before anything is signed with it."""
    synced: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((folder, (tmp_path / "audit.key").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    create_signer(tmp_path / "audit.key", NAME)
    assert synced == [(False, False), (True, True)]
