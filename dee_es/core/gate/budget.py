"""Budget: what the sends of a UTC day, or all sends together, may cost.

Money is whole numbers of a currency's smallest unit, or of whatever fraction the policy reckons in.
"""

from __future__ import annotations

from dee_es.core.gate.model import Policy
from dee_es.core.gate.slots import day_of, day_tick, tick_text
from dee_es.core.gate.snapshot import Counter, Denial, Notes, Snapshot


def counter(policy: Policy, snapshot: Snapshot) -> Counter | None:
    """The counter this send is paid from; None if there is no budget or the channel is free.

    A budget for the day has a counter for each day. One for everything has a single counter that
    goes on through later versions of the policy: raise the amount to grant more.
    """
    budget = policy.budget
    cost = budget.cost(snapshot.channel) if budget is not None else 0
    if budget is None or cost == 0:
        return None
    slot = day_of(snapshot.scale, snapshot.tick) if budget.per == "day" else 0
    return Counter((f"budget:{budget.per}:{budget.currency}", slot), budget.amount, cost)


def check(policy: Policy, snapshot: Snapshot, notes: Notes) -> Denial | None:
    """None if the send can still be paid for, else what the policy wants for the step."""
    budget = policy.budget
    paid_from = counter(policy, snapshot)
    if budget is None or paid_from is None:
        return None
    used = snapshot.counters.get(paid_from.key, 0)
    notes.reads["budget"] = used
    notes.counters.append(paid_from)
    if paid_from.admits(used):
        return None
    spent = f"{used} of {budget.amount} {budget.currency} units"
    price = f"this {snapshot.channel} costs {paid_from.amount}"
    if budget.per == "total":
        detail = f"the budget is used up: {spent} are spent and {price}; it needs to be raised"
        return notes.deny("budget", detail, budget.effect)
    until = day_tick(snapshot.scale, paid_from.slot + 1)
    again = f"it opens at {tick_text(snapshot.scale, until)}"
    detail = f"the day's budget is used up: {spent} are spent and {price}; {again}"
    return notes.deny("budget", detail, budget.effect, until)
