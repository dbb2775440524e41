"""Where a key store's master key is kept, and how a new one takes its place.

In a file, the next master key lies beside it (`.next`) from before the first key is wrapped with it
until after the last trace of the former one is gone; then it is renamed over it. Whatever moment a
rotation is broken off at, one of the two opens the store, and both are tried.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dee_es.adapters.keys.master import (
    MasterKey,
    create_master_key,
    load_master_key,
    new_master_key,
    sync_directory,
)
from dee_es.adapters.keys.source import KeySource
from dee_es.errors import InvalidInput


class MasterHolder(Protocol):
    """The place of a master key."""

    @property
    def where(self) -> str:
        """What the place is called, for people."""
        ...

    def candidates(self) -> Sequence[MasterKey]:
        """The master key; behind it the one of a rotation that is not finished."""
        ...

    def pending(self) -> MasterKey | None:
        """The next master key of a rotation that was begun here and is not finished."""
        ...

    def successor(self, given: MasterKey | None) -> MasterKey:
        """The next master key, the one given or a new one, durable on return.

        Raises `InvalidInput` if there is one already that is not the one given, or if this place
        cannot keep one.
        """
        ...

    @property
    def settles_in_file(self) -> bool:
        """Whether the new key takes the place of the former one, so that no setting changes."""
        ...

    def settle(self, key: MasterKey) -> None:
        """Make this, which a rotation was to, the master key, durably; again changes nothing."""
        ...


class MemoryHolder:
    """A master key that the process forgets, or that is given from outside."""

    settles_in_file = False

    def __init__(self, key: MasterKey, where: str, source: KeySource | None = None) -> None:
        self.where = where
        self._key = key
        self._source = source

    def candidates(self) -> Sequence[MasterKey]:
        """See `MasterHolder.candidates`."""
        return [self._key]

    def pending(self) -> MasterKey | None:
        """See `MasterHolder.pending`: nothing is begun here."""
        return None

    def successor(self, given: MasterKey | None) -> MasterKey:
        """See `MasterHolder.successor`."""
        if given is not None:
            return given
        if self._source is None:
            raise InvalidInput(
                "new master key",
                f"{self.where} is not a file that can be replaced: give the new key, or name a "
                "file for it",
            )
        return new_master_key(self._source)

    def settle(self, key: MasterKey) -> None:
        """See `MasterHolder.settle`."""
        self._key = key


class FileHolder:
    """A master key in a file that only its owner may read."""

    settles_in_file = True

    def __init__(self, path: str | Path, source: KeySource = os.urandom) -> None:
        # A link stays a link: what it leads to is replaced.
        self._path = Path(path).resolve()
        self._source = source
        self.where = f"file {path}"

    @property
    def _next(self) -> Path:
        return self._path.with_name(f"{self._path.name}.next")

    def candidates(self) -> Sequence[MasterKey]:
        """See `MasterHolder.candidates`."""
        first, following = load_master_key(self._path), self.pending()
        return [first] if following is None else [first, following]

    def pending(self) -> MasterKey | None:
        """See `MasterHolder.pending`."""
        try:
            return load_master_key(self._next)
        except InvalidInput as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None  # there is none, or another process has just finished the rotation
            raise

    def successor(self, given: MasterKey | None) -> MasterKey:
        """See `MasterHolder.successor`."""
        staged = self.pending()
        if staged is None:
            try:
                return create_master_key(self._next, self._source, given)
            except InvalidInput:
                # Another process may have begun a rotation at this very moment; it is this one.
                staged = self.pending()
                if staged is None:
                    raise
        if given is not None and given.reveal() != staged.reveal():
            raise InvalidInput(
                "new master key",
                f"a rotation to the one in {self._next} is not finished; rotate without naming a "
                "key to finish it first",
            )
        return staged

    def settle(self, key: MasterKey) -> None:
        """See `MasterHolder.settle`."""
        staged = self.pending()
        if staged is not None and staged.reveal() == key.reveal():
            try:
                os.replace(self._next, self._path)
            except FileNotFoundError:
                pass  # another process that finished the same rotation was faster
            except OSError as error:
                raise InvalidInput(
                    f"master key file {self._path}", f"cannot be replaced: {error.strerror}"
                ) from error
            sync_directory(self._path.parent)


class TriedHolder:
    """A holder that also tries a key, or the one in a file, which an earlier try of a rotation may
    have put in force."""

    def __init__(
        self, holder: MasterHolder, key: MasterKey | None, path: str | Path | None
    ) -> None:
        self._holder = holder
        self._key = key
        self._path = None if path is None else Path(path)
        self.where = holder.where

    def candidates(self) -> Sequence[MasterKey]:
        """See `MasterHolder.candidates`."""
        found = list(self._holder.candidates())
        if self._key is not None:
            found.append(self._key)
        if self._path is not None and self._path.exists():
            found.append(load_master_key(self._path))
        return found

    def pending(self) -> MasterKey | None:
        """See `MasterHolder.pending`."""
        return self._holder.pending()

    def successor(self, given: MasterKey | None) -> MasterKey:
        """See `MasterHolder.successor`."""
        return self._holder.successor(given)

    def settle(self, key: MasterKey) -> None:
        """See `MasterHolder.settle`."""
        self._holder.settle(key)

    @property
    def settles_in_file(self) -> bool:
        """See `MasterHolder.settles_in_file`."""
        return self._holder.settles_in_file
