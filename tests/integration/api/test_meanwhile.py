"""Others act at any moment: between any two look-ups of a call, what they were promised holds.

Each test does the same for one contact after another, and has somebody else act a look-up later
each time, so that no moment is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact
from dee_es.core.ids import contact_stream, run_id
from dee_es.engine.models import ChannelEvent
from dee_es.errors import (
    AlreadyEnrolled,
    ConcurrencyConflict,
    ContactSuppressed,
    HoldInForce,
    InvalidInput,
    RunArchived,
    StoreUnavailable,
)
from tests.support.engines import DAY, assert_replays, outreach
from tests.support.storage.meanwhile import Moment, Two

PLAN = outreach()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two(tmp_path, stack)


def person(who: str) -> Contact:
    return Contact(id=who, email=f"{who}@example.com", firstName="N")


REACHED = (PLAN.id, "late", "later")


def run_of(who: str, number: int = 1) -> str:
    return run_id(PLAN.id, who, number)


# --- sends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["suppressed", "revoked", "paused", "cancelled", "erased"])
def test_nothing_leaves_any_more_once_somebody_said_so(two: Two, what: str) -> None:
    """What may still be sent is an intent that was in the log by then."""
    other = two.other
    happens: dict[str, Callable[[str], object]] = {
        "suppressed": lambda who: other.suppress(email=f"{who}@example.com", reason="asked"),
        "revoked": lambda who: other.revoke_consent(who, "email"),
        "paused": lambda who: other.pause_run(run_of(who)),
        "cancelled": lambda who: other.cancel_run(run_of(who), "asked"),
        "erased": lambda who: other.erase_contact(who, "asked"),
    }
    two.mine.publish_policy({"consent": {"required": ["email"]}})

    def before(who: str) -> None:
        two.mine.grant_consent(who, "email")
        two.mine.execute(PLAN, person(who))

    sent: list[bool] = []
    for who, moment in two.every_moment(before, lambda _: two.mine.tick(), happens[what]):
        if moment.refused is None:
            assert "StepDispatched" not in two.names_since(moment, run_of(who)), moment.before
        left = two.sent(run_of(who))
        assert left == two.names(run_of(who)).count("StepDispatched")
        sent.append(left == 1)
    assert {True, False} == set(sent)


def test_a_worker_that_another_took_over_from_sends_nothing_twice(two: Two) -> None:
    """It wakes up in the middle of its tick and goes on. What was not sent by either of them, or
    nobody knows of, is told."""

    def tick(_: str) -> None:
        with suppress(ConcurrencyConflict):
            two.mine.tick()

    ends: list[tuple[int, str]] = []
    for who, moment in two.every_moment(
        lambda who: two.mine.execute(PLAN, person(who)), tick, lambda _: two.take_over()
    ):
        assert moment.refused is None
        tick(who)
        run = two.mine.get_run(run_of(who))
        ends.append((two.sent(run.id), run.status))
        assert ends[-1] in [(1, "waiting"), (0, "failed"), (1, "failed")], moment.before
        assert (run.status == "failed") == ("OutcomeUnknown" in two.names(run.id))
    assert {"waiting", "failed"} == {status for _, status in ends}


# --- enrolments -----------------------------------------------------------------------------------


def enrolling(two: Two, many: bool, known: bool) -> Callable[[str], None]:
    """How contacts are enrolled, in one plan, or each in one that was not published before."""
    two.mine.execute(PLAN, person("first"))

    def enroll(who: str) -> None:
        plan = PLAN if known else outreach(who)
        if many:
            result = two.mine.bulk_execute(plan, [person(who)])
            assert result.created + result.skipped == 1
        else:
            with suppress(ContactSuppressed, AlreadyEnrolled):
                two.mine.execute(plan, person(who))

    return enroll


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("erased", [False, True])
def test_no_run_begins_once_its_contact_is_on_the_list(
    two: Two, many: bool, known: bool, erased: bool
) -> None:
    def before(who: str) -> None:
        if erased:
            two.mine.grant_consent(who, "email")

    def listed(who: str) -> None:
        if erased:
            two.other.erase_contact(who, "asked")
        else:
            two.other.suppress(email=f"{who}@example.com", reason="asked")

    for who, moment in two.every_moment(before, enrolling(two, many, known), listed):
        assert moment.refused is None
        assert two.mine.list_runs(contact_id=who).total == 0, moment.before
        last = moment.before
    assert last == ("commit" if many else "decide"), "nothing is asked once they are enrolled"


@pytest.mark.parametrize("alone", [False, True])
def test_what_is_listed_while_another_lifts_it_stays(two: Two, alone: bool) -> None:
    """By its address alone, or for another contact who has the same."""

    def listed(who: str) -> None:
        if alone:
            two.other.suppress(email=f"{who}@example.com", reason="asked again")
        else:
            two.other.suppress(f"{who}x", email=f"{who}@example.com", reason="asked again")

    for who, moment in two.every_moment(
        lambda who: two.mine.suppress(who, email=f"{who}@example.com", reason="asked"),
        lambda who: two.mine.unsuppress(who),
        listed,
    ):
        assert moment.refused is None
        with pytest.raises(ContactSuppressed):
            two.mine.execute(PLAN, Contact(id=f"{who}y", email=f"{who}@example.com"))


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_whoever_two_enroll_at_once_has_one_run(two: Two, many: bool, known: bool) -> None:
    def enrolled(who: str) -> None:
        two.other.execute(PLAN if known else outreach(who), person(who))

    for who, moment in two.every_moment(lambda _: None, enrolling(two, many, known), enrolled):
        assert moment.refused is None
        assert two.mine.list_runs(contact_id=who).total == 1, moment.before


# --- what has to stay, and what has to go ---------------------------------------------------------


@pytest.mark.parametrize("of_run", [False, True])
def test_what_is_held_is_not_erased(two: Two, of_run: bool) -> None:
    def hold(who: str) -> None:
        if of_run:
            two.other.place_hold(run_id=run_of(who), reason="a lawsuit")
        else:
            two.other.place_hold(contact_id=who, reason="a lawsuit")

    def erase(who: str) -> None:
        with suppress(HoldInForce):
            two.mine.erase_contact(who, "asked")

    erased: list[bool] = []
    for who, moment in two.every_moment(
        lambda who: two.mine.execute(PLAN, person(who)), erase, hold
    ):
        if moment.refused is None and not of_run:
            since = two.names_since(moment, contact_stream(who))
            assert "ContactErased" not in since, moment.before
        erased.append(two.mine.get_run(run_of(who)).status == "cancelled")
    assert {True, False} == set(erased)


def test_an_erasure_reaches_who_is_enrolled_while_it_goes_on(two: Two) -> None:
    """Under another address even: that is on the list as well, once it is over."""
    late = outreach("late")

    def enroll(who: str) -> None:
        two.other.execute(late, Contact(id=who, email=f"{who}@elsewhere.org", firstName="N"))

    for who, moment in two.every_moment(
        lambda who: two.mine.execute(PLAN, person(who)),
        lambda who: two.mine.erase_contact(who, "asked"),
        enroll,
    ):
        runs = two.mine.list_runs(contact_id=who).runs
        assert {run.status for run in runs} == {"cancelled"}, moment.before
        if len(runs) == 2:
            with pytest.raises(ContactSuppressed):
                two.mine.execute(PLAN, Contact(id=f"{who}x", email=f"{who}@elsewhere.org"))


def archiving(
    two: Two, place: str, happens: Callable[[str], object]
) -> Iterator[tuple[str, bool, Moment]]:
    """Archive one ended run after another; says of each whether it has left the log."""

    def end(who: str) -> None:
        two.mine.execute(PLAN, person(who))
        two.mine.cancel_run(run_of(who), "over")
        two.mine.run_until(two.mine.now().tick + DAY)

    def archive(_: str) -> None:
        two.mine.audit.archive(two.mine.now().now, place=place)

    for who, moment in two.every_moment(end, archive, happens):
        try:
            two.mine.get_run(run_of(who))
        except RunArchived:
            yield who, True, moment
        else:
            yield who, False, moment


@pytest.mark.parametrize("of_run", [False, True])
def test_what_is_held_does_not_leave_the_log(two: Two, tmp_path: Path, of_run: bool) -> None:
    def hold(who: str) -> None:
        if of_run:
            two.other.place_hold(run_id=run_of(who), reason="a lawsuit")
        else:
            two.other.place_hold(contact_id=who, reason="a lawsuit")

    for _, left, moment in archiving(two, str(tmp_path / "archives"), hold):
        assert moment.refused is None
        assert not left, moment.before
        last = moment.before
    assert last == "archive", "nothing is asked once it has left"


def test_late_evidence_stays_with_its_run(two: Two, tmp_path: Path) -> None:
    """Whether it comes before the run leaves the log or after."""

    def reply(who: str) -> None:
        two.other.ingest_event("email.replied", who, run_id=run_of(who))

    for who, left, moment in archiving(two, str(tmp_path / "archives"), reply):
        store = two.mine._parts.store
        rows = two.mine._archiver.stream(run_of(who)) if left else store.read_stream(run_of(who))
        assert moment.refused is None
        assert "ChannelEventReceived" in {row.name for row in rows}, moment.before
    assert two.mine.verify_log().valid
    assert all(each.valid for each in two.mine.audit.verify_archives())


def test_an_erased_contact_has_no_key_whatever_is_reported_meanwhile(two: Two) -> None:
    def report(who: str) -> None:
        two.mine.ingest_event("email.replied", who, data={"text": "personal"})

    for who, moment in two.every_moment(
        lambda who: two.mine.grant_consent(who, "email"),
        report,
        lambda who: two.other.erase_contact(who, "asked"),
    ):
        assert moment.refused is None
        key = two.mine._parts.store.contact_keys([who])[who]
        assert not two.mine._parts.keys.standing([key])[key], moment.before
    assert two.mine.keys.status().ok


def test_nobody_who_was_erased_is_held(two: Two) -> None:
    def hold(who: str) -> None:
        with suppress(InvalidInput):
            two.mine.place_hold(contact_id=who, reason="a lawsuit")

    for who, moment in two.every_moment(
        lambda who: two.mine.execute(PLAN, person(who)),
        hold,
        lambda who: two.other.erase_contact(who, "asked"),
    ):
        assert moment.refused is None
        assert who not in {held.contact_id for held in two.mine.holds()}, moment.before


# --- what channels report -------------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True])
def test_an_event_reaches_a_run_that_begins_meanwhile(two: Two, named: bool) -> None:
    """What is in the log before somebody unsubscribes ends by that; what comes after is refused."""
    late = outreach("late")

    def unsubscribe(who: str) -> None:
        run = run_of(who) if named else None
        two.mine.ingest_event("email.unsubscribed", who, run_id=run, data={"by": "link"})

    refused: list[bool] = []
    for who, moment in two.every_moment(
        lambda who: two.mine.execute(PLAN, person(who)),
        unsubscribe,
        lambda who: two.other.execute(late, person(who)),
    ):
        runs = two.mine.list_runs(contact_id=who).runs
        assert {run.status for run in runs} == {"cancelled"}, moment.before
        assert len(runs) == (1 if moment.refused else 2)
        for run in runs:
            assert two.names(run.id).count("ChannelEventReceived") == 1, moment.before
        refused.append(moment.refused is not None)
    assert {True, False} == set(refused)
    assert two.mine.verify_log().valid
    assert_replays(two.mine)


@pytest.mark.parametrize("named", [False, True])
def test_an_event_reaches_a_run_that_begins_meanwhile_although_its_answer_was_lost(
    two: Two, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, late = two.mine.execute(PLAN, person("c")), outreach("late")
    store = two.mine._parts.store
    real = store.decide

    def lost(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(store, "decide", real)
        two.other.execute(late, person("c"))
        real(*given, **more)
        two.other.execute(outreach("later"), person("c"))
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(store, "decide", lost)
    two.mine.ingest_event("email.replied", "c", run_id=first.id if named else None)
    assert len(two.mine.list_runs(contact_id="c").runs) == 3
    told = [two.names(run_id(plan, "c", 1)).count("ChannelEventReceived") for plan in REACHED]
    assert told == [1, 0 if named else 1, 0]


def test_of_many_events_whose_answer_was_lost_those_that_were_refused_are_taken_in(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = two.mine._parts.store
    real = store.commit
    for who in ("a", "b"):
        two.mine.execute(PLAN, person(who))

    def lost(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(store, "commit", real)
        two.other.ingest_event("email.opened", "b")
        real(*given, **more)
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(store, "commit", lost)
    told = two.mine.ingest_events([ChannelEvent("email.replied", who) for who in ("a", "b")])
    assert (told.accepted, told.known, told.errors) == (2, 0, 0)
    assert two.names(contact_stream("a")) == ["ChannelEventReceived"]
    assert two.names(contact_stream("b")) == ["ChannelEventReceived"] * 2


def test_events_that_cannot_be_decided_while_the_database_is_away_are_given_again(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in ("a", "b"):
        two.mine.execute(PLAN, person(who))

    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    events = [ChannelEvent("email.replied", who) for who in ("a", "b")]
    with monkeypatch.context() as outage:
        outage.setattr(two.mine._parts.store, "heads", away)
        with pytest.raises(StoreUnavailable, match="away"):
            two.mine.ingest_events(events)
    assert two.mine.ingest_events(events).accepted == 2


def test_an_event_is_in_no_run_that_began_after_it(two: Two) -> None:
    late, store = outreach("late"), two.mine._parts.store
    reached: list[bool] = []
    for who, moment in two.every_moment(
        lambda who: two.mine.execute(PLAN, person(who)),
        lambda who: two.mine.ingest_event("email.replied", who),
        lambda who: two.other.execute(late, person(who)),
    ):
        (event,) = store.read_stream(contact_stream(who))
        begun, *rest = store.read_stream(run_id(late.id, who, 1))
        reached.append([row.name for row in rest] == ["ChannelEventReceived"])
        assert reached[-1] == (begun.position < event.position), moment.before
    assert {True, False} == set(reached)


def test_an_event_that_two_report_is_taken_in_once(two: Two) -> None:
    for who, moment in two.every_moment(
        lambda who: two.mine.execute(PLAN, person(who)),
        lambda who: two.mine.ingest_event("email.opened", who, event_id=who),
        lambda who: two.other.ingest_event("email.opened", who, event_id=who),
    ):
        assert moment.refused is None
        assert two.names(run_of(who)).count("ChannelEventReceived") == 1, moment.before


# --- projections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run_list", "audit_trail"])
def test_no_run_is_lost_while_a_projection_is_rebuilt(two: Two, name: str) -> None:
    for who, moment in two.every_moment(
        lambda _: None,
        lambda _: two.mine.projections.rebuild(name),
        lambda who: two.other.execute(PLAN, person(who)),
    ):
        assert moment.refused is None
        assert two.mine.list_runs(contact_id=who).total == 1, moment.before
        assert two.mine.audit.query(contact_id=who).total == 1, moment.before
    assert two.mine.projections.verify(name).ok
