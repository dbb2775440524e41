"""Places for files: whole or not at all, for their owner only, and named in errors."""

from __future__ import annotations

import fcntl
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dee_es.adapters.places import FilePlace
from dee_es.errors import AnchorUnavailable, InvalidInput, OutputExists
from tests.support.waiting import PATIENCE_S


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> FilePlace:
    if request.param == "folder":
        return FilePlace(str(tmp_path / "deep" / "folder"))
    return FilePlace(f"memory://{tmp_path.name}/deep")


def test_what_was_written_is_read(place: FilePlace) -> None:
    assert place.names() == []
    assert not place.exists("b.txt")
    place.write("b.txt", [b"one ", b"two"])
    place.write("a.txt", [])
    assert b"".join(place.read("b.txt")) == b"one two"
    assert place.names() == ["a.txt", "b.txt"]
    place.write("b.txt", [b"three"])
    assert b"".join(place.read("b.txt")) == b"three"
    assert place.exists("b.txt")


@pytest.mark.parametrize("name", ["", "../x", "x/y", ".hidden"])
def test_a_name_leads_nowhere_else(place: FilePlace, name: str) -> None:
    with pytest.raises(AnchorUnavailable):
        list(place.read(name))


def test_a_file_is_its_owners_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    place = FilePlace(str(tmp_path))
    (tmp_path / ".x.part").write_bytes(b"left by somebody who was killed, and longer")
    place.write("x", [b"new"])
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"new"
    place.write("y", [b"new"])
    assert stat.S_IMODE((tmp_path / "y").stat().st_mode) == 0o600


def test_a_writer_that_fails_changes_nothing(tmp_path: Path) -> None:
    place = FilePlace(str(tmp_path))
    place.write("x", [b"old"])

    def failing() -> Iterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place.write("x", failing())
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_a_file_that_is_there_can_be_left_alone(place: FilePlace) -> None:
    asked = []

    def content() -> Iterator[bytes]:
        asked.append(1)
        yield b"new"

    place.write("x", content(), replace=False)
    assert asked == [1]
    with pytest.raises(OutputExists, match="x: is there already"):
        place.write("x", content(), replace=False)
    assert asked == [1]
    assert place.names() == ["x"]
    assert b"".join(place.read("x")) == b"new"


def test_asking_for_a_name_tidies_up_what_was_left_under_two(tmp_path: Path) -> None:
    """As a process leaves it that was killed between linking and unlinking; a file that another
    one is at work on stays."""
    place = FilePlace(str(tmp_path))
    for name in ("x", "y"):
        (tmp_path / name).write_bytes(b"finished")
    (tmp_path / ".x.part").hardlink_to(tmp_path / "x")
    (tmp_path / ".y.part").write_bytes(b"another's")
    for name in ("x", "y"):
        with pytest.raises(OutputExists):
            place.require_free(name, replace=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".y.part", "x", "y"]
    assert (tmp_path / "x").read_bytes() == b"finished"


def test_a_file_that_comes_in_the_meantime_is_left_alone(tmp_path: Path) -> None:
    def content() -> Iterator[bytes]:
        (tmp_path / "x").write_bytes(b"theirs")
        yield b"mine"

    with pytest.raises(OutputExists):
        FilePlace(str(tmp_path)).write("x", content(), replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"theirs"


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_left_under_both_names_is_not_written_into(tmp_path: Path, replace: bool) -> None:
    """As a process leaves it that was killed between linking and unlinking."""
    (tmp_path / "x").write_bytes(b"finished")
    (tmp_path / ".x.part").hardlink_to(tmp_path / "x")
    seen = []

    def content() -> Iterator[bytes]:
        seen.append((tmp_path / "x").read_bytes())
        yield b"new"

    place = FilePlace(str(tmp_path))
    if replace:
        place.write("x", content())
        assert seen == [b"finished"]
    else:
        with pytest.raises(OutputExists):
            place.write("x", content(), replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == (b"new" if replace else b"finished")


def test_what_others_left_aside_becomes_its_owners(tmp_path: Path) -> None:
    (tmp_path / ".x.part").touch(0o644)
    FilePlace(str(tmp_path)).write("x", [b"new"])
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


@pytest.mark.parametrize("replace", [True, False])
def test_a_link_laid_aside_leads_nowhere(tmp_path: Path, replace: bool) -> None:
    """Whoever may write into the folder must not choose what is written over."""
    (tmp_path / "theirs").mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"of somebody else")
    (tmp_path / "theirs" / ".x.part").symlink_to(victim)
    with pytest.raises(AnchorUnavailable):
        FilePlace(str(tmp_path / "theirs")).write("x", [b"new"], replace=replace)
    assert victim.read_bytes() == b"of somebody else"


def test_what_is_taken_away_while_it_is_written_is_told(tmp_path: Path) -> None:
    def content() -> Iterator[bytes]:
        yield b"half"
        (tmp_path / ".x.part").unlink()

    with pytest.raises(AnchorUnavailable):
        FilePlace(str(tmp_path)).write("x", content())
    assert list(tmp_path.iterdir()) == []


def test_two_do_not_write_one_file_at_once(tmp_path: Path) -> None:
    place = FilePlace(str(tmp_path))
    with (tmp_path / ".x.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(AnchorUnavailable, match=r": x is being written by another process"):
            place.write("x", [b"mine"])
    place.write("x", [b"mine"])
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_whoever_comes_while_another_writes_waits_for_it(tmp_path: Path) -> None:
    begun = threading.Event()

    def slow() -> Iterator[bytes]:
        begun.set()
        time.sleep(0.3)
        yield b"first"

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(FilePlace(str(tmp_path)).write, "x", slow())
        assert begun.wait(PATIENCE_S)
        FilePlace(str(tmp_path)).write("x", [b"second"])
        first.result()
    assert (tmp_path / "x").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_place_that_cannot_be_had_is_named_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    inside = FilePlace(str(tmp_path / "file" / "inside"))
    with pytest.raises(AnchorUnavailable, match="inside"):
        inside.write("x", [b""])
    with pytest.raises(AnchorUnavailable) as caught:
        FilePlace("nothing://user:secret@host/path")
    assert "secret" not in str(caught.value)
    assert "host/path" in str(caught.value)
    # A service whose own package is missing: what to install is said.
    with pytest.raises(AnchorUnavailable, match="s3://bucket/path: Install s3fs"):
        FilePlace("s3://bucket/path")
    with pytest.raises(AnchorUnavailable) as caught:
        FilePlace("nothing://user:one@two@host/path@3")
    assert str(caught.value).startswith("nothing://host/path@3: ")
    with pytest.raises(AnchorUnavailable):
        list(FilePlace(str(tmp_path)).read("missing"))


def test_what_is_kept_from_it_is_never_written_over(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"a key")
    link.symlink_to(real)
    (tmp_path / "hard").hardlink_to(real)
    (tmp_path / "inside").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    kept = [link, tmp_path / "not-yet"]
    for folder in (tmp_path, tmp_path / "inside" / "..", tmp_path / "elsewhere"):
        for url in (str(folder), f"file://{folder}"):
            place = FilePlace(url, kept)
            for name in ("real", "link", "hard", "not-yet"):
                with pytest.raises(InvalidInput, match="the settings name this file"):
                    place.require_free(name, replace=True)
                with pytest.raises(InvalidInput, match=name):
                    place.write(name, [b"new"])
    assert real.read_bytes() == b"a key"
    assert link.is_symlink()
    assert not (tmp_path / "not-yet").exists()
    FilePlace(str(tmp_path), kept).write("other", [b"new"])


def test_whether_a_name_is_free_can_be_asked_before(place: FilePlace) -> None:
    place.require_free("x", replace=False)
    place.write("x", [b"old"])
    place.require_free("x", replace=True)
    with pytest.raises(OutputExists, match="x: is there already"):
        place.require_free("x", replace=False)
