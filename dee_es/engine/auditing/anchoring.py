"""Checkpoints: the log under one signed root, kept outside the database, and proofs against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dee_es.core import chain, checkpoint, merkle
from dee_es.core import events as e
from dee_es.core.checkpoint import Checkpoint
from dee_es.core.chunk_check import named
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.core.merkle import Edge, Span, SpanRoots
from dee_es.engine.auditing.system_stream import read_system
from dee_es.engine.journal import Journal, checksum_of, place
from dee_es.engine.transact import Committer
from dee_es.errors import (
    AnchorUnavailable,
    ConcurrencyConflict,
    IntegrityViolation,
    InvalidInput,
    RunNotFound,
    UnknownEventVersion,
)
from dee_es.ports import (
    Anchor,
    Committed,
    EventStore,
    Signer,
    SignerSource,
    StoredRow,
    StreamAppend,
    Unit,
)

_PAGE: Final = 5_000
_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint as it was signed: `note` is its text, `places` where it is kept, `failed` why it
    could not be kept elsewhere."""

    origin: str
    size: int
    root: str
    note: str
    places: tuple[str, ...]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """That an entry is in the log of a checkpoint: hashes are hex, `index` counts from 0.

    `state` is the entry as stored, in hex; personal data in it is encrypted.
    """

    origin: str
    stream: str
    version: int
    name: str
    position: int
    state: str
    checksum: str
    index: int
    size: int
    path: tuple[str, ...]
    checkpoint: str
    key: str
    format: str = "dee-proof/1"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of checkpoints: those that were signed, by size, what is wrong with others, and
    what could not be looked at."""

    roots: dict[int, tuple[bytes, str]]
    problems: tuple[str, ...]
    unchecked: tuple[str, ...] = ()


class Anchoring:
    """Signs checkpoints, keeps them, and proves entries against them."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        committer: Committer,
        anchors: Sequence[Anchor],
        signers: SignerSource,
    ) -> None:
        self._store = store
        self._journal = journal
        self._committer = committer
        self._anchors = anchors
        self._signers = signers

    # --- signing ----------------------------------------------------------------------------------

    def sign(self, meta: Callable[[], e.Meta]) -> SignedCheckpoint:
        """Put the log as it stands under a signed root, and keep that in every place.

        It is kept outside first and recorded after: if this is broken off, what is outside is true
        and the next one goes on. If nothing was appended since the last one, that is kept again
        where it is missing. Raises `InvalidInput` if there is no place, `AnchorUnavailable` if none
        could be reached, and `IntegrityViolation` if the log is not what was signed before.
        """
        if not self._anchors:
            raise InvalidInput(
                "checkpoints", "name a place outside the database, as in DEE_CHECKPOINTS=FOLDER"
            )
        for _ in range(_ATTEMPTS):
            system = read_system(self._store, self._journal)
            last, origin = system.checkpoint, system.origin
            signer = self._signer(origin, create=last is None)
            head = self._store.log_head().position
            if last is not None:
                self._trusted(last, signer)
                if head == last.size + 1 and system.end.position == head:
                    # What was appended since is the record of the checkpoint itself.
                    kept, failed = self._keep(last.size, last.note)
                    return _shown(last, origin, kept, failed)
            edge = Edge() if last is None else _edge_of(last)
            for _, checksums, entries in self._pages(edge.size, head):
                for position, stream, version, name, state in entries:
                    fault = chain.fault(stream, version, name, state[4:36], state)
                    if fault is not None:
                        where = named(stream, version, position)
                        raise IntegrityViolation(f"{where}: {fault}; nothing was signed")
                edge = edge.extended(checksums)
            stated = Checkpoint(origin, edge.size, edge.root)
            note = checkpoint.signed(stated, signer.key, signer.sign)
            kept, failed = self._keep(edge.size, note)
            event = e.CheckpointSigned(
                edge.size, edge.root.hex(), tuple(each.hex() for each in edge.hashes), note, kept
            )
            if self._record(system.end, event, meta()):
                return _shown(event, origin, kept, failed)
        raise ConcurrencyConflict("checkpoints kept being signed elsewhere; try again")

    def _record(self, end: StoredRow, event: e.Event, meta: e.Meta) -> bool:
        sealed = self._journal.seal(
            SYSTEM_STREAM, end.version, checksum_of(end), [event], meta, None
        )
        append = StreamAppend(SYSTEM_STREAM, end.version, sealed)
        return isinstance(self._committer.commit([Unit((append,))])[0], Committed)

    def _keep(self, size: int, note: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        kept: list[str] = []
        failed: list[str] = []
        for anchor in self._anchors:
            try:
                anchor.put(size, note)
            except AnchorUnavailable as error:
                failed.append(str(error))
            else:
                kept.append(anchor.place)
        if not kept:
            raise AnchorUnavailable("; ".join(failed))
        return tuple(kept), tuple(failed)

    def _signer(self, origin: str, *, create: bool) -> Signer:
        signer = self._signers.open(origin, create=create)
        if signer is None:
            raise InvalidInput(
                "audit_key_file", "the key that signed this log's checkpoints is not there"
            )
        return signer

    def _trusted(self, last: e.CheckpointSigned, signer: Signer) -> Checkpoint:
        """The last checkpoint, if it was signed by this key and its edge leads to its root."""
        try:
            stated = checkpoint.opened(last.note, signer.key, signer.verify)
            edge = _edge_of(last)
        except (InvalidInput, ValueError) as error:
            raise IntegrityViolation(f"the last checkpoint in the log: {error}") from error
        if (stated.size, stated.root) != (edge.size, edge.root):
            raise IntegrityViolation("the last checkpoint in the log is not what was signed")
        return stated

    def _pages(
        self, after: int, end: int
    ) -> Iterator[tuple[int, list[bytes], Sequence[chain.Entry]]]:
        """Pages from `after` to `end`: the place before, the checksums of all entries, and those of
        the entries that were not archived. Positions must have no gap."""
        while after < end:
            upto = min(after + _PAGE, end)
            entries = self._store.read_entries(after, upto)
            leaves = {entry[0]: bytes(entry[4][36:68]) for entry in entries}
            leaves |= {each.position: each.checksum for each in self._store.tombstones(after, upto)}
            places = range(after + 1, upto + 1)
            missing = next((place for place in places if place not in leaves), None)
            if missing is not None:
                raise IntegrityViolation(f"position {missing} is missing; run `dee audit verify`")
            yield after, [leaves[place] for place in places], entries
            after = upto

    # --- checking ---------------------------------------------------------------------------------

    def known(self) -> Known:
        """All checkpoints, in the log and in every place, with what is wrong with them.

        A place that lacks a checkpoint it had kept is a problem; one that cannot be reached is not
        checked, and neither is anything without the key.
        """
        rows = self._store.read_stream(SYSTEM_STREAM)
        if not rows:
            return Known({}, ("the log has no first entry",))
        roots: dict[int, tuple[bytes, str]] = {}
        problems: list[str] = []
        origin = checkpoint.origin_of(_checksum(rows[0]))
        signer = self._signers.open(origin, create=False)
        recorded: dict[str, int] = {}
        unchecked: list[str] = []
        if signer is None:
            signed = any(row.name == "CheckpointSigned" for row in rows) or self._any_kept()
            told = ("the key that signs checkpoints is not here: none was looked at",)
            return Known({}, (), told if signed else ())
        for row in rows:
            if row.name != "CheckpointSigned":
                continue
            try:
                event = self._journal.open_one(row).event
            except (IntegrityViolation, UnknownEventVersion):
                continue  # its chain is broken, which verification says
            assert isinstance(event, e.CheckpointSigned), "named so"
            problems += _add(roots, event.note, place(row), origin, signer, event.size)
            recorded.update(dict.fromkeys(event.places, event.size))
        for anchor in self._anchors:
            newest = 0
            try:
                for size, note in anchor.notes():
                    problems += _add(roots, note, anchor.place, origin, signer, size)
                    newest = max(newest, size)
            except AnchorUnavailable as error:
                unchecked.append(str(error))
                continue
            if newest < recorded.get(anchor.place, 0):
                problems.append(
                    f"{anchor.place}: the checkpoint of {recorded[anchor.place]:,} entries is "
                    f"missing there; the newest is of {newest:,}"
                )
        return Known(roots, tuple(problems), tuple(unchecked))

    def _any_kept(self) -> bool:
        """Whether some place holds a checkpoint, or cannot say."""
        try:
            return any(next(iter(anchor.notes()), None) is not None for anchor in self._anchors)
        except AnchorUnavailable:
            return True

    def covered(self, rows: Sequence[StoredRow]) -> int:
        """How many of a stream's entries the last checkpoint in the log covers: 0 if that is not
        what the log's key has signed. Where the key is not at hand, it is taken at its word."""
        try:
            system = read_system(self._store, self._journal)
            last = system.checkpoint
            signer = None if last is None else self._signers.open(system.origin, create=False)
            if last is None:
                return 0
            if signer is not None:
                self._trusted(last, signer)
        except IntegrityViolation:
            return 0
        return sum(row.position <= last.size for row in rows)

    # --- proving ----------------------------------------------------------------------------------

    def prove(self, run_id: str, entry: int) -> Proof:
        """That an entry of a run (or another stream) is in the log of the last checkpoint.

        Raises `RunNotFound`, and `InvalidInput` for an entry that is not there or that no
        checkpoint covers yet.
        """
        rows = self._store.read_stream(run_id, entry - 1, entry) if entry > 0 else []
        if not rows:
            if run_id not in self._store.heads([run_id]):
                raise RunNotFound.named(run_id)
            raise InvalidInput("entry", f"{run_id} has no entry {entry}")
        (row,) = rows
        system = read_system(self._store, self._journal)
        last = system.checkpoint
        if last is None or row.position > last.size:
            raise InvalidInput(
                "entry", "no checkpoint covers it yet; sign one with `dee audit checkpoint`"
            )
        signer = self._signer(system.origin, create=False)
        stated = self._trusted(last, signer)
        index = row.position - 1
        path = self._roots(merkle.inclusion_spans(index, last.size), last.size)
        found = merkle.root_of_inclusion(checksum_of(row), index, last.size, path)
        if found != stated.root:
            raise IntegrityViolation(
                "the log is not what the last checkpoint says; run `dee audit verify`"
            )
        return Proof(
            stated.origin,
            row.stream_id,
            row.version,
            row.name,
            row.position,
            row.state.hex(),
            checksum_of(row).hex(),
            index,
            last.size,
            tuple(each.hex() for each in path),
            last.note,
            str(signer.key),
        )

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the log of `new` entries begins with that of `old`."""
        if not 0 <= old <= new <= self._store.log_head().position:
            raise InvalidInput("size", "must not be more than the log has entries")
        return tuple(self._roots(merkle.consistency_spans(old, new), new))

    def _roots(self, spans: list[Span], size: int) -> list[bytes]:
        roots = SpanRoots(spans)
        for after, checksums, _ in self._pages(0, size):
            roots.feed(after, checksums)
        return [roots.root(span) for span in spans]


def _edge_of(event: e.CheckpointSigned) -> Edge:
    return Edge(event.size, tuple(bytes.fromhex(each) for each in event.edge))


def _shown(
    event: e.CheckpointSigned, origin: str, kept: tuple[str, ...], failed: tuple[str, ...]
) -> SignedCheckpoint:
    return SignedCheckpoint(origin, event.size, event.root, event.note, kept, failed)


def _checksum(row: StoredRow) -> bytes:
    try:
        return checksum_of(row)
    except IntegrityViolation:
        return chain.GENESIS


def _add(
    roots: dict[int, tuple[bytes, str]],
    note: str,
    where: str,
    origin: str,
    signer: Signer,
    size: int,
) -> list[str]:
    """Take in a checkpoint; returns what is wrong with it, if anything."""
    try:
        stated = checkpoint.opened(note, signer.key, signer.verify)
    except InvalidInput as error:
        return [f"{where}: {error.field} of {size:,} entries {error.problem}"]
    if stated.origin != origin:
        return [f"{where}: the checkpoint of {size:,} entries is of another log"]
    if stated.size != size:
        return [f"{where}: the checkpoint of {size:,} entries is one of {stated.size:,}"]
    held = roots.setdefault(size, (stated.root, where))
    if held[0] != stated.root:
        return [f"{where}: the checkpoint of {size:,} entries is not that of {held[1]}: a fork"]
    return []
