"""Commands to runs that exist: pause, resume, cancel, retry, resolve, and channel events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from dee_es.core import commands as c
from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.chain import GENESIS
from dee_es.core.ids import contact_stream
from dee_es.core.views import RunFilter
from dee_es.engine.contacts import Contacts
from dee_es.engine.journal import Journal, checksum_of
from dee_es.engine.models import BulkChange, OnChange
from dee_es.engine.queries import Queries
from dee_es.engine.transact import MAX_ATTEMPTS, LoadedRun, Runs
from dee_es.errors import ConcurrencyConflict, InvalidTransition
from dee_es.ports import Committed, Conflict, EventStore, KeyStore, StreamAppend, Suppression, Unit

EVENT_TYPES: Final = frozenset(
    {
        "email.delivered",
        "email.bounced",
        "email.opened",
        "email.clicked",
        "email.replied",
        "email.unsubscribed",
        "email.complained",
        "call.initiated",
        "call.ringing",
        "call.answered",
        "call.voicemail",
        "call.completed",
        "call.failed",
        "call.recorded",
    }
)
_PAGE: Final = 500
Keep = Literal["deadline", "remaining"]
Meta = Callable[[], e.Meta]


class Lifecycle:
    """Applies commands to one run, or to all that match a filter."""

    def __init__(self, runs: Runs, queries: Queries, contacts: Contacts, keys: KeyStore) -> None:
        self._runs = runs
        self._queries = queries
        self._contacts = contacts
        self._store: EventStore = runs.store
        self._journal: Journal = runs.journal
        self._keys = keys

    def pause(self, run_id: str, keep: Keep, meta: Meta) -> LoadedRun:
        """Stop a run until it is resumed."""
        return self._runs.change(run_id, lambda given: c.Pause(given, keep), meta)

    def resume(self, run_id: str, meta: Meta) -> LoadedRun:
        """Let a paused run go on in the next tick."""
        return self._runs.change(run_id, c.Resume, meta)

    def cancel(self, run_id: str, meta: Meta) -> LoadedRun:
        """End a run."""
        return self._runs.change(run_id, c.Cancel, meta)

    def retry(self, run_id: str, meta: Meta) -> LoadedRun:
        """Let a failed run enter its step again, under the definitions published by now."""
        state = self._runs.load(run_id).state
        plan = self._runs.definitions.plan(state.plan_id, state.plan_version)
        pins = self._runs.definitions.pins(plan)
        anew = pins if pins != state.pins else None
        return self._runs.change(run_id, lambda given: c.Retry(given, anew), meta)

    def resolve(
        self, run_id: str, outcome: Literal["delivered", "failed", "resend"], meta: Meta
    ) -> LoadedRun:
        """Settle a send whose outcome is unknown."""
        return self._runs.change(run_id, lambda given: c.Resolve(given, outcome), meta)

    # --- many runs --------------------------------------------------------------------------------

    def bulk_change(
        self,
        chosen: RunFilter,
        wanted: frozenset[str],
        make: Callable[[e.Meta, int], c.RunCommand],
        meta: Meta,
        dry_run: bool,
        on_progress: OnChange | None,
    ) -> BulkChange:
        """Apply a command to the runs that match and are in one of the `wanted` statuses.

        `make` is given the command's meta data and the run's number among those matched. The runs
        that match when it begins are meant: later ones are left alone.
        """
        result = BulkChange()
        for page in self._pages(chosen, wanted):
            numbered = {run: result.matched + n for n, run in enumerate(page)}
            result.matched += len(page)
            if not dry_run:
                self._change_page(numbered, make, meta, result)
            if on_progress is not None:
                on_progress(result)
        return result

    def _pages(self, chosen: RunFilter, wanted: frozenset[str]) -> Iterator[list[str]]:
        before: int | None = None
        while rows := self._queries.rows(chosen, limit=_PAGE, before_ordinal=before):
            before = rows[-1].ordinal
            page = [row.run_id for row in rows if row.status in wanted]
            if page:
                yield page

    def _change_page(
        self,
        numbered: Mapping[str, int],
        make: Callable[[e.Meta, int], c.RunCommand],
        meta: Meta,
        result: BulkChange,
    ) -> None:
        left = list(numbered)
        for _ in range(MAX_ATTEMPTS):
            given = meta()
            units: list[Unit] = []
            after: list[LoadedRun] = []
            for run in self._runs.load_many(left).values():
                if given.command_id in run.state.command_ids:
                    result.changed += 1
                    continue
                try:
                    decided = self._runs.decide(run, make(given, numbered[run.state.run_id]))
                except InvalidTransition:
                    # Its status changed between the listing and now, without our doing.
                    result.errors += 1
                    continue
                assert decided is not None, "a command of a person is always an event"
                units.append(Unit(decided[0].appends, min_tick=given.tick))
                after.append(decided[1])
            results = self._runs.committer.commit(units) if units else []
            settled = list(zip(after, results, strict=True))
            done = [run for run, outcome in settled if isinstance(outcome, Committed)]
            self._runs.remember(done)
            result.changed += len(done)
            left = [run.state.run_id for run, outcome in settled if isinstance(outcome, Conflict)]
            if not left:
                return
            self._runs.clock.refresh()
        result.errors += len(left)

    # --- channel events ---------------------------------------------------------------------------

    def ingest(
        self,
        kind: str,
        contact_id: str,
        run_id: str | None,
        step_id: str | None,
        data: dict[str, Any],
        occurred_tick: int,
        event_id: str,
        meta: Meta,
    ) -> bool:
        """Append a channel event to its contact and to the runs it concerns, all at once.

        False if an event with this id was accepted before.
        """
        for _ in range(MAX_ATTEMPTS):
            if self._store.known_event_ids([event_id]):
                return False
            given = meta()
            detail = e.Detail(data) if data else None
            wanted = [run_id] if run_id is not None else self._open_runs(contact_id)
            command = c.ReceiveEvent(given, kind, event_id, occurred_tick, step_id, detail)
            appends, after = [], []
            for run in self._runs.load_many(wanted).values():
                decided = self._runs.decide(run, command)
                assert decided is not None, "a channel event is always recorded"
                appends.append(decided[0].appends[0])
                after.append(decided[1])
            own, unit_parts = self._on_contact(kind, contact_id, run_id, command)
            unit = Unit(
                (own, *appends),
                min_tick=given.tick,
                contact_keys=unit_parts[0],
                suppress=unit_parts[1],
                event_ids=(event_id,),
            )
            if isinstance(self._runs.committer.commit([unit])[0], Committed):
                self._runs.remember(after)
                return True
            self._runs.clock.refresh()
        raise ConcurrencyConflict(f"contact {contact_id!r} kept changing; try again")

    def _open_runs(self, contact_id: str) -> list[str]:
        rows = self._queries.all_rows(RunFilter(contact_id=contact_id))
        return [row.run_id for row in rows if row.status not in ("completed", "cancelled")]

    def _subjects(self, contact_id: str) -> tuple[str, ...]:
        """All that the contact was ever enrolled by, so that a duplicate record is covered."""
        rows = self._queries.all_rows(RunFilter(contact_id=contact_id))
        found = {f"id:{contact_id}"}
        for run in self._runs.load_many([row.run_id for row in rows]).values():
            person = run.state.contact
            found.update(self._contacts.subjects(contact_id, person.email, person.phone))
        return tuple(sorted(found))

    def _on_contact(
        self,
        kind: str,
        contact_id: str,
        run_id: str | None,
        command: c.ReceiveEvent,
    ) -> tuple[StreamAppend, tuple[tuple[tuple[str, bytes], ...], tuple[Suppression, ...]]]:
        """The event in the contact's own stream, with the suppression it brings about."""
        stream = contact_stream(contact_id)
        rows = self._store.read_stream(stream)
        state = contact_state.fold(self._journal.open(rows))
        events: list[e.Event] = [
            e.ChannelEventReceived(
                type=kind,
                contact_id=contact_id,
                event_id=command.event_id,
                occurred_tick=command.occurred_tick,
                run_id=run_id,
                step_id=command.step_id,
                personal=command.detail,
            )
        ]
        level, scope = _suppression(kind, command.detail)
        if level is not None:
            subjects = self._subjects(contact_id)
            events.extend(contact_state.suppress(state, contact_id, subjects, level, scope))
        key_id: bytes | None = None
        new_key: tuple[tuple[str, bytes], ...] = ()
        if command.detail is not None:
            key_id = self._store.contact_keys([contact_id]).get(contact_id)
            if key_id is None:
                key_id = self._keys.new_keys(1)[0]
                new_key = ((contact_id, key_id),)
        previous = checksum_of(rows[-1]) if rows else GENESIS
        sealed = self._journal.seal(stream, len(rows), previous, events, command.meta, key_id)
        added = tuple(
            Suppression(subject, event.level, event.scope, contact_id)
            for event in events
            if isinstance(event, e.ContactSuppressed)
            for subject in event.subjects
        )
        return StreamAppend(stream, len(rows), sealed), (new_key, added)


def _suppression(kind: str, detail: e.Detail | None) -> tuple[e.Level | None, str]:
    """The suppression that a channel event brings about by itself: level and scope."""
    if kind == "email.unsubscribed":
        return "global", ""
    if kind == "email.complained":
        return "regulatory", ""
    data = detail.data if detail is not None else {}
    if kind == "email.bounced" and data.get("kind", "hard") == "hard":
        return "channel", "email"
    return None, ""
