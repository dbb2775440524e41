"""Many at once, while somebody else records at one tick after the other: what takes longer to be
decided than a tick would be refused for ever, so fewer are tried together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dee_es.engine.models import ChannelEvent, SuppressionEntry
from tests.support.engines import assert_replays, outreach, people
from tests.support.storage.meanwhile import Two

MANY = 60
QUICK = 7
"""So many are decided within a tick."""


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two(tmp_path, stack)


def enrolled(two: Two) -> None:
    result = two.mine.bulk_execute(outreach(), people(MANY))
    assert result.created == MANY
    two.move_the_clock_before_each(more_than=QUICK)


def test_a_batch_is_enrolled(two: Two) -> None:
    two.move_the_clock_before_each(more_than=QUICK)
    result = two.mine.bulk_execute(outreach(), people(MANY), batch_size=MANY)
    assert (result.created, result.skipped, result.errors) == (MANY, 0, 0)
    assert two.mine.list_runs().total == MANY
    assert_replays(two.mine)


def test_who_is_refused_is_recorded(two: Two) -> None:
    two.mine.import_suppressions([SuppressionEntry(each["id"]) for each in people(MANY)])
    two.move_the_clock_before_each(more_than=QUICK)
    result = two.mine.bulk_execute(outreach(), people(MANY), batch_size=MANY)
    assert (result.created, result.skipped, result.errors) == (0, MANY, 0)
    streams = [two.names(f"contact:{each['id']}") for each in people(MANY)]
    assert streams == [["ContactSuppressed", "EnrollmentRefused"]] * MANY


def test_runs_are_changed(two: Two) -> None:
    enrolled(two)
    result = two.mine.bulk_pause({"plan_id": "outreach"}, "a pause")
    assert (result.matched, result.changed, result.errors) == (MANY, MANY, 0)
    assert two.mine.list_runs(status="paused").total == MANY
    assert_replays(two.mine)


def test_a_list_is_taken_in(two: Two) -> None:
    enrolled(two)
    listed = [SuppressionEntry(each["id"]) for each in people(MANY)]
    result = two.mine.import_suppressions(listed, reason="a list")
    assert (result.added, result.already, result.errors) == (MANY, 0, 0)
    told = [two.names(run.id).count("ChannelEventReceived") for run in two.mine.list_runs().runs]
    assert set(told) == {1}
    assert_replays(two.mine)


def test_events_are_taken_in_by_their_order(two: Two) -> None:
    enrolled(two)
    whose = [each["id"] for each in people(MANY)]
    events = [
        ChannelEvent(kind, who, event_id=f"{who}-{number}")
        for number, kind in enumerate(("email.opened", "email.clicked", "email.replied"))
        for who in whose
    ]
    result = two.mine.ingest_events(events)
    assert (result.accepted, result.known, result.errors) == (len(events), 0, 0)
    for who in whose:
        ids = [entry.data["event_id"] for entry in two.mine.get_contact_logs(who) if _own(entry)]
        assert ids == [f"{who}-{number}" for number in range(3)]
    assert_replays(two.mine)


def _own(entry: object) -> bool:
    return str(getattr(entry, "stream", "")).startswith("contact")
