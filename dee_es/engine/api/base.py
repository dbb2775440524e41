"""What every group of methods stands on: the services, and checks that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.plan import ExecutionPlan
from dee_es.core.values import check_actor, check_id, check_text
from dee_es.engine.auditing.anchoring import Anchoring
from dee_es.engine.auditing.chunks import ShareChecks
from dee_es.engine.auditing.manager import Audit
from dee_es.engine.auditing.periodic import Every, PeriodicSigning
from dee_es.engine.auditing.signed_log import SignedLog
from dee_es.engine.auditing.signing import Signing
from dee_es.engine.auditing.trail import Trail
from dee_es.engine.auditing.verification import Verification
from dee_es.engine.channel_events import ChannelEvents
from dee_es.engine.compliance.manager import Compliance
from dee_es.engine.contacts import Contacts
from dee_es.engine.definitions import Definitions
from dee_es.engine.dispatch import Dispatcher
from dee_es.engine.enroll import Enrollment
from dee_es.engine.exporting.manager import Exports
from dee_es.engine.gatekeeping import Gatekeeper
from dee_es.engine.health import HealthCheck
from dee_es.engine.history import History
from dee_es.engine.insights import Insights
from dee_es.engine.journal import Journal
from dee_es.engine.keys import Keys
from dee_es.engine.leases import LeaseKeeper
from dee_es.engine.lifecycle import Lifecycle
from dee_es.engine.links import Links
from dee_es.engine.models import ExecutionRun
from dee_es.engine.preview import Preview
from dee_es.engine.projecting.context import Context
from dee_es.engine.projecting.manager import Projections
from dee_es.engine.projecting.projector import AnyProjection, Projector
from dee_es.engine.queries import Queries, execution_run, row_of
from dee_es.engine.replay import Replays
from dee_es.engine.retention.archiver import Archiver
from dee_es.engine.retention.certificate import Certificates
from dee_es.engine.retention.erasure import Erasure
from dee_es.engine.retention.holds import Holds
from dee_es.engine.run_transfer import RunTransfer
from dee_es.engine.scheduler import Scheduler
from dee_es.engine.suppression_import import SuppressionImport
from dee_es.engine.system_log import SystemLog
from dee_es.engine.timekeeping import EngineClock
from dee_es.engine.transact import Committer, LoadedRun, Runs
from dee_es.errors import InvalidInput
from dee_es.ports import (
    Anchor,
    Channel,
    DocumentWriter,
    EventStore,
    IdSource,
    KeyMaintenance,
    KeyStore,
    PlaceSource,
    SignerSource,
    Views,
    WallClock,
    ZoneSource,
)


@dataclass(frozen=True, slots=True)
class Parts:
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


class ApiBase:
    """An engine's services, put together from its parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._ids = parts.ids
        self.links = parts.links
        """Makes signed links for messages; None without the settings for them."""
        self.clock = EngineClock(parts.store, parts.wall, parts.scale, parts.clock)
        self._journal = Journal(parts.keys)
        self._projector = Projector(
            parts.views, self._journal, parts.inline, parts.lazy, parts.wall
        )
        committer = Committer(parts.store, self._projector.inline)
        self._definitions = Definitions(
            parts.store, self._journal, self.clock, lambda units: committer.commit(units)
        )
        self._runs = Runs(parts.store, self._journal, self._definitions, self.clock, committer)
        self._system_log = SystemLog(parts.store, self._journal, committer, self.clock)
        self._queries = Queries(
            parts.store, parts.views, self._journal, self._projector, parts.run_list, parts.scale
        )
        self._preview = Preview(self._definitions, self._runs, self._queries)
        self._contacts = Contacts(parts.store, self._journal, parts.keys, committer, self.clock)
        self._suppression_import = SuppressionImport(
            parts.store, self._journal, self._contacts, committer, self.clock
        )
        self._enrollment = Enrollment(self._runs, self._contacts, parts.keys)
        self._holds = Holds(parts.store, self._system_log, parts.scale)
        self._archiver = Archiver(
            self._runs,
            self._queries,
            self._projector,
            parts.views,
            self._holds,
            self._system_log,
            parts.places,
            parts.scale,
        )
        self._erasure = Erasure(
            self._runs,
            self._queries,
            self._contacts,
            parts.keys,
            self._holds,
            self._archiver,
            Certificates(
                parts.store,
                self._journal,
                self._system_log,
                self._archiver,
                parts.channels,
                parts.scale,
            ),
            parts.signers,
            parts.places,
        )
        self._lifecycle = Lifecycle(self._runs, self._queries)
        self._channel_events = ChannelEvents(self._runs, self._queries, self._contacts, parts.keys)
        leases = self._leases = LeaseKeeper(parts.store, parts.ids, parts.partition)
        self._dispatcher = Dispatcher(
            self._runs, parts.channels, leases, parts.max_concurrent_sends, parts.links
        )
        gatekeeper = Gatekeeper(parts.store, self._contacts, self._definitions, parts.zones)
        self._scheduler = Scheduler(
            self._runs,
            gatekeeper,
            self._dispatcher,
            self.clock,
            leases,
            parts.max_runs_per_tick,
        )
        self.projections = Projections(
            Context(parts.store, parts.views, self._journal, self._projector, parts.wall)
        )
        signed_log = SignedLog(parts.store, self._journal, parts.signers)
        signing = Signing(parts.store, self._journal, committer, parts.anchors, signed_log)
        self._periodic_signing = PeriodicSigning(
            signing, self._runs, parts.ids, self.clock, parts.checkpoint_every
        )
        self._health = HealthCheck(
            parts.backend,
            parts.store,
            self.clock,
            self._projector,
            self.projections,
            parts.run_list,
            self._periodic_signing,
            parts.keys.encrypts,
        )
        self.keys = Keys(parts.store, self._journal, parts.keys, parts.key_care, parts.wall)
        self._history = History(parts.store, self._journal, parts.scale)
        self._insights = Insights(
            parts.store,
            parts.views,
            self._journal,
            self._projector,
            self._definitions,
            parts.scale,
            parts.contact_history,
            parts.step_funnel,
        )
        self._transfer = RunTransfer(
            parts.store, self._journal, parts.keys, committer, parts.scale, self._archiver.stream
        )
        self._replays = Replays(
            parts.store, self._journal, self._history, self._definitions, self._queries
        )
        anchoring = Anchoring(parts.store, self._journal, parts.anchors, signed_log)
        self._exports = Exports(
            parts.store,
            self._journal,
            self._queries,
            self._system_log,
            parts.scale,
            parts.signers,
            parts.anchors,
            parts.places,
            parts.documents,
        )
        verification = Verification(
            parts.store, anchoring, self.clock, parts.scale, parts.share_checks
        )
        self.audit = Audit(
            Trail(
                parts.store,
                parts.views,
                self._journal,
                self._projector,
                parts.audit_trail,
                parts.scale,
            ),
            verification,
            anchoring,
            self._archiver,
            parts.archives,
            parts.scale,
            signing,
            self._exports,
            self._meta,
        )
        self.compliance = Compliance(
            parts.store,
            self._journal,
            self._definitions,
            self._queries,
            verification,
            self._system_log,
            parts.zones,
            parts.documents,
            parts.places,
            parts.scale,
            self._meta,
        )

    def _shown(self, loaded: LoadedRun) -> ExecutionRun:
        state = loaded.state
        head = self._parts.store.heads([state.run_id])[state.run_id]
        return execution_run(
            row_of(state, head.ordinal), dict(state.contact.variables), self._parts.scale
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
        if reason is not None:
            check_text("reason", reason)
        return lambda: self._runs.meta(command, chosen, actor=acts, reason=reason)


def checked_plan(plan: object) -> ExecutionPlan:
    """`plan` if it is one; raises `InvalidInput`."""
    if not isinstance(plan, ExecutionPlan):
        raise InvalidInput("plan", f"must be an ExecutionPlan, not {type(plan).__name__}")
    return plan


def checked_run_id(run_id: object) -> str:
    """`run_id` if it is well formed; raises `InvalidInput`."""
    return check_id("run_id", run_id)


def checked_reason(reason: object) -> str:
    """`reason` if it says anything; raises `InvalidInput`."""
    return check_text("reason", reason, blank=False)
