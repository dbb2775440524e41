"""Hands out what was made: first it is recorded in the log, and then it appears.

So nothing leaves the database unrecorded. What is broken off in between was recorded and never
appeared, which harms nobody: the same call again does all of it anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from dee_es.core.values import check_flag, check_text
from dee_es.errors import InvalidInput
from dee_es.ports import PlaceSource

_PIECE: Final = 1 << 20
_GATHERED: Final = 1 << 18
Recording = Callable[[str, str], None]
"""Records an export, given its SHA-256 (hex) and where it goes to."""


class ByteSink(Protocol):
    """A file open for writing bytes."""

    def write(self, data: bytes, /) -> object:
        """Take all of the bytes."""
        ...


Output = str | os.PathLike[str] | ByteSink | None
"""Where to: a file's path, a URL such as `s3://bucket/name`, an open file, or None: to the
caller."""


def deliver(
    pieces: Iterable[bytes],
    output: Output,
    places: PlaceSource,
    record: Recording,
    *,
    replace: bool = True,
) -> bytes | None:
    """Write the pieces, after they were recorded; returns them if they go to the caller.

    Without `replace` it raises `OutputExists` if the file is there, and nothing is recorded.
    """
    check_output(output)
    if output is None:
        content = b"".join(pieces)
        record(hashlib.sha256(content).hexdigest(), "")
        return content
    if isinstance(output, str | os.PathLike):
        folder, name = _split(output)
        place = places(folder)
        target = f"{place.address.rstrip('/')}/{name}"
        recorded = _recorded(pieces, lambda digest: record(digest, target))
        place.write(name, recorded, replace=replace)
        return None
    # A stream shows what it is given at once, so that all of it has to be there before.
    with tempfile.TemporaryFile() as aside:
        for piece in _recorded(pieces, lambda digest: record(digest, "stream")):
            aside.write(piece)
        aside.seek(0)
        while piece := aside.read(_PIECE):
            output.write(piece)
    return None


def check_output(
    output: Output, places: PlaceSource | None = None, *, replace: bool = True
) -> None:
    """Raise `InvalidInput` for what nothing can be written to; with `places`, also what these say
    of the file's name, before anything is made that would go there."""
    check_flag("replace", replace)
    if isinstance(output, str | os.PathLike):
        folder, name = _split(output)
        if places is not None:
            places(folder).require_free(name, replace=replace)
    elif output is not None and not callable(getattr(output, "write", None)):
        raise InvalidInput("output", "must be a path, a URL, a file open for bytes, or None")


def _recorded(pieces: Iterable[bytes], record: Callable[[str], None]) -> Iterator[bytes]:
    """The pieces in larger ones, and the recording before the last of them: whatever is left of
    a writer that was killed, all of an export is nowhere until the log tells of it."""
    digest = hashlib.sha256()
    last = b""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _GATHERED:
            joined = b"".join(held)
            digest.update(joined)
            if last:
                yield last
            last, held, size = joined, [], 0
    rest = b"".join(held)
    digest.update(rest)
    record(digest.hexdigest())
    yield last + rest


def _split(output: str | os.PathLike[str]) -> tuple[str, str]:
    """Folder and name of a file, or of a URL."""
    text = check_text("output", os.fspath(output), blank=False)
    if "://" in text:
        folder, _, name = text.rpartition("/")
        if folder.endswith(("/", ":")):
            raise InvalidInput("output", "a URL needs a place and a name, as s3://bucket/name")
    else:
        path = Path(text).absolute()
        folder, name = str(path.parent), path.name
        if path.is_dir() or text.endswith(os.sep):
            raise InvalidInput("output", "is a folder; name a file in it")
    if not name or name.startswith("."):
        raise InvalidInput("output", "must end with a file's name that begins with no dot")
    return folder, name
