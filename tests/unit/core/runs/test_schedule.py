"""When a send is tried again is part of what old logs mean."""

from __future__ import annotations

from dee_es.core.runs import schedule


def test_the_schedule_is_what_runs_in_the_log_were_decided_by() -> None:
    """Whoever changes a value takes a new number of the rules, under which it holds, and keeps the
    old one for runs of the numbers before: see `core/runs/rules.py`."""
    values = {name: value for name, value in vars(schedule).items() if name.isupper()}
    assert values == {
        "SEND_ATTEMPTS": 3,
        "BACKOFF_MS": 60_000,
        "MAX_OWN_DOUBLINGS": 5,
        "PENDING_DEADLINE_MS": 86_400_000,
        "RESENDS": 3,
        "RESEND_PAUSES_MS": (3_600_000, 14_400_000, 43_200_000),
        "RESEND_WITHIN_MS": 86_400_000,
    }
