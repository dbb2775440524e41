"""How a key store keeps its keys: the protocol of its table, and what goes in and out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

Row = tuple[bytes, bytes | None]
"""A key's id and its wrapped form; None once it is destroyed."""
Rewrap = Callable[[Sequence[Row]], list[Row]]
"""Wraps the rows of a page anew, destroyed ones left as they are."""

PAGE: Final = 1_000
"""Rows that are read or written at once where all of a store is gone through."""
CATCH_UP: Final = 10_000
"""Rows that are staged at once where each look for them goes through all of the store."""


class TableState(NamedTuple):
    """What tells that others changed the store: how many keys were destroyed, and the generation,
    which is how often the master key was replaced. Both only grow."""

    destroyed: int
    generation: int


class Opening(NamedTuple):
    """The store's own wrapped secret with the state at that moment; None if the store is new."""

    secret: bytes | None
    state: TableState


class Snapshot(NamedTuple):
    """All of a store as of one moment: its secret, its state, and its rows in order of their ids,
    in pages."""

    opening: Opening
    total: int
    pages: Iterator[list[Row]]


class GenerationMoved(Exception):
    """The master key was replaced meanwhile; nothing was written."""


class RotationReplaced(Exception):
    """Somebody began a rotation to another master key meanwhile; nothing was written."""


class KeyTable(Protocol):
    """The rows of a key store; all they hold is wrapped, and a destroyed key is an empty row.

    Beside the rows a table keeps a stage, which a rotation fills with all rows wrapped under the
    next master key before it takes the place of the rows in one transaction. A key that is
    destroyed is emptied in both.

    All methods raise `StoreUnavailable` when the store does not answer within bounded time.
    """

    @property
    def where(self) -> str:
        """What the store is called in error messages; without passwords."""
        ...

    def opening(self, make: Callable[[], bytes] | None) -> Opening:
        """The store's own wrapped secret; `make` gives it when the store is new."""
        ...

    def state(self) -> TableState:
        """Whether somebody destroyed keys or replaced the master key."""
        ...

    def insert(self, rows: Sequence[tuple[bytes, bytes]], generation: int) -> bool:
        """Add key ids with their wrapped keys, durably; False if one of them is there already, and
        then none is added. Raises `GenerationMoved` if they are wrapped by a former master key."""
        ...

    def add(self, rows: Sequence[Row], generation: int) -> int:
        """Add those rows whose id is not there, durably, and return how many; as `insert`."""
        ...

    def fetch(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """The wrapped keys of those ids that are known; None for a destroyed one."""
        ...

    def destroy(self, key_id: bytes) -> bool:
        """Empty the row, durably, and count it; False if the id is unknown."""
        ...

    def bury(self, key_ids: Sequence[bytes]) -> int:
        """Empty the rows, and add empty rows for unknown ids, so that no key can come to stand
        there; durably. Returns how many changed."""
        ...

    def counts(self) -> tuple[int, int]:
        """How many keys are held, and how many rows are those of destroyed ones."""
        ...

    def set_note(self, name: str, value: bytes) -> None:
        """Keep a note about the store."""
        ...

    def note(self, name: str) -> bytes | None:
        """The note of this name."""
        ...

    def retired(self, fingerprint: bytes) -> bool:
        """Whether this is the fingerprint of a master key that was replaced."""
        ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """All of the store as of now; nobody waits for who reads it."""
        ...

    def begin(self, target: bytes, generation: int) -> bytes:
        """Begin or take up a rotation to the master key with this fingerprint; a stage that was
        filled for another one is emptied. Returns the last id that is staged, empty if none is.
        Raises `GenerationMoved`."""
        ...

    def rotating(self) -> bool:
        """Whether a rotation was begun and is not finished."""
        ...

    def stage(
        self, after: bytes | None, rewrap: Rewrap, target: bytes, generation: int
    ) -> list[Row]:
        """Stage the next page of rows behind an id and return them, or, without an id, up to
        `CATCH_UP` rows that are not staged yet. Raises `GenerationMoved` and `RotationReplaced`."""
        ...

    def swap(
        self, rewrap: Rewrap, secret: bytes, target: bytes, retiring: bytes, generation: int
    ) -> None:
        """Stage what is missing and put the stage in the place of the rows, together with the
        wrapped secret, all in one transaction; the former rows are gone. As `stage`."""
        ...

    def clear(self) -> None:
        """Leave nothing of former rows in files beside the store."""
        ...

    def close(self) -> None:
        """Release the store."""
        ...
