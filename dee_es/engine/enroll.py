"""Enrolment: one contact or millions, each at most once at a time for a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.chain import GENESIS
from dee_es.core.contact import Contact
from dee_es.core.ids import run_id, slice_of
from dee_es.core.plan import ExecutionPlan
from dee_es.core.policy import Snapshot, enrollment_block
from dee_es.core.run import enroll, evolve
from dee_es.core.values import check_map
from dee_es.engine.contacts import Contacts
from dee_es.engine.models import MAX_REFUSALS, BulkResult, OnProgress, OnRefusal, Refusal
from dee_es.engine.transact import MAX_ATTEMPTS, LoadedRun, Runs
from dee_es.errors import (
    AlreadyEnrolled,
    ConcurrencyConflict,
    ContactSuppressed,
    DeeError,
    InvalidInput,
    StoreUnavailable,
)
from dee_es.ports import (
    Committed,
    Conflict,
    Head,
    KeyStore,
    StreamAppend,
    SuppressionGuard,
    Unit,
)

Given = Contact | Mapping[str, Any]
_ENROLLED: Final = "already enrolled: run {run} has not ended"
_NEVER_AGAIN: Final = "already enrolled: run {run} has ended and the plan never enrolls again"


@dataclass(frozen=True, slots=True)
class _Order:
    """One bulk or single enrolment: the same for all of its contacts."""

    plan: ExecutionPlan
    pins: e.Pins
    variables: dict[str, Any]
    command_id: str
    meta: Callable[[], e.Meta]
    start_tick: int | None = None
    take_over: bool = False
    """Whether runs that this very command id created earlier count as created now."""


@dataclass(slots=True)
class _Prepared:
    """A batch on its way: what to commit for which contact, and what was refused."""

    units: list[Unit] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    runs: list[LoadedRun] = field(default_factory=list)
    refusals: list[tuple[Contact, Refusal]] = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)


class Enrollment:
    """Creates runs."""

    def __init__(self, runs: Runs, contacts: Contacts, keys: KeyStore) -> None:
        self._runs = runs
        self._contacts = contacts
        self._keys = keys
        self._store = runs.store

    # --- one contact ------------------------------------------------------------------------------

    def execute(
        self,
        plan: ExecutionPlan,
        contact: Given,
        variables: Mapping[str, Any] | None,
        start_tick: int | None,
        command_id: str,
        meta: Callable[[], e.Meta],
    ) -> str:
        """Enroll one contact; returns the run's id.

        Raises `AlreadyEnrolled`, `ContactSuppressed` (which is recorded), `InvalidInput`.
        """
        person = _contact(contact)
        order = self._order(plan, variables, command_id, meta, start_tick, take_over=True)
        lost: StoreUnavailable | None = None
        for _ in range(MAX_ATTEMPTS):
            prepared = self._prepare(order, [person])
            if prepared.taken_over:
                return prepared.taken_over[0]
            if lost is not None:
                raise lost
            if prepared.refusals:
                self._refuse(order, prepared)
            try:
                result = self._runs.committer.commit(prepared.units)[0]
            except StoreUnavailable as error:
                # The commit may have happened although its answer was lost; the log knows.
                lost = error
                continue
            if isinstance(result, Committed):
                self._runs.remember(prepared.runs)
                return prepared.runs[0].state.run_id
            self._runs.clock.refresh()
        raise ConcurrencyConflict(f"contact {person.id!r} kept changing; try again")

    def _refuse(self, order: _Order, prepared: _Prepared) -> None:
        person, refusal = prepared.refusals[0]
        self._record_refusals(order, prepared.refusals)
        text = f"contact {person.id!r} was not enrolled in plan {order.plan.id!r}: {refusal.detail}"
        raise (ContactSuppressed if refusal.reason == "suppressed" else AlreadyEnrolled)(text)

    # --- many contacts ----------------------------------------------------------------------------

    def bulk_execute(
        self,
        plan: ExecutionPlan,
        contacts: Iterable[Given],
        variables: Mapping[str, Any] | None,
        batch_size: int,
        on_progress: OnProgress | None,
        on_refusal: OnRefusal | None,
        dry_run: bool,
        command_id: str,
        meta: Callable[[], e.Meta],
        given_id: bool,
    ) -> BulkResult:
        """Enroll contacts in batches of one transaction each, preparing one while another commits."""
        order = self._order(
            plan, variables, command_id, meta, None, take_over=given_id, dry=dry_run
        )
        tally = _Tally(on_refusal)
        if dry_run:
            self._rehearse(order, contacts, batch_size, tally, on_progress)
            return tally.result
        with ThreadPoolExecutor(1, "dee-commit") as pool:
            pending: tuple[Future[list[Committed | Conflict]], _Prepared] | None = None
            for batch in _batches(contacts, batch_size, tally):
                if pending is not None and _overlap(pending[1], batch):
                    # What becomes of a contact given twice must not depend on who is faster.
                    self._settle(order, pending, tally)
                    pending = None
                prepared = self._prepare(order, batch)
                if pending is not None:
                    self._settle(order, pending, tally)
                _report(on_progress, tally)
                pending = (pool.submit(self._runs.committer.commit, prepared.units), prepared)
            if pending is not None:
                self._settle(order, pending, tally)
            _report(on_progress, tally)
        return tally.result

    def _rehearse(
        self,
        order: _Order,
        contacts: Iterable[Given],
        batch_size: int,
        tally: _Tally,
        on_progress: OnProgress | None,
    ) -> None:
        would_exist: set[str] = set()
        for batch in _batches(contacts, batch_size, tally):
            standing, refusals = self._assess(order, batch)
            for person, _, _ in standing:
                if person.id in would_exist:
                    detail = "already enrolled: given twice"
                    tally.refuse(Refusal(person.id, "already_enrolled", detail))
                else:
                    would_exist.add(person.id)
                    tally.result.created += 1
            for _, refusal in refusals:
                tally.refuse(refusal)
            _report(on_progress, tally)

    def _settle(
        self,
        order: _Order,
        pending: tuple[Future[list[Committed | Conflict]], _Prepared],
        tally: _Tally,
    ) -> None:
        """Count a batch that was committed, and enroll anew those whose circumstances had moved."""
        future, prepared = pending
        results: list[Committed | Conflict] = future.result()
        for attempt in range(MAX_ATTEMPTS + 1):
            self._record_refusals(order, prepared.refusals)
            for _, refusal in prepared.refusals:
                tally.refuse(refusal)
            tally.result.created += len(prepared.taken_over)
            again = [
                contact
                for contact, result in zip(prepared.contacts, results, strict=True)
                if isinstance(result, Conflict)
            ]
            tally.result.created += len(results) - len(again)
            if not again:
                return
            if attempt == MAX_ATTEMPTS:
                break
            self._runs.clock.refresh()
            prepared = self._prepare(order, again)
            results = self._runs.committer.commit(prepared.units) if prepared.units else []
        for contact in again:
            tally.refuse(Refusal(contact.id, "invalid", "others kept changing it; try again"))

    # --- deciding ---------------------------------------------------------------------------------

    def _order(
        self,
        plan: ExecutionPlan,
        variables: Mapping[str, Any] | None,
        command_id: str,
        meta: Callable[[], e.Meta],
        start_tick: int | None,
        *,
        take_over: bool,
        dry: bool = False,
    ) -> _Order:
        checked = check_map("variables", variables or {})
        definitions = self._runs.definitions
        published = plan if dry else definitions.ensure_plan(plan, meta)
        pins = definitions.pins(published)
        return _Order(published, pins, checked, command_id, meta, start_tick, take_over)

    def _assess(
        self, order: _Order, people: Sequence[Contact]
    ) -> tuple[list[tuple[Contact, int, tuple[str, ...]]], list[tuple[Contact, Refusal]]]:
        """Who may be enrolled, with enrolment number and subjects; and who may not, and why."""
        heads = self._heads(order.plan.id, people)
        subjects = [self._contacts.subjects(p.id, p.email, p.phone) for p in people]
        listed = self._store.log_head().suppression_epoch > 0
        snapshots = self._contacts.snapshots(subjects) if listed else [Snapshot()] * len(people)
        free, refused = [], []
        for person, about, snapshot in zip(people, subjects, snapshots, strict=True):
            standing = heads[person.id]
            last = standing[-1] if standing else None
            fact = enrollment_block(order.plan.id, order.plan.graph.channels, snapshot)
            if last is not None and (not last.ended or order.plan.reenroll == "never"):
                template = _NEVER_AGAIN if last.ended else _ENROLLED
                detail = template.format(run=last.stream_id)
                refused.append((person, Refusal(person.id, "already_enrolled", detail)))
            elif fact is not None:
                refused.append((person, Refusal(person.id, "suppressed", f"suppressed: {fact}")))
            else:
                free.append((person, len(standing) + 1, about))
        return free, refused

    def _heads(self, plan_id: str, people: Sequence[Contact]) -> dict[str, list[Head]]:
        """Each contact's runs of the plan, by enrolment number, found by their derived ids."""
        found: dict[str, list[Head]] = {person.id: [] for person in people}
        asking = list(found)
        number, width = 1, 1
        while asking:
            ids = {
                run_id(plan_id, who, n): who
                for who in asking
                for n in range(number, number + width)
            }
            heads = self._store.heads(list(ids))
            for run, who in ids.items():
                if run in heads:
                    found[who].append(heads[run])
            number += width
            asking = [who for who in asking if len(found[who]) == number - 1]
            width *= 4
        return found

    def _prepare(self, order: _Order, people: Sequence[Contact]) -> _Prepared:
        epoch = self._store.log_head().suppression_epoch
        free, refused = self._assess(order, people)
        prepared = _Prepared(refusals=refused)
        if order.take_over and refused:
            self._take_over(order, prepared)
        key_ids = self._store.contact_keys([person.id for person, _, _ in free])
        fresh = iter(self._keys.new_keys(len({p.id for p, _, _ in free}) - len(key_ids)))
        meta = order.meta()
        materials = c.Materials(order.plan, {}, {}, None, self._runs.clock.scale)
        seen: set[str] = set()
        for person, number, about in free:
            if person.id in seen:
                detail = "already enrolled: given twice"
                prepared.refusals.append((person, Refusal(person.id, "already_enrolled", detail)))
                continue
            seen.add(person.id)
            known = key_ids.get(person.id)
            key_id = known if known is not None else next(fresh)
            new_key = () if known is not None else ((person.id, key_id),)
            guard = SuppressionGuard(about, epoch)
            unit, loaded = self._first(
                order, materials, meta, person, number, key_id, new_key, guard
            )
            prepared.units.append(unit)
            prepared.contacts.append(person)
            prepared.runs.append(loaded)
        return prepared

    def _first(
        self,
        order: _Order,
        materials: c.Materials,
        meta: e.Meta,
        person: Contact,
        number: int,
        key_id: bytes,
        new_key: tuple[tuple[str, bytes], ...],
        guard: SuppressionGuard,
    ) -> tuple[Unit, LoadedRun]:
        """The first event of a run, ready to commit."""
        personal = e.Enrolled(
            person.email, person.phone, person.timezone, person.attributes, order.variables
        )
        new_run = run_id(order.plan.id, person.id, number)
        command = c.Enroll(meta, new_run, person.id, number, personal, order.pins, order.start_tick)
        events = enroll(materials, command)
        sealed = self._runs.journal.seal(new_run, 0, GENESIS, events, meta, key_id)
        state = evolve(None, sealed[0].recorded)
        append = StreamAppend(new_run, 0, sealed, state.due_tick, False, slice_of(person.id))
        unit = Unit((append,), min_tick=meta.tick, contact_keys=new_key, guard=guard)
        return unit, LoadedRun(state, sealed[0].checksum, key_id)

    def _take_over(self, order: _Order, prepared: _Prepared) -> None:
        """Count runs that an earlier try of this very command created as created by it."""
        candidates = {}
        for person, refusal in prepared.refusals:
            if refusal.reason == "already_enrolled":
                last = self._heads(order.plan.id, [person])[person.id][-1]
                candidates[last.stream_id] = person.id
        first = self._store.read_first(list(candidates))
        mine = {
            run
            for run, row in first.items()
            if self._runs.journal.open_public([row])[0].meta.command_id == order.command_id
        }
        owners = {candidates[run] for run in mine}
        prepared.taken_over = sorted(mine)
        prepared.refusals = [pair for pair in prepared.refusals if pair[0].id not in owners]

    def _record_refusals(self, order: _Order, refusals: Sequence[tuple[Contact, Refusal]]) -> None:
        suppressed = {
            person.id: refusal.detail.removeprefix("suppressed: ")
            for person, refusal in refusals
            if refusal.reason == "suppressed"
        }
        for _ in range(MAX_ATTEMPTS):
            units = self._contacts.refusals(list(suppressed.items()), order.plan.id, order.meta())
            if not units:
                return
            self._runs.committer.commit(units)


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


def _overlap(prepared: _Prepared, batch: Sequence[Contact]) -> bool:
    under_way = {contact.id for contact in prepared.contacts}
    return any(contact.id in under_way for contact in batch)


def _report(on_progress: OnProgress | None, tally: _Tally) -> None:
    if on_progress is not None:
        on_progress(tally.result)


def _contact(given: Given) -> Contact:
    if isinstance(given, Contact):
        return given
    if not isinstance(given, Mapping):
        raise InvalidInput("contact", f"must be a Contact or a map, not {type(given).__name__}")
    return Contact.model_validate(dict(given))


def _batches(contacts: Iterable[Given], size: int, tally: _Tally) -> Iterator[list[Contact]]:
    """Read the contacts in batches; what is no contact is counted and left out."""
    source = iter(contacts)
    while chunk := list(islice(source, size)):
        people = []
        for given in chunk:
            try:
                people.append(_contact(given))
            except DeeError as error:
                who = given.get("id") if isinstance(given, Mapping) else None
                known = who if isinstance(who, str) and len(who) <= 128 else None
                tally.refuse(Refusal(known, "invalid", str(error)))
        yield people
