"""The gate every send passes, as a pure function of a snapshot.

It is asked at each dispatch: the first try, a retry, after a resume and after a resolution.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SuppressionFact:
    """A suppression of one of the contact's subjects; `scope` is the channel's or plan's name."""

    level: str
    scope: str = ""

    def __str__(self) -> str:
        return f"{self.level} {self.scope}".strip()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the gate may read about the contact at the time of the decision."""

    suppressions: tuple[SuppressionFact, ...] = ()


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a step must not go out, and what becomes of it."""

    rule: str
    detail: str
    effect: Literal["skip"] = "skip"


def evaluate(channel: str, plan_id: str, snapshot: Snapshot) -> Denial | None:
    """None if a send through `channel` is allowed, else the first rule that denies it."""
    for fact in snapshot.suppressions:
        if _blocks_channel(fact, channel) or blocks_plan(fact, plan_id):
            return Denial("suppression", f"the contact is suppressed ({fact})")
    return None


def enrollment_block(
    plan_id: str, channels: Iterable[str], snapshot: Snapshot
) -> SuppressionFact | None:
    """The suppression that keeps a contact out of a plan, if one does.

    That is one on the global or regulatory list, one of this plan, or one of every channel of a
    plan that has any.
    """
    for fact in snapshot.suppressions:
        if blocks_plan(fact, plan_id):
            return fact
    blocked = {fact.scope: fact for fact in snapshot.suppressions if fact.level == "channel"}
    needed = sorted(channels)
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
