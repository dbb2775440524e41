"""Takes ended runs out of the log, into files that were read back before anything leaves.

A file and its transaction at a time: the runs are read and verified, written to a file, read back
from where that is kept and verified once more; only then one transaction records the archive, puts
tombstones in the place of the events, and takes the runs out of the projections. Broken off before
it, a file is left that nothing in the log names and nobody believes; the next time it is written
again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.evidence.checkpoint import origin_of
from dee_es.core.gate.slots import day_of
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.core.views import RunFilter, RunRow, RunStatus
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.log.system_log import SystemLog
from dee_es.engine.projecting.folding import take_out
from dee_es.engine.projecting.projector import Projector
from dee_es.engine.queries import Queries
from dee_es.engine.retention.archive_file import (
    ArchiveFile,
    chain_fault,
    read_archive,
    write_archive,
)
from dee_es.engine.retention.holds import Holds, Standing
from dee_es.engine.retention.models import Archive, ArchiveResult, ArchiveVerdict, OnArchive
from dee_es.engine.transact import Runs
from dee_es.errors import (
    AnchorUnavailable,
    ConcurrencyConflict,
    IntegrityViolation,
    ProjectionUnavailable,
)
from dee_es.ports import (
    Committed,
    PlaceSource,
    StoredRow,
    StreamAppend,
    TableTransaction,
    Tombstone,
    Unit,
    Views,
)

RUNS_A_FILE: Final = 1_000
BYTES_A_FILE: Final = 16 << 20
"""About how much of the log leaves in one transaction, during which nobody else can append."""
_PAGE: Final = 1_000
_STONES: Final = 10_000
_ATTEMPTS: Final = 10
_ENDED: Final = tuple(sorted(status.value for status in RunStatus if status.ended))

Meta = Callable[[], e.Meta]


class Archiver:
    """Writes archives, and reads them."""

    def __init__(
        self,
        runs: Runs,
        queries: Queries,
        projector: Projector,
        views: Views,
        holds: Holds,
        system: SystemLog,
        places: PlaceSource,
        scale: TimeScale,
    ) -> None:
        self._runs = runs
        self._store = runs.store
        self._journal: Journal = runs.journal
        self._queries = queries
        self._projector = projector
        self._views = views
        self._holds = holds
        self._system = system
        self._places = places
        self._scale = scale

    # --- out of the log ---------------------------------------------------------------------------

    def archive(
        self, before_tick: int, place: str, meta: Meta, dry_run: bool, on_progress: OnArchive
    ) -> ArchiveResult:
        """Archive all runs that ended before a tick, but for those under a legal hold.

        What limits counted on the days before leaves with them.

        Raises `AnchorUnavailable` for the place, `IntegrityViolation` for a run that does not
        verify or a file that cannot be read back as it was written, and `ConcurrencyConflict` while
        a projection is being rebuilt; what was archived before that stays so.
        """
        result = ArchiveResult()
        with ExitStack() as claims:
            # A rebuild reads beside the log; it could fold what has just left.
            for name in self._projector.names:
                claims.enter_context(self._views.rebuilding(name))
            if not dry_run:
                self._forget_counters(before_tick)
            for rows in self._candidates(before_tick):
                if dry_run:
                    kept = self._unheld(rows, self._holds.standing(), result)
                    result.runs += len(kept)
                    result.entries += sum(row.version for row in kept)
                else:
                    self._batch(rows, before_tick, place, meta, result)
                on_progress(result)
        self._runs.forget()
        return result

    def _forget_counters(self, before_tick: int) -> None:
        """Forget what limits and budgets counted on days of which nobody will ask any more.

        The day before the last one stays: a send that was decided before midnight may commit after
        it.
        """
        last = min(before_tick, self._store.log_head().tick)
        self._store.prune_counters(day_of(self._scale, last) - 1)

    def _candidates(self, before_tick: int) -> Iterator[list[RunRow]]:
        """Runs that ended before the tick, some for a file at a time; the newest first.

        A run may have ended while its message was under way: it stays until the log says what came
        of that.
        """
        chosen = RunFilter(_ENDED, created_before=before_tick)
        before: int | None = None
        ready: list[RunRow] = []
        while page := self._queries.rows(chosen, limit=_PAGE, before_ordinal=before):
            before = page[-1].ordinal
            ended = [
                row
                for row in page
                if row.completed_tick is not None and row.completed_tick < before_tick
            ]
            heads = self._store.heads([row.run_id for row in ended])
            for row in ended:
                if row.run_id in heads and heads[row.run_id].due_tick is None:
                    ready.append(row)
                if len(ready) == RUNS_A_FILE:
                    yield ready
                    ready = []
        if ready:
            yield ready

    def _batch(
        self, rows: list[RunRow], before_tick: int, place: str, meta: Meta, result: ArchiveResult
    ) -> None:
        attempts = 0
        while rows:
            if attempts == _ATTEMPTS:
                raise ConcurrencyConflict("the runs to be archived kept changing; try again")
            standing = self._holds.standing()
            rows = self._unheld(rows, standing, result)
            streams = self._read(rows)
            if not streams:
                return
            done = self._one(streams, standing, before_tick, place, meta)
            if done is None:
                # Something has moved: holds are looked at anew, too.
                attempts += 1
                continue
            attempts = 0
            result.runs += done.runs
            result.entries += done.entries
            result.archives.append(done)
            rows = [row for row in rows if row.run_id not in streams]

    def _unheld(
        self, rows: list[RunRow], standing: Standing, result: ArchiveResult
    ) -> list[RunRow]:
        kept = []
        for row in rows:
            hold = standing.on(row.run_id, row.contact_id)
            if hold is None:
                kept.append(row)
            else:
                result.held += 1
                result.holds.add(hold.hold_id)
        return kept

    def _read(self, rows: Sequence[RunRow]) -> dict[str, list[StoredRow]]:
        """As many of the runs as one file takes, whole and verified."""
        found: dict[str, list[StoredRow]] = {}
        size = 0
        for run_id, stored in self._store.read_streams([row.run_id for row in rows]).items():
            problem = chain_fault(stored)
            if problem is not None:
                raise IntegrityViolation(
                    f"{run_id} {problem}; it was not archived: run `dee audit verify`"
                )
            size += sum(len(row.state) for row in stored)
            if found and size > BYTES_A_FILE:
                break
            found[run_id] = stored
        return found

    def _one(
        self,
        streams: dict[str, list[StoredRow]],
        standing: Standing,
        before_tick: int,
        place: str,
        meta: Meta,
    ) -> Archive | None:
        """Write one file, and let its entries go; None if something has moved meanwhile."""
        system = self._store.read_stream(SYSTEM_STREAM)
        if len(system) != standing.version:
            return None
        number = 1 + sum(row.name == "LogArchived" for row in system)
        rows = sorted((r for stored in streams.values() for r in stored), key=lambda r: r.position)
        origin = origin_of(checksum_of(system[0]))
        file = ArchiveFile(origin, number, before_tick, tuple(rows))
        address, name, digest = self._keep(file, place)
        stones = [
            Tombstone(row.position, row.stream_id, row.version, checksum_of(row), number)
            for row in rows
        ]
        event = e.LogArchived(
            number, before_tick, len(streams), len(rows), rows[0].position, rows[-1].position,
            file.root.hex(), digest, address, name,
        )  # fmt: skip
        given = meta()
        sealed = self._journal.seal(
            SYSTEM_STREAM, len(system), checksum_of(system[-1]), [event], given, None
        )
        # Late evidence may still reach a run that has ended: then it is read again.
        guards = (StreamAppend(run_id, len(stored), ()) for run_id, stored in streams.items())
        unit = Unit((StreamAppend(SYSTEM_STREAM, len(system), sealed), *guards), given.tick)
        outcome = self._store.archive(
            unit,
            stones,
            inline=self._projector.inline,
            forget=lambda tx: self._forget(tx, list(streams), [row.position for row in rows]),
        )
        if not isinstance(outcome, Committed):
            self._runs.clock.refresh()
            return None
        return self._told(given, event)

    def _keep(self, file: ArchiveFile, place: str) -> tuple[str, str, str]:
        """Write the file and read it back; returns place, name and SHA-256."""
        content = write_archive(file)
        name = f"archive-{file.number:06d}-{file.root.hex()[:16]}.jsonl.gz"
        kept = self._places(place)
        kept.write(name, [content])
        back = b"".join(kept.read(name))
        where = f"{kept.address}: {name}"
        if back != content or read_archive(back, where) != file:
            raise IntegrityViolation(
                f"{where} cannot be read back as it was written; nothing has left the log"
            )
        return kept.address, name, hashlib.sha256(content).hexdigest()

    def _forget(self, tx: TableTransaction, run_ids: list[str], positions: list[int]) -> None:
        """Take archived runs out of every build of every projection."""
        for row in tx.builds():
            if row.state == "dropping":
                continue
            build = self._projector.build_of(row)
            if build is None:
                raise ProjectionUnavailable(
                    f"this code does not know version {row.version} of projection {row.name!r}, "
                    f"which holds the runs too; archive with the code that does, or run "
                    f"`dee projections drop {row.name}`"
                )
            take_out(tx, build, run_ids, positions)
            parked = sorted(tx.parked(row.key, run_ids)) if row.parked else []
            if parked:
                tx.unpark(row.key, parked)
                held = tx.held(row.key)
                assert held is not None, "the append lock is held"
                tx.save_build(replace(held, parked=held.parked - len(parked)))

    # --- archives ---------------------------------------------------------------------------------

    def archives(self) -> list[Archive]:
        """All archives, as the log tells them."""
        return [
            self._told(each.meta, each.event)
            for each in self._system.history()
            if isinstance(each.event, e.LogArchived)
        ]

    def verify(self, place: str | None, on_progress: OnArchive) -> list[ArchiveVerdict]:
        """Read every archive and compare it with the log and the tombstones it left there.

        `place` is where the files are now, if they were moved.
        """
        verdicts = []
        result = ArchiveResult()
        for archive in self.archives():
            try:
                self._compare(archive, self._verified(archive, place))
            except IntegrityViolation as error:
                verdicts.append(ArchiveVerdict(archive, False, str(error)))
            except AnchorUnavailable as error:
                verdicts.append(ArchiveVerdict(archive, None, f"{archive.name} in {error}"))
            else:
                verdicts.append(ArchiveVerdict(archive, True))
            result.runs += archive.runs
            result.entries += archive.entries
            on_progress(result)
        return verdicts

    def stream(self, run_id: str, place: str | None = None) -> list[StoredRow]:
        """The events of an archived run, from its archive; empty if it was not archived.

        Raises `AnchorUnavailable` and `IntegrityViolation` for the archive.
        """
        stones = self._store.tombstones_of([run_id]).get(run_id)
        if not stones:
            return []
        wanted = next(
            (archive for archive in self.archives() if archive.number == stones[0].archive), None
        )
        if wanted is None:
            raise IntegrityViolation(
                f"{run_id}: the log tells of no archive {stones[0].archive}; run `dee audit verify`"
            )
        rows = self._verified(wanted, place).streams.get(run_id, [])
        if [checksum_of(row) for row in rows] != [stone.checksum for stone in stones]:
            raise IntegrityViolation(f"{run_id}: what is archived is not what left the log")
        return rows

    def _verified(self, archive: Archive, place: str | None) -> ArchiveFile:
        kept = self._places(place or archive.place)
        where = f"{kept.address}: {archive.name}"
        content = b"".join(kept.read(archive.name))
        if hashlib.sha256(content).hexdigest() != archive.digest:
            raise IntegrityViolation(f"{where} is not the file that was archived")
        file = read_archive(content, where)
        if (file.number, file.root.hex()) != (archive.number, archive.root):
            raise IntegrityViolation(f"{where} is another archive than the log tells")
        return file

    def _compare(self, archive: Archive, file: ArchiveFile) -> None:
        """Raise `IntegrityViolation` if the archive's tombstones are not of the file's entries."""
        stones: list[tuple[int, str, int, bytes]] = []
        for after in range(archive.first - 1, archive.last, _STONES):
            upto = min(after + _STONES, archive.last)
            stones += [
                (each.position, each.stream_id, each.version, each.checksum)
                for each in self._store.tombstones(after, upto)
                if each.archive == archive.number
            ]
        rows = [(row.position, row.stream_id, row.version, checksum_of(row)) for row in file.rows]
        if stones != rows:
            raise IntegrityViolation(
                f"what the log keeps of archive {archive.number} is not what is in {archive.name}; "
                "run `dee audit verify`"
            )

    def _told(self, meta: e.Meta, event: e.LogArchived) -> Archive:
        return Archive(
            number=event.number,
            before=self._scale.time(event.before_tick),
            runs=event.runs,
            entries=event.entries,
            first=event.first,
            last=event.last,
            root=event.root,
            digest=event.digest,
            place=event.place,
            name=event.name,
            archived_at=self._scale.time(meta.tick),
            actor=meta.actor,
            reason=meta.reason,
        )
