"""What concerns a contact and not one run: the suppression list and its subjects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.contact import (
    email_spellings,
    fold_phone,
    mailbox_counted,
    phone_as_written,
    phone_spellings,
)
from dee_es.core.contact_state import ContactState, Listed
from dee_es.core.evidence.chain import GENESIS
from dee_es.core.gate import SuppressionFact
from dee_es.core.ids import contact_stream
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.log.settling import Standing, Wanted, first_by, reused, settle
from dee_es.engine.timekeeping import EngineClock
from dee_es.ports import (
    Consent,
    EventStore,
    KeyStore,
    StoredRow,
    StreamAppend,
    Suppression,
    SuppressionGuard,
    Unit,
)

_COUNTED: Final = 32
"""Hex digits of a digest by which sends are counted: 128 bits tell addresses apart."""


_Asked = e.ContactSuppressed | e.ContactUnsuppressed | e.ConsentGranted | e.ConsentRevoked


class KnownAs(Struct, frozen=True, gc=False):
    """What a contact is looked up by on the suppression list (see `Contacts.subjects`), and keyed
    digests of its addresses, under which its own daily limit is counted: one for each of the two,
    whatever its spelling."""

    subjects: tuple[str, ...]
    addresses: tuple[str, ...]


class Contacts:
    """Reads and writes the streams of contacts."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        keys: KeyStore,
        committer: Committer,
        clock: EngineClock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._keys = keys
        self._committer = committer
        self._clock = clock

    # --- subjects ---------------------------------------------------------------------------------

    def subjects(self, contact_id: str, email: str | None, phone: str | None) -> tuple[str, ...]:
        """What a suppression may name this contact by: its id and keyed digests of its addresses.

        The digests cover a second record of the same person under another id; an international
        domain has one for each of its spellings, the one that was given first, and so has an
        international telephone number. The addresses were checked when the contact was made.
        """
        found = [f"id:{contact_id}"]
        if email:
            found.extend(self._about("email", email_spellings(email)))
        if phone:
            found.extend(self._about("phone", phone_spellings(phone)))
        return tuple(found)

    def known_as(self, contact_id: str, email: str | None, phone: str | None) -> KnownAs:
        """The contact's `subjects`, and what its sends are counted under."""
        subjects, addresses = [f"id:{contact_id}"], []
        if email:
            spellings, counted = email_spellings(email), mailbox_counted(email)
            about = self._about("email", spellings)
            subjects += about
            known = counted in spellings
            own = about[spellings.index(counted)] if known else self._about("email", [counted])[0]
            addresses.append(own[: len("email:") + _COUNTED])
        if phone:
            # A number is counted in its first form.
            about = self._about("phone", phone_spellings(phone))
            subjects += about
            addresses.append(about[0][: len("phone:") + _COUNTED])
        return KnownAs(tuple(subjects), tuple(addresses))

    def _about(self, kind: str, texts: Sequence[str]) -> list[str]:
        digest = self._keys.digest
        return [f"{kind}:{digest(kind, each)}" for each in texts]

    def listed_as(self, contact_id: str, email: str | None, phone: str | None) -> tuple[str, ...]:
        """What a suppression of this contact is listed under. Of a telephone number that is the
        number alone, without its other spellings: `subjects`, by which it is looked up, has all."""
        found = self.subjects(contact_id, email, None)
        if not phone:
            return found
        numbers = _now_and_formerly(phone)
        return (*found, *[f"phone:{self._keys.digest('phone', each)}" for each in numbers])

    def listed_for(self, contact_id: str, people: Iterable[e.Enrolled]) -> set[str]:
        """`listed_as` for a contact whose runs began with these: its id, and all of its addresses,
        so that a duplicate record is covered."""
        found = {f"id:{contact_id}"}
        for person in people:
            found.update(self.listed_as(contact_id, person.email, person.phone))
        return found

    def ids_for_number(self, phone: str) -> tuple[str, ...]:
        """The id of whoever is known by a telephone number only, and then the former one if there
        is another: numbers with a zero in brackets were told apart once."""
        return tuple(
            [_id_of(self._keys.digest("phone", each)) for each in _now_and_formerly(phone)]
        )

    def ids_for_address(self, email: str | None, phone: str | None) -> tuple[str, ...]:
        """The opaque id of a contact that is known by an address only, and those that it has by
        other spellings of it. The address was checked before."""
        kind, spellings = "email", email_spellings(email) if email else ()
        if not spellings:
            assert phone, "an address is needed"
            kind, spellings = "phone", phone_spellings(phone)
        return tuple([_id_of(self._keys.digest(kind, each)) for each in spellings])

    def suppressions(
        self, subjects: Sequence[tuple[str, ...]]
    ) -> list[tuple[SuppressionFact, ...]]:
        """What stands on the suppression list about each of these contacts."""
        wanted = sorted({subject for each in subjects for subject in each})
        listed: dict[str, list[SuppressionFact]] = {}
        for found in self._store.suppressions(wanted):
            fact = SuppressionFact(found.level, found.scope)
            listed.setdefault(found.subject, []).append(fact)
        if not listed:
            return [()] * len(subjects)
        return [
            tuple(sorted({fact for s in each for fact in listed.get(s, ())}, key=str))
            for each in subjects
        ]

    def domain_digest(self, email: str | None) -> str | None:
        """Keyed digest of the domain of an address, under which its daily limit is counted: the
        same for all spellings of a domain."""
        if not email:
            return None
        domain = mailbox_counted(email).rpartition("@")[2]
        return self._keys.digest("domain", domain)[:_COUNTED]

    # --- the suppression list ---------------------------------------------------------------------

    def suppress(
        self,
        contact_id: str,
        named: tuple[str, ...],
        known: Set[str],
        level: e.Level,
        scope: str,
        meta: Callable[[], e.Meta],
    ) -> bool:
        """Put on the list what a person named, and what else the contact is known by; False if all
        of it was there already. Repeated, the command may find that to be something else."""
        subjects = sorted({*named, *known})

        def change(state: ContactState) -> list[e.Event]:
            standing = on_the_list(state, contact_id, self._store.suppressions(subjects))
            return contact_state.suppress(standing, contact_id, subjects, level, scope)

        asked = e.ContactSuppressed(contact_id, level, scope, named)
        return self._change(asked, change, meta)

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
        """Record that the contact agreed to a channel."""
        return self._change(event, lambda _: [event], meta)

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
    ) -> bool:
        """Record what a command leads to, `asked` saying what it is; raises `InvalidInput` if
        another one was recorded under its id."""
        contact_id = asked.contact_id
        stream = contact_stream(contact_id)

        def look() -> Standing[bool] | Wanted[bool]:
            given = meta()
            rows = self._store.read_stream(stream)
            history = self._journal.open(rows)
            state = contact_state.fold(history)
            known = first_by(given.command_id, history)
            if known is not None:
                if not contact_state.has_done(history, given, asked):
                    raise reused(known.meta)
                return Standing(True)
            events = decide(state)
            if not events:
                return Standing(False)
            unit = self.unit(stream, rows, events, given)
            if unit.unsuppress:
                unit = self._sparing(unit, contact_id)
            return Wanted(unit, lambda _: True)

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
            unsuppress=_lifted(events),
            consents=_consents(events, meta.tick),
        )

    def _sparing(self, unit: Unit, contact_id: str) -> Unit:
        """The unit, with the address put back that is on the list in its own right.

        A list that was made before each contact had its own row knew the last contact only.
        """
        epoch = self._store.log_head().suppression_epoch
        subjects = tuple(each.subject for each in unit.unsuppress)
        owners = {each: _owner(each.subject, contact_id) for each in unit.unsuppress}
        streams = {contact_stream(who): who for who in owners.values() if who != contact_id}
        held = {
            (streams[stream], listed)
            for stream, rows in self._store.read_streams(list(streams)).items()
            for listed in contact_state.fold(self._journal.open(rows)).listed
        }
        kept = tuple(
            replace(each, contact_id=owner)
            for each, owner in owners.items()
            if (owner, _listed(each)) in held
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


def on_the_list(
    state: ContactState, contact_id: str, standing: Iterable[Suppression]
) -> ContactState:
    """The state without what is not on the list on this contact's account: a list that was made
    before each contact had its own row knew the last one only. It has to be put there again."""
    own = {_listed(each) for each in standing if each.contact_id == contact_id}
    return replace(state, listed=state.listed & own)


def _listed(entry: Suppression) -> Listed:
    return entry.subject, entry.level, entry.scope


def _now_and_formerly(phone: str) -> Iterable[str]:
    """The number as it is known now, and as former versions took it, if that is another."""
    return dict.fromkeys((fold_phone(phone), phone_as_written(phone)))


def _id_of(digest: str) -> str:
    return f"c_{digest[:32]}"


def _owner(subject: str, contact_id: str) -> str:
    """The contact that stands for an address alone; for any other subject `contact_id`."""
    kind, _, digest = subject.partition(":")
    return contact_id if kind == "id" else _id_of(digest)


def listed_by(events: Iterable[e.Event]) -> tuple[Suppression, ...]:
    """What these events put on the suppression list."""
    return tuple(
        Suppression(subject, event.level, event.scope, event.contact_id)
        for event in events
        if isinstance(event, e.ContactSuppressed)
        for subject in event.subjects
    )


def _lifted(events: Iterable[e.Event]) -> tuple[Suppression, ...]:
    return tuple(
        Suppression(subject, event.level, event.scope, event.contact_id)
        for event in events
        if isinstance(event, e.ContactUnsuppressed)
        for subject in event.subjects
    )


def _consents(events: Iterable[e.Event], tick: int) -> tuple[Consent, ...]:
    found = []
    for event in events:
        if isinstance(event, e.ConsentGranted | e.ConsentRevoked):
            key = consent_key(event.channel, event.purpose)
            if isinstance(event, e.ConsentGranted):
                ends = event.expires_tick
                found.append(Consent(event.contact_id, key, "granted", tick, ends))
            else:
                found.append(Consent(event.contact_id, key, "revoked", tick, None))
    return tuple(found)


def consent_key(channel: str, purpose: str | None) -> str:
    """How consent to a channel is filed: by the channel, and by the purpose if there is one."""
    return f"{channel}:{purpose}" if purpose else channel
