"""A command to a run that others keep changing: it is decided anew each time, done once at most,
and given up in the end, of which its caller is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine
from dee_es.engine.log.settling import ATTEMPTS
from dee_es.engine.models import ChannelEvent, SuppressionEntry
from dee_es.errors import ConcurrencyConflict, InvalidInput, StoreUnavailable
from tests.support.engines import EPOCH, assert_replays, outreach, people
from tests.support.storage.meanwhile import Two


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two(tmp_path, stack)


def enrolled(two: Two) -> str:
    return two.mine.execute(outreach(), people(1)[0]).id


def cancellations(two: Two, run_id: str) -> int:
    return two.names(run_id).count("RunCancelled")


def test_it_is_done_at_the_last_attempt(two: Two) -> None:
    run_id = enrolled(two)
    two.change_before_each(run_id, ATTEMPTS - 1)
    assert two.mine.cancel_run(run_id, "enough").status == "cancelled"
    assert cancellations(two, run_id) == 1
    assert_replays(two.mine)


def test_who_never_gets_through_is_told(two: Two) -> None:
    run_id = enrolled(two)
    two.change_before_each(run_id, ATTEMPTS)
    with pytest.raises(ConcurrencyConflict, match=f"run {run_id} kept changing"):
        two.mine.cancel_run(run_id, "enough")
    assert cancellations(two, run_id) == 0
    assert two.mine.cancel_run(run_id, "enough").status == "cancelled"


def test_many_at_once_are_done_at_the_last_attempt(two: Two) -> None:
    run_id = enrolled(two)
    two.change_before_each(run_id, ATTEMPTS - 1)
    result = two.mine.bulk_cancel({"plan_id": "outreach"}, "enough")
    assert (result.matched, result.cancelled, result.errors) == (1, 1, 0)
    assert cancellations(two, run_id) == 1


def test_among_many_the_one_that_never_gets_through_is_counted(two: Two) -> None:
    run_id = enrolled(two)
    other = two.mine.execute(outreach(), people(2)[1]).id
    two.change_before_each(run_id, ATTEMPTS)
    result = two.mine.bulk_cancel({"plan_id": "outreach"}, "enough")
    assert (result.matched, result.cancelled, result.errors) == (2, 1, 1)
    (left,) = result.unchanged
    assert left.run_id == run_id
    assert left.detail == f"run {run_id} kept changing under the command; try again"
    assert (cancellations(two, run_id), cancellations(two, other)) == (0, 1)


@pytest.mark.parametrize("many", [False, True])
def test_a_database_that_goes_away_at_the_last_attempt_is_told_of(two: Two, many: bool) -> None:
    run_id = enrolled(two)
    store: Any = two.mine._parts.store
    decide, left = store.decide, [ATTEMPTS]

    def asked(*given: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise StoreUnavailable("it went away")
        return decide(*given, **more)

    store.decide = asked
    two.change_before_each(run_id, ATTEMPTS)
    cancel: Callable[[], object] = (
        (lambda: two.mine.bulk_cancel({"plan_id": "outreach"}, "enough"))
        if many
        else (lambda: two.mine.cancel_run(run_id, "enough"))
    )
    with pytest.raises(StoreUnavailable, match="it went away"):
        cancel()
    assert cancellations(two, run_id) == 0


@pytest.mark.parametrize("many", [False, True])
def test_what_the_last_attempt_has_done_is_found_though_its_answer_was_lost(
    two: Two, many: bool
) -> None:
    run_id = enrolled(two)
    store: Any = two.mine._parts.store
    decide, left = store.decide, [ATTEMPTS]

    def asked(*given: Any, **more: Any) -> Any:
        done = decide(*given, **more)
        left[0] -= 1
        if left[0] == 0:
            raise StoreUnavailable("the connection was lost")
        return done

    store.decide = asked
    two.change_before_each(run_id, ATTEMPTS - 1)
    if many:
        result = two.mine.bulk_cancel({"plan_id": "outreach"}, "enough")
        assert (result.matched, result.cancelled, result.errors) == (1, 1, 0)
    else:
        assert two.mine.cancel_run(run_id, "enough").status == "cancelled"
    assert left == [0]
    assert cancellations(two, run_id) == 1
    assert_replays(two.mine)


def test_a_command_goes_by_the_clock_that_another_has_moved_meanwhile(two: Two) -> None:
    run_id = enrolled(two)
    with two.meanwhile(0, lambda: two.other.run_until(100)):
        assert two.mine.cancel_run(run_id, "enough").current_tick == 100
    other = two.mine.execute(outreach(), people(2)[1]).id
    with two.meanwhile(0, lambda: two.other.run_until(200)):
        assert two.mine.bulk_cancel({"plan_id": "outreach"}, "enough").cancelled == 1
    assert two.mine.get_run(other).current_tick == 200
    assert_replays(two.mine)


def test_of_many_whose_answer_was_lost_those_that_had_moved_are_changed_as_well(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    still, moved = (two.mine.execute(outreach(), each).id for each in people(2))
    store = two.mine._parts.store
    real = store.commit

    def lost(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(store, "commit", real)
        two.other.pause_run(moved)
        real(*given, **more)
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(store, "commit", lost)
    result = two.mine.bulk_cancel({"plan_id": "outreach"}, "enough")
    assert (result.matched, result.cancelled, result.errors) == (2, 2, 0)
    assert [cancellations(two, each) for each in (still, moved)] == [1, 1]


def test_a_lost_answer_is_not_told_where_nothing_is_left_to_be_done(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = enrolled(two)
    store = two.mine._parts.store
    real = store.decide

    def lost(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(store, "decide", real)
        two.other.cancel_run(run_id, "somebody was faster")
        real(*given, **more)
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(store, "decide", lost)
    result = two.mine.bulk_cancel({"plan_id": "outreach"}, "enough")
    assert (result.matched, result.cancelled, result.errors) == (1, 0, 1)


MANY: dict[str, Callable[[Engine], object]] = {
    "ingest_events": lambda mine: mine.ingest_events(
        [ChannelEvent("email.opened", each["id"]) for each in people(2)]
    ),
    "import_suppressions": lambda mine: mine.import_suppressions(
        [SuppressionEntry(email=each["email"]) for each in people(2)], reason="a list"
    ),
    "archive": lambda mine: mine.audit.archive(EPOCH + timedelta(seconds=1), place="memory://a"),
}


@pytest.mark.parametrize("name", MANY)
def test_many_changes_go_by_the_clock_that_another_has_moved(two: Two, name: str) -> None:
    for each in people(2):
        two.mine.execute(outreach(), each)
    ended = two.mine.execute(outreach(), people(3)[2]).id
    two.mine.cancel_run(ended, "enough")
    if name == "archive":
        two.mine.run_until(1)
    before = two.mine._parts.store.log_head().position
    two.other.clock.move_to(100)
    MANY[name](two.mine)
    rows = two.mine._parts.store.read_log(before, 100)
    assert rows
    history = two.mine._runs.journal.open_public(rows)
    assert {each.meta.tick for each in history} == {100}


@pytest.mark.parametrize("alone", [False, True])
def test_a_tick_goes_by_the_clock_that_another_has_moved(two: Two, alone: bool) -> None:
    run_id = enrolled(two)
    two.other.clock.move_to(100)
    two.mine.replay(run_id, dry_run=False) if alone else two.mine.tick()
    assert two.sent(run_id) == 1
    assert two.mine.get_run(run_id).current_tick == 100


def test_what_has_passed_by_the_clock_that_another_has_moved_is_refused(two: Two) -> None:
    two.other.clock.move_to(100)
    with pytest.raises(InvalidInput, match="99 has passed; it is now tick 100"):
        two.mine.run_until(99)
    assert two.mine.run_until(100).tick == 100


@pytest.mark.parametrize("by_run", [False, True])
def test_who_reports_an_event_that_never_gets_through_is_told_of_what(
    two: Two, by_run: bool
) -> None:
    run_id = enrolled(two)
    two.change_before_each(run_id, ATTEMPTS)
    opened = ChannelEvent("email.opened", None if by_run else "c00", run_id if by_run else None)
    said = f"run {run_id} kept changing" if by_run else "contact 'c00' kept changing"
    with pytest.raises(ConcurrencyConflict, match=said):
        two.mine.ingest_events([opened])
    assert two.mine.ingest_events([opened]).accepted == 1
