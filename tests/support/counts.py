"""How much of a costly test is run: reduced by default, in full under `scripts/test --full`."""

from __future__ import annotations

import os

FULL = os.environ.get("DEE_TEST_FULL", "") not in ("", "0")
"""True when the counts of the requirements were asked for."""


def count(quick: int, full: int) -> int:
    """Return how many repetitions a test makes: `quick` by default, `full` under `--full`."""
    return full if FULL else quick
