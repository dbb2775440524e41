"""Plans, templates, call scripts, senders: published, versioned, each a stream of events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.commands import Materials
from dee_es.core.evidence.chain import GENESIS
from dee_es.core.gate import Policy, read_policy
from dee_es.core.ids import definition_stream
from dee_es.core.plans.plan import ExecutionPlan, missing_references
from dee_es.core.runs.rendering import unrenderable
from dee_es.core.runs.rules import RULES
from dee_es.core.values import check_id
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.log.settling import Standing, Wanted, settle
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import (
    DefinitionNotFound,
    InvalidInput,
    PlanFault,
    PlanNotFound,
    PlanValidationError,
    UnknownEventVersion,
)
from dee_es.ports import EventStore, Head, StreamAppend, Unit

SENDER_ID: Final = "default"
POLICY_ID: Final = "default"
_KNOWN_PLANS: Final = 64

PUBLISHED: Final[dict[str, type[e.Published]]] = {
    "plan": e.PlanPublished,
    "template": e.TemplatePublished,
    "script": e.ScriptPublished,
    "sender": e.SenderPublished,
    "policy": e.PolicyPublished,
}
"""What each kind of definition is published by."""


class EqualVersion(NamedTuple):
    """The newest version equal to a plan, which is so while `latest` is the latest one of all."""

    plan: ExecutionPlan
    latest: int


class Definitions:
    """Publishes definitions and finds them again; a version, once published, never changes."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        clock: EngineClock,
        committer: Committer,
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._committer = committer
        self._versions: dict[tuple[str, str, int], e.Published] = {}
        self._materials: dict[tuple[Hashable, ...], Materials] = {}
        self._last: tuple[tuple[str, int, e.Pins], Materials] | None = None
        self._known: dict[int, tuple[ExecutionPlan, EqualVersion]] = {}
        self._lock = threading.Lock()

    # --- publishing -------------------------------------------------------------------------------

    def publish(
        self,
        kind: str,
        definition_id: str,
        definition: Mapping[str, Any],
        meta: Callable[[], e.Meta],
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Publish unless it equals the latest version; returns the version that holds it."""
        stream = definition_stream(kind, check_id(f"{kind} id", definition_id))
        event = PUBLISHED[kind](dict(definition), dict(metadata or {}))

        def look() -> Standing[int] | Wanted[int]:
            rows, given = self._store.read_stream(stream), meta()
            opened = self._journal.open(rows)
            if opened and _published(opened[-1]).definition == event.definition:
                return Standing(opened[-1].version)
            again = _published_by(opened, given.command_id, event.definition)
            if again is not None:
                return Standing(again)
            previous = checksum_of(rows[-1]) if rows else GENESIS
            sealed = self._journal.seal(stream, len(rows), previous, [event], given, None)
            unit = Unit((StreamAppend(stream, len(rows), sealed),), min_tick=given.tick)
            return Wanted(unit, lambda _: len(rows) + 1)

        return settle(self._committer, self._clock, look, f"{kind} {definition_id!r}")

    def publish_plan(self, plan: ExecutionPlan, meta: Callable[[], e.Meta]) -> ExecutionPlan:
        """Publish a plan whose templates and scripts are there, and whose own texts can become
        messages; raises `PlanValidationError`. What is published already stays so."""
        faults = self._missing(plan) + unrenderable(plan)
        if faults and not self._is_latest(plan):
            raise PlanValidationError(plan.id, faults)
        definition, metadata = _parts_of(plan)
        version = self.publish("plan", plan.id, definition, meta, metadata)
        return self._noted(plan, EqualVersion(plan.with_version(version), version)).plan

    def draft_plan(
        self, plan: ExecutionPlan, meta: Callable[[], e.Meta], *, bundled: bool = False
    ) -> ExecutionPlan:
        """A plan that equals no version, as the version it would become; raises what publishing it
        would. `bundled`: whatever it refers to is about to be published."""
        faults = ([] if bundled else self._missing(plan)) + unrenderable(plan)
        if faults:
            raise PlanValidationError(plan.id, faults)
        codec.encode(e.PlanPublished(*_parts_of(plan)), meta())
        return plan.with_version(self.latest("plan", plan.id) + 1)

    def equal_version(self, plan: ExecutionPlan) -> EqualVersion | None:
        """The newest version equal to `plan` by now, None if there is none."""
        latest = self.latest("plan", plan.id)
        for version in range(latest, 0, -1):
            candidate = self.plan(plan.id, version)
            if candidate.same_as(plan):
                return self._noted(plan, EqualVersion(candidate, latest))
        return None

    def known_version(self, plan: ExecutionPlan) -> EqualVersion | None:
        """What was last found or published for this very plan, without a look whether that is still
        the newest."""
        with self._lock:
            known = self._known.get(id(plan))
        return known[1] if known is not None and known[0] is plan else None

    def _noted(self, plan: ExecutionPlan, found: EqualVersion) -> EqualVersion:
        with self._lock:
            if len(self._known) >= _KNOWN_PLANS:
                self._known.clear()
            # The plan is kept alive beside the answer, or its id could come to mean another one.
            self._known[id(plan)] = (plan, found)
        return found

    def _missing(self, plan: ExecutionPlan) -> list[PlanFault]:
        graph = plan.graph
        templates = {name for name in graph.templates if self.latest("template", name)}
        scripts = {name for name in graph.scripts if self.latest("script", name)}
        return missing_references(plan, templates, scripts)

    def _is_latest(self, plan: ExecutionPlan) -> bool:
        latest = self.latest("plan", plan.id)
        return latest > 0 and self.plan(plan.id, latest).same_as(plan)

    # --- finding ----------------------------------------------------------------------------------

    def latest(self, kind: str, definition_id: str) -> int:
        """The latest version, 0 if there is none."""
        heads = self._store.heads([definition_stream(kind, definition_id)])
        return version_at(heads, kind, definition_id)

    def policy_version(self) -> int:
        """The version of the policy that is published by now, 0 if there is none."""
        return self.latest("policy", POLICY_ID)

    def get(self, kind: str, definition_id: str, version: int) -> e.Published:
        """One version; raises `PlanNotFound` or `DefinitionNotFound`."""
        key = (kind, definition_id, version)
        found = self._versions.get(key)
        if found is None:
            rows = self._store.read_stream(definition_stream(kind, definition_id), 0, version)
            if len(rows) < version or version < 1:
                raise _not_found(kind, definition_id, version)
            for recorded in self._journal.open(rows):
                self._versions[kind, definition_id, recorded.version] = _published(recorded)
            found = self._versions[key]
        return found

    def plan(self, plan_id: str, version: int | None = None) -> ExecutionPlan:
        """A plan, by default its latest version; raises `PlanNotFound`, and `UnknownEventVersion`
        for one that only newer code can read."""
        wanted = self.latest("plan", plan_id) if version is None else version
        found = self.get("plan", plan_id, wanted)
        definition = {**found.definition, "metadata": found.metadata}
        with _known_here(f"plan {plan_id!r} version {wanted}"):
            return ExecutionPlan.from_definition(definition, wanted)

    def plans(self) -> list[ExecutionPlan]:
        """The latest version of every plan, by id."""
        streams = {definition_stream("plan", plan_id): plan_id for plan_id in self.ids("plan")}
        heads = self._store.heads(list(streams))
        return [self.plan(streams[stream], head.version) for stream, head in heads.items()]

    def ids(self, kind: str) -> list[str]:
        """Ids of all definitions of a kind, in order."""
        prefix, found = f"{kind}:", [""]
        while page := self._store.stream_ids(prefix, found[-1]):
            found.extend(page)
        return [stream.removeprefix(prefix) for stream in found[1:]]

    def pins(self, plan: ExecutionPlan) -> e.Pins:
        """The versions that a run enrolled now is to keep."""
        return pins_at(plan, self._store.heads(pinned_streams(plan)))

    def materials(self, plan_id: str, version: int, pins: e.Pins) -> Materials:
        """Everything a run with these pins decides by."""
        last = self._last
        if last is not None and last[0] == (plan_id, version, pins):
            return last[1]
        key = (
            plan_id,
            version,
            tuple(pins.templates.items()),
            tuple(pins.scripts.items()),
            pins.sender,
            pins.policy,
            pins.rules,
        )
        found = self._materials.get(key)
        if found is None:
            plan = self.plan(plan_id, version)
            found = self._materials[key] = self._materials_of(plan, pins)
        # Most often those of the same plan are wanted next.
        self._last = (plan_id, version, pins), found
        return found

    def _materials_of(self, plan: ExecutionPlan, pins: e.Pins) -> Materials:
        return Materials(
            plan,
            {name: self.get("template", name, v).definition for name, v in pins.templates.items()},
            {name: self.get("script", name, v).definition for name, v in pins.scripts.items()},
            self.get("sender", SENDER_ID, pins.sender).definition if pins.sender else None,
            self._clock.scale,
            self.policy(pins.policy),
        )

    def materials_for(self, plan: ExecutionPlan, pins: e.Pins) -> Materials:
        """What a run with these pins would decide by under another plan: what it has pinned, and
        the latest versions of whatever else the plan refers to, as far as they are published."""
        latest = self.pins(plan)
        chosen = msgspec.structs.replace(
            latest,
            templates=_known({**latest.templates, **pins.templates}, plan.graph.templates),
            scripts=_known({**latest.scripts, **pins.scripts}, plan.graph.scripts),
            sender=pins.sender,
            policy=pins.policy,
        )
        return self._materials_of(plan, chosen)

    def policy(self, version: int) -> Policy | None:
        """The policy of a version, None for 0; raises as `plan` does."""
        if not version:
            return None
        with _known_here(f"policy version {version}"):
            return read_policy(self.get("policy", POLICY_ID, version).definition)


def pinned_streams(plan: ExecutionPlan) -> list[str]:
    """The streams whose versions the runs of a plan keep, its own first."""
    return [
        definition_stream("plan", plan.id),
        *(definition_stream("template", name) for name in sorted(plan.graph.templates)),
        *(definition_stream("script", name) for name in sorted(plan.graph.scripts)),
        definition_stream("sender", SENDER_ID),
        definition_stream("policy", POLICY_ID),
    ]


def pins_at(plan: ExecutionPlan, heads: Mapping[str, Head]) -> e.Pins:
    """The versions that a run keeps which is enrolled while these are the heads."""

    return e.Pins(
        {name: version_at(heads, "template", name) for name in sorted(plan.graph.templates)},
        {name: version_at(heads, "script", name) for name in sorted(plan.graph.scripts)},
        version_at(heads, "sender", SENDER_ID),
        version_at(heads, "policy", POLICY_ID),
        RULES,
    )


def version_at(heads: Mapping[str, Head], kind: str, definition_id: str) -> int:
    """The latest version of a definition while these are the heads, 0 if there is none."""
    head = heads.get(definition_stream(kind, definition_id))
    return head.version if head is not None else 0


def _known(versions: dict[str, int], wanted: Collection[str]) -> dict[str, int]:
    return {name: version for name, version in versions.items() if version and name in wanted}


def _parts_of(plan: ExecutionPlan) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is published of a plan: its definition, and its metadata apart."""
    definition = plan.definition()
    return definition, definition.pop("metadata", {})


def _published_by(
    opened: Sequence[e.RecordedEvent], command_id: str, definition: Mapping[str, Any]
) -> int | None:
    """The version that this very command published before others followed."""
    for recorded in opened:
        same = _published(recorded).definition == definition
        if same and recorded.meta.command_id == command_id:
            return recorded.version
    return None


def _published(recorded: e.RecordedEvent) -> e.Published:
    assert isinstance(recorded.event, e.Published), f"{recorded.stream_id} holds no definitions"
    return recorded.event


@contextmanager
def _known_here(which: str) -> Iterator[None]:
    """What was published was checked then: if it has a fault here, this code is too old for it."""
    try:
        yield
    except InvalidInput as error:
        raise UnknownEventVersion(
            f"{which} cannot be read ({error}); newer code published it: upgrade dee-es"
        ) from None


def _not_found(kind: str, definition_id: str, version: int) -> Exception:
    which = f" version {version}" if version > 0 else ""
    text = f"{kind} {definition_id!r}{which} has not been published"
    return PlanNotFound(text) if kind == "plan" else DefinitionNotFound(kind, text)
