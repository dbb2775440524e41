"""Takes one run out of a database as a file, and into another: for a bug report, or a look at it.

An imported run verifies and replays like the original. It is evidence, not work: the scheduler is
not told of it, so that nothing is sent for it unless somebody acts on it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.clock import LAST_DAY, TimeScale
from dee_es.core.ids import definition_stream, run_id, slice_of
from dee_es.core.runs.run import fold
from dee_es.core.values import check_payload_size, check_value
from dee_es.engine.definitions import POLICY_ID, PUBLISHED, SENDER_ID
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal, checksum_of, key_id_of, payload_of
from dee_es.engine.log.settling import Standing, Wanted, settle
from dee_es.engine.log.system_log import SystemLog
from dee_es.engine.portable.run_file import FORMAT, RunFile, continues
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import IntegrityViolation, InvalidInput, RunNotFound
from dee_es.ports import (
    NO_KEY,
    EventStore,
    KeyStore,
    SealedEvent,
    StoredRow,
    StreamAppend,
    Unit,
)

_LAST_MS: Final = int(LAST_DAY.timestamp() * 1000)


class RunTransfer:
    """Exports and imports single runs."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        keys: KeyStore,
        committer: Committer,
        scale: TimeScale,
        archived: Callable[[str], list[StoredRow]],
        system: SystemLog,
        clock: EngineClock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._keys = keys
        self._committer = committer
        self._scale = scale
        self._archived = archived
        self._system = system
        self._clock = clock

    # --- out --------------------------------------------------------------------------------------

    def take_out(self, run_id: str, personal: bool) -> RunFile:
        """The run and what it decided by; with `personal` also the keys to its personal data.

        A run that was archived is taken out of its archive. Raises `RunNotFound`, `InvalidInput` if
        personal data cannot be left out, and
        `IntegrityViolation` for a run that does not verify.
        """
        rows = self._store.read_stream(run_id) or self._archived(run_id)
        if not rows:
            raise RunNotFound.named(run_id)
        if not personal and not self._keys.encrypts:
            raise InvalidInput(
                "personal data", "is stored in plain in this database and cannot be left out"
            )
        history = self._journal.open(rows)
        streams = [
            tuple(self._store.read_stream(stream, 0, version))
            for stream, version in sorted(pinned_definitions(history).items())
        ]
        key_ids = {key_id for row in rows if (key_id := key_id_of(row)) is not None}
        return RunFile(
            self._epoch_ms,
            self._scale.resolution_ms,
            run_id,
            {key_id: self._keys.reveal(key_id) if personal else None for key_id in sorted(key_ids)},
            (*streams, tuple(rows)),
        )

    # --- in ---------------------------------------------------------------------------------------

    def take_in(self, file: RunFile, digest: str, meta: Callable[[], e.Meta]) -> None:
        """Add the run and the definitions that are not there yet, and the record of that, all at
        once, unless the run is there already. `digest` is the SHA-256 (hex) of the file.

        Raises `InvalidInput` if time here is another, if something else stands under one of its
        ids, or if its keys do not open it; nothing is added to the log then.
        """
        if (file.epoch_ms, file.resolution_ms) != (self._epoch_ms, self._scale.resolution_ms):
            raise InvalidInput(
                "clock",
                f"the run's time has another epoch or resolution; import it into a new database: "
                f"dee init --clock manual --epoch {_iso(file.epoch_ms)} "
                f"--resolution-ms {file.resolution_ms}",
            )
        contact_id = self._checked(file)
        owners = tuple((contact_id, key_id) for key_id in file.keys if key_id != NO_KEY)

        def look() -> Standing[None] | Wanted[None]:
            appends = [
                append for rows in file.streams if (append := self._append(rows)) is not None
            ]
            if not any(append.stream_id == file.run_id for append in appends):
                return Standing(None)
            own = self._store.contact_keys([contact_id])
            if len({*own.items(), *owners}) > 1:
                raise InvalidInput(
                    "keys", f"contact {contact_id!r} has another key here; use an empty database"
                )
            self._adopt(file)
            given = meta()
            # Before the run, whose ticks may be later than the one now.
            record = self._system.append_of(_imported(file, appends, digest), given)
            unit = Unit((record, *appends), min_tick=given.tick, contact_keys=owners)
            return Wanted(unit, lambda _: None)

        settle(self._committer, self._clock, look, f"run {file.run_id}")

    def _checked(self, file: RunFile) -> str:
        """The contact of the run, whose events must be those of one."""
        history = self._journal.open_public(file.streams[-1])
        start = history[0].event
        if not isinstance(start, e.Start):
            raise InvalidInput("streams", "the run does not begin with its enrolment")
        for rows in file.streams:
            self._require_kept(rows)
        if file.run_id != run_id(start.plan_id, start.contact_id, start.enrollment):
            raise InvalidInput(
                "runId",
                f"is not that of run {start.enrollment} of plan {start.plan_id!r} for contact "
                f"{start.contact_id!r}",
            )
        try:
            fold(history)
        except (AssertionError, KeyError) as error:
            raise InvalidInput(
                "streams", f"its events are no life of a run ({type(error).__name__})"
            ) from error
        given = {rows[0].stream_id: len(rows) for rows in file.streams[:-1]}
        if given != pinned_definitions(history):
            # A replay needs all of them; any other would come into force here unasked.
            raise InvalidInput(
                "streams", "the definitions must be those that the run decided by, and no more"
            )
        needed = {key_id for row in file.streams[-1] if (key_id := key_id_of(row)) is not None}
        if needed != set(file.keys):
            raise InvalidInput("keys", "must be those of the run's events")
        if needed and self._keys.encrypts == (NO_KEY in needed):
            here = "encrypted" if self._keys.encrypts else "off"
            raise InvalidInput(
                "keys", f"this database was made with personal data {here}, the run's was not"
            )
        return start.contact_id

    def _require_kept(self, rows: Sequence[StoredRow]) -> None:
        """Refuse what is refused at every other door, and definitions of another kind."""
        kind = PUBLISHED.get(rows[0].stream_id.partition(":")[0])
        for row, recorded in zip(rows, self._journal.open_public(rows), strict=True):
            where = f"{row.stream_id}, entry {row.version}"
            if kind is not None and not isinstance(recorded.event, kind):
                raise InvalidInput(where, f"is no {kind.__name__}")
            meta = recorded.meta
            # Time here goes on from the latest tick in the log, and never back.
            if not (self._scale.dated(meta.tick) and 0 <= meta.recorded_at <= _LAST_MS):
                raise InvalidInput(where, "has a time that no calendar has")
            public, _ = codec.split(payload_of(row), row)
            check_payload_size(where, len(public))
            check_value(where, _json(public, where))

    def _append(self, rows: Sequence[StoredRow]) -> StreamAppend | None:
        """What of a stream is not there yet; None if all of it is."""
        stream = rows[0].stream_id
        known = self._store.read_stream(stream)
        if not continues(known, rows) or (known and len(known) < len(rows) and _is_run(rows)):
            raise InvalidInput(stream, "stands here with other events; import into a new database")
        if not known and self._store.tombstones_of([stream]):
            raise InvalidInput(stream, "has left the log here for an archive")
        missing = rows[len(known) :]
        if not missing:
            return None
        opened = self._journal.open_public(missing)
        sealed = tuple(
            SealedEvent(
                row.stream_id,
                row.version,
                row.name,
                recorded.meta,
                recorded.event,
                row.state,
                checksum_of(row),
                recorded.erased,
            )
            for recorded, row in zip(opened, missing, strict=True)
        )
        if not _is_run(rows):
            return StreamAppend(stream, len(known), sealed)
        state = fold(opened)
        assert state is not None
        # No due tick: an imported run is looked at, it does not act.
        return StreamAppend(stream, 0, sealed, None, state.status.ended, slice_of(state.contact_id))

    def _adopt(self, file: RunFile) -> None:
        for key_id, key in file.keys.items():
            if not self._keys.adopt(key_id, key):
                raise InvalidInput(
                    "keys", "another key stands here under the same id; use an empty database"
                )
        for row in file.streams[-1]:
            try:
                self._journal.open_one(row)
            except IntegrityViolation as error:
                raise InvalidInput("keys", f"do not open the run: {error}") from error

    @property
    def _epoch_ms(self) -> int:
        return int(self._scale.epoch.timestamp() * 1000)


def _imported(file: RunFile, appends: Sequence[StreamAppend], digest: str) -> e.LogImported:
    return e.LogImported(
        run_id=file.run_id,
        format=FORMAT,
        entries=sum(len(append.events) for append in appends),
        digest=digest,
        personal_data=any(key is not None for key in file.keys.values()),
    )


def _json(public: bytes, where: str) -> object:
    """All of it, and not only what this code reads of it."""
    try:
        return msgspec.json.decode(public)
    except codec.DECODING_ERRORS:
        raise InvalidInput(where, "holds something that is not JSON") from None


def _is_run(rows: Sequence[StoredRow]) -> bool:
    return rows[0].stream_id.startswith("run_")


def pinned_definitions(history: Iterable[e.RecordedEvent]) -> dict[str, int]:
    """The streams of all definitions that the run has pinned, with the latest version of each."""
    found: dict[str, int] = {}

    def pin(kind: str, name: str, version: int) -> None:
        if version:
            stream = definition_stream(kind, name)
            found[stream] = max(version, found.get(stream, 0))

    for recorded in history:
        event = recorded.event
        if isinstance(event, e.Start):
            pin("plan", event.plan_id, event.plan_version)
        if isinstance(event, e.RunResumed):
            pin("policy", POLICY_ID, event.policy)
        pins = getattr(event, "pins", None)
        if isinstance(pins, e.Pins):
            for name, version in pins.templates.items():
                pin("template", name, version)
            for name, version in pins.scripts.items():
                pin("script", name, version)
            pin("sender", SENDER_ID, pins.sender)
            pin("policy", POLICY_ID, pins.policy)
    return found


def _iso(epoch_ms: int) -> str:
    from datetime import UTC, datetime

    try:
        epoch = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        raise InvalidInput("clock", "has an epoch that no calendar has") from None
    return epoch.isoformat().replace("+00:00", "Z")
