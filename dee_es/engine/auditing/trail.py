"""Questions to the audit trail: which entries of the whole log match, in the order of time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Final
from unicodedata import normalize

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.clock import TimeScale, require_utc
from dee_es.core.ids import is_run
from dee_es.core.projection import Build
from dee_es.core.registry import ACTIONS
from dee_es.core.values import check_count, check_id, check_plan_id, check_text
from dee_es.core.views import AuditFilter, AuditRow
from dee_es.engine.auditing.entries import AuditLogEntry, AuditPage, entries_of
from dee_es.engine.log.journal import Journal
from dee_es.engine.log.missing import missing_run
from dee_es.engine.past.time_travel import RunContext, context_of, states
from dee_es.engine.projecting.projector import AnyProjection, Projector
from dee_es.errors import InvalidInput
from dee_es.ports import AuditPageRows, EventStore, KeyStore, Views

MAX_LIMIT: Final = 1_000
_CURSOR: Final = "audit cursor"
_NOT_A_CURSOR: Final = "is not one that a page gave"


class Trail:
    """Reads the audit trail, caught up with the log first, and the events behind its rows."""

    def __init__(
        self,
        store: EventStore,
        views: Views,
        journal: Journal,
        projector: Projector,
        audit_trail: AnyProjection,
        scale: TimeScale,
        keys: KeyStore,
    ) -> None:
        self._store = store
        self._views = views
        self._keys = keys
        self._journal = journal
        self._projector = projector
        self._audit_trail = audit_trail
        self._scale = scale

    def by_run(self, run_id: str) -> list[AuditLogEntry]:
        """All entries of a run, in order; raises `RunNotFound`."""
        rows = self._store.read_stream(run_id)
        if not rows or not is_run(run_id):
            raise missing_run(self._store, run_id)
        return list(entries_of(rows, self._journal, self._scale))

    def at_positions(self, first: int, last: int) -> list[AuditLogEntry]:
        """The entries at these positions of the log, both included; archived ones are left out."""
        check_count("first", first)
        check_count("last", last, first + MAX_LIMIT - 1, least=first)
        rows = self._store.read_log(first - 1, last - first + 1)
        return self._opened([(row.stream_id, row.version, row.position) for row in rows], last)

    def context_at(self, run_id: str, step_id: str, visit: int | None) -> RunContext:
        """What the decision of a step read: as of the entry that says what became of it."""
        rows = self._store.read_stream(run_id)
        if not rows or not is_run(run_id):
            raise missing_run(self._store, run_id)
        history = self._journal.open(rows)
        entered = [
            at
            for at, recorded in enumerate(history)
            if isinstance(recorded.event, e.StepEntered) and recorded.event.step_id == step_id
        ]
        if not entered:
            raise InvalidInput("step_id", f"run {run_id} has not entered step {step_id!r}")
        if visit is not None and not 1 <= visit <= len(entered):
            raise InvalidInput("visit", f"must be 1 to {len(entered)}")
        first = entered[-1 if visit is None else visit - 1]
        decided = next(
            (
                at
                for at in range(first + 1, len(history))
                if getattr(history[at].event, "step_id", None) == step_id
                and not isinstance(history[at].event, e.ChannelEventReceived)
            ),
            first + 1,
        )
        *_, state = states(history[:decided])
        return context_of(state)

    def query(
        self, chosen: AuditFilter, text: str | None, limit: int, cursor: str | None
    ) -> AuditPage:
        """A page of the entries that match, with their exact number."""
        check_count("limit", limit, MAX_LIMIT)
        filters = hashlib.sha256(repr((chosen, text)).encode()).hexdigest()[:16]
        after = None if cursor is None else self._read_cursor(cursor, filters)
        # One more than is shown says whether anything follows.
        found, total = self._projector.read(
            self._audit_trail, lambda build: self._ask(build, chosen, text, limit + 1, after)
        )
        rows, following = found[:limit], None
        if len(found) > limit:
            following = self._write_cursor(rows[-1].tick, rows[-1].position, filters)
        return AuditPage(entries=tuple(self._entries(rows)), total=total, next_cursor=following)

    def _ask(
        self,
        build: Build,
        chosen: AuditFilter,
        text: str | None,
        limit: int,
        after: tuple[int, int] | None,
    ) -> AuditPageRows:
        table = build.lines
        assert table is not None, "the audit trail has entries"
        if text is not None:
            wanted = _alike(text)
            known = self._views.distinct(table, "reason")
            reasons = tuple(reason for reason in known if wanted in _alike(reason))
            chosen = replace(chosen, reasons=reasons)
        return self._views.list_audit(table, chosen, limit=limit, after=after)

    def _entries(self, rows: list[AuditRow]) -> list[AuditLogEntry]:
        return self._opened([(row.stream_id, row.version, row.position) for row in rows])

    def _opened(
        self, places: list[tuple[str, int, int]], last: int | None = None
    ) -> list[AuditLogEntry]:
        """The entries at these places (stream, version, position), none behind `last`."""
        places = [place for place in places if last is None or place[2] <= last]
        wanted: dict[str, set[int]] = defaultdict(set)
        for stream, version, _ in places:
            wanted[stream].add(version)
        streams = self._store.read_streams(list(wanted))
        self._journal.preload(stored for stream in streams.values() for stored in stream[:1])
        found = {
            entry.position: entry
            for stream, stored in streams.items()
            for entry in entries_of(stored, self._journal, self._scale, wanted[stream])
        }
        # What was archived since the rows were read is not there any more.
        return [found[position] for _, _, position in places if position in found]

    # A cursor holds the place to go on from, a digest of the filters it belongs to, and a keyed one
    # of both: the pages behind the first are not recorded, so nobody else may make one.

    def _write_cursor(self, tick: int, position: int, filters: str) -> str:
        keyed = self._keys.digest(_CURSOR, f"{tick} {position} {filters}")
        return base64.urlsafe_b64encode(
            json.dumps([tick, position, filters, keyed]).encode()
        ).decode()

    def _read_cursor(self, cursor: object, filters: str) -> tuple[int, int]:
        try:
            tick, position, of, keyed = json.loads(base64.urlsafe_b64decode(str(cursor).encode()))
        except (ValueError, TypeError, RecursionError):
            raise InvalidInput("cursor", _NOT_A_CURSOR) from None
        if type(tick) is not int or type(position) is not int:
            raise InvalidInput("cursor", _NOT_A_CURSOR)
        own = self._keys.digest(_CURSOR, f"{tick} {position} {of}")
        if not (isinstance(keyed, str) and keyed.isascii() and hmac.compare_digest(own, keyed)):
            raise InvalidInput("cursor", _NOT_A_CURSOR)
        if of != filters:
            raise InvalidInput("cursor", "belongs to other filters; start again without it")
        return tick, position

    def filter(
        self,
        run_id: str | None,
        contact_id: str | None,
        plan_id: str | None,
        actions: Collection[str] | None,
        actor: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> AuditFilter:
        """Check the filters; raises `InvalidInput` naming the one that is wrong."""
        for field, value in (("run_id", run_id), ("contact_id", contact_id)):
            if value is not None:
                check_id(field, value)
        if plan_id is not None:
            check_plan_id("plan_id", plan_id)
        if actor is not None:
            check_text("actor", actor, blank=False)
        start = None if since is None else self._scale.tick_from(require_utc("since", since))
        end = None if until is None else self._scale.tick_from(require_utc("until", until))
        return AuditFilter(run_id, contact_id, plan_id, _actions(actions), actor, None, start, end)


def _alike(text: str) -> str:
    """The same for texts that differ in case only, or in how an accent is put together."""
    return normalize("NFC", normalize("NFC", text).casefold())


def _actions(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    several: object = [given] if isinstance(given, str) else given
    if not isinstance(several, Collection) or isinstance(several, bytes) or not several:
        raise InvalidInput("actions", "must be a list of at least one action")
    for action in several:
        if action not in ACTIONS:
            known = ", ".join(sorted(ACTIONS))
            raise InvalidInput("actions", f"{str(action)[:64]!r} is none of {known}")
    return tuple(sorted(set(several)))
