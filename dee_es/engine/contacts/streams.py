"""What concerns a contact and not one run, written into its own stream: suppression, consent, and
refused enrolments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence, Set

from msgspec.structs import replace

from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.contact_state import ContactState
from dee_es.core.evidence.chain import GENESIS
from dee_es.core.ids import contact_stream
from dee_es.engine.contacts.identity import owner_of
from dee_es.engine.contacts.index import as_listed, consents_of, lifted_by, listed_by, on_the_list
from dee_es.engine.contacts.suppressed_runs import TOGETHER, appends_of
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.log.settling import Standing, Wanted, first_by, reused, settle
from dee_es.engine.timekeeping import EngineClock
from dee_es.engine.transact import Decided
from dee_es.ports import EventStore, StoredRow, StreamAppend, SuppressionGuard, Unit

_Asked = e.ContactSuppressed | e.ContactUnsuppressed | e.ConsentGranted | e.ConsentRevoked


class ContactStreams:
    """Reads and writes the streams of contacts."""

    def __init__(
        self, store: EventStore, journal: Journal, committer: Committer, clock: EngineClock
    ) -> None:
        self._store = store
        self._journal = journal
        self._committer = committer
        self._clock = clock

    # --- the suppression list ---------------------------------------------------------------------

    def suppress(
        self,
        contact_id: str,
        named: tuple[str, ...],
        known: Set[str],
        level: e.Level,
        scope: str,
        meta: Callable[[], e.Meta],
        tell: Callable[[e.Meta], list[Decided]] | None = None,
    ) -> bool:
        """Put on the list what a person named, and what else the contact is known by; False if all
        of it was there already. Repeated, the command may find that to be something else. What
        `tell` says is committed with it, as long as the runs that it is about hold still."""
        subjects = sorted({*named, *known})

        def change(state: ContactState) -> list[e.Event]:
            standing = on_the_list(state, contact_id, self._store.suppressions(subjects))
            return contact_state.suppress(standing, contact_id, subjects, level, scope)

        asked = e.ContactSuppressed(contact_id, level, scope, named)
        return self._change(asked, change, meta, tell)

    def unsuppress(
        self, contact_id: str, level: e.Level, scope: str, meta: Callable[[], e.Meta]
    ) -> bool:
        """Lift a suppression of this contact; False if there was none.

        An address that another contact was suppressed with at the same level, or that is on the
        list in its own right, stays there.
        """

        def change(state: ContactState) -> list[e.Event]:
            return contact_state.unsuppress(state, contact_id, level, scope)

        return self._change(e.ContactUnsuppressed(contact_id, level, scope, ()), change, meta)

    def grant(self, event: e.ConsentGranted, meta: Callable[[], e.Meta]) -> bool:
        """Record that the contact agreed to a channel; raises `InvalidInput` for what has expired
        already."""
        return self._change(event, lambda _: contact_state.grant(event, self._clock.now()), meta)

    def revoke(
        self, contact_id: str, channel: str, purpose: str | None, meta: Callable[[], e.Meta]
    ) -> bool:
        """Record that the contact took back what it had agreed to; see `contact_state.revoke`."""

        def change(state: ContactState) -> list[e.Event]:
            return contact_state.revoke(state, contact_id, channel, purpose)

        return self._change(e.ConsentRevoked(contact_id, channel, purpose or ""), change, meta)

    def _change(
        self,
        asked: _Asked,
        decide: Callable[[ContactState], list[e.Event]],
        meta: Callable[[], e.Meta],
        tell: Callable[[e.Meta], list[Decided]] | None = None,
    ) -> bool:
        """Record what a command leads to, `asked` saying what it is; raises `InvalidInput` if
        another one was recorded under its id."""
        contact_id = asked.contact_id
        stream, looks = contact_stream(contact_id), itertools.count()

        def look() -> Standing[bool] | Wanted[bool]:
            given = meta()
            together = tell is not None and next(looks) < TOGETHER
            rows = self._store.read_stream(stream)
            history = self._journal.open(rows)
            state = contact_state.fold(history)
            known = first_by(given.command_id, history)
            if known is not None:
                if not contact_state.has_done(history, given, asked):
                    raise reused(known.meta)
                return Standing(True)
            events = decide(state)
            told = appends_of(tell(given)) if tell is not None and together else ()
            if not events and not told:
                return Standing(False)
            unit = Unit((), min_tick=given.tick)
            if events:
                unit = self.unit(stream, rows, events, given)
            if unit.unsuppress:
                unit = self._sparing(unit, contact_id)
            unit = replace(unit, appends=(*unit.appends, *told))
            return Wanted(unit, lambda _: bool(events))

        return settle(self._committer, self._clock, look, f"contact {contact_id!r}")

    def unit(
        self, stream: str, rows: Sequence[StoredRow], events: Iterable[e.Event], meta: e.Meta
    ) -> Unit:
        """What commits events of a contact: behind `rows`, with the index rows they bring."""
        events = tuple(events)
        previous = checksum_of(rows[-1]) if rows else GENESIS
        sealed = self._journal.seal(stream, len(rows), previous, events, meta, None)
        append = StreamAppend(stream, len(rows), sealed)
        return Unit(
            (append,),
            min_tick=meta.tick,
            suppress=listed_by(events),
            unsuppress=lifted_by(events),
            consents=consents_of(events, meta.tick),
        )

    def _sparing(self, unit: Unit, contact_id: str) -> Unit:
        """The unit, with the address put back that is on the list in its own right.

        A list that was made before each contact had its own row knew the last contact only.
        """
        epoch = self._store.log_head().suppression_epoch
        subjects = tuple(each.subject for each in unit.unsuppress)
        owners = {each: owner_of(each.subject, contact_id) for each in unit.unsuppress}
        streams = {contact_stream(who): who for who in owners.values() if who != contact_id}
        held = {
            (streams[stream], listed)
            for stream, rows in self._store.read_streams(list(streams)).items()
            for listed in contact_state.fold(self._journal.open(rows)).listed
        }
        kept = tuple(
            replace(each, contact_id=owner)
            for each, owner in owners.items()
            if (owner, as_listed(each)) in held
        )
        return replace(unit, suppress=kept, guard=SuppressionGuard(subjects, epoch))

    def refusals(
        self, refused: Sequence[tuple[str, str]], plan_id: str, meta: e.Meta
    ) -> list[Unit]:
        """Units that record refused enrolments of (contact id, suppression), once for each."""
        streams = {contact_id: contact_stream(contact_id) for contact_id, _ in refused}
        stored = self._store.read_streams(list(streams.values()))
        units = []
        for contact_id, suppression in refused:
            stream = streams[contact_id]
            rows = stored.get(stream, [])
            state = contact_state.fold(self._journal.open(rows))
            events = contact_state.refuse(state, contact_id, plan_id, suppression)
            if events:
                units.append(self.unit(stream, rows, events, meta))
        return units
