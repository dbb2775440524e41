"""Suppression: whoever is on a list is not contacted. It holds with or without a policy.

Levels: `global` and `regulatory` close everything, `channel` one channel, `plan` one plan.
"""

from __future__ import annotations

from collections.abc import Iterable

from dee_es.core.gate.snapshot import Denial, Notes, Snapshot, SuppressionFact


def check(snapshot: Snapshot, notes: Notes) -> Denial | None:
    """The denial by the first suppression that covers this send; the step is skipped."""
    if not snapshot.suppressions:
        return None
    notes.reads["suppression"] = ",".join([str(fact) for fact in snapshot.suppressions])
    for fact in snapshot.suppressions:
        if _blocks_channel(fact, snapshot.channel) or blocks_plan(fact, snapshot.plan_id):
            return notes.deny("suppression", f"the contact is suppressed ({fact})", "skip")
    return None


def facts_of(read: str) -> tuple[SuppressionFact, ...]:
    """The facts that `check` noted as `suppression`."""
    return tuple(SuppressionFact(*each.split(" ", 1)) for each in read.split(",") if each)


def enrollment_block(
    plan_id: str, channels: Iterable[str], suppressions: Iterable[SuppressionFact]
) -> SuppressionFact | None:
    """The suppression that keeps a contact out of a plan, if one does.

    That is one on the global or regulatory list, one of this plan, or one of every channel of a
    plan that has any.
    """
    blocked: dict[str, SuppressionFact] = {}
    for fact in suppressions:
        if blocks_plan(fact, plan_id):
            return fact
        if fact.level == "channel":
            blocked[fact.scope] = fact
    needed = sorted(channels) if blocked else ()
    if needed and all(channel in blocked for channel in needed):
        return blocked[needed[0]]
    return None


def blocks_plan(fact: SuppressionFact, plan_id: str) -> bool:
    """Whether the suppression holds for everything this plan does."""
    return fact.level in ("global", "regulatory") or (
        fact.level == "plan" and fact.scope == plan_id
    )


def _blocks_channel(fact: SuppressionFact, channel: str) -> bool:
    return fact.level == "channel" and fact.scope == channel
