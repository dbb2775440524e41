"""Where files about the log are written: exports, archives, certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol


class Place(Protocol):
    """A folder, or something like one, outside the database.

    Methods raise `AnchorUnavailable` naming the place.
    """

    @property
    def address(self) -> str:
        """How people call it; without credentials."""
        ...

    def write(self, name: str, content: Iterable[bytes], *, replace: bool = True) -> None:
        """Write a file, durably and for its owner only; it appears whole or not at all, in place
        of one of that name.

        Without `replace` it raises `OutputExists` if there is one, before it asks for content; in
        an object store, whoever makes one of that name in the meantime is not noticed.
        """
        ...

    def require_free(self, name: str, *, replace: bool) -> None:
        """Raise what `write` would for the name alone: `OutputExists` without `replace` if there is
        such a file, and `InvalidInput`, in any case, if it is one that the settings name."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """The file's content, in pieces."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def names(self) -> list[str]:
        """The files there are, in order of their names."""
        ...


PlaceSource = Callable[[str], Place]
"""The place behind a folder's name or a URL such as `s3://bucket/path`."""
