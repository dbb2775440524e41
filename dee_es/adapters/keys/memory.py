"""Wrapped keys in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from dee_es.errors import StoreUnavailable


class MemoryKeyTable:
    """A `KeyTable` that is forgotten with the process."""

    where = "the key store in memory"

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes | None] = {}
        self._secret: bytes | None = None
        self._destroyed = 0
        self._open = True
        self._lock = Lock()

    def secret(self, make: Callable[[], bytes]) -> bytes:
        """See `KeyTable.secret`."""
        with self._lock:
            if self._secret is None:
                self._secret = make()
            return self._secret

    def insert(self, rows: Sequence[tuple[bytes, bytes]]) -> bool:
        """See `KeyTable.insert`."""
        with self._lock:
            self._require_open()
            if any(key_id in self._rows for key_id, _ in rows):
                return False
            self._rows.update(rows)
            return True

    def fetch(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """See `KeyTable.fetch`."""
        with self._lock:
            self._require_open()
            return {known: self._rows[known] for known in key_ids if known in self._rows}

    def destroy(self, key_id: bytes) -> bool:
        """See `KeyTable.destroy`."""
        with self._lock:
            self._require_open()
            if key_id not in self._rows:
                return False
            self._rows[key_id] = None
            self._destroyed += 1
            return True

    def destroyed(self) -> int:
        """See `KeyTable.destroyed`."""
        with self._lock:
            self._require_open()
            return self._destroyed

    def close(self) -> None:
        """See `KeyTable.close`."""
        with self._lock:
            self._open = False

    def _require_open(self) -> None:
        if not self._open:
            raise StoreUnavailable(f"{self.where} was closed; open it again")
