"""By what a contact is known: digests of its addresses, and the ids that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Final

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.contact import (
    email_spellings,
    fold_phone,
    mailbox_counted,
    phone_as_written,
    phone_spellings,
)
from dee_es.core.ids import contact_stream
from dee_es.core.views import RunFilter
from dee_es.engine.queries import Queries
from dee_es.ports import EventStore, KeyStore

_COUNTED: Final = 32
"""Hex digits of a digest by which sends are counted: 128 bits tell addresses apart."""

Named = tuple[str | None, str | None, str | None]
"""How a contact is named, all of it checked: an id, an e-mail address, a telephone number."""


class KnownAs(Struct, frozen=True, gc=False):
    """What a contact is looked up by on the suppression list (see `Identities.subjects`), and keyed
    digests of its addresses, under which its own daily limit is counted: one for each of the two,
    whatever its spelling."""

    subjects: tuple[str, ...]
    addresses: tuple[str, ...]


class Identities:
    """Makes all keyed digests that contacts are known by: on the suppression list, in counters, and
    as ids."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys

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

    def domain_digest(self, email: str | None) -> str | None:
        """Keyed digest of the domain of an address, under which its daily limit is counted: the
        same for all spellings of a domain."""
        if not email:
            return None
        domain = mailbox_counted(email).rpartition("@")[2]
        return self._keys.digest("domain", domain)[:_COUNTED]

    # --- ids --------------------------------------------------------------------------------------

    def ids_for_address(self, email: str | None, phone: str | None) -> tuple[str, ...]:
        """The opaque id of a contact that is known by an address only, and those that it has by
        other spellings of it. The address was checked before."""
        kind, spellings = "email", email_spellings(email) if email else ()
        if not spellings:
            assert phone, "an address is needed"
            kind, spellings = "phone", phone_spellings(phone)
        return tuple([_id_of(self._keys.digest(kind, each)) for each in spellings])

    def id_and_former(self, named: Named) -> tuple[str, ...]:
        """The id that is meant, and then the former one if there is another: numbers with a zero in
        brackets were told apart once, and whoever is known by one goes on under that id."""
        contact_id, email, phone = named
        if contact_id is not None:
            return (contact_id,)
        if email is None and phone is not None:
            numbers = _now_and_formerly(phone)
            return tuple([_id_of(self._keys.digest("phone", each)) for each in numbers])
        return self.ids_for_address(email, phone)[:1]


class Identification:
    """Says which contact is meant, by what the log knows of the ids it may have."""

    def __init__(
        self, identities: Identities, keys: KeyStore, store: EventStore, queries: Queries
    ) -> None:
        self._identities = identities
        self._keys = keys
        self._store = store
        self._queries = queries

    def ids(self, named: Iterable[Named]) -> list[str]:
        """The ids of the contacts that are meant: a former one if its contact is known."""
        several = [self._identities.id_and_former(each) for each in named]
        known = self._known([former for _, *formers in several for former in formers])
        return [ids[-1] if ids[-1] in known else ids[0] for ids in several]

    def _known(self, contact_ids: Sequence[str]) -> Set[str]:
        """Those contacts of whom the log has anything."""
        if not contact_ids:
            return frozenset()
        streams = {contact_stream(each): each for each in contact_ids}
        found = self._store.situation(list(streams), list(contact_ids))
        known = {streams[stream] for stream in found.heads} | found.keys.keys()
        if not self._keys.encrypts:
            # Then whoever was enrolled has no key, and runs alone tell of it.
            known |= {each for each in set(contact_ids) - known if self._has_runs(each)}
        return known

    def _has_runs(self, contact_id: str) -> bool:
        return bool(self._queries.rows(RunFilter(contact_id=contact_id), limit=1))


def _now_and_formerly(phone: str) -> Iterable[str]:
    """The number as it is known now, and as former versions took it, if that is another."""
    return dict.fromkeys((fold_phone(phone), phone_as_written(phone)))


def _id_of(digest: str) -> str:
    return f"c_{digest[:32]}"


def owner_of(subject: str, contact_id: str) -> str:
    """The contact that stands for an address alone; for any other subject `contact_id`."""
    kind, _, digest = subject.partition(":")
    return contact_id if kind == "id" else _id_of(digest)
