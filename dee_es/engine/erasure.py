"""Erasing a contact: its key is destroyed, and all that was written about it stays as it is.

Each step can be repeated: an erasure that was broken off is finished by calling it again. First the
contact is put on the regulatory list under all that it is known by, together with the record of the
erasure, so that no new run can begin; then its open runs are cancelled; the key goes last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dee_es.core import commands as c
from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.ids import contact_stream
from dee_es.core.views import RunFilter, RunStatus
from dee_es.engine.contacts import Contacts
from dee_es.engine.queries import Queries
from dee_es.engine.transact import Runs
from dee_es.errors import ConcurrencyConflict, InvalidInput, InvalidTransition
from dee_es.ports import Committed, KeyStore

CAUSE: Final = "erasure"
_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did: the runs it cancelled now, and all runs of the contact."""

    contact_id: str
    cancelled: tuple[str, ...]
    runs: tuple[str, ...]
    key_destroyed: bool


class Erasure:
    """Erases contacts."""

    def __init__(self, runs: Runs, queries: Queries, contacts: Contacts, keys: KeyStore) -> None:
        self._runs = runs
        self._queries = queries
        self._contacts = contacts
        self._keys = keys
        self._store = runs.store

    def erase(self, contact_id: str, meta: Callable[[], e.Meta]) -> Erased:
        """Erase a contact, or finish its erasure; raises `InvalidInput` for one nobody knows."""
        key_id = self._store.contact_keys([contact_id]).get(contact_id)
        found = self._rows(contact_id)
        if key_id is None and not found and not self._known(contact_id):
            raise InvalidInput("contact_id", f"nothing is known of {contact_id!r}")
        # Twice: a run that began before the first was committed may know another address.
        for _ in range(2):
            self._record(contact_id, key_id, meta)
            key_id = self._store.contact_keys([contact_id]).get(contact_id)
        cancelled = tuple(
            run_id for run_id, ended in self._rows(contact_id) if not ended
            if self._cancel(run_id, meta)
        )  # fmt: skip
        if key_id is not None:
            self._keys.destroy(key_id)
            self._runs.forget()
        runs = tuple(run_id for run_id, _ in self._rows(contact_id))
        return Erased(contact_id, cancelled, runs, key_id is not None)

    def _known(self, contact_id: str) -> bool:
        stream = contact_stream(contact_id)
        return stream in self._store.heads([stream])

    def _rows(self, contact_id: str) -> list[tuple[str, bool]]:
        rows = self._queries.all_rows(RunFilter(contact_id=contact_id))
        return [(row.run_id, RunStatus(row.status).ended) for row in rows]

    def _record(self, contact_id: str, key_id: bytes | None, meta: Callable[[], e.Meta]) -> None:
        stream = contact_stream(contact_id)
        for _ in range(_ATTEMPTS):
            rows = self._store.read_stream(stream)
            state = contact_state.fold(self._runs.journal.open(rows))
            subjects = self._subjects(contact_id, state)
            key = "" if key_id is None else key_id.hex()
            events = contact_state.erase(state, contact_id, subjects, key)
            if not events:
                return
            unit = self._contacts.unit(stream, rows, events, meta())
            if isinstance(self._runs.committer.commit([unit])[0], Committed):
                return
            self._runs.clock.refresh()
        raise ConcurrencyConflict(f"contact {contact_id!r} kept changing; try again")

    def _subjects(self, contact_id: str, state: contact_state.ContactState) -> set[str]:
        """All that the contact is known by: its id, what was listed for it, and every address that
        one of its runs began with."""
        subjects = {f"id:{contact_id}"} | {subject for subject, _, _ in state.listed}
        ids = [run_id for run_id, _ in self._rows(contact_id)]
        for run in self._runs.load_many(ids).values():
            person = run.state.contact
            subjects.update(self._contacts.subjects(contact_id, person.email, person.phone))
        return subjects

    def _cancel(self, run_id: str, meta: Callable[[], e.Meta]) -> bool:
        try:
            self._runs.change(run_id, lambda given: c.Cancel(given, CAUSE), meta)
        except InvalidTransition:
            return False  # it ended meanwhile
        return True
