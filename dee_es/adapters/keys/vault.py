"""The key store itself, over any table of wrapped keys."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Final

from dee_es.adapters.keys import cipher
from dee_es.adapters.keys.cipher import KEY_BYTES, KEY_ID_BYTES, Wrapper
from dee_es.adapters.keys.master import MasterKey
from dee_es.adapters.keys.source import KeySource, KeyTable
from dee_es.errors import IntegrityViolation, KeyDestroyed

FIRST_CHUNK: Final = 32
"""Keys a new pool is filled with; small, since a short-lived process leaves most of them unused."""
LARGEST_CHUNK: Final = 8_192
"""Each refill doubles the chunk up to this many keys, so that bulk enrolment commits rarely."""
NEIGHBOURS: Final = 8_192
"""Keys that begin with the same random bytes, and so are stored side by side."""
CACHED_KEYS: Final = 131_072
STALE_AFTER_S: Final = 1.0
"""Longest time a key that another process destroyed is still used here."""
_FETCH: Final = 1_000
_REDRAWS: Final = 200
_SHARED_BYTES: Final = 4

_DESTROYED: Final = b""


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

    def get(self, key_id: bytes) -> bytes | None:
        """The key, if it is here."""
        key = self._young.get(key_id)
        if key is None:
            key = self._old.get(key_id)
            if key is not None:
                self.put(key_id, key)
        return key

    def put(self, key_id: bytes, key: bytes) -> None:
        """Keep the key; one that is known as destroyed stays so, whoever read it just before."""
        with self._lock:
            known = self._young.get(key_id, self._old.get(key_id))
            self._young[key_id] = _DESTROYED if known == _DESTROYED else key
            if len(self._young) >= self._half:
                self._old, self._young = self._young, {}

    def clear(self) -> None:
        """Forget all keys."""
        with self._lock:
            self._old, self._young = {}, {}


class KeyVault:
    """A `KeyStore`: it makes, wraps, keeps and destroys keys, and does the encryption with them."""

    def __init__(self, table: KeyTable, master: MasterKey, source: KeySource) -> None:
        """Open the store; raises `IntegrityViolation` if it was made with another master key."""
        self._table = table
        self._source = source
        self._wrapper = Wrapper(master.reveal())
        wrapped = table.secret(lambda: self._wrapper.wrap_secret(source(KEY_BYTES)))
        secret = self._wrapper.unwrap_secret(wrapped)
        if secret is None:
            raise IntegrityViolation(
                f"{table.where}: the master key is not the one this key store was made with; "
                "give the right one"
            )
        self._secret = secret
        self._cache = KeyCache(CACHED_KEYS)
        self._pool: deque[bytes] = deque()
        self._pool_lock = Lock()
        self._chunk = FIRST_CHUNK
        self._drawn = 0
        self._shared = b""
        self._destroyed = table.destroyed()
        self._checked = time.monotonic()

    def new_keys(self, count: int) -> list[bytes]:
        """See `KeyStore.new_keys`; they come from a pool that was committed ahead."""
        with self._pool_lock:
            for _ in range(_REDRAWS):
                if len(self._pool) >= count:
                    return [self._pool.popleft() for _ in range(count)]
                self._fill(max(self._chunk, count - len(self._pool)))
                self._chunk = min(2 * self._chunk, LARGEST_CHUNK)
        raise IntegrityViolation(
            f"{self._table.where}: the key source repeats itself; no key was made"
        )

    def encrypt(self, key_id: bytes, stream_id: str, version: int, plaintext: bytes) -> bytes:
        """See `KeyStore.encrypt`. Raises `IntegrityViolation` if the key is unknown, and
        `KeyDestroyed`: nothing personal may be stored about somebody who was erased."""
        key = self._key(key_id, stream_id, version)
        if key == _DESTROYED:
            raise KeyDestroyed(
                f"{stream_id}, version {version}: key {key_id.hex()} was destroyed; "
                "nothing can be encrypted with it"
            )
        return cipher.encrypt(key, stream_id, version, plaintext)

    def decrypt(
        self, key_id: bytes, stream_id: str, version: int, ciphertext: bytes
    ) -> bytes | None:
        """See `KeyStore.decrypt`; an unknown key is an `IntegrityViolation` too."""
        key = self._key(key_id, stream_id, version)
        if key == _DESTROYED:
            return None
        plaintext = cipher.decrypt(key, stream_id, version, ciphertext)
        if plaintext is None:
            raise IntegrityViolation(
                f"{stream_id}, version {version}: the ciphertext is not what was encrypted there "
                f"with key {key_id.hex()}"
            )
        return plaintext

    def preload(self, key_ids: Iterable[bytes]) -> None:
        """See `KeyStore.preload`; it also notices at once what other processes destroyed."""
        self._forget_destroyed()
        wanted = [key_id for key_id in dict.fromkeys(key_ids) if self._cache.get(key_id) is None]
        for start in range(0, len(wanted), _FETCH):
            self._load(wanted[start : start + _FETCH])

    def destroy(self, key_id: bytes) -> None:
        """Destroy the key for ever: what was encrypted with it can never be read again.

        Destroying it twice is the same as once. Raises `IntegrityViolation` if it is unknown.
        """
        if not self._table.destroy(key_id):
            raise self._unknown(key_id)
        self._cache.put(key_id, _DESTROYED)

    def reveal(self, key_id: bytes) -> bytes | None:
        """See `KeyStore.reveal`."""
        key = self._load([key_id]).get(key_id)
        if key is None:
            raise self._unknown(key_id)
        return None if key == _DESTROYED else key

    def adopt(self, key_id: bytes, key: bytes | None) -> bool:
        """See `KeyStore.adopt`."""
        if not self._insert({key_id: self._source(KEY_BYTES) if key is None else key}):
            return self.reveal(key_id) == key
        if key is None:
            self.destroy(key_id)
        return True

    def digest(self, kind: str, normalized: str) -> str:
        """See `KeyStore.digest`."""
        return cipher.digest(self._secret, kind, normalized)

    def close(self) -> None:
        """Release the store and forget all keys; unused ones of the pool are never used."""
        with self._pool_lock:
            self._pool.clear()
        self._cache.clear()
        self._table.close()

    def _fill(self, count: int) -> None:
        rows: dict[bytes, bytes] = {}
        for _ in range(count):
            key_id = self._draw_id()
            rows[key_id] = self._source(KEY_BYTES)
        if not self._insert(rows):
            # Only a seeded source draws an id twice: it began anew on a store it has filled before.
            for known in self._table.fetch(list(rows)):
                del rows[known]
            if not rows or not self._insert(rows):
                return
        for key_id, key in rows.items():
            self._cache.put(key_id, key)
        self._pool.extend(rows)

    def _draw_id(self) -> bytes:
        # Wholly random ids would touch a page of the table's index each, which in a store of a
        # million keys makes new ones three times as slow. Which ids are neighbours depends on how
        # many were drawn and not on the chunks, so that the same source gives the same keys
        # whatever sizes are asked for.
        if self._drawn % NEIGHBOURS == 0:
            self._shared = self._source(_SHARED_BYTES)
        self._drawn += 1
        return self._shared + self._source(KEY_ID_BYTES - _SHARED_BYTES)

    def _insert(self, rows: dict[bytes, bytes]) -> bool:
        wrap = self._wrapper.wrap
        # In order of their ids, so that one commit walks the table's index once.
        return self._table.insert([(key_id, wrap(key_id, rows[key_id])) for key_id in sorted(rows)])

    def _key(self, key_id: bytes, stream_id: str, version: int) -> bytes:
        if time.monotonic() - self._checked > STALE_AFTER_S:
            self._forget_destroyed()
        key = self._cache.get(key_id)
        if key is None:
            key = self._load([key_id]).get(key_id)
        if key is None:
            raise IntegrityViolation(
                f"{stream_id}, version {version}: key {key_id.hex()} is unknown to "
                f"{self._table.where}; is this the key store of this database?"
            )
        return key

    def _load(self, key_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        loaded: dict[bytes, bytes] = {}
        for key_id, wrapped in self._table.fetch(key_ids).items():
            key = _DESTROYED if wrapped is None else self._wrapper.unwrap(key_id, wrapped)
            if key is None:
                raise IntegrityViolation(
                    f"{self._table.where}: key {key_id.hex()} is not what was stored; "
                    "the row was changed"
                )
            loaded[key_id] = key
            self._cache.put(key_id, key)
        return loaded

    def _forget_destroyed(self) -> None:
        now = time.monotonic()
        destroyed = self._table.destroyed()
        if destroyed != self._destroyed:
            self._cache.clear()
            self._destroyed = destroyed
        self._checked = now

    def _unknown(self, key_id: bytes) -> IntegrityViolation:
        return IntegrityViolation(
            f"key {key_id.hex()} is unknown to {self._table.where}; nothing was destroyed"
        )
