"""The methods users call. Each checks its input, makes a command and hands it to a service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Literal, Self

from dee_es.core import events as e
from dee_es.core.clock import LogicalClock, TimeScale, require_utc
from dee_es.core.contact import check_email, check_phone
from dee_es.core.message import check_header, check_mailbox, check_template
from dee_es.core.plan import ExecutionPlan
from dee_es.core.script import check_script
from dee_es.core.values import check_id, check_map, check_text, check_url
from dee_es.core.views import RunStatus
from dee_es.engine.audit import Audit, OnVerified
from dee_es.engine.contacts import Contacts
from dee_es.engine.definitions import SENDER_ID, Definitions
from dee_es.engine.dispatch import Dispatcher
from dee_es.engine.enroll import Enrollment, Given
from dee_es.engine.history import History
from dee_es.engine.journal import Journal
from dee_es.engine.lifecycle import EVENT_TYPES, Keep, Lifecycle
from dee_es.engine.models import (
    BulkChange,
    BulkResult,
    ChainVerdict,
    ExecutionRun,
    Health,
    LogVerdict,
    OnChange,
    OnProgress,
    OnRefusal,
    RunPage,
    TickReport,
    TimelineEntry,
)
from dee_es.engine.projector import AnyProjection, Projector
from dee_es.engine.queries import Queries, execution_run, row_of
from dee_es.engine.scheduler import OnTick, Scheduler
from dee_es.engine.timekeeping import EngineClock
from dee_es.engine.transact import Committer, LoadedRun, Runs
from dee_es.errors import EmptyFilter, InvalidInput
from dee_es.ports import Channel, EventStore, IdSource, KeyStore, Views, WallClock

Status = RunStatus | str | Sequence[RunStatus | str] | None
MAX_BATCH: Final = 100_000


@dataclass(frozen=True, slots=True)
class Parts:
    """The adapters and settings an engine is made of; `bootstrap` chooses them."""

    backend: str
    store: EventStore
    views: Views
    keys: KeyStore
    channels: Mapping[str, Channel]
    wall: WallClock
    ids: IdSource
    scale: TimeScale
    clock: Literal["system", "manual"]
    inline: Sequence[AnyProjection]
    lazy: Sequence[AnyProjection]
    run_list: AnyProjection
    max_runs_per_tick: int
    max_concurrent_sends: int


class EngineApi:
    """Everything the Runs page promises, and the calls around it.

    Safe to share between threads; several processes may open one database. Every command takes an
    optional `command_id`: repeating a call under the same id never acts twice.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._ids = parts.ids
        self.clock = EngineClock(parts.store, parts.wall, parts.scale, parts.clock)
        self._journal = Journal(parts.keys)
        self._projector = Projector(
            parts.store, parts.views, self._journal, parts.inline, parts.lazy
        )
        committer = Committer(parts.store, self._projector.inline)
        self._definitions = Definitions(
            parts.store, self._journal, parts.scale, lambda units: committer.commit(units)
        )
        self._runs = Runs(parts.store, self._journal, self._definitions, self.clock, committer)
        self._queries = Queries(
            parts.store, parts.views, self._journal, self._projector, parts.run_list, parts.scale
        )
        self._contacts = Contacts(parts.store, self._journal, parts.keys, committer)
        self._enrollment = Enrollment(self._runs, self._contacts, parts.keys)
        self._lifecycle = Lifecycle(self._runs, self._queries, parts.keys)
        dispatcher = Dispatcher(self._runs, parts.channels, parts.max_concurrent_sends)
        self._scheduler = Scheduler(
            self._runs, self._contacts, dispatcher, self.clock, parts.ids, parts.max_runs_per_tick
        )
        self._history = History(parts.store, self._journal, parts.scale)
        self.audit = Audit(parts.store, self._journal)
        self._closed = False

    # --- definitions ------------------------------------------------------------------------------

    def publish_plan(
        self, plan: ExecutionPlan, *, actor: str | None = None, command_id: str | None = None
    ) -> ExecutionPlan:
        """Publish a plan; one equal to the latest version returns that. Raises
        `PlanValidationError` for templates or scripts that are not published."""
        return self._definitions.publish_plan(plan, self._meta("publish", command_id, actor, None))

    def get_plan(self, plan_id: str, version: int | None = None) -> ExecutionPlan:
        """A published plan, by default its latest version; raises `PlanNotFound`."""
        return self._definitions.plan(check_id("plan_id", plan_id), version)

    def list_plans(self) -> list[ExecutionPlan]:
        """The latest version of every plan, by id."""
        return [self._definitions.plan(plan_id) for plan_id in self._definitions.ids("plan")]

    def publish_template(
        self, id: str, *, text: str, html: str | None = None, actor: str | None = None
    ) -> int:
        """Publish a message template; returns its version."""
        given = {"text": text, **({} if html is None else {"html": html})}
        return self._publish("template", id, check_template(given), actor)

    def publish_script(
        self,
        id: str,
        *,
        greeting: str,
        steps: Sequence[Mapping[str, Any]] = (),
        actor: str | None = None,
    ) -> int:
        """Publish a call script; returns its version."""
        given = {"greeting": greeting, "steps": [dict(step) for step in steps]}
        return self._publish("script", id, check_script(given), actor)

    def publish_sender(
        self,
        *,
        address: str,
        name: str | None = None,
        postal_address: str | None = None,
        unsubscribe_url: str | None = None,
        actor: str | None = None,
    ) -> int:
        """Publish who messages come from; returns the version."""
        given = {
            "address": check_mailbox("sender.address", address),
            "name": name,
            "postalAddress": postal_address,
            "unsubscribeUrl": unsubscribe_url,
        }
        for field, value in given.items():
            if value is not None:
                check_text(f"sender.{field}", value, blank=False)
        if name is not None:
            check_header("sender.name", name)
        if unsubscribe_url is not None:
            check_url("sender.unsubscribeUrl", unsubscribe_url)
        kept = {field: value for field, value in given.items() if value is not None}
        return self._publish("sender", SENDER_ID, kept, actor)

    def list_definitions(self, kind: Literal["template", "script", "sender"]) -> dict[str, int]:
        """Ids of all templates, scripts or senders with their latest versions."""
        return {name: self._definitions.latest(kind, name) for name in self._definitions.ids(kind)}

    def get_definition(
        self, kind: Literal["template", "script", "sender"], id: str, version: int | None = None
    ) -> dict[str, Any]:
        """A published template, script or sender, by default in its latest version."""
        wanted = self._definitions.latest(kind, id) if version is None else version
        return dict(self._definitions.get(kind, id, wanted).definition)

    def _publish(self, kind: str, name: str, definition: dict[str, Any], actor: str | None) -> int:
        meta = self._meta("publish", None, actor, None)
        return self._definitions.publish(kind, name, definition, meta)

    # --- runs -------------------------------------------------------------------------------------

    def execute(
        self,
        plan: ExecutionPlan,
        contact: Given,
        variables: Mapping[str, Any] | None = None,
        start_at: datetime | None = None,
        *,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Start a run of a plan for a contact, now or at `start_at`.

        Raises `AlreadyEnrolled`, `ContactSuppressed`, `InvalidInput`, `PlanValidationError`.
        """
        start = None
        if start_at is not None:
            start = self._parts.scale.tick_from(require_utc("start_at", start_at))
        meta = self._meta("execute", command_id, actor, None)
        return self.get_run(self._enrollment.execute(_plan(plan), contact, variables, start, meta))

    def get_run(self, run_id: str) -> ExecutionRun:
        """One run as it stands; raises `RunNotFound`."""
        return self._shown(self._runs.load(_run_id(run_id)))

    def list_runs(
        self,
        status: Status = None,
        plan_id: str | None = None,
        contact_id: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int = 50,
        offset: int = 0,
        cursor: str | None = None,
    ) -> RunPage:
        """Runs that match all filters given, newest first; `total` counts them all exactly.

        `started_after` is inclusive, `started_before` exclusive. Go on with `cursor`, or with
        `offset`. Raises `InvalidInput` naming the filter.
        """
        chosen = self._queries.filter(status, plan_id, contact_id, started_after, started_before)
        return self._queries.page(chosen, limit=limit, offset=offset, cursor=cursor)

    def pause_run(
        self,
        run_id: str,
        reason: str | None = None,
        actor: str | None = None,
        keep: Keep = "deadline",
        *,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Stop a run until it is resumed. A wait keeps its deadline, or its remaining time.

        Raises `RunNotFound`, `InvalidTransition`.
        """
        if keep not in ("deadline", "remaining"):
            raise InvalidInput("keep", "must be 'deadline' or 'remaining'")
        meta = self._meta("pause", command_id, actor, reason)
        return self._shown(self._lifecycle.pause(_run_id(run_id), keep, meta))

    def resume_run(
        self,
        run_id: str,
        reason: str | None = None,
        actor: str | None = None,
        *,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Let a paused run go on from the next tick. Raises `RunNotFound`, `InvalidTransition`."""
        meta = self._meta("resume", command_id, actor, reason)
        return self._shown(self._lifecycle.resume(_run_id(run_id), meta))

    def cancel_run(
        self, run_id: str, reason: str, actor: str | None = None, *, command_id: str | None = None
    ) -> ExecutionRun:
        """End a run; the reason is recorded. Raises `RunNotFound`, `InvalidTransition`."""
        meta = self._meta("cancel", command_id, actor, _reason(reason))
        return self._shown(self._lifecycle.cancel(_run_id(run_id), meta))

    def retry_run(
        self, run_id: str, reason: str, actor: str | None = None, *, command_id: str | None = None
    ) -> ExecutionRun:
        """Let a failed run enter its step again; refused while a send's outcome is unknown."""
        meta = self._meta("retry", command_id, actor, _reason(reason))
        return self._shown(self._lifecycle.retry(_run_id(run_id), meta))

    def resolve_step(
        self,
        run_id: str,
        outcome: Literal["delivered", "failed", "resend"],
        *,
        reason: str,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Settle a send whose outcome is unknown."""
        if outcome not in ("delivered", "failed", "resend"):
            raise InvalidInput("outcome", "must be 'delivered', 'failed' or 'resend'")
        meta = self._meta("resolve", command_id, actor, _reason(reason))
        return self._shown(self._lifecycle.resolve(_run_id(run_id), outcome, meta))

    # --- bulk -------------------------------------------------------------------------------------

    def bulk_execute(
        self,
        plan: ExecutionPlan,
        contacts: Iterable[Given],
        variables: Mapping[str, Any] | None = None,
        batch_size: int = 100,
        on_progress: OnProgress | None = None,
        on_refusal: OnRefusal | None = None,
        dry_run: bool = False,
        *,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> BulkResult:
        """Enroll many contacts, a batch in one transaction; any iterable is read in flat memory.

        A crash loses at most the batch in flight, and the same call again creates only what is
        missing. With `dry_run` nothing is written, the plan included.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int):
            raise InvalidInput("batch_size", "must be a whole number")
        if not 1 <= batch_size <= MAX_BATCH:
            raise InvalidInput("batch_size", f"must be from 1 to {MAX_BATCH}")
        if isinstance(contacts, str | bytes | Mapping) or not isinstance(contacts, Iterable):
            raise InvalidInput("contacts", "must be an iterable of contacts")
        meta = self._meta("bulk_execute", command_id, actor, None)
        if dry_run:
            return self._enrollment.rehearse(
                _plan(plan),
                contacts,
                batch_size,
                meta,
                on_progress=on_progress,
                on_refusal=on_refusal,
            )
        return self._enrollment.bulk_execute(
            _plan(plan),
            contacts,
            variables,
            batch_size,
            meta,
            on_progress=on_progress,
            on_refusal=on_refusal,
            take_over=command_id is not None,
        )

    def bulk_cancel(
        self,
        filters: Mapping[str, Any] | None = None,
        reason: str = "",
        actor: str | None = None,
        dry_run: bool = False,
        on_progress: OnChange | None = None,
        *,
        command_id: str | None = None,
        **keywords: Any,
    ) -> BulkChange:
        """Cancel all runs that match the filters of `list_runs`, given as a map or as keywords.

        Runs that have ended do not match. Raises `EmptyFilter` without any filter.
        """
        given = _filters(filters, keywords)
        chosen = self._queries.filter(**given)
        if chosen.empty:
            raise EmptyFilter(
                "bulk_cancel needs at least one filter; without any it would end all runs"
            )
        meta = self._meta("bulk_cancel", command_id, actor, _reason(reason))
        return self._lifecycle.bulk_cancel(chosen, meta, dry_run, on_progress)

    # --- contacts ---------------------------------------------------------------------------------

    def suppress(
        self,
        contact_id: str | None = None,
        *,
        email: str | None = None,
        phone: str | None = None,
        level: Literal["global", "channel"] = "global",
        channel: Literal["email", "voice"] | None = None,
        reason: str | None = None,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Put a contact, by id or address or both, on the suppression list.

        Once this has returned, only messages whose intents were committed before may still leave.
        False if everything named was on the list already.
        """
        scope = _scope(level, channel)
        who = self._identified(contact_id, email, phone)
        subjects = self._contacts.subjects(who, email, phone)
        meta = self._meta("suppress", command_id, actor, reason)
        return self._contacts.suppress(who, subjects, level, scope, meta)

    def unsuppress(
        self,
        contact_id: str | None = None,
        *,
        email: str | None = None,
        phone: str | None = None,
        level: Literal["global", "channel"] = "global",
        channel: Literal["email", "voice"] | None = None,
        reason: str | None = None,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Lift a suppression that was made with the same id or address; False if there is none."""
        scope = _scope(level, channel)
        who = self._identified(contact_id, email, phone)
        meta = self._meta("unsuppress", command_id, actor, reason)
        return self._contacts.unsuppress(who, level, scope, meta)

    def contact_id_for(self, *, email: str | None = None, phone: str | None = None) -> str:
        """The opaque id of a contact known by an address only: a keyed digest, equal for equal
        addresses."""
        return self._identified(None, email, phone)

    def _identified(self, contact_id: str | None, email: str | None, phone: str | None) -> str:
        if email is not None:
            check_email("email", email)
        if phone is not None:
            check_phone("phone", phone)
        if contact_id is not None:
            return check_id("contact_id", contact_id)
        if email is None and phone is None:
            raise InvalidInput("contact_id", "give an id, an email or a phone")
        return self._contacts.id_for_address(email, phone)

    def ingest_event(
        self,
        type: str,
        contact_id: str,
        run_id: str | None = None,
        step_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        occurred_at: datetime | None = None,
        event_id: str | None = None,
    ) -> bool:
        """Record what happened to a message or call, with the contact and with its runs.

        Without `run_id` it reaches every run of the contact that has not ended. False if the
        `event_id` was accepted before. Raises `InvalidInput`, `RunNotFound`.
        """
        if type not in EVENT_TYPES:
            raise InvalidInput("type", f"must be one of {', '.join(sorted(EVENT_TYPES))}")
        check_id("contact_id", contact_id)
        held = check_map("data", data or {})
        if step_id is not None:
            check_id("step_id", step_id)
        email = phone = None
        if run_id is not None:
            state = self._runs.load(_run_id(run_id)).state
            if state.contact_id != contact_id:
                raise InvalidInput("run_id", f"run {run_id} is not one of contact {contact_id!r}")
        meta = self._meta("ingest", None, None, None)
        occurred = self.clock.now()
        if occurred_at is not None:
            occurred = self._parts.scale.tick_at(require_utc("occurred_at", occurred_at))
        unique = event_id if event_id is not None else self._ids.command_id()
        subjects = self._contacts.subjects(contact_id, email, phone)
        return self._lifecycle.ingest(
            type,
            contact_id,
            run_id,
            step_id,
            held,
            occurred,
            check_id("event_id", unique),
            subjects,
            meta,
        )

    # --- time -------------------------------------------------------------------------------------

    def now(self) -> LogicalClock:
        """The present tick, with its scale."""
        return self.clock.reading()

    def tick(self) -> TickReport:
        """Do everything due in the present tick."""
        return self._scheduler.tick()

    def run_until(self, tick: int, on_tick: OnTick | None = None) -> TickReport:
        """Process everything due up to and including `tick`."""
        if isinstance(tick, bool) or not isinstance(tick, int):
            raise InvalidInput("tick", "must be a whole number of ticks")
        return self._scheduler.run_until(tick, on_tick)

    def run_until_idle(self, on_tick: OnTick | None = None) -> TickReport:
        """Process until no run is due any more."""
        return self._scheduler.run_until_idle(on_tick)

    def worker(
        self, stop: threading.Event | None = None, on_tick: OnTick | None = None
    ) -> TickReport:
        """Process what is due until `stop` is set."""
        return self._scheduler.work(stop or threading.Event(), on_tick)

    # --- history and audit ------------------------------------------------------------------------

    def get_timeline(self, run_id: str) -> list[TimelineEntry]:
        """What happened in a run, in order; raises `RunNotFound`."""
        return self._history.timeline(_run_id(run_id))

    def verify_audit_chain(self, run_id: str) -> ChainVerdict:
        """Check a run's chain of checksums; raises `RunNotFound`."""
        return self.audit.verify_run(_run_id(run_id))

    def verify_log(self, on_progress: OnVerified | None = None) -> LogVerdict:
        """Check every chain and the order of the whole log."""
        return self.audit.verify_log(on_progress)

    def health(self) -> Health:
        """How the database and its projections stand."""
        head = self._parts.store.log_head()
        lag = {
            projection.name: head.position - self._projector.position(projection)
            for projection in self._projector.projections
        }
        tick = self.clock.now()
        return Health(
            ok=True,
            backend=self._parts.backend,
            tick=tick,
            time=self.clock.time(tick),
            clock=self.clock.kind,
            position=head.position,
            runs=head.ordinal,
            next_due=self._parts.store.next_due(),
            lag=lag,
            problems=(),
        )

    # --- life of the engine -----------------------------------------------------------------------

    def close(self) -> None:
        """Release everything the engine holds; calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        with ExitStack() as stack:
            stack.callback(self._parts.store.close)
            stack.callback(self._parts.keys.close)
            for channel in self._parts.channels.values():
                stack.callback(channel.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _shown(self, loaded: LoadedRun) -> ExecutionRun:
        state = loaded.state
        head = self._parts.store.heads([state.run_id])[state.run_id]
        return execution_run(
            row_of(state, head.ordinal), dict(state.contact.variables), self._parts.scale
        )

    def _meta(
        self, command: str, command_id: str | None, actor: str | None, reason: str | None
    ) -> Callable[[], e.Meta]:
        """Makes the meta data of a command, anew for each attempt but always under one id."""
        chosen = (
            self._ids.command_id() if command_id is None else check_id("command_id", command_id)
        )
        if actor is not None:
            check_text("actor", actor, blank=False)
        if reason is not None:
            check_text("reason", reason)
        return lambda: self._runs.meta(command, chosen, actor=actor, reason=reason)


def _plan(plan: object) -> ExecutionPlan:
    if not isinstance(plan, ExecutionPlan):
        raise InvalidInput("plan", f"must be an ExecutionPlan, not {type(plan).__name__}")
    return plan


def _run_id(run_id: object) -> str:
    return check_id("run_id", run_id)


def _reason(reason: object) -> str:
    return check_text("reason", reason, blank=False)


def _scope(level: str, channel: str | None) -> str:
    if level not in ("global", "channel"):
        raise InvalidInput("level", "must be 'global' or 'channel'")
    if (level == "channel") != (channel in ("email", "voice")):
        raise InvalidInput("channel", "is 'email' or 'voice' at the channel level, else left out")
    return channel or ""


_FILTERS: Final = ("status", "plan_id", "contact_id", "started_after", "started_before")
_CAMEL: Final = {
    "planId": "plan_id",
    "contactId": "contact_id",
    "startedAfter": "started_after",
    "startedBefore": "started_before",
}


def _filters(filters: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    if filters is not None and not isinstance(filters, Mapping):
        raise InvalidInput("filters", f"must be a map, not {type(filters).__name__}")
    given: dict[str, Any] = {}
    for name, value in {**(filters or {}), **keywords}.items():
        known = _CAMEL.get(name, name)
        if known not in _FILTERS:
            raise InvalidInput(f"filters.{str(name)[:64]}", f"is none of {', '.join(_FILTERS)}")
        given[known] = value
    return given
