"""Contacts: the suppression list, and consent."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Final

from dee_es.core.channels import CHANNELS, ChannelName
from dee_es.core.clock import require_utc
from dee_es.core.contact import check_email, check_phone
from dee_es.core.events import LEVELS, ConsentGranted, Level
from dee_es.core.values import (
    check_count,
    check_flag,
    check_id,
    check_one_of,
    check_plan_id,
    check_text,
)
from dee_es.core.views import RunFilter
from dee_es.engine.api.base import ApiBase, checked_many, checked_reason
from dee_es.engine.contacts.suppression_import import Listing
from dee_es.engine.models import ImportResult, OnEntryError, OnImport, SuppressionEntry
from dee_es.engine.retention.erasure import Erased
from dee_es.errors import UNREADABLE, DeeError, InvalidInput, PartlySuppressed

MAX_BATCH: Final = 10_000


class ContactsApi(ApiBase):
    """Calls about a contact rather than one of its runs."""

    def suppress(
        self,
        contact_id: str | None = None,
        *,
        email: str | None = None,
        phone: str | None = None,
        level: Level = "global",
        channel: ChannelName | None = None,
        plan_id: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Put a contact, by id or address or both, on the suppression list; by its id, with all
        addresses of its runs in the log, so that another record of the person is covered.

        Level `global` and `regulatory` close everything, `channel` one channel, `plan` one plan. To
        exit conditions and branches the contact has unsubscribed then, unless it is one channel
        that was closed: to its runs at once, where the id is given, else when they come to a send.

        Once this has returned, only messages whose intents were committed before may still leave.
        False if all of that was on the list already. If a run of the contact cannot be read, all
        else is listed, and then `PartlySuppressed` is raised.
        """
        reach, scope = _scope(level, channel, plan_id)
        who = self._identified(contact_id, email, phone)
        named = self._identities.listed_as(who, email, phone)
        meta = self._meta("suppress", command_id, actor, reason)
        unread: list[DeeError] = []
        known = frozenset[str]() if contact_id is None else self._known_as(who, unread)
        runs = self._suppressed_runs if contact_id is not None and reach != "channel" else None
        tell = None if runs is None else partial(runs.decide, who, scope)
        changed = self._contacts.suppress(who, named, known, reach, scope, meta, tell)
        if runs is not None:
            unread += runs.tell(who, scope, meta)
        for error in unread:
            if not isinstance(error, UNREADABLE):
                raise error
        if unread:
            raise PartlySuppressed(
                f"contact {who!r} is on the suppression list, but a run of it cannot be read: it "
                "was not told, and an address that it alone knows is not on the list; "
                f"{unread[0]}"
            ) from unread[0]
        return changed

    def _known_as(self, contact_id: str, unread: list[DeeError]) -> Set[str]:
        """What the contact is listed under for its runs; `unread` gets the errors of the others."""
        rows = self._queries.all_rows(RunFilter(contact_id=contact_id))
        runs = self._runs.load_readable(
            [row.run_id for row in rows], lambda _, error: unread.append(error)
        )
        people = [run.state.contact for run in runs.values()]
        return self._identities.listed_for(contact_id, people)

    def unsuppress(
        self,
        contact_id: str | None = None,
        *,
        email: str | None = None,
        phone: str | None = None,
        level: Level = "global",
        channel: ChannelName | None = None,
        plan_id: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Lift a suppression that was made with the same id, with the addresses that it listed, or
        with the same address, in whichever spelling; False if there is none. What is on the list in
        another's name stays there."""
        reach, scope = _scope(level, channel, plan_id)
        who = _checked_who(contact_id, email, phone)
        known = self._identities.ids_for_address(email, phone) if who is None else (who,)
        meta = self._meta("unsuppress", command_id, actor, reason)
        lifted = [self._contacts.unsuppress(each, reach, scope, meta) for each in known]
        return any(lifted)

    def import_suppressions(
        self,
        entries: Iterable[SuppressionEntry],
        level: Level = "regulatory",
        scope: str = "",
        reason: str | None = None,
        actor: str | None = None,
        on_progress: OnImport | None = None,
        dry_run: bool = False,
        on_error: OnEntryError | None = None,
        batch_size: int = 500,
        *,
        command_id: str | None = None,
    ) -> ImportResult:
        """Put a list of people on the suppression list, a batch in one transaction; any iterable is
        read in flat memory.

        `level`, `scope` (the channel or plan of these levels) and `reason` are for entries that do
        not say. Nobody on the list needs to be a contact yet: whoever is enrolled later with an
        address on it is refused, and who was enrolled before is skipped at the next send. An entry
        that gives an id lists the addresses of the contact's runs as well, and open ones are told
        at once, as by `suppress`; a run that cannot be read is told in the process's log. An entry
        that cannot be used is counted, told to `on_error`, and never stops the rest.

        A crash loses at most the batch in flight, and the same call again adds only what is
        missing. With `dry_run` nothing is written; 100 bytes are kept of each new address.
        """
        check_count("batch_size", batch_size, MAX_BATCH)
        dry = check_flag("dry_run", dry_run)
        base = SuppressionEntry(level=checked_level(level), scope=check_text("scope", scope))
        if scope:
            _reach(checked_level(level), scope)
        meta = self._meta("suppress", command_id, actor, reason)
        result, seen = ImportResult(), set[bytes]()
        source = enumerate(checked_many("entries", entries))
        while batch := list(islice(source, batch_size)):
            listings = self._listings(batch, base, result, on_error)
            if dry:
                new = self._suppression_import.missing(listings, seen)
            else:
                new = self._suppression_import.add(listings, meta)
            result.added += new
            result.already += len(listings) - new
            if on_progress is not None:
                on_progress(result)
        return result

    def _listings(
        self,
        batch: Iterable[tuple[int, SuppressionEntry]],
        base: SuppressionEntry,
        result: ImportResult,
        on_error: OnEntryError | None,
    ) -> list[Listing]:
        """The entries that can be used; the others are counted and told."""
        usable = []
        for number, entry in batch:
            try:
                usable.append(checked_entry(entry, base))
            except InvalidInput as error:
                result.errors += 1
                if on_error is not None:
                    on_error(number, error)
        ids = self._identification.ids(
            [(given.contact_id, given.email, given.phone) for given in usable]
        )
        return [self._listing(given, who) for given, who in zip(usable, ids, strict=True)]

    def _listing(self, given: SuppressionEntry, who: str) -> Listing:
        """An entry that was checked, with what the list is to know it by."""
        subjects = self._identities.listed_as(who, given.email, given.phone)
        level = checked_level(given.level)
        by_id = given.contact_id is not None
        return Listing(who, subjects, level, given.scope or "", given.reason, by_id)

    def grant_consent(
        self,
        contact_id: str,
        channel: ChannelName,
        *,
        purpose: str | None = None,
        expires_at: datetime | None = None,
        source: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Record that the contact agreed to a channel, until `expires_at` if that is given.

        `source` says where the consent comes from, in plain text without personal data. Raises
        `InvalidInput` for a time that has passed.
        """
        expires = None
        if expires_at is not None:
            expires = self._parts.scale.tick_from(require_utc("expires_at", expires_at))
        told = None if source is None else check_text("source", source, blank=False)
        who = check_id("contact_id", contact_id)
        agreed = check_one_of("channel", channel, CHANNELS)
        event = ConsentGranted(who, agreed, _purpose(purpose), expires, told)
        return self._contacts.grant(event, self._meta("consent", command_id, actor, reason))

    def revoke_consent(
        self,
        contact_id: str,
        channel: ChannelName,
        *,
        purpose: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Record that the contact took its consent back: what it gave for this purpose or, without
        one, all that it gave for the channel, for whatever purpose.
        """
        who = check_id("contact_id", contact_id)
        agreed = check_one_of("channel", channel, CHANNELS)
        given = None if purpose is None else _purpose(purpose)
        meta = self._meta("consent", command_id, actor, reason)
        return self._contacts.revoke(who, agreed, given, meta)

    def erase_contact(
        self,
        contact_id: str,
        reason: str,
        actor: str | None = None,
        *,
        certificate: str | None = None,
        command_id: str | None = None,
    ) -> Erased:
        """Make all personal data of a contact unreadable for ever, and end its open runs: by an
        exit condition if one holds, else cancelled.

        Nothing of the log is rewritten: it verifies as before, and reads show that the data was
        erased. The contact stays on the regulatory suppression list, as keyed digests. A signed
        certificate is written into the place of the settings, or the folder or URL `certificate`:
        it lists what has left before, such as messages and exports, which nobody calls back.
        Calling it again finishes an erasure that was broken off, or writes the certificate again.

        Raises `InvalidInput` for a contact that nobody knows, and in a database that was made with
        personal data off, whose log holds it in plain for ever, `HoldInForce` while a legal hold is
        on it or on one of its runs, and `AnchorUnavailable` if a place cannot be reached.
        """
        if not self._parts.keys.encrypts:
            raise InvalidInput(
                "personal data",
                "is off in this database: it stands in the append-only log in plain and cannot be "
                "erased; nothing was done",
            )
        meta = self._meta("erase", command_id, actor, checked_reason(reason))
        who = check_id("contact_id", contact_id)
        place = self._parts.certificates if certificate is None else certificate
        return self._erasure.erase(who, meta, check_text("certificate", place, blank=False))

    def contact_id_for(self, *, email: str | None = None, phone: str | None = None) -> str:
        """The opaque id of a contact known by an address only: a keyed digest, equal for equal
        addresses. Of a number with a zero in brackets behind its country code, as in +49 (0)30, it
        is that of the number without, unless a contact is known under the other already."""
        return self._identified(None, email, phone)

    def _identified(self, contact_id: str | None, email: str | None, phone: str | None) -> str:
        given = _checked_who(contact_id, email, phone)
        (who,) = self._identification.ids([(given, email, phone)])
        return who


def checked_entry(entry: object, base: SuppressionEntry) -> SuppressionEntry:
    """An entry of a list with its parts checked, and with those of `base` that it does not have;
    raises `InvalidInput`."""
    if not isinstance(entry, SuppressionEntry):
        raise InvalidInput("entry", f"must be a SuppressionEntry, not {type(entry).__name__}")
    scope = base.scope if entry.level is None and entry.scope is None else entry.scope
    level = checked_level(base.level if entry.level is None else entry.level)
    reach = _reach(level, scope or "")
    why = None if entry.reason is None else check_text("reason", entry.reason)
    who = _checked_who(entry.contact_id, entry.email, entry.phone)
    return replace(entry, contact_id=who, level=level, scope=reach, reason=why)


def _checked_who(contact_id: str | None, email: str | None, phone: str | None) -> str | None:
    """The id, if one is given; raises `InvalidInput` for what is none, or if nothing is given."""
    if email is not None:
        check_email("email", email)
    if phone is not None:
        check_phone("phone", phone)
    if contact_id is not None:
        return check_id("contact_id", contact_id)
    if email is None and phone is None:
        raise InvalidInput("contact_id", "give an id, an email or a phone")
    return None


def _scope(given: object, channel: str | None, plan_id: str | None) -> tuple[Level, str]:
    """The level, and the channel or plan that it is for; raises `InvalidInput`."""
    level = checked_level(given)
    if level != "channel" and channel is not None:
        raise InvalidInput("channel", "is given at the channel level, else left out")
    if level != "plan" and plan_id is not None:
        raise InvalidInput("plan_id", "is given at the plan level, else left out")
    if level == "channel":
        return level, check_one_of("channel", channel, CHANNELS)
    return level, check_plan_id("plan_id", plan_id) if level == "plan" else ""


def checked_level(level: object) -> Level:
    """`level` if a suppression has such a one; raises `InvalidInput`."""
    return check_one_of("level", level, LEVELS)


def _reach(level: Level, scope: str) -> str:
    """The channel or plan that an entry of this level is for; raises `InvalidInput`."""
    if level == "plan":
        return check_plan_id("scope", scope)
    if level == "channel" and scope not in CHANNELS:
        known = " or ".join(map(repr, CHANNELS))
        raise InvalidInput("scope", f"must be {known} at the channel level")
    if level != "channel" and scope:
        raise InvalidInput("scope", f"is for the levels channel and plan, not for {level}")
    return check_text("scope", scope)


def _purpose(purpose: str | None) -> str:
    return "" if purpose is None else check_id("purpose", purpose)
