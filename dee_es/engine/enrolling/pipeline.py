"""A pipeline of enrolments: while a part of the contacts is committed, the next one is prepared,
unless there are others who prepare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final, NamedTuple

from msgspec.structs import replace

from dee_es.core.contact import Person
from dee_es.engine.enrolling.admission import Admission, Batch, Order
from dee_es.engine.enrolling.parts import Part, PartDone, contacts_of
from dee_es.engine.interpreter import seldom_collected
from dee_es.engine.log.settling import ATTEMPTS, in_parts
from dee_es.engine.models import Refusal
from dee_es.engine.transact import Runs
from dee_es.errors import StoreUnavailable
from dee_es.ports import Committed, Conflict
from dee_es.ports.beside import Begun

_MOVED: Final = "others kept changing it; try again"
RecordRefusals = Callable[[Order, Sequence[tuple[Person, Refusal]]], None]


class _Ready(NamedTuple):
    """A part that is ready to be committed, and what will come of it."""

    batch: Batch
    refusals: list[Refusal]
    done: Future[PartDone]


class Pipeline:
    """Enrolls one part of a call after another, each in one transaction.

    Between its calls nothing is under way, since nobody knows how long it takes until the next part
    is there.
    """

    def __init__(
        self, runs: Runs, admission: Admission, record: RecordRefusals, order: Order
    ) -> None:
        self._runs = runs
        self._admission = admission
        self._record = record
        self._order = order
        self._ready: _Ready | None = None

    @seldom_collected()
    def begin(self, part: Part) -> Future[PartDone]:
        """Prepare a part, while the one before it is committed; raises what became of that one if
        it could not be. The part itself is committed with the next one, or by `settle`."""
        before, self._ready = self._ready, None
        with self._committed(before):
            ready = self._prepared(part)
        if before is not None:
            before.done.result()
        self._ready = ready
        return ready.done

    @seldom_collected()
    def enroll(self, part: Part) -> PartDone:
        """Prepare a part and commit it, one after the other. While several processes enroll, that
        is faster than to prepare the next one meanwhile: a commit keeps all the others waiting."""
        ready = self._prepared(part)
        with self._committed(ready):
            pass
        return ready.done.result()

    def _prepared(self, part: Part) -> _Ready:
        refusals: list[Refusal] = []
        people = contacts_of(part, refusals.append)
        return _Ready(self._admission.prepare(self._order, people), refusals, Future())

    @seldom_collected()
    def settle(self) -> None:
        """Commit what is prepared: it may take a while until the next part comes."""
        ready, self._ready = self._ready, None
        with self._committed(ready):
            pass

    def close(self) -> None:
        """Commit what is left."""
        self.settle()

    @contextmanager
    def _committed(self, ready: _Ready | None) -> Iterator[None]:
        """Commit a part beside what the block does; its result is there when the block ends,
        however that does."""
        if ready is None:
            yield
            return
        committing = self._runs.committer.begin(ready.batch.units)
        try:
            yield
        finally:
            try:
                ready.done.set_result(self._done(ready.batch, ready.refusals, committing))
            except Exception as error:
                ready.done.set_exception(error)

    def _done(
        self,
        batch: Batch,
        refusals: list[Refusal],
        committing: Begun[list[Committed | Conflict]],
    ) -> PartDone:
        """See a part's commit through; enroll anew those whose circumstances have moved."""
        try:
            results = committing.result()
        except StoreUnavailable:
            results = self._after_lost_answer(batch)
        created, left = self._counted(batch, results, refusals)
        for refused in range(1, ATTEMPTS + 1):
            again: list[Person] = []
            for part in in_parts(left, refused):
                self._runs.clock.refresh()
                batch = self._admission.prepare(self._order, part)
                results = self._runs.committer.commit(batch.units) if batch.starts else []
                more, moved = self._counted(batch, results, refusals)
                created, again = created + more, again + moved
            left = again
        refusals += [Refusal(person.id, "invalid", _MOVED) for person in left]
        return PartDone(created, tuple(refusals))

    def _counted(
        self, batch: Batch, results: Sequence[Committed | Conflict], refusals: list[Refusal]
    ) -> tuple[int, list[Person]]:
        """How many of a batch were enrolled, and those whose circumstances have moved; notes who
        was refused."""
        self._record(self._order, batch.refusals)
        refusals += [refusal for _, refusal in batch.refusals]
        moved = [
            person
            for person, result in zip(batch.people, results, strict=True)
            if isinstance(result, Conflict)
        ]
        return len(batch.taken_over) + len(results) - len(moved), moved

    def _after_lost_answer(self, batch: Batch) -> list[Committed | Conflict]:
        """What became of a commit whose answer was lost: all of it, or nothing of it.

        Raises `StoreUnavailable` if nothing was committed.
        """
        own = self._admission.prepare(replace(self._order, take_over=True), batch.people)
        created = set(own.taken_over)
        runs = [start.run_id for start in batch.starts]
        if runs and created.isdisjoint(runs):
            raise StoreUnavailable(
                "the database did not take a batch; the same call again enrolls what is missing"
            )
        return [Committed(0) if run in created else Conflict("version", run) for run in runs]
