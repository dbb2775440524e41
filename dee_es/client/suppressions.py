"""Suppression lists over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from dee_es.client.bulk import own_key
from dee_es.client.runs import camel
from dee_es.client.transport import Transport, key_given, knowing, problem_error
from dee_es.core.contact import fold_email, fold_phone
from dee_es.core.events import Level
from dee_es.core.values import check_count, check_text
from dee_es.engine.api.contacts import MAX_BATCH, checked_entry, checked_level
from dee_es.engine.models import ImportResult, OnEntryError, OnImport, SuppressionEntry
from dee_es.errors import DeeError, InvalidInput

_BYTES: Final = 512 * 1024
_FIELDS: Final = ("contact_id", "email", "phone", "level", "scope", "reason")


class SuppressionsClient:
    """Takes suppression lists to the server."""

    _http: Transport

    def import_suppressions(
        self,
        entries: Iterable[SuppressionEntry],
        level: Level = "regulatory",
        scope: str = "",
        reason: str | None = None,
        on_progress: OnImport | None = None,
        dry_run: bool = False,
        on_error: OnEntryError | None = None,
        batch_size: int = 500,
        *,
        command_id: str | None = None,
    ) -> ImportResult:
        """Put a list of people on the suppression list, at most `batch_size` in a request; any
        iterable is read in flat memory.

        An entry that cannot be used is counted, told to `on_error`, and never stops the rest. The
        same call again adds only what is missing. With `dry_run` nothing is written; 100 bytes are
        kept of each address.
        """
        check_count("batch_size", batch_size, MAX_BATCH)
        base = SuppressionEntry(level=checked_level(level), scope=scope)
        if reason is not None:
            check_text("reason", reason)
        key = key_given(command_id)
        order = {"reason": reason, "dryRun": dry_run}
        sending = _Sending(self._http, key, order, on_error)
        seen = set[bytes]()
        source = enumerate(entries)
        while batch := list(islice(source, batch_size)):
            usable = []
            for number, entry in batch:
                try:
                    usable.append((number, checked_entry(entry, base)))
                except InvalidInput as error:
                    sending.refuse(number, error)
            if dry_run:
                usable = sending.unseen(usable, seen)
            sending.send(usable)
            if on_progress is not None:
                on_progress(sending.result)
        return sending.result

    def contact_id_for(self, *, email: str | None = None, phone: str | None = None) -> str:
        """The opaque id of a contact known by an address only."""
        given = {"email": email, "phone": phone}
        return str(self._http.post("/contacts/identify", given, changes=False)["contactId"])


class _Sending:
    """Sends entries in requests that a server takes, and sums up what became of them."""

    def __init__(
        self,
        transport: Transport,
        key: str,
        order: Mapping[str, Any],
        on_error: OnEntryError | None,
    ) -> None:
        self._http = transport
        self._key = key
        self._order = order
        self._on_error = on_error
        self._requests = 0
        self.result = ImportResult()

    def refuse(self, number: int, error: DeeError) -> None:
        """Take note of an entry that cannot be used."""
        self.result.errors += 1
        if self._on_error is not None:
            self._on_error(number, error)

    def unseen(
        self, entries: list[tuple[int, SuppressionEntry]], seen: set[bytes]
    ) -> list[tuple[int, SuppressionEntry]]:
        """The entries without those of which all was in earlier requests; a dry run leaves nothing
        on the server by which it would know them again."""
        left = []
        for number, entry in entries:
            if _digests(entry) <= seen:
                self.result.already += 1
            else:
                left.append((number, entry))
        for _, entry in left:
            seen |= _digests(entry)
        return left

    def send(self, entries: list[tuple[int, SuppressionEntry]]) -> None:
        """Send checked entries."""
        for numbers, given in _fitting(entries):
            body = {**self._order, "entries": given}
            own = own_key(self._key, self._requests, body)
            self._requests += 1
            with knowing(self._known):
                found = self._http.post("/contacts/suppress/batch", body, key=own)
            self.result.added += found["added"]
            self.result.already += found["already"]
            for fault in found["faults"]:
                error = problem_error(fault["error"], fault["detail"], 422, fault)
                self.refuse(numbers[fault["index"]], error)

    def _known(self) -> str:
        sums = self.result
        return f"{sums.added} added, {sums.already} there already" if self._requests > 1 else ""


def _fitting(
    entries: Iterable[tuple[int, SuppressionEntry]],
) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """The entries as the server takes them with their numbers, in lists that fit into a request."""
    numbers, batch, size = list[int](), list[dict[str, Any]](), 0
    for number, entry in entries:
        fields = {name: getattr(entry, name) for name in _FIELDS}
        given = {camel(name): value for name, value in fields.items() if value is not None}
        length = len(json.dumps(given))
        if batch and size + length > _BYTES:
            yield numbers, batch
            numbers, batch, size = [], [], 0
        numbers.append(number)
        batch.append(given)
        size += length
    if batch:
        yield numbers, batch


def _digests(entry: SuppressionEntry) -> set[bytes]:
    """What a checked entry is known by on the list, as digests of 16 bytes."""
    email = None if entry.email is None else fold_email(entry.email)
    phone = None if entry.phone is None else fold_phone(entry.phone)
    who = entry.contact_id or f"of {email or phone}"
    subjects = [("id", who), ("email", email), ("phone", phone)]
    return {
        hashlib.blake2b(repr((*each, entry.level, entry.scope)).encode(), digest_size=16).digest()
        for each in subjects
        if each[1] is not None
    }
