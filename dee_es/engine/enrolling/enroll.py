"""Enrolment: one contact or millions, each at most once at a time for a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec

from dee_es.core import events as e
from dee_es.core.contact import Person
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.runs.run import start_passed
from dee_es.core.values import check_map, check_payload_size
from dee_es.engine.contacts.suppression import Contacts
from dee_es.engine.enrolling.admission import Admission, Batch, Order
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
from dee_es.engine.log.settling import ATTEMPTS
from dee_es.engine.models import MAX_REFUSALS, BulkResult, OnProgress, OnRefusal, Refusal
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.transact import Runs
from dee_es.errors import (
    AlreadyEnrolled,
    ConcurrencyConflict,
    ContactSuppressed,
    DeeError,
    StoreUnavailable,
)
from dee_es.ports import Committed, KeyStore, Situation, Unit


class Enrollment:
    """Creates runs."""

    def __init__(self, runs: Runs, contacts: Contacts, keys: KeyStore) -> None:
        self._runs = runs
        self._contacts = contacts
        self._admission = Admission(runs, contacts, keys)

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
        _check_size(person, checked)
        now = meta()
        if start_tick is not None and start_tick < now.tick:
            return self._begun_in_time(plan, person, start_tick, now), None
        order = self._order(plan, checked, meta, start_tick, take_over=True, fixed=False)
        concerned = self._admission.concerns(order, [person])
        for _ in range(ATTEMPTS):
            batch = Batch()

            def units_of(now: Situation) -> Sequence[Unit]:
                nonlocal batch
                batch = self._admission.prepare(order, [person], (concerned, now))
                return batch.units

            try:
                results = self._runs.committer.decide(Proposal(*concerned, units_of))
            except StoreUnavailable:
                # The commit may have happened although its answer was lost; the log knows.
                batch = self._admission.prepare(order, [person])
                if not batch.taken_over:
                    raise
                results = []
            if batch.taken_over:
                return self._runs.load(batch.taken_over[0]), None
            if batch.refusals:
                raise self._refusal(order, batch)
            (result,) = results
            if isinstance(result, Committed):
                run = batch.first_run()
                self._runs.remember([run])
                return run, result.ordinal
            self._runs.clock.refresh()
        raise ConcurrencyConflict(f"contact {person.id!r} kept changing; try again")

    def _begun_in_time(
        self, plan: ExecutionPlan, person: Person, start_tick: int, now: e.Meta
    ) -> LoadedRun:
        """The run that this very command created before; raises `InvalidInput` if it did not."""
        known = self._admission.created(plan.id, person, now.command_id)
        if known is None:
            raise start_passed(self._runs.clock.scale, start_tick, now.tick)
        return self._runs.load(known)

    def _refusal(self, order: Order, batch: Batch) -> DeeError:
        person, refusal = batch.refusals[0]
        self._record_refusals(order, batch.refusals)
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
        checked = check_map("variables", variables or {})
        order = self._order(plan, checked, meta, None, take_over=take_over, fixed=True)
        actor = order.meta().actor
        assert order.pins is not None
        assert actor is not None
        shared = BulkOrder(
            order.plan, order.pins, checked, order.command_id, actor, order.take_over
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
        batch_size: int,
        meta: Callable[[], e.Meta],
        *,
        on_progress: OnProgress | None,
        on_refusal: OnRefusal | None,
    ) -> BulkResult:
        """What `bulk_execute` would do now; writes nothing, not even the plan.

        Remembers the id of every contact that would be enrolled, to notice those given twice.
        """
        order = Order(plan, e.Pins(), {}, "", meta)
        tally = _Tally(on_refusal)
        would_exist: set[str] = set()
        for part in batched(contacts, batch_size):
            people = contacts_of(part, tally.refuse)
            _, admitted, refusals = self._admission.assess(order, people)
            for each in admitted:
                if each.person.id in would_exist:
                    detail = "already enrolled: the contact was given twice"
                    tally.refuse(Refusal(each.person.id, "already_enrolled", detail))
                else:
                    would_exist.add(each.person.id)
                    tally.result.created += 1
            for _, refusal in refusals:
                tally.refuse(refusal)
            _report(on_progress, tally)
        return tally.result

    # --- shared -----------------------------------------------------------------------------------

    def _order(
        self,
        plan: ExecutionPlan,
        variables: dict[str, Any],
        meta: Callable[[], e.Meta],
        start_tick: int | None,
        *,
        take_over: bool,
        fixed: bool,
    ) -> Order:
        """`fixed`: all of its batches keep the versions that are published now."""
        definitions = self._runs.definitions
        published = definitions.ensure_plan(plan, meta)
        pins = definitions.pins(published) if fixed else None
        return Order(published, pins, variables, meta().command_id, meta, start_tick, take_over)

    def _record_refusals(self, order: Order, refusals: Sequence[tuple[Person, Refusal]]) -> None:
        suppressed = {
            person.id: refusal.detail.removeprefix("suppressed: ")
            for person, refusal in refusals
            if refusal.reason == "suppressed"
        }
        for _ in range(ATTEMPTS if suppressed else 0):
            units = self._contacts.refusals(list(suppressed.items()), order.plan.id, order.meta())
            if not units:
                return
            self._runs.committer.commit(units)
            self._runs.clock.refresh()


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


def _check_size(person: Person, variables: dict[str, Any]) -> None:
    # Before the plan is published: what is refused here leaves no trace at all.
    personal = e.Enrolled(person.email, person.phone, person.timezone, person.attributes, variables)
    check_payload_size("contact payload", len(msgspec.json.encode(personal)))
