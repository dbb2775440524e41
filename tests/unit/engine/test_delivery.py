"""What is handed out is on record before all of it is anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pytest

from dee_es.engine.exporting import delivery
from dee_es.engine.exporting.delivery import deliver
from dee_es.errors import InvalidInput

CONTENT = b"0123456789" * 20


class Shelf:
    """A place that shows at once what it is given."""

    address = "shelf://"

    def __init__(self) -> None:
        self.taken = b""

    def write(self, name: str, content: Iterable[bytes], *, replace: bool = True) -> None:
        for piece in content:
            self.taken += piece


@pytest.mark.parametrize("gathered", [1, 7, 100, 150, 200, 1_000])
@pytest.mark.parametrize("size", [0, 1, 199, 200])
def test_the_last_piece_waits_for_the_record(
    monkeypatch: pytest.MonkeyPatch, gathered: int, size: int
) -> None:
    monkeypatch.setattr(delivery, "_GATHERED", gathered)
    shelf, told = Shelf(), []
    content = CONTENT[:size]

    def record(digest: str, target: str) -> None:
        told.append((digest, target, len(shelf.taken)))

    pieces = [content[at : at + 3] for at in range(0, size, 3)]
    deliver(pieces, "shelf://here/x", lambda _: shelf, record)  # type: ignore[arg-type]
    ((digest, target, there),) = told
    assert digest == hashlib.sha256(content).hexdigest()
    assert target == "shelf:/x"
    assert shelf.taken == content
    assert there < size or not size


@pytest.mark.parametrize("output", ["", "folder/", ".hidden", "s3://name", "a\0b", "s3://b/.x", 3])
def test_what_nothing_can_be_written_to_is_refused_before_it_is_made(output: object) -> None:
    def pieces() -> Iterable[bytes]:
        raise AssertionError("asked for")
        yield b""

    def record(digest: str, target: str) -> None:
        raise AssertionError("recorded")

    with pytest.raises(InvalidInput, match=r"^output"):
        deliver(pieces(), output, lambda _: Shelf(), record)  # type: ignore[arg-type]
