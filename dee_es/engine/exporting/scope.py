"""Which entries of the log an export holds: those of its scope, and those that explain them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.clock import TimeScale, require_utc
from dee_es.core.ids import SYSTEM_STREAM, contact_stream, is_run
from dee_es.core.values import check_id
from dee_es.core.views import RunFilter
from dee_es.engine.log.journal import Journal, payload_of
from dee_es.engine.log.missing import archived_runs, missing_run
from dee_es.engine.portable.run_transfer import pinned_definitions
from dee_es.engine.queries import Queries
from dee_es.errors import UNREADABLE, IntegrityViolation, InvalidInput
from dee_es.ports import EventStore, StoredRow

PAGE: Final = 2_000
OnRead = Callable[[int], None]
"""Told the position up to which the log was read."""


class _Stamp(msgspec.Struct):
    tick: int


class _Stamped(msgspec.Struct):
    meta: _Stamp


_stamped: Final = msgspec.json.Decoder(_Stamped)


class Scope(msgspec.Struct, frozen=True):
    """A run, a contact, or neither; and of it what lies in `from_tick <= tick < before_tick`.

    Nothing behind position `through` belongs to it.
    """

    through: int
    run_id: str | None = None
    contact_id: str | None = None
    from_tick: int | None = None
    before_tick: int | None = None

    @property
    def bounded(self) -> bool:
        """Whether it leaves out entries for their time."""
        return self.from_tick is not None or self.before_tick is not None

    @property
    def of_the_log(self) -> bool:
        """Whether it is about the whole log, and not about a run or a contact."""
        return self.run_id is None and self.contact_id is None

    def holds(self, row: StoredRow) -> bool:
        """Whether the row lies in the period; what cannot be read is held, as it has no time."""
        if row.position > self.through:
            return False
        if not self.bounded:
            return True
        tick = tick_of(row)
        if tick is None:
            return True
        late = self.before_tick is not None and tick >= self.before_tick
        return not late and (self.from_tick is None or tick >= self.from_tick)


def make_scope(
    scale: TimeScale,
    through: int,
    run_id: str | None,
    contact_id: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Scope:
    """Check what was asked for; raises `InvalidInput` naming what is wrong."""
    if run_id is not None and contact_id is not None:
        raise InvalidInput("run_id, contact_id", "give one of them")
    if run_id is None and contact_id is None and since is None and until is None:
        raise InvalidInput("run_id", "name a run, a contact_id, or a period by since and until")
    if run_id is not None:
        run_id = check_id("run_id", run_id)
    if contact_id is not None:
        contact_id = check_id("contact_id", contact_id)
    start = None if since is None else scale.tick_from(require_utc("since", since))
    end = None if until is None else scale.tick_from(require_utc("until", until))
    if start is not None and end is not None and start >= end:
        raise InvalidInput("until", "must be later than since")
    return Scope(through, run_id, contact_id, start, end)


def tick_of(row: StoredRow) -> int | None:
    """The tick of an entry, without decoding the rest of it; None if it cannot be read."""
    try:
        public, _ = codec.split(payload_of(row), "")
        return _stamped.decode(public).meta.tick
    except (IntegrityViolation, msgspec.DecodeError, RecursionError):
        return None


class Selection:
    """Finds the entries of a scope, whether or not they verify."""

    def __init__(self, store: EventStore, journal: Journal, queries: Queries) -> None:
        self._store = store
        self._journal = journal
        self._queries = queries

    def check(self, scope: Scope) -> None:
        """Raise `RunNotFound`, or `InvalidInput` for a contact of whom nothing is known."""
        if scope.run_id is not None:
            # Not the first entry alone: somebody may have deleted that one.
            if not is_run(scope.run_id) or not self._store.read_stream(scope.run_id):
                raise missing_run(self._store, scope.run_id)
        elif scope.contact_id is not None:
            stream = contact_stream(scope.contact_id)
            known = self._store.read_stream(stream, 0, 1) or self._runs(scope.contact_id)
            if not known:
                raise InvalidInput("contact_id", self._unknown(scope.contact_id))

    def _unknown(self, contact_id: str) -> str:
        """Why there is nothing to give out of a contact."""
        archived = archived_runs(self._store, contact_id)
        if not archived:
            return f"nothing is known of {contact_id!r}"
        return (
            f"all that is known of {contact_id!r} are runs that were archived; "
            f"`dee archive export RUN` gives out each: {', '.join(sorted(archived))}"
        )

    def entries(self, scope: Scope, on_read: OnRead) -> Iterator[list[StoredRow]]:
        """The entries of the scope, in log order and in pages."""
        if scope.of_the_log:
            yield from self._of_the_log(scope, on_read)
            return
        rows = self._of_streams(scope)
        for start in range(0, len(rows), PAGE):
            yield rows[start : start + PAGE]

    def context(self, scope: Scope) -> list[StoredRow]:
        """What explains the entries without being among them, in log order: the log's first entry,
        which names the log and sets its clock, and for runs their contact and all definitions that
        they decided by."""
        wanted: dict[str, int | None] = {}
        for run_id in self._run_ids(scope):
            history = self._read(self._store.read_stream(run_id))
            for stream, version in pinned_definitions(history).items():
                wanted[stream] = max(version, wanted.get(stream) or 0)
            if history and isinstance(start := history[0].event, e.Start):
                wanted[contact_stream(start.contact_id)] = None
        if scope.contact_id is not None:
            # Its entries are the scope itself.
            wanted.pop(contact_stream(scope.contact_id), None)
        rows: list[StoredRow] = []
        for stream, upto in wanted.items():
            rows += self._store.read_stream(stream, 0, upto)
        first = self._store.read_stream(SYSTEM_STREAM, 0, 1)
        if not scope.of_the_log:
            rows += first
        else:
            rows += [row for row in first if not scope.holds(row)]
        return sorted(
            (row for row in rows if row.position <= scope.through), key=lambda row: row.position
        )

    def about(self, scope: Scope) -> tuple[str, list[StoredRow]] | None:
        """The contact that the scope is about and all entries of its own, whenever they were; None
        if it is about none, or if the beginning of its run cannot be read."""
        contact_id = scope.contact_id
        if scope.run_id is not None:
            for first in self._read(self._store.read_stream(scope.run_id, 0, 1)):
                if isinstance(first.event, e.Start):
                    contact_id = first.event.contact_id
        if contact_id is None:
            return None
        rows = self._store.read_stream(contact_stream(contact_id))
        return contact_id, [row for row in rows if row.position <= scope.through]

    def _run_ids(self, scope: Scope) -> list[str]:
        if scope.run_id is not None:
            return [scope.run_id]
        return [] if scope.contact_id is None else self._runs(scope.contact_id)

    def _runs(self, contact_id: str) -> list[str]:
        rows = self._queries.all_rows(RunFilter(contact_id=contact_id))
        return sorted(row.run_id for row in rows)

    def _of_streams(self, scope: Scope) -> list[StoredRow]:
        runs = self._run_ids(scope)
        streams = [*runs]
        if scope.contact_id is not None:
            streams.append(contact_stream(scope.contact_id))
        rows = [row for found in self._store.read_streams(streams).values() for row in found]
        rows += self._of_the_system(scope, set(runs))
        return sorted((row for row in rows if scope.holds(row)), key=lambda row: row.position)

    def _of_the_system(self, scope: Scope, runs: set[str]) -> Iterator[StoredRow]:
        """The system's entries that name one of the runs or the contact: exports and holds."""
        after = 1
        while rows := self._store.read_stream(SYSTEM_STREAM, after, after + PAGE):
            for row in rows:
                for recorded in self._read([row]):
                    about: Any = recorded.event
                    contact = getattr(about, "contact_id", None)
                    named = contact is not None and contact == scope.contact_id
                    if named or getattr(about, "run_id", None) in runs:
                        yield row
            after += PAGE

    def _of_the_log(self, scope: Scope, on_read: OnRead) -> Iterator[list[StoredRow]]:
        after = 0
        while after < scope.through:
            rows = self._store.read_log(after, PAGE)
            if not rows:
                return
            after = rows[-1].position
            if held := [row for row in rows if scope.holds(row)]:
                yield held
            on_read(min(after, scope.through))

    def _read(self, rows: Iterable[StoredRow]) -> list[e.RecordedEvent]:
        """What of the rows can be read; a damaged entry explains nothing."""
        found: list[e.RecordedEvent] = []
        for row in rows:
            with suppress(*UNREADABLE):
                found += self._journal.open_public([row])
        return found
