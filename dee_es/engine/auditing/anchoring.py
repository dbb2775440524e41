"""Checkpoints that were signed: what is known of them, and proofs against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.evidence import chain, checkpoint, merkle
from dee_es.core.evidence.merkle import Span, SpanRoots
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.auditing.signed_log import SignedLog
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.log.missing import missing_run
from dee_es.errors import (
    UNREADABLE,
    AnchorUnavailable,
    IntegrityViolation,
    InvalidInput,
)
from dee_es.ports import (
    Anchor,
    EventStore,
    Signer,
    StoredRow,
)


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


class Known(Struct, frozen=True):
    """What is known of checkpoints: those that were signed, by size, what is wrong with others, and
    what could not be looked at."""

    roots: dict[int, tuple[bytes, str]]
    problems: tuple[str, ...]
    unchecked: tuple[str, ...] = ()


class Anchoring:
    """Knows the checkpoints in the log and in every place, and proves entries against the last."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        anchors: Sequence[Anchor],
        log: SignedLog,
    ) -> None:
        self._store = store
        self._journal = journal
        self._anchors = anchors
        self._log = log

    # --- checking ---------------------------------------------------------------------------------

    def known(self) -> Known:
        """All checkpoints, in the log and in every place, with what is wrong with them.

        A place that lacks a checkpoint it had kept is a problem; one that cannot be reached is not
        checked, and neither is anything without the key.
        """
        rows = self._store.read_stream(SYSTEM_STREAM)
        if not rows:
            return Known({}, ("the log has no first entry",))
        first = rows[0]
        if first.version != 1 or chain.fault(
            first.stream_id, first.version, first.name, chain.GENESIS, first.state
        ):
            # Which log this is, its first entry says: whoever checks the chains names that one.
            unread = "the log's first entry is not what it was: no checkpoint was looked at"
            return Known({}, (), (unread,))
        roots: dict[int, tuple[bytes, str]] = {}
        problems: list[str] = []
        origin = checkpoint.origin_of(_checksum(rows[0]))
        signer = self._log.known_signer(origin)
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
            except UNREADABLE:
                continue  # its chain is broken, which verification says
            assert isinstance(event, e.CheckpointSigned), "named so"
            problems += _add(roots, event.note, str(row), origin, signer, event.size)
            recorded.update(dict.fromkeys(event.places, event.size))
        for anchor in self._anchors:
            try:
                for problem in _kept(anchor, roots, recorded.get(anchor.place, 0), origin, signer):
                    problems.append(problem)
            except AnchorUnavailable as error:
                unchecked.append(str(error))
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
            tail = self._log.tail()
            last = tail.checkpoint
            if last is None:
                return 0
            signer = self._log.known_signer(tail.origin)
            if signer is not None:
                self._log.trusted(last, tail.origin, signer)
        except IntegrityViolation:
            return 0
        return sum(row.position <= last.size for row in rows)

    # --- proving ----------------------------------------------------------------------------------

    def prove(self, run_id: str, entry: int) -> Proof:
        """That an entry of a run (or another stream) is in the log of the last checkpoint.

        Raises `RunNotFound`, and `InvalidInput` for an entry that is not there or that no
        checkpoint covers yet.
        """
        rows = self._store.read_stream(run_id, entry - 1, entry)
        if not rows:
            if run_id not in self._store.heads([run_id]) or self._store.tombstones_of([run_id]):
                raise missing_run(self._store, run_id)
            raise InvalidInput("entry", f"{run_id} has no entry {entry}")
        (row,) = rows
        tail = self._log.tail()
        last = tail.checkpoint
        if last is None or row.position > last.size:
            raise InvalidInput(
                "entry", "no checkpoint covers it yet; sign one with `dee audit checkpoint`"
            )
        signer = self._log.signer(tail)
        edge = self._log.trusted(last, tail.origin, signer)
        index = row.position - 1
        path = self._roots(merkle.inclusion_spans(index, last.size), last.size)
        found = merkle.root_of_inclusion(checksum_of(row), index, last.size, path)
        if found != edge.root:
            raise IntegrityViolation(
                "the log is not what the last checkpoint says; run `dee audit verify`"
            )
        return Proof(
            tail.origin,
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
        if new > self._store.log_head().position:
            raise InvalidInput("new", "must not be more than the log has entries")
        return tuple(self._roots(merkle.consistency_spans(old, new), new))

    def _roots(self, spans: list[Span], size: int) -> list[bytes]:
        roots, fed = SpanRoots(spans), 0
        for page in self._log.leaves(0, size):
            roots.feed(fed, page)
            fed += len(page)
        return [roots.root(span) for span in spans]


def _checksum(row: StoredRow) -> bytes:
    try:
        return checksum_of(row)
    except IntegrityViolation:
        return chain.GENESIS


def _kept(
    anchor: Anchor,
    roots: dict[int, tuple[bytes, str]],
    recorded: int,
    origin: str,
    signer: Signer,
) -> Iterator[str]:
    """Take in what is kept in a place, one by one up to where it can be read; gives what is wrong.

    `recorded` is the size of the newest checkpoint that the log says it keeps.
    """
    newest = 0
    for size, note in anchor.notes():
        yield from _add(roots, note, anchor.place, origin, signer, size)
        newest = max(newest, size)
    if newest < recorded:
        yield (
            f"{anchor.place}: the checkpoint of {recorded:,} entries is missing there; "
            f"the newest is of {newest:,}"
        )


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
