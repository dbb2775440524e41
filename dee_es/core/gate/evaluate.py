"""The gate every send passes, as a pure function of a policy and a snapshot.

It is asked at each dispatch: the first try, a retry, after a resume and after a resolution. Rules
are asked in one order, that of `RULE_NAMES`, and the first that denies decides: what ends a step
for good comes before what only delays it, and what others may use up comes last.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dee_es.core.clock import TimeScale
from dee_es.core.gate import budget, consent, limits, suppression, windows
from dee_es.core.gate.model import Policy
from dee_es.core.gate.snapshot import Allow, Counter, Denial, Notes, Snapshot

Check = Callable[[Policy, Snapshot, Notes], Denial | None]
"""A rule: denies the send, or has nothing against it; notes what it reads."""
RULES: Final[dict[str, Check]] = {
    "consent": consent.check,
    "windows": windows.check,
    "limits": limits.check,
    "budget": budget.check,
}
"""The rules that a policy may have, by the names under which they deny."""
RULE_NAMES: Final = ("suppression", *RULES)
"""What a denial may name: suppression holds without a policy, too."""


def evaluate(policy: Policy | None, snapshot: Snapshot) -> Allow | Denial:
    """Whether the send may go out now; without a policy only suppression is asked.

    The verdict holds all that was read, so that it can be reached again without the world: see
    `dee_es.core.gate.reads`. Total: any snapshot has a verdict, and equal ones have the same.
    """
    if policy is None and not snapshot.suppressions:
        return Allow()
    notes = Notes()
    if policy is not None:
        notes.reads["policy"] = snapshot.policy_version
    denial = suppression.check(snapshot, notes)
    if policy is None or denial is not None:
        return denial or Allow(notes.reads)
    for name, rule in RULES.items():
        denial = rule(policy, snapshot, notes)
        if denial is not None:
            assert denial.rule == name, f"the rule {name} denies as {denial.rule}"
            return denial
    return Allow(notes.reads, notes.personal, tuple(notes.counters))


def counters(policy: Policy | None, snapshot: Snapshot) -> tuple[Counter, ...]:
    """The counters a snapshot of this send needs, from which `Snapshot.counters` is filled."""
    if policy is None:
        return ()
    paid_from = budget.counter(policy, snapshot)
    return limits.counters(policy, snapshot) + ((paid_from,) if paid_from else ())


class Required(Struct, frozen=True):
    """Which inputs, beside suppressions, a channel's sends need under a policy.

    `purpose` is what consent has to be for. `default_zone` is the zone to load for contacts whose
    own is unknown. `domain`, `addresses` and `counters` say whether the domain's digest, those of
    the contact's addresses, and counters are read.
    """

    consent: bool = False
    purpose: str | None = None
    zone: bool = False
    default_zone: str | None = None
    domain: bool = False
    addresses: bool = False
    counters: bool = False


_NOTHING: Final = Required()
_SOME_SEND: Final = Snapshot(
    0, TimeScale(datetime(1970, 1, 1, tzinfo=UTC)), "", "", domain="?", addresses=("email:?",)
)
"""One of which all is known that counters may be named by, before any sender's warm-up is over."""


def required(policy: Policy | None, channel: str) -> Required:
    """What has to be read before `evaluate` is asked about a send through `channel`."""
    if policy is None:
        return _NOTHING
    needs_consent = policy.consent is not None and channel in policy.consent.required
    window = policy.window(channel)
    domain, addresses, counted = _counted_by(policy, channel)
    return Required(
        consent=needs_consent,
        purpose=policy.consent.purpose if needs_consent and policy.consent else None,
        zone=window is not None,
        default_zone=window.default_zone if window is not None else None,
        domain=domain,
        addresses=addresses,
        counters=counted,
    )


def _counted_by(policy: Policy, channel: str) -> tuple[bool, bool, bool]:
    """Whether counters are named by the domain, by addresses, and whether there are any.

    `counters` itself is asked: a limit that was forgotten in a list of its own would never hold.
    """
    asked = replace(_SOME_SEND, channel=channel)
    found = counters(policy, asked)
    ramps = policy.limits.warm_up if policy.limits is not None else ()
    return (
        found != counters(policy, replace(asked, domain=None)),
        found != counters(policy, replace(asked, addresses=())),
        bool(found) or any(counters(policy, replace(asked, sender=each)) for each in ramps),
    )
