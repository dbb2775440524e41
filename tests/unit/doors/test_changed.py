"""What a change of a run shows in a zone: the run's own times, and nothing that is a person's."""

from __future__ import annotations

import pytest

from dee_es.doors.times import changed
from dee_es.engine.past.time_travel import Change


def shown(field: str, value: object) -> object:
    change = Change(
        field=field, before=None, after=value, version=2, event="run.started", step=None, tick=0
    )
    return changed(change.kind, change.after, lambda moment: f"{moment:<%d %H:%M>}")


@pytest.mark.parametrize(
    ("field", "value", "there"),
    [
        ("completedAt", "2025-03-06T08:00:00Z", "<06 08:00>"),
        ("waiting.until", "2025-03-06T08:00:00.250Z", "<06 08:00>"),
        ("waiting.until", None, None),
        ("statusReason", "until 2025-03-06 08:00:00Z, then on", "until <06 08:00>, then on"),
        ("waiting.reason", "opens 2025-03-06 08:00 UTC", "opens <06 08:00>"),
        ("context.contact.born", "2025-03-06T08:00:00Z", "2025-03-06T08:00:00Z"),
        ("variables.waiting.until", "2025-03-06 08:00:00Z", "2025-03-06 08:00:00Z"),
        ("stepsCompleted", 3, 3),
    ],
)
def test_times_of_the_run_alone_are_rewritten(field: str, value: object, there: object) -> None:
    assert shown(field, value) == there
