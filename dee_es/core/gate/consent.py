"""Consent: a channel that needs it reaches only contacts who gave it and still do.

Off unless the policy names the channel. Without a grant that holds now, the step is skipped.
"""

from __future__ import annotations

from typing import Final

from dee_es.core.gate.model import Policy
from dee_es.core.gate.slots import tick_text
from dee_es.core.gate.snapshot import ConsentFact, Denial, Notes, Snapshot

_MISSING: Final = ConsentFact()


def check(policy: Policy, snapshot: Snapshot, notes: Notes) -> Denial | None:
    """None if the channel needs no consent or has it at this tick."""
    channel = snapshot.channel
    if policy.consent is None or channel not in policy.consent.required:
        return None
    fact = snapshot.consent or _MISSING
    notes.reads[f"consent.{channel}"] = fact.state
    expires = fact.expires_tick
    if expires is not None:
        notes.reads[f"consent.{channel}.expires"] = expires
    purpose = f" for {policy.consent.purpose}" if policy.consent.purpose else ""
    what = f"consent to {channel}{purpose}"
    if fact.state == "granted":
        if expires is None or snapshot.tick < expires:
            return None
        return notes.deny("consent", f"{what} expired at {_at(snapshot, expires)}", "skip")
    if fact.state == "expired":
        at = "" if expires is None else f" at {_at(snapshot, expires)}"
        return notes.deny("consent", f"{what} expired{at}", "skip")
    if fact.state == "revoked":
        return notes.deny("consent", f"{what} was revoked", "skip")
    return notes.deny("consent", f"{what} is missing", "skip")


def _at(snapshot: Snapshot, tick: int) -> str:
    return tick_text(snapshot.scale, tick)
