"""Checkpoints as files, one for each size, in a folder or in any store that fsspec reaches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from dee_es.adapters.places import FilePlace
from dee_es.errors import AnchorUnavailable, IntegrityViolation

_NAME: Final = re.compile(r"checkpoint-([0-9]{20})\.txt")


def file_name(size: int) -> str:
    """The name of a checkpoint's file; names sort by size."""
    return f"checkpoint-{size:020d}.txt"


class FileAnchor:
    """An `Anchor` in a folder, or under a URL such as `s3://bucket/path`; of a `kind` that its
    name begins with, such as `git:`."""

    def __init__(self, url: str, kind: str = "") -> None:
        self._files = FilePlace(url, kind=kind)
        self.place = self._files.address

    def put(self, size: int, note: str) -> None:
        """See `Anchor.put`."""
        name = file_name(size)
        if self._files.exists(name):
            if self._read(name) != note:
                raise IntegrityViolation(
                    f"{self.place} holds another checkpoint of {size:,} entries; "
                    "one of the two logs is a fork"
                )
            return
        self._files.write(name, [note.encode()])

    def notes(self) -> Iterator[tuple[int, str]]:
        """See `Anchor.notes`."""
        sizes = (_NAME.fullmatch(name) for name in self._files.names())
        unread: AnchorUnavailable | None = None
        for size in sorted((int(found[1]) for found in sizes if found), reverse=True):
            try:
                note = self._read(file_name(size))
            except AnchorUnavailable as error:
                # One that somebody has made unreadable must not hide the others; elsewhere each of
                # them may take long to fail.
                if not self._files.local:
                    raise
                unread = unread or error
            else:
                yield size, note
        if unread is not None:
            raise unread

    def _read(self, name: str) -> str:
        return b"".join(self._files.read(name)).decode("utf-8", "replace")
