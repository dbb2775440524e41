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
    assert synced[:2] == [(False, False), (True, True)]


@pytest.mark.parametrize("left", [None, b"", b"dee-es/log+00000000+AAAA\n", b"dee-es/lo"])
def test_whoever_opens_the_key_puts_its_public_half_right(
    tmp_path: Path, left: bytes | None
) -> None:
    """Whoever made it was killed before, or while, it was written, or it is that of another key."""
    path, public = tmp_path / "audit.key", tmp_path / "audit.key.pub"
    made = create_signer(path, NAME)
    if left is None:
        public.unlink()
    else:
        public.write_bytes(left)
    load_signer(path, NAME)
    assert public.read_text() == f"{made.key}\n"
    assert {each.name for each in tmp_path.iterdir()} == {"audit.key", "audit.key.pub"}


def test_a_public_half_that_is_right_is_left_alone(tmp_path: Path) -> None:
    create_signer(tmp_path / "audit.key", NAME)
    before = (tmp_path / "audit.key.pub").stat()
    load_signer(tmp_path / "audit.key", NAME)
    assert (tmp_path / "audit.key.pub").stat().st_ino == before.st_ino


def test_a_public_half_that_names_another_log_of_the_same_key_stays(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    create_signer(path, "one.example")
    public = path.with_name("audit.key.pub").read_bytes()
    assert str(load_signer(path, "two.example").key).startswith("two.example+")
    assert path.with_name("audit.key.pub").read_bytes() == public


def test_its_public_half_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written beside and renamed: nobody who looks meanwhile finds a part of it."""
    path, public = tmp_path / "audit.key", tmp_path / "audit.key.pub"
    made = create_signer(path, NAME)
    public.write_bytes(b"of another key\n")
    replaced: list[tuple[bytes, bytes]] = []
    rename = os.replace

    def seen(source: Path, target: Path) -> None:
        replaced.append((source.read_bytes(), target.read_bytes()))
        rename(source, target)

    monkeypatch.setattr(os, "replace", seen)
    load_signer(path, NAME)
    assert replaced == [(f"{made.key}\n".encode(), b"of another key\n")]


def test_a_folder_that_cannot_be_written_keeps_nobody_from_signing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, public = tmp_path / "audit.key", tmp_path / "audit.key.pub"
    made = create_signer(path, NAME)
    public.unlink()
    opened = os.open

    def refused(name: str | os.PathLike[str], flags: int, *more: int) -> int:
        # A mode of the folder would not stop root, as whom tests may run.
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return opened(name, flags, *more)

    monkeypatch.setattr(os, "open", refused)
    assert load_signer(path, NAME).key == made.key
    assert not public.exists()
