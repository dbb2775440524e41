"""The rules of this code that a run decides by: old logs go on meaning what they did.

A change to how runs decide, or to what their events add up to, takes a new number here, and asks
for it wherever it makes a difference; `Pins.rules` is the number a run was enrolled under. So does
a change of a pause or a number of attempts in `schedule.py`, or a field of an event that a decision
fills from now on. `tests/golden/test_lives.py` decides runs of every number again.
"""

from __future__ import annotations

from typing import Final

from dee_es.core import events as e
from dee_es.errors import UnknownEventVersion

RULES: Final = 4
"""Those of runs that are enrolled now."""
EXCUSING: Final = 2
"""The first under which an attempt to send a message again after a soft bounce does not count if it
failed by our own settings."""
HEEDING: Final = 3
"""The first under which a contact that is on the suppression list counts as unsubscribed, as soon
as its run meets that: by name, or when the gate leaves a send out for it."""
ERASING: Final = 4
"""The first under which that goes for an erasure, too, which puts the contact on the list."""


def known(pins: e.Pins, run_id: str) -> e.Pins:
    """The run's pins; raises `UnknownEventVersion` if their rules are those of newer code."""
    if pins.rules > RULES:
        raise UnknownEventVersion(
            f"{run_id} decides by rules {pins.rules}, known up to {RULES}; upgrade dee-es"
        )
    return pins
