"""Keys in the clear, for as long as they are in use."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Final

DESTROYED: Final = b""
"""Stands for a destroyed key."""


class KeyCache:
    """Recently used keys, in the clear; at most `size`. An empty key stands for a destroyed one.

    Two generations instead of an exact order: a hit costs one look-up and no lock. Keys that are
    used move to the young one; when that holds half the size, it becomes the old one, and what was
    there is forgotten.
    """

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._lock = Lock()
        self.epoch = 0
        """How often all keys were forgotten."""

    def get(self, key_id: bytes) -> bytes | None:
        """The key, if it is here."""
        key = self._young.get(key_id)
        if key is None:
            epoch = self.epoch
            key = self._old.get(key_id)
            if key is not None:
                self.put(key_id, key, epoch)
        return key

    def put(self, key_id: bytes, key: bytes, epoch: int) -> None:
        """Keep the key, unless all were forgotten since `epoch`, when it was read: it may have been
        destroyed since. One that is known as destroyed stays so, whoever read it just before."""
        with self._lock:
            if epoch != self.epoch:
                return
            known = self._young.get(key_id, self._old.get(key_id))
            self._young[key_id] = DESTROYED if known == DESTROYED else key
            self._age()

    def put_new(self, keys: Mapping[bytes, bytes]) -> None:
        """Keep keys that were just made, so that nobody can have read anything of them."""
        with self._lock:
            for key_id, key in keys.items():
                self._young[key_id] = key
                self._age()

    def _age(self) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}

    def clear(self) -> None:
        """Forget all keys."""
        with self._lock:
            self.epoch += 1
            self._old, self._young = {}, {}
