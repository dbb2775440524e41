"""Enrolment: one contact or millions, each at most once at a time for a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.contact import Person
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.runs.run import start_passed
from dee_es.core.values import check_map
from dee_es.engine.contacts.identity import Identities
from dee_es.engine.contacts.streams import ContactStreams
from dee_es.engine.definitions import EqualVersion, version_at
from dee_es.engine.enrolling.admission import PAYLOAD, TWICE, Admission, Batch, Order, Refused
from dee_es.engine.enrolling.parts import (
    BulkOrder,
    Given,
    Parts,
    ShareParts,
    batched,
    contact_of,
    contacts_of,
)
from dee_es.engine.enrolling.pipeline import Pipeline
from dee_es.engine.interpreter import seldom_collected
from dee_es.engine.log.committing import Proposal
from dee_es.engine.log.settling import ATTEMPTS, in_parts
from dee_es.engine.models import MAX_REFUSALS, BulkResult, OnProgress, OnRefusal, Refusal
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.transact import Runs
from dee_es.errors import (
    AlreadyEnrolled,
    ConcurrencyConflict,
    ContactSuppressed,
    DeeError,
    InvalidInput,
    StoreUnavailable,
)
from dee_es.ports import Committed, Conflict, KeyStore, Situation, Unit


class Enrollment:
    """Creates runs."""

    def __init__(
        self, runs: Runs, identities: Identities, contacts: ContactStreams, keys: KeyStore
    ) -> None:
        self._runs = runs
        self._contacts = contacts
        self._admission = Admission(runs, identities, keys)

    # --- one contact ------------------------------------------------------------------------------

    def execute(
        self,
        plan: ExecutionPlan,
        contact: Given,
        variables: Mapping[str, Any] | None,
        start_tick: int | None,
        meta: Callable[[], e.Meta],
    ) -> tuple[LoadedRun, int | None]:
        """Enroll one contact; returns the run, and its number if it was created just now.

        Raises `AlreadyEnrolled`, `ContactSuppressed` (which is recorded), `InvalidInput`.
        """
        person = contact_of(contact)
        checked = check_map("variables", variables or {})
        now = meta()
        if start_tick is not None and start_tick < now.tick:
            return self._begun_in_time(plan, person, start_tick, now), None
        order = Order(plan, None, checked, now.command_id, meta, start_tick, take_over=True)
        found = self._runs.definitions.known_version(plan)
        for _ in range(ATTEMPTS):
            found = found or self._version_for(order, person)
            batch, result = self._enrolled(replace(order, plan=found.plan), person, found.latest)
            if batch.taken_over:
                return self._runs.load(batch.taken_over[0]), None
            if batch.refusals:
                raise self._refusal(order, batch.refusals)
            if isinstance(result, Committed):
                run = batch.first_run()
                self._runs.remember([run])
                return run, result.ordinal
            found = None
            self._runs.clock.refresh()
        raise ConcurrencyConflict(f"contact {person.id!r} kept changing; try again")

    def _enrolled(
        self, order: Order, person: Person, latest: int
    ) -> tuple[Batch, Committed | Conflict | None]:
        """One try to enroll a contact, and what became of it: nothing if the plan has other
        versions by now than up to `latest`."""
        concerned = self._admission.concerns(order, [person])
        batch = Batch()

        def units_of(now: Situation) -> Sequence[Unit]:
            nonlocal batch
            same = version_at(now.heads, "plan", order.plan.id) == latest
            batch = self._admission.prepare(order, [person], (concerned, now)) if same else Batch()
            return batch.units

        try:
            results = self._runs.committer.decide(Proposal(*concerned, units_of))
        except StoreUnavailable:
            # The commit may have happened although its answer was lost; the log knows.
            batch = self._admission.prepare(order, [person])
            if not batch.taken_over:
                raise
            results = []
        return batch, results[0] if results else None

    def _version_for(self, order: Order, person: Person) -> EqualVersion:
        """The newest version equal to the order's plan. If there is none it is published, unless
        the contact is refused."""
        definitions = self._runs.definitions
        found = definitions.equal_version(order.plan)
        if found is None:
            draft = definitions.draft_plan(order.plan, order.meta)
            self._require_enrollable(replace(order, plan=draft), person)
            published = definitions.publish_plan(order.plan, order.meta)
            found = EqualVersion(published, published.version)
        return found

    def check(
        self,
        plan: ExecutionPlan,
        contact: Given,
        variables: Mapping[str, Any] | None,
        start_tick: int | None,
        meta: Callable[[], e.Meta],
    ) -> None:
        """Raise what `execute` would, whatever the plan refers to being published before it."""
        person = contact_of(contact)
        checked = check_map("variables", variables or {})
        found = self._runs.definitions.equal_version(plan)
        version = (
            found.plan if found else self._runs.definitions.draft_plan(plan, meta, bundled=True)
        )
        order = Order(version, None, checked, meta().command_id, meta, start_tick)
        self._require_enrollable(order, person)

    def _require_enrollable(self, order: Order, person: Person) -> None:
        """Raise what enrolling a contact would, as of the log's own time."""
        self._runs.clock.refresh()
        _, refused = self._admission.rehearse(order, [person])
        if refused:
            created = self._admission.created(order.plan.id, person, order.command_id)
            if not (order.take_over and created):
                raise self._refusal(order, refused)

    def _begun_in_time(
        self, plan: ExecutionPlan, person: Person, start_tick: int, now: e.Meta
    ) -> LoadedRun:
        """The run that this very command created before; raises `InvalidInput` if it did not."""
        known = self._admission.created(plan.id, person, now.command_id)
        if known is None:
            raise start_passed(self._runs.clock.scale, start_tick, now.tick)
        return self._runs.load(known)

    def _refusal(self, order: Order, refused: Refused) -> DeeError:
        person, refusal = refused[0]
        if refusal.reason == "invalid":
            return InvalidInput(PAYLOAD, refusal.detail.removeprefix(f"{PAYLOAD}: "))
        self._record_refusals(order, refused)
        text = f"contact {person.id!r} was not enrolled in plan {order.plan.id!r}: {refusal.detail}"
        return (ContactSuppressed if refusal.reason == "suppressed" else AlreadyEnrolled)(text)

    # --- many contacts ----------------------------------------------------------------------------

    @seldom_collected()
    def bulk_execute(
        self,
        plan: ExecutionPlan,
        contacts: Iterable[Given],
        variables: Mapping[str, Any] | None,
        batch_size: int,
        meta: Callable[[], e.Meta],
        *,
        on_progress: OnProgress | None,
        on_refusal: OnRefusal | None,
        take_over: bool,
        share: ShareParts,
    ) -> BulkResult:
        """Enroll in batches of one transaction each, which `share` may have others work on."""
        order = self._order(plan, variables, meta, take_over=take_over)
        actor = order.meta().actor
        assert order.pins is not None
        assert actor is not None
        shared = BulkOrder(
            order.plan, order.pins, order.variables, order.command_id, actor, order.take_over
        )
        tally, parts = _Tally(on_refusal), Parts(contacts, batch_size)
        with closing(share(parts, shared)) as results:
            for done in results:
                parts.done()
                tally.result.created += done.created
                for refusal in done.refusals:
                    tally.refuse(refusal)
                _report(on_progress, tally)
        if not tally.result.done:
            _report(on_progress, tally)
        return tally.result

    def pipeline(self, shared: BulkOrder, meta: Callable[[], e.Meta]) -> Pipeline:
        """What enrolls the parts of a call, whose `meta` is given."""
        order = Order(
            shared.plan,
            shared.pins,
            shared.variables,
            shared.command_id,
            meta,
            take_over=shared.take_over,
        )
        return Pipeline(self._runs, self._admission, self._record_refusals, order)

    def rehearse(
        self,
        plan: ExecutionPlan,
        contacts: Iterable[Given],
        variables: Mapping[str, Any] | None,
        batch_size: int,
        meta: Callable[[], e.Meta],
        *,
        bundled: bool,
        on_progress: OnProgress | None,
        on_refusal: OnRefusal | None,
    ) -> BulkResult:
        """What `bulk_execute` would do now; writes nothing, not even the plan. `bundled`: whatever
        the plan refers to is about to be published.

        Remembers the id of every contact that would be enrolled, to notice those given twice.
        """
        order = self._order(plan, variables, meta, dry=True, bundled=bundled)
        tally = _Tally(on_refusal)
        would_exist: set[str] = set()
        for part in batched(contacts, batch_size):
            people = contacts_of(part, tally.refuse)
            admitted, refusals = self._admission.rehearse(order, people)
            for person in admitted:
                if person.id in would_exist:
                    tally.refuse(Refusal(person.id, "already_enrolled", TWICE))
                else:
                    would_exist.add(person.id)
                    tally.result.created += 1
            for _, refusal in refusals:
                tally.refuse(refusal)
            _report(on_progress, tally)
        return tally.result

    def _order(
        self,
        plan: ExecutionPlan,
        variables: Mapping[str, Any] | None,
        meta: Callable[[], e.Meta],
        *,
        take_over: bool = False,
        dry: bool = False,
        bundled: bool = False,
    ) -> Order:
        """An order of many, whose batches all keep the versions that are published now. Its plan is
        published if it equals none, unless there would be no room beside the variables."""
        definitions = self._runs.definitions
        checked = check_map("variables", variables or {})

        def order_of(version: ExecutionPlan) -> Order:
            pins = definitions.pins(version)
            made = Order(version, pins, checked, meta().command_id, meta, take_over=take_over)
            self._admission.require_room(made)
            return made

        found = definitions.equal_version(plan)
        if found is not None:
            return order_of(found.plan)
        draft = order_of(definitions.draft_plan(plan, meta, bundled=bundled))
        return draft if dry else order_of(definitions.publish_plan(plan, meta))

    # --- shared -----------------------------------------------------------------------------------

    def _record_refusals(self, order: Order, refusals: Sequence[tuple[Person, Refusal]]) -> None:
        suppressed = {
            person.id: refusal.detail.removeprefix("suppressed: ")
            for person, refusal in refusals
            if refusal.reason == "suppressed"
        }
        for refused in range(ATTEMPTS if suppressed else 0):
            missing = False
            for part in in_parts(list(suppressed.items()), refused):
                units = self._contacts.refusals(part, order.plan.id, order.meta())
                if units:
                    missing = True
                    self._runs.committer.commit(units)
                    self._runs.clock.refresh()
            if not missing:
                return


class _Tally:
    """Counts a bulk enrolment as it goes."""

    def __init__(self, on_refusal: OnRefusal | None) -> None:
        self.result = BulkResult()
        self._on_refusal = on_refusal

    def refuse(self, refusal: Refusal) -> None:
        if refusal.reason == "invalid":
            self.result.errors += 1
        else:
            self.result.skipped += 1
        if len(self.result.refusals) < MAX_REFUSALS:
            self.result.refusals.append(refusal)
        if self._on_refusal is not None:
            self._on_refusal(refusal)


def _report(on_progress: OnProgress | None, tally: _Tally) -> None:
    if on_progress is not None:
        on_progress(tally.result)
