"""Between the log's bytes and the core's events: opens what was stored, seals what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from dee_es.core import codec
from dee_es.core.events import Event, Meta, RecordedEvent
from dee_es.core.evidence import chain
from dee_es.errors import IntegrityViolation, KeyDestroyed
from dee_es.ports import KeyStore, SealedEvent, StoredRow

KEY_ID_BYTES: Final = 16
_PUBLIC: Final = chain.HEADER_BYTES + 4
"""Where the public part of a stored state begins, behind its own length."""


class Journal:
    """Encodes, encrypts and chains events, and the way back.

    A personal part is stored as the key's id followed by the ciphertext.
    """

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys

    def seal(
        self,
        stream_id: str,
        version: int,
        previous: bytes,
        events: Sequence[Event],
        meta: Meta,
        key_id: bytes | None,
    ) -> tuple[SealedEvent, ...]:
        """Seal events that follow `version`. `key_id` is of the key that hides what is personal."""
        sealed = []
        for event in events:
            version += 1
            name, public, personal = codec.encode(event, meta)
            if personal:
                assert key_id is not None, f"{name} has personal data but its contact has no key"
                try:
                    personal = key_id + self._keys.encrypt(key_id, stream_id, version, personal)
                except KeyDestroyed:
                    # What still arrives about an erased contact is recorded without it.
                    event = msgspec.structs.replace(event, personal=None)
                    personal = b""
            payload = codec.join(public, personal)
            previous, state = chain.seal(stream_id, version, name, previous, payload)
            sealed.append(SealedEvent(stream_id, version, name, meta, event, state, previous))
        return tuple(sealed)

    def open(self, rows: Sequence[StoredRow]) -> list[RecordedEvent]:
        """Read a stream's rows, personal data included; each must continue the chain.

        `rows` begin with the stream's first. Raises `IntegrityViolation` or `UnknownEventVersion`
        naming the entry.
        """
        previous = chain.GENESIS
        opened = []
        for expected, row in enumerate(rows, start=1):
            problem = chain.fault(row.stream_id, row.version, row.name, previous, row.state)
            if problem is None and row.version != expected:
                problem = f"entry {expected} is missing before it"
            if problem is not None:
                raise IntegrityViolation(f"{row}: {problem}; run `dee audit verify`")
            sealed = chain.unseal(row.state, row)
            previous = sealed.checksum
            opened.append(self._revealed(row, *codec.split(sealed.payload, row)))
        return opened

    def open_one(self, row: StoredRow) -> RecordedEvent:
        """Read a single row, personal data included; its place in the chain is not checked."""
        return self._revealed(row, *codec.split(payload_of(row), row))

    def open_each(self, rows: Iterable[StoredRow]) -> list[RecordedEvent]:
        """Read many single rows like `open_one`, with their keys fetched at once."""
        parts = [(row, *codec.split(payload_of(row), row)) for row in rows]
        self._keys.preload({hidden[:KEY_ID_BYTES] for _, _, hidden in parts if hidden})
        return [self._revealed(row, public, hidden) for row, public, hidden in parts]

    def reveal(self, row: StoredRow) -> tuple[bytes, bytes | None, bool]:
        """A row's parts as they were encoded, whatever event it is of: the public one, the personal
        one decrypted (None if there is none or its key was destroyed), and whether it was."""
        public, hidden = codec.split(payload_of(row), row)
        if not hidden:
            return public, None, False
        key_id, ciphertext = hidden[:KEY_ID_BYTES], hidden[KEY_ID_BYTES:]
        plain = self._keys.decrypt(key_id, row.stream_id, row.version, ciphertext)
        return public, plain, plain is None

    def open_public(self, rows: Iterable[StoredRow]) -> list[RecordedEvent]:
        """Read rows without their personal data, which no projection may hold."""
        opened = []
        for row in rows:
            state, name = row.state, row.name
            try:
                end = _PUBLIC + int.from_bytes(state[_PUBLIC - 4 : _PUBLIC], "big")
                if len(state) < end or not state.startswith(chain.FORMAT):
                    raise ValueError
                current = codec.CURRENT[name](state[_PUBLIC:end])
                event, meta = current.data, current.meta
            except (*codec.DECODING_ERRORS, TypeError):
                # Of another schema, or at fault: with more care, which tells what is wrong.
                public, _ = codec.split(payload_of(row), row)
                event, meta = codec.decode(name, public, None, row)
            opened.append(
                RecordedEvent(row.stream_id, row.version, name, row.position, meta, event)
            )
        return opened

    def preload(self, rows: Iterable[StoredRow]) -> None:
        """Fetch the keys of many rows at once."""
        self.preload_keys(key_id_of(row) for row in rows)

    def preload_keys(self, key_ids: Iterable[bytes | None]) -> None:
        """Fetch many keys at once; None stands for none."""
        self._keys.preload({key_id for key_id in key_ids if key_id is not None})

    def _revealed(self, row: StoredRow, public: bytes, hidden: bytes) -> RecordedEvent:
        """The event of a row's parts, with what is hidden decrypted."""
        plain, erased = None, False
        if hidden:
            key_id, ciphertext = hidden[:KEY_ID_BYTES], hidden[KEY_ID_BYTES:]
            plain = self._keys.decrypt(key_id, row.stream_id, row.version, ciphertext)
            erased = plain is None
        event, meta = codec.decode(row.name, public, plain, row)
        return RecordedEvent(
            row.stream_id, row.version, row.name, row.position, meta, event, 0, erased
        )


def checksum_of(row: StoredRow) -> bytes:
    """The row's own checksum, as stored."""
    return chain.unseal(row.state, row).checksum


def payload_of(row: StoredRow) -> bytes:
    """What is stored of the event itself."""
    return chain.unseal(row.state, row).payload


def key_id_of(row: StoredRow) -> bytes | None:
    """The id of the key that the row's personal part is encrypted under, None if it has none."""
    _, hidden = codec.split(chain.unseal(row.state, row).payload, row)
    return hidden[:KEY_ID_BYTES] or None
