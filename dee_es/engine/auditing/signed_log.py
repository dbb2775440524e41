"""The log as its last checkpoint describes it: where signing goes on, and proofs begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.evidence import chain, checkpoint
from dee_es.core.evidence.merkle import Edge
from dee_es.core.ids import SYSTEM_STREAM, contact_stream
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.errors import IntegrityViolation, InvalidInput
from dee_es.ports import EventStore, Signer, SignerSource, StoredRow

PAGE: Final = 5_000
_FIRST_LOOK: Final = 8
"""So many of the system's last entries are read at first: the last checkpoint is mostly there."""


class Tail(Struct, frozen=True):
    """The end of the system's stream: which log it is of (`origin`), its last entry, and the last
    checkpoint in it, recorded at `tick`."""

    origin: str
    newest: StoredRow
    checkpoint: e.CheckpointSigned | None = None
    tick: int = 0


class SignedLog:
    """Reads the last checkpoint, and the log behind it."""

    def __init__(self, store: EventStore, journal: Journal, signers: SignerSource) -> None:
        self._store = store
        self._journal = journal
        self._signers = signers

    def tail(self) -> Tail:
        """The end of the system's stream, read backwards from its head as far as is needed.

        Every entry read is that which the one after it, or the head, names. Raises
        `IntegrityViolation` if one is not.
        """
        first = self._store.read_first([SYSTEM_STREAM]).get(SYSTEM_STREAM)
        head = self._store.heads([SYSTEM_STREAM]).get(SYSTEM_STREAM)
        if first is None or head is None:
            raise IntegrityViolation("the log has no first entry; run `dee audit verify`")
        if type(head.version) is not int or head.version < 1:
            # SQLite keeps anything in any column.
            raise IntegrityViolation(
                f"the head of {SYSTEM_STREAM} names no entry; run `dee audit verify`"
            )
        origin = checkpoint.origin_of(self._checked(first, chain.GENESIS))
        newest, expected = None, head.checksum
        upto, many = head.version, _FIRST_LOOK
        while upto > 0:
            after = max(0, upto - many)
            for row in reversed(self._block(after, upto)):
                sealed = chain.unseal(row.state, row)
                if self._checked(row, sealed.previous) != expected:
                    raise _broken(row, "it is not the entry that the one after it names")
                newest = newest or row
                if row.name == e.CheckpointSigned.__name__:
                    opened = self._journal.open_one(row)
                    assert isinstance(opened.event, e.CheckpointSigned), "named so"
                    return Tail(origin, newest, opened.event, opened.meta.tick)
                expected = sealed.previous
            upto, many = after, min(2 * many, PAGE)
        assert newest is not None, "the head names an entry"
        return Tail(origin, newest)

    def _block(self, after: int, upto: int) -> list[StoredRow]:
        rows = self._store.read_stream(SYSTEM_STREAM, after, upto)
        if [row.version for row in rows] != list(range(after + 1, upto + 1)):
            raise IntegrityViolation(
                f"{SYSTEM_STREAM}: entries out of {after + 1} to {upto} are missing; "
                "run `dee audit verify`"
            )
        return rows

    def _checked(self, row: StoredRow, previous: bytes) -> bytes:
        fault = chain.fault(row.stream_id, row.version, row.name, previous, row.state)
        if fault is not None:
            raise _broken(row, fault)
        return checksum_of(row)

    def signer(self, tail: Tail) -> Signer:
        """The key of this log, made now if nothing was signed yet.

        Raises `InvalidInput` if something was and its key is not here: what another one signs would
        be believed by nobody who was given the first.
        """
        signer = self.known_signer(tail.origin)
        if signer is None:
            new = tail.checkpoint is None and not self._anybody_erased()
            # It may have been made meanwhile, by whoever erased somebody.
            signer = self._signers.open(tail.origin, create=new)
        if signer is None:
            raise InvalidInput(
                "audit_key_file",
                "the key that this log's checkpoints and certificates are signed with is not "
                "there; name its file, as in DEE_AUDIT_KEY_FILE=audit.key",
            )
        return signer

    def _anybody_erased(self) -> bool:
        """Whether the log tells of an erasure: its key is there before it is recorded, so that a
        certificate was signed with that, or will be when the erasure is finished."""
        prefix, after = contact_stream(""), ""
        while streams := self._store.stream_ids(prefix, after):
            read = self._store.read_streams(streams)
            if any(row.name == e.ContactErased.__name__ for rows in read.values() for row in rows):
                return True
            after = streams[-1]
        return False

    def known_signer(self, origin: str) -> Signer | None:
        """The key of this log, if it is here."""
        return self._signers.open(origin, create=False)

    def trusted(self, last: e.CheckpointSigned, origin: str, signer: Signer) -> Edge:
        """The edge in the last checkpoint, if that was signed by this key and the edge leads to its
        root; raises `IntegrityViolation`."""
        try:
            stated = checkpoint.opened(last.note, signer.key, signer.verify)
            edge = edge_of(last)
        except (InvalidInput, ValueError) as error:
            raise IntegrityViolation(f"the last checkpoint in the log: {error}") from error
        if (stated.origin, stated.size, stated.root) != (origin, edge.size, edge.root):
            raise IntegrityViolation("the last checkpoint in the log is not what was signed")
        return edge

    def leaves(self, after: int, end: int) -> Iterator[list[bytes]]:
        """The checksums of the entries from `after` to `end`, in pages.

        What was archived stands there by its tombstone. Raises `IntegrityViolation` if an entry is
        missing, or does not agree with its own checksum.
        """
        while after < end:
            upto = min(after + PAGE, end)
            rows = [StoredRow(*entry) for entry in self._store.read_entries(after, upto)]
            found = dict(zip([row.position for row in rows], _checksums(rows), strict=True))
            if len(found) < upto - after:
                # Looked for after the rows: an archive puts a stone where it takes a row away.
                stones = self._store.tombstones(after, upto)
                found |= {each.position: each.checksum for each in stones}
            missing = next((n for n in range(after + 1, upto + 1) if n not in found), None)
            if missing is not None:
                raise IntegrityViolation(
                    f"the entry at position {missing} is missing; run `dee audit verify`"
                )
            yield [found[position] for position in range(after + 1, upto + 1)]
            after = upto

    def extended(self, edge: Edge, end: int) -> Edge:
        """The edge of the log's first `end` entries, out of that of fewer; see `leaves`."""
        for page in self.leaves(edge.size, end):
            edge = edge.extended(page)
        return edge


def edge_of(event: e.CheckpointSigned) -> Edge:
    """The right edge of the tree that a checkpoint has signed."""
    return Edge(event.size, tuple(bytes.fromhex(each) for each in event.edge))


def _checksums(page: Sequence[StoredRow]) -> list[bytes]:
    found = []
    for row in page:
        sealed = chain.unseal(row.state, row)
        fault = chain.fault(row.stream_id, row.version, row.name, sealed.previous, row.state)
        if fault is not None:
            raise _broken(row, fault)
        found.append(sealed.checksum)
    return found


def _broken(row: StoredRow, problem: str) -> IntegrityViolation:
    return IntegrityViolation(f"{row}: {problem}; run `dee audit verify`")
