"""Gathers what the policy gate may read about a batch of runs, in few look-ups for them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from dee_es.core.commands import Materials
from dee_es.core.gate import (
    SEARCH_DAYS,
    ConsentFact,
    Policy,
    Required,
    Snapshot,
    SuppressionFact,
    ZoneRules,
    counters,
    keeps_failed,
    required,
)
from dee_es.core.gate.slots import DAY_MS
from dee_es.core.ids import CounterKey
from dee_es.core.runs.state import RunState
from dee_es.engine.contacts.identity import Identities
from dee_es.engine.contacts.index import consent_key, suppression_facts
from dee_es.engine.definitions import SENDER_ID, Definitions
from dee_es.ports import (
    ChannelResult,
    Consent,
    CounterUse,
    EventStore,
    SuppressionGuard,
    Unit,
    ZoneSource,
    beside,
)

_BETWEEN_LOOKS: Final = 10
"""Runs that are looked at, a step for each of them, between two looks at what was begun."""
Snapshots = Mapping[str, Snapshot]
"""By channel of a run's plan; one that holds nothing is left out."""
_NOTHING: Final[Snapshots] = {}


class Looked(NamedTuple):
    """For each run its snapshots and the guard that its decision is to be committed under, and the
    policy's counters that were read for any of them."""

    found: list[tuple[Snapshots, SuppressionGuard]]
    read: frozenset[CounterKey]


class Gatekeeper:
    """Makes snapshots for the gate, and the guards that make them hold at commit."""

    def __init__(
        self,
        store: EventStore,
        identities: Identities,
        definitions: Definitions,
        zones: ZoneSource,
    ) -> None:
        self._store = store
        self._identities = identities
        self._definitions = definitions
        self._zones = zones
        self._required: dict[tuple[int, str], Required] = {}

    def look(self, runs: Sequence[RunState], tick: int, ahead: Mapping[CounterKey, int]) -> Looked:
        """What the gate may read about runs, as if what is used `ahead` of them were counted
        already."""
        if not runs:
            return Looked([], frozenset())
        epoch = self._store.log_head().suppression_epoch
        known = [
            self._identities.known_as(run.contact_id, run.contact.email, run.contact.phone)
            for run in beside.each(runs, _BETWEEN_LOOKS)
        ]
        nothing: Sequence[tuple[SuppressionFact, ...]] = [()] * len(runs)
        subjects = [each.subjects for each in known]
        listed = suppression_facts(self._store, subjects) if epoch else nothing
        consents = self._consents(runs, epoch)
        materials = [self._materials(run) for run in runs]
        found = [
            self._snapshots(run, own, facts, consents, about.addresses, tick)
            for run, own, facts, about in beside.each(
                list(zip(runs, materials, listed, known, strict=True)), _BETWEEN_LOOKS
            )
        ]
        counted, read = self._counted(found, [own.policy for own in materials], ahead)
        guards = [SuppressionGuard(each, epoch) for each in subjects]
        return Looked(list(zip(counted, guards, strict=True)), read)

    def _materials(self, run: RunState) -> Materials:
        return self._definitions.materials(run.plan_id, run.plan_version, run.pins)

    def _consents(self, runs: Sequence[RunState], epoch: int) -> Mapping[tuple[str, str], Consent]:
        asking = [run for run in runs if epoch and run.pins.policy]
        ids = sorted({run.contact_id for run in asking})
        found = self._store.consents(ids) if ids else []
        return {(each.contact_id, each.channel): each for each in found}

    def _snapshots(
        self,
        run: RunState,
        materials: Materials,
        listed: tuple[SuppressionFact, ...],
        consents: Mapping[tuple[str, str], Consent],
        addresses: tuple[str, ...],
        tick: int,
    ) -> Snapshots:
        policy = materials.policy
        if policy is None and not listed:
            return _NOTHING
        made: dict[str, Snapshot] = {}
        for channel in materials.plan.graph.channels:
            needs = self._needs(policy, run.pins.policy, channel)
            consent = zone = default = domain = None
            if needs.consent:
                key = (run.contact_id, consent_key(channel, needs.purpose))
                consent = _fact(consents.get(key), tick)
            if needs.zone:
                zone = self._zone(run.contact.timezone, materials, tick)
                default = self._zone(needs.default_zone, materials, tick)
            if needs.domain and channel == "email":
                domain = self._identities.domain_digest(run.contact.email)
            made[channel] = Snapshot(
                tick,
                materials.scale,
                channel,
                run.plan_id,
                listed,
                consent,
                zone,
                default,
                run.contact_id,
                SENDER_ID,
                domain,
                addresses if needs.addresses else (),
                policy_version=run.pins.policy,
            )
        return made

    def _needs(self, policy: Policy | None, version: int, channel: str) -> Required:
        """What `required` says of a version of the policy, which it says but once."""
        needs = self._required.get((version, channel))
        if needs is None:
            needs = self._required[version, channel] = required(policy, channel)
        return needs

    def _zone(self, name: str | None, materials: Materials, tick: int) -> ZoneRules | None:
        if not name:
            return None
        now = int(materials.scale.time(tick).timestamp() * 1000)
        return self._zones(name, now, now + (SEARCH_DAYS + 1) * DAY_MS)

    def _counted(
        self,
        found: Sequence[Snapshots],
        policies: Sequence[Policy | None],
        ahead: Mapping[CounterKey, int],
    ) -> tuple[list[Snapshots], frozenset[CounterKey]]:
        """The snapshots with what is used of the counters they need, asked for all at once, and
        these counters."""
        needed = [
            {channel: counters(policy, snapshot) for channel, snapshot in snapshots.items()}
            for policy, snapshots in beside.each(
                list(zip(policies, found, strict=True)), _BETWEEN_LOOKS
            )
        ]
        wanted = {
            each.key: None for channels in needed for asked in channels.values() for each in asked
        }
        if not wanted:
            return list(found), frozenset()
        used = self._store.counters(list(wanted))
        for key in ahead.keys() & wanted.keys():
            used[key] = used.get(key, 0) + ahead[key]
        counted: list[Snapshots] = [
            {
                channel: replace(
                    snapshot,
                    counters={each.key: used[each.key] for each in asked if each.key in used},
                    needed=asked,
                )
                for (channel, snapshot), asked in zip(
                    snapshots.items(), channels.values(), strict=True
                )
            }
            for channels, snapshots in beside.each(
                list(zip(needed, found, strict=True)), _BETWEEN_LOOKS
            )
        ]
        return counted, frozenset(wanted)


def counter_uses(counted: Iterable[tuple[str, int, int, int]]) -> tuple[CounterUse, ...]:
    """What a committed send adds to the policy's counters."""
    return tuple(CounterUse(name, slot, amount, limit) for name, slot, amount, limit in counted)


def added_by(units: Iterable[Unit]) -> dict[CounterKey, int]:
    """What units add to the policy's counters once they are committed."""
    added: dict[CounterKey, int] = {}
    for unit in units:
        for use in unit.counters:
            counter = (use.key, use.slot)
            added[counter] = added.get(counter, 0) + use.add
    return added


def given_back(
    counted: Iterable[tuple[str, int, int, int]], result: ChannelResult
) -> tuple[CounterUse, ...]:
    """What a send gives back to them once its result is known.

    One that certainly failed stays counted by those kinds of counters alone that keep it, and by
    none if the fault was that of our own settings.
    """
    if result.status != "failed":
        return ()
    return tuple(
        CounterUse(name, slot, -amount, None)
        for name, slot, amount, _ in counted
        if result.ours or not keeps_failed(name)
    )


def guarded(unit: Unit, guard: SuppressionGuard, uses: tuple[CounterUse, ...]) -> Unit:
    """The unit, refused if what its decision relied on has changed by the time it commits."""
    return replace(unit, guard=guard, counters=uses)


def _fact(consent: Consent | None, tick: int) -> ConsentFact:
    if consent is None:
        return ConsentFact()
    if consent.state == "revoked":
        return ConsentFact("revoked")
    ends = consent.expires_tick
    expired = ends is not None and tick >= ends
    return ConsentFact("expired" if expired else "granted", ends)
