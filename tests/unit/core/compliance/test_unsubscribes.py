"""What a compliance report counts of those who asked not to be contacted, until they were heard."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dee_es.core import events as e
from dee_es.core.compliance import SECTIONS, Counting, Period
from tests.support.evidence.counted_log import DAY, EPOCH, SCALE, Log, zone


def test_an_unsubscribe_is_closed_at_once() -> None:
    log = Log()
    log.run()
    request = log.unsubscribed(tick=DAY, occurred=DAY - 90)
    assert log.at("unsubscribes", "requests", "email.unsubscribed") == [request]
    assert log.at("unsubscribes", "", "closed") == [request]
    assert log.at("unsubscribes", "", "not_closed") == []
    longest = log.figure("unsubscribes", "", "longest")
    assert (longest.value, longest.unit) == (90, "seconds")
    assert list(longest.entries.positions()) == [request]
    assert log.at("unsubscribes", "", "within_two_days") == [request]
    assert log.at("unsubscribes", "", "within_ten_business_days") == [request]
    assert log.at("unsubscribes", "", "under_way") == []


def test_a_runs_copy_of_an_unsubscribe_is_no_second_request() -> None:
    log = Log()
    run = log.run()
    request = log.unsubscribed()
    log.add(run, e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 0, run), 0, "ingest")
    assert log.at("unsubscribes", "requests", "email.unsubscribed") == [request]


def test_other_requests_by_kind() -> None:
    log = Log()
    complained = log.unsubscribed("a", kind="email.complained")
    listed = log.suppressed("b")
    log.suppressed("c", 0, "regulatory", "", "erase")
    erased = log.add("contact:c", e.ContactErased("c"), 0, "erase")
    log.suppressed("d", 0, "channel", "email", "ingest")  # A hard bounce is no request.
    assert log.at("unsubscribes", "requests", "email.complained") == [complained]
    assert log.at("unsubscribes", "requests", "suppress") == [listed]
    assert log.at("unsubscribes", "requests", "erase") == [erased]
    assert log.at("unsubscribes", "", "closed") == [complained, listed, erased]


def test_an_erasure_of_somebody_on_the_list_counts() -> None:
    log = Log()
    call = log.sent(log.run(), 0, "call")
    log.suppressed(tick=1, level="channel", scope="email", command="ingest")
    log.unsubscribed(tick=2, kind="email.complained")
    erased = log.add("contact:c1", e.ContactErased("c1"), 3 * DAY, "erase")
    assert log.at("unsubscribes", "requests", "erase") == [erased]
    assert erased in (log.at("unsubscribes", "", "closed") or [])
    evidence = log.figure("unsubscribes", "", "under_way").evidence
    assert log.at("unsubscribes", "", "under_way") == [call]
    assert erased in list(evidence.positions())


def test_sends_under_way_have_to_end_first() -> None:
    log = Log()
    run, other = log.run(), log.run("c2")
    call = log.sent(run, 0, "call")
    log.sent(other, 0, "call")
    request = log.unsubscribed(tick=10)
    assert log.at("unsubscribes", "", "under_way") == [call]
    assert log.at("unsubscribes", "", "longest") is None
    assert log.at("unsubscribes", "", "pending_two_days") == [request]
    log.add(run, e.StepCompleted("call", "answered"), 70)
    longest = log.figure("unsubscribes", "", "longest")
    assert longest.value == 60
    assert log.at("unsubscribes", "", "within_two_days") == [request]


@pytest.mark.parametrize("told, key", [("answered", "delivered"), ("busy", "not_reached")])
def test_a_call_that_outlived_its_run_ends_with_its_event(told: str, key: str) -> None:
    log = Log()
    run = log.run()
    call = log.sent(run, 0, "call")
    request = log.unsubscribed(tick=10)
    log.add(run, e.RunCancelled("unsubscribed"), 10)
    data = {"step_id": "call", "kind": told, "ended": True}
    over = e.ChannelEventReceived("call.completed", "c1", "e1", 70, **data)  # type: ignore[arg-type]
    log.add(run, over, 70, "ingest")
    log.run("c2", tick=5 * DAY)
    assert log.at("sends", "voice", key) == [call]
    assert log.at("sends", "voice", "open") == []
    assert log.figure("unsubscribes", "", "longest").value == 60
    assert log.at("unsubscribes", "", "within_two_days") == [request]


@pytest.mark.parametrize("now, value", [(DAY - 1, None), (DAY, DAY - 10), (9 * DAY, DAY - 10)])
def test_a_call_that_nobody_tells_of_is_waited_for_until_its_deadline(
    now: int, value: int | None
) -> None:
    log = Log()
    run = log.run()
    other = log.run(plan="q")
    calls = [log.sent(run, 0, "call"), log.sent(other, 0, "call")]
    log.add(run, e.StepPending("call", DAY), 0)
    log.add(other, e.StepPending("call", DAY // 2), 0)
    request = log.unsubscribed(tick=10)
    log.add(run, e.RunCancelled("unsubscribed"), 10)
    log.run("c2", tick=now)
    assert log.at("sends", "voice", "open") == calls
    assert log.figure("unsubscribes", "", "longest").value == value
    kind = "pending" if value is None else "within"
    assert log.at("unsubscribes", "", f"{kind}_two_days") == [request]


def test_a_send_under_way_that_the_suppression_does_not_cover_is_not_waited_for() -> None:
    log = Log()
    run = log.run()
    log.sent(run, 0, "call")
    log.suppressed(level="channel", scope="email", tick=4)
    assert log.at("unsubscribes", "", "under_way") == []
    assert log.figure("unsubscribes", "", "longest").value == 0


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_a_send_from_before_the_period_is_waited_for(page: int) -> None:
    log = Log(Period(5, 100))
    run, other = log.run(), log.run("c2")
    log.sent(other, 0, "call")
    call = log.sent(run, 0, "call")
    log.unsubscribed(tick=10)
    log.add(run, e.StepCompleted("call", "answered"), 70)
    (section,) = [each for each in log.count(page).sections() if each.key == "unsubscribes"]
    found = {each.key: each for each in section.figures if each.group == ""}
    assert list(found["under_way"].entries.positions()) == [call]
    assert found["longest"].value == 60


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_a_send_from_behind_the_period_is_waited_for_where_it_was_closed_then(page: int) -> None:
    log = Log(Period(0, 20))
    run = log.run()
    asked = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 10)
    log.add("contact:c1", asked, 10, "ingest")
    log.sent(run, 30, "call")
    log.suppressed(tick=40, command="import")
    log.add(run, e.StepCompleted("call", "answered"), 50)
    (section,) = [each for each in log.count(page).sections() if each.key == "unsubscribes"]
    assert {each.key: each.value for each in section.figures}["longest"] == 40


def test_runs_and_contacts_are_looked_up_where_they_are_told_of() -> None:
    log = Log(Period(0, 10))
    sent, skipped, later = log.run(), log.run("c2"), log.run("c3")
    log.sent(sent, 1)
    log.add(skipped, e.StepSkipped("hello", "suppression", "x"), 2)
    log.add(log.run("c4"), e.StepEntered("hello", 3, 0), 2)
    log.sent(later, 20)
    counting = Counting(log.period, SCALE, zone("UTC"), SECTIONS)
    assert counting.needs(log.entries) == (frozenset({sent, skipped}), frozenset())
    # Whose are the sends that may be under way? Also of those that are not in the period.
    log.unsubscribed("c5", 3)
    needs = counting.needs(log.entries)
    assert needs == (frozenset({sent, skipped, later}), frozenset({"c5"}))
    without = Counting(log.period, SCALE, zone("UTC"), ("sends", "consent"))
    assert without.needs(log.entries).runs == {sent, skipped}
    nothing = Counting(log.period, SCALE, zone("UTC"), ())
    assert nothing.needs(log.entries) == (frozenset(), frozenset())


def test_a_request_without_a_suppression_is_not_closed() -> None:
    log = Log()
    log.run()
    event = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 0)
    request = log.add("contact:c1", event, 0, "ingest")
    log.add("run_c1_p", e.StepEntered("again", 2, 0), 3 * DAY)
    figure = log.figure("unsubscribes", "", "not_closed")
    assert list(figure.entries.positions()) == [request]
    assert figure.violated
    assert log.at("unsubscribes", "", "over_two_days") == [request]
    assert log.at("unsubscribes", "", "pending_ten_business_days") == [request]
    log.suppressed(tick=4 * DAY, level="channel", scope="voice", command="import")
    assert log.at("unsubscribes", "", "not_closed") == [request]
    closing = log.suppressed(tick=4 * DAY)
    assert log.at("unsubscribes", "", "not_closed") == []
    assert list(log.figure("unsubscribes", "", "closed").evidence.positions()) == [closing]
    assert log.figure("unsubscribes", "", "longest").value == 4 * DAY


def test_who_was_suppressed_before_is_closed_when_they_ask() -> None:
    log = Log()
    log.suppressed(tick=5)
    event = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 700)
    request = log.add("contact:c1", event, 900, "ingest")
    longest = log.figure("unsubscribes", "", "longest")
    assert longest.value == 0
    assert request in list(log.figure("unsubscribes", "", "closed").entries.positions())


def test_a_suppression_that_was_lifted_before_they_asked_closed_nothing() -> None:
    log = Log()
    log.suppressed(tick=1, command="import")
    log.lifted(tick=2)
    asked = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 10)
    request = log.add("contact:c1", asked, 10, "ingest")
    assert log.at("unsubscribes", "", "not_closed") == [request]
    # Nor does what lifts something else close anything.
    log.lifted(tick=20, level="regulatory")
    assert log.at("unsubscribes", "", "not_closed") == [request]
    closing = log.suppressed(tick=30, command="import")
    assert list(log.figure("unsubscribes", "", "closed").evidence.positions()) == [closing]


def test_a_list_that_named_them_after_they_asked_ended_it_then_though_it_was_told_later() -> None:
    log = Log()
    log.suppressed(tick=400)
    event = e.ChannelEventReceived("email.unsubscribed", "c1", "e1", 100)
    request = log.add("contact:c1", event, 900, "ingest")
    longest = log.figure("unsubscribes", "", "longest")
    assert longest.value == 300
    assert list(longest.entries.positions()) == [request]


def test_the_longest_time_names_only_those_that_took_it() -> None:
    log = Log()
    log.unsubscribed("a", tick=50, occurred=20)
    slow = [log.unsubscribed(who, tick=90, occurred=20) for who in ("b", "c")]
    log.unsubscribed("d", tick=100)
    longest = log.figure("unsubscribes", "", "longest")
    assert (longest.value, list(longest.entries.positions())) == (70, slow)


def test_where_all_went_well_nothing_has_to_be_looked_into() -> None:
    log = Log()
    run = log.run()
    send = log.sent(run, 10)
    log.earlier[log.unsubscribed(tick=50, occurred=5)] = (send,)
    log.add(run, e.StepCompleted("hello", "delivered"), 60)
    found = [each for section in log.count().sections() for each in section.figures]
    assert sum(each.value or 0 for each in found) > 0
    assert not [each.key for each in found if each.violated]


def test_an_address_that_bounced_has_asked_for_nothing() -> None:
    log = Log()
    run = log.run()
    log.suppressed(tick=1, level="channel", scope="email", command="ingest")
    despite = log.sent(run, 3)
    assert log.at("suppressions", "sent", "despite") == [despite]
    assert log.at("unsubscribes", "", "sent_after") == []


@pytest.mark.parametrize(
    "level, scope, command, counts",
    [
        ("global", "", "ingest", True),
        ("regulatory", "", "ingest", True),
        ("regulatory", "", "erase", True),
        ("channel", "email", "suppress", True),
        ("plan", "p", "suppress", True),
        ("channel", "email", "ingest", False),
        ("channel", "voice", "suppress", False),
        ("global", "", "import", False),
    ],
)
def test_a_send_after_a_request_was_closed_is_seen(
    level: e.Level, scope: str, command: str, counts: bool
) -> None:
    log = Log()
    run = log.run()
    listed = log.suppressed(tick=1, level=level, scope=scope, command=command)
    # That this one is there as well says nothing about the other.
    log.suppressed(tick=1, level="channel", scope="voice", command="ingest")
    send = log.sent(run, 3)
    figure = log.figure("unsubscribes", "", "sent_after")
    assert list(figure.entries.positions()) == ([send] if counts else [])
    assert list(figure.evidence.positions()) == ([listed] if counts else [])


def test_sends_between_request_and_close_count() -> None:
    log = Log()
    send = log.sent(log.run(), 10)
    request = log.unsubscribed(tick=50, occurred=5)
    log.earlier[request] = (send,)
    figure = log.figure("unsubscribes", "", "sent_between")
    assert list(figure.entries.positions()) == [send]
    assert list(figure.evidence.positions()) == [request]


@pytest.mark.parametrize("late, key", [(2 * DAY, "within"), (2 * DAY + 1, "over")])
def test_two_days_are_48_hours(late: int, key: str) -> None:
    log = Log()
    request = log.unsubscribed(tick=10 + late, occurred=10)
    assert log.at("unsubscribes", "", f"{key}_two_days") == [request]


@pytest.mark.parametrize(
    "asked, done, key",
    [
        (datetime(2026, 3, 2, 12), datetime(2026, 3, 16, 23, 59, 59), "within"),
        (datetime(2026, 3, 2, 12), datetime(2026, 3, 17), "over"),
        # From a Saturday the tenth business day is the Friday after next.
        (datetime(2026, 3, 7), datetime(2026, 3, 22, 23, 59, 59), "within"),
        (datetime(2026, 3, 7), datetime(2026, 3, 23), "over"),
    ],
)
def test_ten_business_days(asked: datetime, done: datetime, key: str) -> None:
    log = Log()
    ticks = [int((each.replace(tzinfo=UTC) - EPOCH).total_seconds()) for each in (asked, done)]
    request = log.unsubscribed(tick=ticks[1], occurred=ticks[0])
    assert log.at("unsubscribes", "", f"{key}_ten_business_days") == [request]
    assert log.figure("unsubscribes", "", "over_ten_business_days").violated == (key == "over")


def test_nobody_unsubscribed_is_not_measured() -> None:
    log = Log()
    log.sent(log.run())
    found = log.section("unsubscribes").figures
    measured = {each.key: each.value for each in found if each.group != "requests"}
    assert measured.pop("sent_after") == 0
    assert set(measured.values()) == {None}
    reasons = {each.not_measured for each in found if each.key in measured}
    assert reasons == {"nobody unsubscribed in the period"}
