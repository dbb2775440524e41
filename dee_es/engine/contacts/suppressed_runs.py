"""Open runs of a contact that is put on the suppression list: they are told, since their exit
conditions may be about it.

They are told in the very commit that lists the contact. Which they are is read before that, so that
afterwards it is looked once more: for one that began meanwhile, or that could not be told then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from dee_es.core.commands import ReceiveEvent
from dee_es.core.events import Meta
from dee_es.core.runs.channel_events import SUPPRESSED
from dee_es.core.views import RunFilter, RunStatus
from dee_es.engine.queries import Queries
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.transact import Decided, Runs
from dee_es.errors import DeeError
from dee_es.ports import StreamAppend

TOGETHER: Final = 3
"""How often a contact and its runs are committed together; if the runs kept changing until then,
they are told afterwards: nobody is contacted for longer because a run is busy."""


class SuppressedRuns:
    """Tells runs of suppressions; one that was told is not told again."""

    def __init__(self, runs: Runs, queries: Queries) -> None:
        self._runs = runs
        self._queries = queries

    def decide(self, contact_id: str, plan_id: str, meta: Meta) -> list[Decided]:
        """What tells the contact's open runs, of one plan or, if it is empty, of all; those that
        cannot be read, or be told under this command's id, are left out: `tell` says why."""
        loaded = self._runs.load_readable(self._open(contact_id, plan_id), _left_out)
        found = (self._decided(run, meta) for run in loaded.values())
        return [decided for decided in found if decided is not None]

    def tell(self, contact_id: str, plan_id: str, meta: Callable[[], Meta]) -> Sequence[DeeError]:
        """Tell those that were not told yet, each in a commit of its own; returns why others could
        not be told."""
        failed = []
        for run_id in self._open(contact_id, plan_id):
            try:
                self._runs.change(run_id, _told, meta)
            except DeeError as error:
                failed.append(error)
        return failed

    def _open(self, contact_id: str, plan_id: str) -> list[str]:
        chosen = RunFilter(contact_id=contact_id, plan_id=plan_id or None)
        rows = self._queries.all_rows(chosen)
        return [row.run_id for row in rows if not RunStatus(row.status).ended]

    def _decided(self, run: LoadedRun, meta: Meta) -> Decided | None:
        command = _told(meta)
        try:
            return None if self._runs.has_done(run, command) else self._runs.decide(run, command)
        except DeeError:
            return None


def appends_of(told: Iterable[Decided]) -> tuple[StreamAppend, ...]:
    """What is committed to tell them."""
    return tuple(append for decided in told for append in decided.unit.appends)


def _told(given: Meta) -> ReceiveEvent:
    return ReceiveEvent(given, SUPPRESSED, given.command_id, given.tick)


def _left_out(run_id: str, error: DeeError) -> None:
    """A run that cannot be read is told of, if at all, by `tell`."""
