"""The kinds of the policy's counters: the one list of what sends are counted by.

A counter's name is its kind and, behind a colon, its subject: `contact.email:` and a digest. A new
kind has its line here and its counter in `limits.counters` or `budget.counter`; what has to be read
for it is found by asking those (see `evaluate.required`).
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Kind(NamedTuple):
    """What counters of a kind count.

    `whose` says it to people, behind `the limit of 5 sends a day`. `keeps_failed` says whether a
    send that certainly failed stays counted: it reached and cost nobody anything, but whoever was
    to take it was troubled all the same.
    """

    whose: str
    keeps_failed: bool


KINDS: Final[dict[str, Kind]] = {
    "channel": Kind("of the {channel} channel", True),
    "sender": Kind("of the sender", True),
    "domain": Kind("to the recipient's domain", True),
    "contact": Kind("to the contact", False),
    "contact.email": Kind("to the contact's e-mail address", False),
    "contact.phone": Kind("to the contact's telephone number", False),
    # Has a rule and words of its own.
    "budget": Kind("", False),
}


def kind_of(name: str) -> str:
    """A counter's name without its subject."""
    return name.partition(":")[0]


def keeps_failed(name: str) -> bool:
    """Whether a send that certainly failed stays counted by the counter of this name."""
    return KINDS[kind_of(name)].keeps_failed
