"""What contacts are listed under for their runs in the log: whoever is put on the suppression list
by its id is covered under another record, too."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence, Set
from typing import Final

from dee_es.core import events as e
from dee_es.engine.bisecting import bisected
from dee_es.engine.contacts.identity import Identities
from dee_es.engine.log.journal import Journal
from dee_es.engine.queries import Queries
from dee_es.errors import DeeError
from dee_es.ports import EventStore, StoredRow

_log: Final = logging.getLogger(__name__)
_AT_ONCE: Final = 500
"""Runs of which the beginnings are read together."""


class RunAddresses:
    """Looks up many contacts at once; only how their runs began is read."""

    def __init__(
        self, store: EventStore, journal: Journal, queries: Queries, identities: Identities
    ) -> None:
        self._store = store
        self._journal = journal
        self._queries = queries
        self._identities = identities

    def of(self, contact_ids: Sequence[str]) -> dict[str, Set[str]]:
        """The subjects of those that have runs (see `Identities.listed_for`). A run that cannot be
        read is told in the process's log: it holds no list up."""
        run_ids = [row.run_id for row in self._queries.rows_of(contact_ids)]
        people: dict[str, set[tuple[str | None, str | None]]] = {}
        for event in self._begun(run_ids):
            person = event.personal or e.Enrolled()
            people.setdefault(event.contact_id, set()).add((person.email, person.phone))
        return {
            who: self._identities.listed_for(who, [e.Enrolled(*each) for each in addresses])
            for who, addresses in people.items()
        }

    def _begun(self, run_ids: Sequence[str]) -> Iterator[e.Start]:
        for first in range(0, len(run_ids), _AT_ONCE):
            rows = list(self._store.read_first(run_ids[first : first + _AT_ONCE]).values())
            for some in bisected(rows, self._opened, _left_out, DeeError):
                yield from some

    def _opened(self, rows: Sequence[StoredRow]) -> list[e.Start]:
        self._journal.preload(rows)
        found = []
        for row in rows:
            (recorded,) = self._journal.open([row])
            assert isinstance(recorded.event, e.Start), "a run begins with its enrolment"
            found.append(recorded.event)
        return found


def _left_out(row: StoredRow, error: DeeError) -> None:
    _log.warning("addresses_not_listed", extra={"run": row.stream_id, "error": str(error)})
