"""What every group of methods stands on: the services, and checks that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

from msgspec import Struct, field

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.values import check_actor, check_id, check_text
from dee_es.engine.auditing.anchoring import Anchoring
from dee_es.engine.auditing.chunks import ShareChecks
from dee_es.engine.auditing.indexes import IndexVerification
from dee_es.engine.auditing.manager import Audit
from dee_es.engine.auditing.periodic import Every, PeriodicSigning
from dee_es.engine.auditing.signed_log import SignedLog
from dee_es.engine.auditing.signing import Signing
from dee_es.engine.auditing.trail import Trail
from dee_es.engine.auditing.verification import Verification
from dee_es.engine.contacts.channel_events import ChannelEvents
from dee_es.engine.contacts.identity import Identification, Identities
from dee_es.engine.contacts.run_addresses import RunAddresses
from dee_es.engine.contacts.streams import ContactStreams
from dee_es.engine.contacts.suppressed_runs import SuppressedRuns
from dee_es.engine.contacts.suppression_import import SuppressionImport
from dee_es.engine.definitions import Definitions
from dee_es.engine.enrolling.enroll import Enrollment
from dee_es.engine.exporting.manager import Exports
from dee_es.engine.health import HealthCheck
from dee_es.engine.idempotency import Idempotency
from dee_es.engine.insights import Insights
from dee_es.engine.keys import Keys
from dee_es.engine.lifecycle import Lifecycle
from dee_es.engine.links import Links
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal
from dee_es.engine.log.system_log import SystemLog
from dee_es.engine.models import ExecutionRun
from dee_es.engine.past.history import History
from dee_es.engine.past.replay import Replays
from dee_es.engine.portable.run_transfer import RunTransfer
from dee_es.engine.preview import Preview
from dee_es.engine.projecting.context import Context
from dee_es.engine.projecting.manager import Projections
from dee_es.engine.projecting.projector import AnyProjection, Projector
from dee_es.engine.queries import Queries, execution_run, row_of
from dee_es.engine.retention.archiver import Archiver
from dee_es.engine.retention.certificate import Certificates
from dee_es.engine.retention.erasure import Erasure
from dee_es.engine.retention.holds import Holds
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.scheduling.dispatch import Dispatcher
from dee_es.engine.scheduling.gatekeeping import Gatekeeper
from dee_es.engine.scheduling.leases import LeaseKeeper
from dee_es.engine.scheduling.passes import Passes
from dee_es.engine.scheduling.scheduler import Scheduler
from dee_es.engine.timekeeping import EngineClock
from dee_es.engine.transact import Runs
from dee_es.errors import InvalidInput
from dee_es.ports import (
    Anchor,
    Channel,
    DocumentWriter,
    EventStore,
    ForgetRuns,
    IdSource,
    KeyMaintenance,
    KeyStore,
    PlaceSource,
    ServerClock,
    SignerSource,
    Views,
    WallClock,
    ZoneSource,
)

if TYPE_CHECKING:
    from dee_es.engine.compliance.manager import Compliance


_ItemT = TypeVar("_ItemT")


class Parts(Struct, frozen=True):
    """The adapters and settings an engine is made of; `bootstrap` chooses them."""

    backend: str
    store: EventStore
    views: Views
    keys: KeyStore
    key_care: KeyMaintenance
    channels: Mapping[str, Channel]
    wall: WallClock
    ids: IdSource
    scale: TimeScale
    clock: Literal["system", "manual"]
    inline: Sequence[AnyProjection]
    lazy: Sequence[AnyProjection]
    run_list: AnyProjection
    audit_trail: AnyProjection
    contact_history: AnyProjection
    step_funnel: AnyProjection
    zones: ZoneSource
    anchors: Sequence[Anchor]
    signers: SignerSource
    places: PlaceSource
    archives: str | None
    certificates: str
    actor: str
    documents: DocumentWriter
    max_runs_per_tick: int
    max_concurrent_sends: int
    partition: tuple[int, int] = (0, 1)
    share_checks: ShareChecks | None = None
    checkpoint_every: Every = field(default_factory=Every)
    links: Links | None = None
    server_clock: ServerClock | None = None
    forget_runs: ForgetRuns | None = None


class ApiBase:
    """An engine's services, put together from its parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._ids = parts.ids
        self.links = parts.links
        """Makes signed links for messages; None without the settings for them."""
        self.clock = EngineClock(
            parts.store, parts.wall, parts.scale, parts.clock, parts.server_clock
        )
        self._journal = Journal(parts.keys)
        self._projector = Projector(
            parts.views, self._journal, parts.inline, parts.lazy, parts.wall
        )
        self._committer = Committer(parts.store, self._projector.inline)
        self._runs_and_contacts(parts)
        self._retention(parts)
        self._scheduling(parts)
        self._reading(parts)
        self._evidence(parts)

    # Each of these stands on those before it.

    def _runs_and_contacts(self, parts: Parts) -> None:
        store, journal, committer = parts.store, self._journal, self._committer
        self._definitions = Definitions(store, journal, self.clock, committer)
        self._runs = Runs(store, journal, self._definitions, self.clock, committer)
        self._system_log = SystemLog(store, journal, committer, self.clock)
        self._queries = Queries(
            store, parts.views, journal, self._projector, parts.run_list, parts.scale
        )
        self._preview = Preview(self._definitions, self._runs, self._queries)
        self._identities = Identities(parts.keys)
        self._identification = Identification(self._identities, parts.keys, store, self._queries)
        self._contacts = ContactStreams(store, journal, committer, self.clock)
        self._suppressed_runs = SuppressedRuns(self._runs, self._queries)
        self._suppression_import = SuppressionImport(
            store,
            journal,
            self._contacts,
            self._suppressed_runs,
            RunAddresses(store, journal, self._queries, self._identities),
            committer,
            self.clock,
        )
        self._enrollment = Enrollment(self._runs, self._identities, self._contacts, parts.keys)
        self._lifecycle = Lifecycle(self._runs, self._queries)
        self._channel_events = ChannelEvents(
            self._runs, self._queries, self._identities, parts.keys
        )
        self.idempotency = Idempotency(store, parts.keys)
        """Requests that callers may repeat under keys of their own."""
        self.keys = Keys(store, journal, parts.keys, parts.key_care, parts.wall)

    def _retention(self, parts: Parts) -> None:
        store, journal, system = parts.store, self._journal, self._system_log
        self._holds = Holds(store, self._queries, system, parts.scale)
        self._archiver = Archiver(
            self._runs,
            self._queries,
            self._projector,
            parts.views,
            self._holds,
            system,
            parts.places,
            parts.scale,
        )
        self._signed_log = SignedLog(store, journal, parts.signers)
        self._erasure = Erasure(
            self._runs,
            self._queries,
            self._identities,
            self._contacts,
            parts.keys,
            self._holds,
            self._archiver,
            Certificates(store, journal, system, self._archiver, parts.channels, parts.scale),
            self._signed_log,
            parts.places,
            parts.forget_runs,
        )

    def _scheduling(self, parts: Parts) -> None:
        leases = self._leases = LeaseKeeper(parts.store, parts.ids, parts.partition)
        self._dispatcher = Dispatcher(
            self._runs, parts.channels, leases, parts.max_concurrent_sends, parts.links
        )
        gatekeeper = Gatekeeper(parts.store, self._identities, self._definitions, parts.zones)
        passes = Passes(self._runs, gatekeeper, self._dispatcher, leases, parts.max_runs_per_tick)
        self._scheduler = Scheduler(parts.store, passes, self._dispatcher, self.clock, leases)

    def _reading(self, parts: Parts) -> None:
        store, journal = parts.store, self._journal
        self.projections = Projections(
            Context(store, parts.views, journal, self._projector, parts.wall)
        )
        self._history = History(store, journal, parts.scale)
        self._insights = Insights(
            store,
            parts.views,
            journal,
            self._projector,
            self._definitions,
            self._identities,
            parts.scale,
            parts.contact_history,
            parts.step_funnel,
        )
        self._replays = Replays(store, journal, self._history, self._definitions, self._queries)
        self._transfer = RunTransfer(
            store,
            journal,
            parts.keys,
            self._committer,
            parts.scale,
            self._archiver.stream,
            self._system_log,
            self.clock,
        )

    def _evidence(self, parts: Parts) -> None:
        store, journal, scale = parts.store, self._journal, parts.scale
        signing = Signing(
            store, journal, self._committer, parts.anchors, self._signed_log, self.clock
        )
        self._periodic_signing = PeriodicSigning(
            signing, self._runs, parts.ids, self.clock, parts.checkpoint_every
        )
        self._health = HealthCheck(
            parts.backend,
            store,
            self.clock,
            self._projector,
            self.projections,
            parts.run_list,
            self._queries,
            self._periodic_signing,
            parts.keys,
        )
        anchoring = Anchoring(store, journal, parts.anchors, self._signed_log)
        self._verification = Verification(store, anchoring, self.clock, scale, parts.share_checks)
        self._exports = Exports(
            store,
            journal,
            self._queries,
            self._system_log,
            scale,
            parts.signers,
            parts.anchors,
            parts.places,
            parts.documents,
        )
        trail = Trail(
            store, parts.views, journal, self._projector, parts.audit_trail, scale, parts.keys
        )
        self.audit = Audit(
            trail,
            self._verification,
            IndexVerification(store, journal, scale),
            anchoring,
            self._archiver,
            parts.archives,
            scale,
            signing,
            self._exports,
            self._meta,
        )

    @cached_property
    def compliance(self) -> Compliance:
        """Reports on what was sent, and whether it was allowed."""
        # Imported when it is asked for: no other call of a short-lived process waits for it.
        from dee_es.engine.compliance.manager import Compliance

        parts = self._parts
        return Compliance(
            parts.store,
            self._journal,
            self._definitions,
            self._queries,
            self._verification,
            self._system_log,
            parts.zones,
            parts.documents,
            parts.places,
            parts.scale,
            self._meta,
        )

    def _shown(self, loaded: LoadedRun, ordinal: int | None = None) -> ExecutionRun:
        state = loaded.state
        if ordinal is None:
            ordinal = self._parts.store.heads([state.run_id])[state.run_id].ordinal
        return execution_run(
            row_of(state, ordinal), dict(state.contact.variables), self._parts.scale
        )

    def _acting(self, actor: str | None) -> str:
        """Who acts: as a call says, else as the engine was set up; nothing is done by nobody."""
        return self._parts.actor if actor is None else check_actor("actor", actor)

    def _meta(
        self, command: str, command_id: str | None, actor: str | None, reason: str | None
    ) -> Callable[[], e.Meta]:
        """Makes the meta data of a command, anew for each attempt but always under one id."""
        chosen = (
            self._ids.command_id() if command_id is None else check_id("command_id", command_id)
        )
        acts = self._acting(actor)
        why = None if reason is None else check_text("reason", reason)
        self.clock.level()
        return lambda: self._runs.meta(command, chosen, actor=acts, reason=why)


def checked_plan(plan: object) -> ExecutionPlan:
    """`plan` if it is one; raises `InvalidInput`."""
    if not isinstance(plan, ExecutionPlan):
        raise InvalidInput("plan", f"must be an ExecutionPlan, not {type(plan).__name__}")
    return plan


def checked_run_id(run_id: object) -> str:
    """`run_id` if it is well formed; raises `InvalidInput`."""
    return check_id("run_id", run_id)


def checked_many(field: str, several: Iterable[_ItemT]) -> Iterable[_ItemT]:
    """`several` if they can be gone through one by one; raises `InvalidInput`."""
    if isinstance(several, str | bytes | Mapping) or not isinstance(several, Iterable):
        raise InvalidInput(field, f"must be an iterable of {field}")
    return several


def checked_reason(reason: object) -> str:
    """`reason` if it says anything; raises `InvalidInput`."""
    return check_text("reason", reason, blank=False)
