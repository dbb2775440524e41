"""Signing: the log as it stands, put under one signed root that is kept outside the database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.evidence import checkpoint
from dee_es.core.evidence.checkpoint import Checkpoint
from dee_es.core.evidence.merkle import Edge
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.auditing.signed_log import SignedLog, Tail
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import AnchorUnavailable, ConcurrencyConflict, IntegrityViolation, InvalidInput
from dee_es.ports import Anchor, Committed, EventStore, Signer, StreamAppend, Unit

ATTEMPTS: Final = 10
_MOST_CHECKED: Final = 50_000
"""So many entries behind the last checkpoint are looked at by `check`, which is to be quick."""


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


class Standing(Struct, frozen=True):
    """How far the log is signed: size and tick of the last checkpoint, 0 if there is none."""

    size: int
    tick: int


class Outside(Struct, frozen=True):
    """The newest checkpoint that a place holds."""

    size: int
    root: bytes
    place: str


class Signing:
    """Signs checkpoints, and keeps them in every place."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        committer: Committer,
        anchors: Sequence[Anchor],
        log: SignedLog,
        clock: EngineClock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._committer = committer
        self._anchors = anchors
        self._log = log
        self._clock = clock
        self._compared: set[str] = set()
        self._largest = 0

    @property
    def places(self) -> int:
        """In how many places checkpoints are kept."""
        return len(self._anchors)

    def sign(
        self, meta: Callable[[], e.Meta], *, attempts: int = ATTEMPTS, most: int | None = None
    ) -> SignedCheckpoint:
        """Put the log as it stands, or at most `most` further entries of it, under a signed root,
        and keep that in every place. Only what came after the last checkpoint is read.

        It is kept outside first and recorded after: if this is broken off, what is outside is true
        and the next one goes on. If nothing was appended since the last one, that is kept again
        where it is missing. Raises `InvalidInput` if there is no place, or not the key that signed
        before, `AnchorUnavailable` if none could be reached, `ConcurrencyConflict` if another one
        is recorded meanwhile, or time goes on elsewhere, at each of the attempts, and
        `IntegrityViolation` if the log is not what was signed before.
        """
        if not self._anchors:
            raise InvalidInput(
                "checkpoints", "name a place outside the database, as in DEE_CHECKPOINTS=FOLDER"
            )
        for _ in range(attempts):
            least, tail = self._largest, self._log.tail()
            signer, edge = self._begin(tail, least)
            outside, _ = self._outside(tail, signer, self._compared)
            head = self._store.log_head().position
            end = head if most is None else min(head, edge.size + most)
            last, edge = tail.checkpoint, self._compare(edge, head, end, outside)
            self._compared |= {each.place for each in outside if each.size <= end}
            if last is not None and head == last.size + 1 and tail.newest.position == head:
                # What was appended since is the record of the checkpoint itself.
                return self._kept_again(last, tail.origin)
            stated = Checkpoint(tail.origin, edge.size, edge.root)
            note = checkpoint.signed(stated, signer.key, signer.sign)
            kept, failed = self._keep(edge.size, note)
            event = e.CheckpointSigned(
                edge.size, edge.root.hex(), tuple(each.hex() for each in edge.hashes), note, kept
            )
            if self._record(tail, event, meta()):
                self._largest = max(self._largest, edge.size)
                return _shown(event, tail.origin, kept, failed)
            self._clock.refresh()
        raise ConcurrencyConflict("checkpoints kept being signed elsewhere; try again")

    def keep_again(self) -> SignedCheckpoint | None:
        """Keep the last checkpoint in the places that lack it; None if there is none.

        Raises `AnchorUnavailable` and `IntegrityViolation` as `sign` does.
        """
        least, tail = self._largest, self._log.tail()
        if tail.checkpoint is None:
            return None
        self._begin(tail, least)
        return self._kept_again(tail.checkpoint, tail.origin)

    def standing(self) -> Standing:
        """How far the log is signed; raises `IntegrityViolation`."""
        tail = self._log.tail()
        return Standing(0 if tail.checkpoint is None else tail.checkpoint.size, tail.tick)

    def unsigned(self, since: Standing) -> int:
        """How many entries came after that checkpoint, its own record not counted."""
        head = self._store.log_head().position
        return head - since.size - 1 if since.size else head

    def check(self) -> tuple[str, ...]:
        """Look whether the log's end is what was signed last, in the log and in every place;
        returns what could not be looked at. Raises `IntegrityViolation`.

        Of what came after the last checkpoint, at most 50,000 entries are read.
        """
        least, tail = self._largest, self._log.tail()
        signer = self._log.known_signer(tail.origin)
        if signer is None:
            missing = ("the key that signs checkpoints is not here: they were not looked at",)
            return missing if tail.checkpoint is not None else ()
        _, edge = self._begin(tail, least)
        outside, unreached = self._outside(tail, signer, ())
        last = tail.checkpoint
        held = {each.place: each.size for each in outside}
        for place in () if last is None else last.places:
            if last is not None and place in held and held[place] < last.size:
                raise IntegrityViolation(
                    f"{place}: the checkpoint of {last.size:,} entries is missing there"
                )
        head = self._store.log_head().position
        self._compare(edge, head, min(head, edge.size + _MOST_CHECKED), outside)
        return unreached

    # --- steps ------------------------------------------------------------------------------------

    def _begin(self, tail: Tail, least: int) -> tuple[Signer, Edge]:
        """The key, and the edge to go on from. `least` is the largest checkpoint that was known
        before the tail was read: another thread may have signed a larger one by now."""
        last = tail.checkpoint
        size = 0 if last is None else last.size
        if size < least:
            raise IntegrityViolation(
                f"the log has lost its checkpoint of {least:,} entries; run `dee audit verify`"
            )
        signer = self._log.signer(tail)
        edge = Edge() if last is None else self._log.trusted(last, tail.origin, signer)
        self._largest = max(self._largest, size)
        return signer, edge

    def _outside(
        self, tail: Tail, signer: Signer, known: Collection[str]
    ) -> tuple[list[Outside], tuple[str, ...]]:
        """The newest checkpoint of each place that is not known (of size 0 if it has none), and
        what could not be reached."""
        found: list[Outside] = []
        unreached: list[str] = []
        for anchor in self._anchors:
            if anchor.place in known:
                continue
            try:
                size, note = next(anchor.notes(), (0, ""))
                stated = None if not size else checkpoint.opened(note, signer.key, signer.verify)
            except AnchorUnavailable as error:
                unreached.append(str(error))
                continue
            except InvalidInput as error:
                raise IntegrityViolation(
                    f"{anchor.place}: the {error.field} of {size:,} entries {error.problem}"
                ) from error
            if stated is not None and (stated.origin, stated.size) != (tail.origin, size):
                raise IntegrityViolation(
                    f"{anchor.place}: the checkpoint of {size:,} entries is of another log or size"
                )
            root = Edge().root if stated is None else stated.root
            found.append(Outside(size, root, anchor.place))
        return found, tuple(unreached)

    def _compare(self, edge: Edge, head: int, end: int, outside: Sequence[Outside]) -> Edge:
        """The edge extended to `end`; raises `IntegrityViolation` if a checkpoint on the way, that
        was kept outside but is perhaps not recorded, is not of this log.

        Checkpoints of fewer entries than the edge has are a matter of the whole verification.
        """
        for each in sorted(outside, key=lambda each: each.size):
            if each.size > head:
                raise IntegrityViolation(
                    f"the log ends at position {head:,}, but one of {each.size:,} entries was "
                    f"signed ({each.place})"
                )
            if edge.size <= each.size <= end:
                edge = self._log.extended(edge, each.size)
                if edge.root != each.root:
                    raise IntegrityViolation(
                        f"the first {each.size:,} entries are not what was signed ({each.place})"
                    )
        return self._log.extended(edge, end)

    def _record(self, tail: Tail, event: e.Event, meta: e.Meta) -> bool:
        version = tail.newest.version
        sealed = self._journal.seal(
            SYSTEM_STREAM, version, checksum_of(tail.newest), [event], meta, None
        )
        append = StreamAppend(SYSTEM_STREAM, version, sealed)
        unit = Unit((append,), min_tick=meta.tick)
        return isinstance(self._committer.commit([unit])[0], Committed)

    def _kept_again(self, last: e.CheckpointSigned, origin: str) -> SignedCheckpoint:
        kept, failed = self._keep(last.size, last.note)
        return _shown(last, origin, kept, failed)

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


def _shown(
    event: e.CheckpointSigned, origin: str, kept: tuple[str, ...], failed: tuple[str, ...]
) -> SignedCheckpoint:
    return SignedCheckpoint(origin, event.size, event.root, event.note, kept, failed)
