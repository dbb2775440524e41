"""When a send is tried again, and how often: times are ms of logical time.

Old logs are decided again by what stands here. So none of it may simply be changed: another value
takes a new number in `core/runs/rules.py`, and runs of the numbers before keep the one they had.
"""

from __future__ import annotations

from typing import Final

SEND_ATTEMPTS: Final = 3
"""Attempts of one visit of a step before it fails for good."""
BACKOFF_MS: Final = 60_000
"""Pause before the second attempt; doubled for each further one."""
MAX_OWN_DOUBLINGS: Final = 5
"""How often the pause is doubled while our own settings are at fault: to 32 minutes."""
PENDING_DEADLINE_MS: Final = 24 * 3_600_000
"""How long a call's outcome is waited for before it counts as unknown."""

RESENDS: Final = 3
"""How often a message that bounced softly goes out again."""
RESEND_PAUSES_MS: Final = (3_600_000, 4 * 3_600_000, 12 * 3_600_000)
"""Pause before each of them."""
RESEND_WITHIN_MS: Final = 24 * 3_600_000
"""For how long after a message first went out it goes out again."""
