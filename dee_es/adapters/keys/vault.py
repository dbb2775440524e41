"""The key store itself, over any table of wrapped keys."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Final, NamedTuple

from dee_es.adapters.keys import cipher
from dee_es.adapters.keys.cache import DESTROYED, KeyCache
from dee_es.adapters.keys.cipher import KEY_BYTES, KEY_ID_BYTES, Digests, Wrapper
from dee_es.adapters.keys.holders import MasterHolder
from dee_es.adapters.keys.key_table import GenerationMoved, KeyTable
from dee_es.adapters.keys.source import KeySource
from dee_es.errors import IntegrityViolation, KeyDestroyed, MasterKeyRotated, StoreUnavailable
from dee_es.ports.keys import NO_KEY

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
_SEALED: Final = "sealed under a name"
_REDRAWS: Final = 200
_SHARED_BYTES: Final = 4
_DRAWN_BYTES: Final = KEY_ID_BYTES - _SHARED_BYTES + KEY_BYTES
"""What is drawn for one key: the rest of its id, and the key."""
_REOPENINGS: Final = 3


class Era(NamedTuple):
    """What rows are wrapped with, and the generation of the store for which that holds."""

    wrapper: Wrapper
    generation: int


class KeyVault:
    """A `KeyStore`: it makes, wraps, keeps and destroys keys, and does the encryption with them."""

    encrypts = True

    def __init__(
        self,
        table: KeyTable,
        holder: MasterHolder,
        source: KeySource,
        new_secret: Callable[[Wrapper], bytes] | None,
    ) -> None:
        """Open the store. Raises `IntegrityViolation` if it was made with another master key,
        `MasterKeyRotated` if that was its master key once, and `StoreUnavailable` if it is new and
        `new_secret`, which gives its secret wrapped, is None."""
        self._table = table
        self._holder = holder
        self._source = source
        self._era, self._secret = self._open(new_secret)
        self._digests = Digests(self._secret)
        self._next: Wrapper | None = None
        self._cache = KeyCache(CACHED_KEYS)
        self._pool: deque[bytes] = deque()
        self._pool_lock = Lock()
        self._chunk = FIRST_CHUNK
        self._drawn = 0
        self._shared = b""
        self._destroyed = table.state().destroyed
        self._checked = time.monotonic()

    def _open(self, new_secret: Callable[[Wrapper], bytes] | None) -> tuple[Era, bytes]:
        tried: list[bytes] = []
        for _ in range(_REOPENINGS):
            wrappers = [Wrapper(key.reveal()) for key in self._holder.candidates()]
            prints = [wrapper.fingerprint for wrapper in wrappers]
            if prints == tried:
                break
            # Else a rotation may have ended between the look at the key and the look at the store.
            tried = prints
            make = None if new_secret is None else partial(new_secret, wrappers[0])
            wrapped, state = self._table.opening(make)
            if wrapped is None:
                raise StoreUnavailable(
                    f"{self._table.where} is empty, but this database has been used with one; "
                    "bring a backup back with `dee keys restore`"
                )
            for wrapper in wrappers:
                secret = wrapper.unwrap_secret(wrapped)
                if secret is not None:
                    return Era(wrapper, state.generation), secret
        if any(self._table.retired(each) for each in tried):
            raise self._rotated()
        raise IntegrityViolation(
            f"{self._table.where}: the master key is not the one this key store was made with; "
            "give the right one"
        )

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
        if key == DESTROYED:
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
        if key == DESTROYED:
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

    def check(self) -> None:
        """See `KeyStore.check`."""
        self._forget_destroyed()

    def destroy(self, key_id: bytes) -> None:
        """Destroy the key for ever: what was encrypted with it can never be read again.

        Destroying it twice is the same as once. Raises `IntegrityViolation` if it is unknown.
        """
        if not self._table.destroy(key_id):
            raise self._unknown(key_id)
        self._cache.put(key_id, DESTROYED, self._cache.epoch)

    def reveal(self, key_id: bytes) -> bytes | None:
        """See `KeyStore.reveal`."""
        key = self._load([key_id]).get(key_id)
        if key is None:
            raise self._unknown(key_id)
        return None if key == DESTROYED else key

    def adopt(self, key_id: bytes, key: bytes | None) -> bool:
        """See `KeyStore.adopt`."""
        if key_id == NO_KEY:
            return False
        added = self._add_destroyed(key_id) if key is None else self._insert({key_id: key})
        return added or self.reveal(key_id) == key

    def digest(self, kind: str, normalized: str) -> str:
        """See `KeyStore.digest`."""
        return self._digests.of(kind, normalized)

    def seal(self, name: str, plaintext: bytes) -> bytes:
        """See `KeyStore.seal`."""
        return cipher.encrypt(self._named(name), _SEALED, 0, plaintext)

    def unseal(self, name: str, sealed: bytes) -> bytes | None:
        """See `KeyStore.unseal`."""
        return cipher.decrypt(self._named(name), _SEALED, 0, sealed)

    def _named(self, name: str) -> bytes:
        return bytes.fromhex(self._digests.of(_SEALED, name))

    def close(self) -> None:
        """Release the store and forget all keys; unused ones of the pool are never used."""
        with self._pool_lock:
            self._pool.clear()
        self._cache.clear()
        self._table.close()

    def _fill(self, count: int) -> None:
        rows = dict(self._draw(count))
        if not self._insert(rows):
            # Only a seeded source draws an id twice: it began anew on a store it has filled before.
            for known in self._table.fetch(list(rows)):
                del rows[known]
            if not rows or not self._insert(rows):
                return
        self._cache.put_new(rows)
        self._pool.extend(rows)

    def _draw(self, count: int) -> Iterator[tuple[bytes, bytes]]:
        """New ids, each with its key."""
        # Wholly random ids would touch a page of the table's index each, which in a store of a
        # million keys makes new ones three times as slow. Which ids are neighbours depends on how
        # many were drawn and not on the chunks, so that the same source gives the same keys
        # whatever sizes are asked for.
        while count:
            if self._drawn % NEIGHBOURS == 0:
                self._shared = self._source(_SHARED_BYTES)
            some = min(count, NEIGHBOURS - self._drawn % NEIGHBOURS)
            drawn = self._source(some * _DRAWN_BYTES)
            for start in range(0, len(drawn), _DRAWN_BYTES):
                middle = start + KEY_ID_BYTES - _SHARED_BYTES
                yield self._shared + drawn[start:middle], drawn[middle : start + _DRAWN_BYTES]
            self._drawn += some
            count -= some

    def _insert(self, rows: dict[bytes, bytes]) -> bool:
        while True:
            wrapper, generation = self._era
            # In order of their ids, so that one commit walks the table's index once.
            wrapped = [(key_id, wrapper.wrap(key_id, rows[key_id])) for key_id in sorted(rows)]
            try:
                return self._table.insert(wrapped, generation)
            except GenerationMoved:
                self._renew()

    def _add_destroyed(self, key_id: bytes) -> bool:
        """Add the row of a destroyed key, at once: whoever is stopped between adding a key and
        destroying it would leave one that fits nothing."""
        while True:
            try:
                return self._table.add([(key_id, None)], self._era.generation) > 0
            except GenerationMoved:
                self._renew()

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
        wrapper, generation = self._era
        epoch = self._cache.epoch
        for key_id, wrapped in self._table.fetch(key_ids).items():
            key = DESTROYED if wrapped is None else wrapper.unwrap(key_id, wrapped)
            if key is None:
                if self._table.state().generation != generation:
                    self._renew()
                    return self._load(key_ids)
                raise IntegrityViolation(
                    f"{self._table.where}: key {key_id.hex()} is not what was stored; "
                    "the row was changed"
                )
            loaded[key_id] = key
            self._cache.put(key_id, key, epoch)
        return loaded

    def _forget_destroyed(self) -> None:
        now = time.monotonic()
        destroyed, generation = self._table.state()
        if generation != self._era.generation:
            self._renew()
        if destroyed != self._destroyed:
            self._cache.clear()
            self._destroyed = destroyed
        self._checked = now

    def _renew(self) -> None:
        """Go on with the new master key, if this is the process that rotated to it.

        Raises `MasterKeyRotated` if somebody else did.
        """
        wrapped, state = self._table.opening(None)
        for wrapper in (self._next, self._era.wrapper):
            if wrapper is not None and wrapped is not None:
                secret = wrapper.unwrap_secret(wrapped)
                if secret is not None:
                    self._era = Era(wrapper, state.generation)
                    return
        raise self._rotated()

    def _rotated(self) -> MasterKeyRotated:
        return MasterKeyRotated(
            f"{self._table.where}: the master key was rotated; restart with the new one"
        )

    def _unknown(self, key_id: bytes) -> IntegrityViolation:
        return IntegrityViolation(
            f"key {key_id.hex()} is unknown to {self._table.where}; nothing was destroyed"
        )
