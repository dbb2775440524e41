"""Open runs of a contact that is put on the suppression list: they are told, since their exit
conditions may be about it.

They are told in the very commit that lists the contact. Which they are is read before that, so that
afterwards it is looked once more: for one that began meanwhile, or that could not be told then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct

from dee_es.core.commands import ReceiveEvent
from dee_es.core.events import Meta
from dee_es.core.runs.channel_events import SUPPRESSED
from dee_es.core.views import RunRow, RunStatus
from dee_es.engine.queries import Queries
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.transact import Decided, Runs
from dee_es.errors import DeeError
from dee_es.ports import StreamAppend

TOGETHER: Final = 3
"""How often a contact and its runs are committed together; if the runs kept changing until then,
they are told afterwards: nobody is contacted for longer because a run is busy."""


class Asked(Struct, frozen=True):
    """Whose open runs are to be told, of one plan or, if it is empty, of all."""

    contact_id: str
    plan_id: str


class SuppressedRuns:
    """Tells runs of suppressions; one that was told is not told again."""

    def __init__(self, runs: Runs, queries: Queries) -> None:
        self._runs = runs
        self._queries = queries

    def decide(self, contact_id: str, plan_id: str, meta: Meta) -> list[Decided]:
        """What tells the contact's open runs; those that cannot be read, or be told under this
        command's id, are left out: `tell` says why."""
        (decided,) = self.decide_each([(Asked(contact_id, plan_id), meta)])
        return decided

    def decide_each(self, asked: Sequence[tuple[Asked, Meta]]) -> list[list[Decided]]:
        """The same for many contacts, whose runs are looked up at once."""
        runs = self._open([each for each, _ in asked])
        wanted = dict.fromkeys(run_id for own in runs for run_id in own)
        loaded = self._runs.load_readable(list(wanted), _left_out) if wanted else {}
        return [
            [
                decided
                for run_id in own
                if run_id in loaded
                if (decided := self._decided(loaded[run_id], meta)) is not None
            ]
            for own, (_, meta) in zip(runs, asked, strict=True)
        ]

    def tell(self, contact_id: str, plan_id: str, meta: Callable[[], Meta]) -> Sequence[DeeError]:
        """Tell those that were not told yet, each in a commit of its own; returns why others could
        not be told."""
        return self.tell_each([(Asked(contact_id, plan_id), meta)])

    def tell_each(self, asked: Sequence[tuple[Asked, Callable[[], Meta]]]) -> Sequence[DeeError]:
        """The same for many contacts, whose runs are looked up at once."""
        failed = []
        runs = self._open([each for each, _ in asked])
        for own, (_, meta) in zip(runs, asked, strict=True):
            for run_id in own:
                try:
                    self._runs.change(run_id, _told, meta)
                except DeeError as error:
                    failed.append(error)
        return failed

    def _open(self, asked: Sequence[Asked]) -> list[list[str]]:
        """The open runs of each."""
        rows: dict[str, list[RunRow]] = {}
        for row in self._queries.rows_of(list({each.contact_id: None for each in asked})):
            if not RunStatus(row.status).ended:
                rows.setdefault(row.contact_id, []).append(row)
        return [
            [
                row.run_id
                for row in rows.get(each.contact_id, ())
                if each.plan_id in ("", row.plan_id)
            ]
            for each in asked
        ]

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
