"""What ties the entries of an export to the signed log: the newest checkpoint, and one proof."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.evidence import chain, checkpoint
from dee_es.core.evidence.multiproof import Multiproof, Ranges
from dee_es.core.evidence.signed_note import VerifierKey
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.exporting.scope import OnRead
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.errors import UNREADABLE, IntegrityViolation, InvalidInput
from dee_es.ports import EventStore, SignerSource, StoredRow

_PAGE: Final = 5_000
_NODES: Final = 500
"""Hashes in one record."""


class Signed(Struct, frozen=True):
    """What the log says of its checkpoints: `newest` and the `older` ones from which it is proved
    to have gone on (the first and the last before it), the key that signed them if it is here."""

    origin: str
    newest: e.CheckpointSigned | None
    older: tuple[e.CheckpointSigned, ...]
    all: tuple[e.CheckpointSigned, ...]
    key: VerifierKey | None
    problems: tuple[str, ...]

    def covers(self, chosen: Ranges) -> int:
        """How many of the leaves lie below the newest checkpoint."""
        return 0 if self.newest is None else chosen.below(self.newest.size)


def look_up(store: EventStore, journal: Journal, signers: SignerSource, through: int) -> Signed:
    """The checkpoints in the log up to a position, as far as they can be read."""
    rows = store.read_stream(SYSTEM_STREAM)
    if not rows or rows[0].version != 1:
        return Signed("", None, (), (), None, ("the log has no first entry",))
    try:
        origin = checkpoint.origin_of(checksum_of(rows[0]))
    except IntegrityViolation as error:
        return Signed("", None, (), (), None, (str(error),))
    found: list[e.CheckpointSigned] = []
    for row in rows:
        if row.name == "CheckpointSigned" and row.position <= through:
            with suppress(*UNREADABLE):
                event = journal.open_one(row).event
                assert isinstance(event, e.CheckpointSigned), "named so"
                found.append(event)
    signer = signers.open(origin, create=False)
    problems = []
    if found and signer is not None:
        try:
            checkpoint.opened(found[-1].note, signer.key, signer.verify)
        except InvalidInput as error:
            problems.append(f"the newest checkpoint in the log {error.problem}")
    newest = found[-1] if found else None
    older = {each.size: each for each in (found[:1] + found[-2:-1]) if each is not newest}
    proved = tuple(older[size] for size in sorted(older) if newest and size < newest.size)
    key = None if signer is None else signer.key
    return Signed(origin, newest, proved, tuple(found), key, tuple(problems))


class Proving:
    """One pass over the log, up to the newest checkpoint, that makes the records of the proof."""

    def __init__(self, store: EventStore, signed: Signed, chosen: Ranges) -> None:
        self._store = store
        self._signed = signed
        self._chosen = chosen
        self.problems = list(signed.problems)

    def records(self, on_read: OnRead) -> Iterator[dict[str, Any]]:
        """The proof's hashes, then the checkpoints with how they follow from each other."""
        newest = self._signed.newest
        if newest is None:
            return
        proof = Multiproof(self._chosen)
        nodes: list[bytes] = []
        older = [_Older(each) for each in self._signed.older]
        for leaves in self._leaves(newest.size):
            for each in older:
                each.feed(leaves)
            nodes += proof.feed(leaves)
            on_read(proof.size)
            while len(nodes) > _NODES:
                yield {"record": "proof", "nodes": _texts(nodes[:_NODES])}
                del nodes[:_NODES]
        if proof.size == newest.size and proof.root.hex() != newest.root:
            self.problems.append(
                f"positions 1 to {newest.size}: what is stored is not what was signed"
            )
        nodes += proof.finish()
        yield {"record": "proof", "nodes": _texts(nodes)}
        for each in older:
            yield each.record()
        yield {"record": "checkpoint", "note": newest.note}

    def _leaves(self, size: int) -> Iterator[list[bytes]]:
        """The checksums of all entries that were signed; of archived ones by their tombstones."""
        after = 0
        while after < size:
            end = min(after + _PAGE, size)
            known = {row.position: _checksum(row) for row in self._store.read_log(after, _PAGE)}
            wanted = range(after + 1, end + 1)
            if any(position not in known for position in wanted):
                for stone in self._store.tombstones(after, end):
                    # What is no checksum leads to another root.
                    usable = type(stone.checksum) is bytes
                    known.setdefault(stone.position, stone.checksum if usable else chain.GENESIS)
            for position in wanted:
                if position not in known:
                    self.problems.append(
                        f"position {position} is missing, of {size} that were signed"
                    )
                    return
            yield [known[position] for position in wanted]
            after = end


def _checksum(row: StoredRow) -> bytes:
    try:
        return checksum_of(row)
    except IntegrityViolation:
        return chain.GENESIS


class _Older:
    """Shows that the newest checkpoint goes on from an older one: its last entry has the same place
    in both trees, and the same to the left of it."""

    def __init__(self, event: e.CheckpointSigned) -> None:
        self._event = event
        self._proof = Multiproof((event.size - 1,))
        self._way: list[bytes] = []
        self._last = chain.GENESIS

    def feed(self, leaves: Sequence[bytes]) -> None:
        """Take in the next leaves."""
        at = self._event.size - 1 - self._proof.size
        if 0 <= at < len(leaves):
            self._last = leaves[at]
        self._way += self._proof.feed(leaves)

    def record(self) -> dict[str, Any]:
        """The record, when all leaves were fed."""
        way = _texts(self._way + self._proof.finish())
        last = base64.b64encode(self._last).decode()
        return {"record": "checkpoint", "note": self._event.note, "last": last, "way": way}


def _texts(hashes: list[bytes]) -> list[str]:
    return [base64.b64encode(each).decode() for each in hashes]
