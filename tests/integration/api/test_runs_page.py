"""Every example of the Runs page, as written there, translated to Python."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, Engine, ExecutionPlan, create_plan, steps
from dee_es.core.views import RunStatus
from dee_es.errors import AlreadyEnrolled, ContactSuppressed, InvalidInput
from tests.support.engines import (
    BACKENDS,
    DAY,
    EPOCH,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

PAGE_FIELDS = [
    "id",
    "planId",
    "planVersion",
    "contactId",
    "status",
    "currentStep",
    "stepsCompleted",
    "stepsRemaining",
    "startTick",
    "currentTick",
    "startedAt",
    "completedAt",
    "outcome",
    "variables",
]


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    with open_engine(url) as opened:
        publish_basics(opened)
        yield opened


@pytest.fixture
def plan() -> ExecutionPlan:
    return outreach()


@pytest.fixture
def jane() -> Contact:
    return Contact(id="contact_123", email="jane@example.com", firstName="Jane")


def test_a_run_has_exactly_the_fields_of_the_page(
    engine: Engine, plan: ExecutionPlan, jane: Contact
) -> None:
    run = engine.execute(plan, contact=jane, variables={"tier": "gold"})
    shown = json.loads(run.model_dump_json(by_alias=True))
    assert list(shown)[: len(PAGE_FIELDS)] == PAGE_FIELDS
    assert set(shown) - set(PAGE_FIELDS) == {
        "statusReason",
        "resumeTick",
        "version",
        "enrollment",
        "ordinal",
        "parked",
    }
    assert shown["contactId"] == "contact_123"
    assert shown["variables"] == {"tier": "gold"}
    assert shown["startedAt"] == "2026-01-01T00:00:00Z"
    assert (shown["completedAt"], shown["outcome"], shown["currentStep"]) == (None, None, None)
    assert engine.list_runs().runs == (run,)
    assert engine.get_run(run.id) == run


def test_all_active_runs(engine: Engine, plan: ExecutionPlan, jane: Contact) -> None:
    run = engine.execute(plan, contact=jane)
    active = engine.list_runs(status="active")
    assert (active.runs, active.total) == ((run,), 1)
    engine.tick()
    assert engine.list_runs(status="active").total == 0
    assert engine.list_runs(status=["active", "waiting"]).total == 1


def test_runs_of_a_contact(engine: Engine, plan: ExecutionPlan, jane: Contact) -> None:
    run = engine.execute(plan, contact=jane)
    engine.execute(plan, contact=Contact(id="contact_124", email="joe@example.com"))
    assert engine.list_runs(contact_id="contact_123").runs == (run,)


def test_failed_runs_of_the_last_24_hours(engine: Engine, plan: ExecutionPlan) -> None:
    # Without a first name the template cannot be filled in, so these runs fail.
    engine.execute(plan, contact=Contact(id="old", email="old@example.com"))
    engine.run_until(2 * DAY)
    new = engine.execute(plan, contact=Contact(id="new", email="new@example.com"))
    engine.tick()
    failed = engine.list_runs(status="failed", started_after=engine.now().now - timedelta(hours=24))
    assert [run.id for run in failed.runs] == [new.id]
    assert "contact.firstName" in str(failed.runs[0].status_reason)
    assert engine.list_runs(status="failed").total == 2


def test_starting_a_run(engine: Engine, plan: ExecutionPlan) -> None:
    run = engine.execute(plan, contact=Contact(id="contact_123", email="jane@example.com"))
    assert run.status == "active"


def test_pausing_and_resuming(engine: Engine, plan: ExecutionPlan, jane: Contact) -> None:
    run = engine.execute(plan, contact=jane)
    assert engine.pause_run(run.id).status == "paused"
    assert engine.get_run(run.id).status == "paused"
    assert engine.resume_run(run.id).status == "active"


def test_cancelling(engine: Engine, plan: ExecutionPlan, jane: Contact) -> None:
    run = engine.execute(plan, contact=jane)
    cancelled = engine.cancel_run(run.id, "Contact requested removal")
    assert cancelled.status == "cancelled"
    last = engine.get_timeline(run.id)[-1]
    assert (last.action, last.reason) == ("run.cancelled", "Contact requested removal")


def test_completion(engine: Engine, plan: ExecutionPlan, jane: Contact) -> None:
    run = engine.execute(plan, contact=jane)
    engine.tick()
    engine.ingest_event("email.replied", "contact_123", step_id="intro")
    engine.run_until_idle()
    run = engine.get_run(run.id)
    assert (run.status, run.outcome) == ("completed", "replied")
    assert run.completed_at == EPOCH + timedelta(days=3)
    assert (run.steps_remaining, run.current_step) == (0, None)


def test_bulk_execute(engine: Engine, plan: ExecutionPlan) -> None:
    people = [Contact(id=f"c{n}", email=f"c{n}@example.com", firstName="N") for n in range(1000)]
    engine.bulk_execute(plan, people[:30])
    for person in people[30:50]:
        engine.suppress(person.id)
    results = engine.bulk_execute(plan, contacts=people, variables={"season": "spring"})
    assert (results.created, results.skipped, results.errors) == (950, 50, 0)
    assert {refusal.reason for refusal in results.refusals} == {"already_enrolled", "suppressed"}
    assert engine.get_run(engine.list_runs(limit=1).runs[0].id).variables == {"season": "spring"}


def test_bulk_cancel(engine: Engine, plan: ExecutionPlan) -> None:
    old = create_plan(id="old-plan", name="Old", steps=[steps.wait("rest", {"days": 1})])
    people = [{"id": f"c{n}"} for n in range(10)]
    engine.bulk_execute(old, people)
    engine.bulk_execute(plan, people)
    rehearsal = engine.bulk_cancel(
        {"plan_id": "old-plan", "status": "active"}, "Plan deprecated", dry_run=True
    )
    assert (rehearsal.matched, rehearsal.cancelled) == (10, 0)
    result = engine.bulk_cancel({"planId": "old-plan", "status": "active"}, "Plan deprecated")
    assert (result.matched, result.cancelled, result.errors) == (10, 10, 0)
    assert engine.list_runs(plan_id="old-plan", status="cancelled").total == 10
    assert engine.list_runs(plan_id="outreach", status="active").total == 10


def test_counts_by_status(engine: Engine, plan: ExecutionPlan, jane: Contact) -> None:
    old = create_plan(id="old-plan", name="Old", steps=[steps.wait("rest", {"days": 1})])
    engine.bulk_execute(old, [{"id": f"c{n}"} for n in range(5)])
    engine.tick()
    engine.cancel_run(engine.list_runs().runs[0].id, "Not needed")
    engine.run_until(2 * DAY)
    engine.execute(plan, jane)
    counts = engine.count_runs()
    assert list(counts) == list(RunStatus), "each of them, those without a run too"
    assert {status: n for status, n in counts.items() if n} == {
        "active": 1,
        "completed": 4,
        "cancelled": 1,
    }
    for filters in (
        {},
        {"plan_id": "old-plan"},
        {"contact_id": "c1"},
        {"started_after": EPOCH + timedelta(days=1)},
        {"plan_id": "outreach", "started_before": EPOCH + timedelta(days=1)},
    ):
        for status, n in engine.count_runs(**filters).items():  # type: ignore[arg-type]
            assert n == engine.list_runs(status, **filters).total, (status, filters)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="started_after"):
        engine.count_runs(started_after=datetime(2026, 1, 1))
    with pytest.raises(InvalidInput, match="plan_id"):
        engine.count_runs(plan_id=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["plan_id", "contact_id"])
@pytest.mark.parametrize("given", ["", "with space"])
def test_a_filter_that_is_no_id_is_refused_by_its_name(
    engine: Engine, name: str, given: str
) -> None:
    """So that what was left empty by mistake is not taken for no filter, nor for one."""
    chosen: dict[str, Any] = {name: given}
    for ask in (engine.list_runs, engine.count_runs, engine.replay_all):
        with pytest.raises(InvalidInput, match=f"{name}: must be 1 to 128 characters"):
            ask(**chosen)
    with pytest.raises(InvalidInput, match=f"{name}: must be 1 to 128 characters"):
        engine.bulk_pause(chosen, "a mistake")


def test_enrolled_and_suppressed_contacts_are_refused(
    engine: Engine, plan: ExecutionPlan, jane: Contact
) -> None:
    run = engine.execute(plan, contact=jane)
    with pytest.raises(AlreadyEnrolled, match=run.id):
        engine.execute(plan, contact=jane)
    engine.suppress(email="JOE@example.com")
    before = engine.health().position
    for _ in range(2):
        with pytest.raises(ContactSuppressed, match="contact_9"):
            engine.execute(plan, contact=Contact(id="contact_9", email="joe@example.com"))
    # The refusal of a suppressed contact is recorded, once.
    assert engine.health().position == before + 1
    engine.unsuppress(email="joe@example.com")
    assert engine.execute(plan, Contact(id="contact_9", email="joe@example.com")).status == "active"


def test_a_repeated_call_does_not_act_twice(
    engine: Engine, plan: ExecutionPlan, jane: Contact
) -> None:
    first = engine.execute(plan, jane, command_id="call-1")
    assert engine.execute(plan, jane, command_id="call-1") == first
    paused = engine.pause_run(first.id, command_id="call-2")
    assert engine.pause_run(first.id, command_id="call-2") == paused
    people = [Contact(id=f"c{n}") for n in range(10)]
    once = engine.bulk_execute(plan, people, batch_size=3, command_id="call-3")
    again = engine.bulk_execute(plan, people, batch_size=3, command_id="call-3")
    assert (once.created, again.created) == (10, 10)
    assert engine.list_runs().total == 11


def test_a_run_that_starts_later(engine: Engine, plan: ExecutionPlan, jane: Contact) -> None:
    run = engine.execute(plan, jane, start_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert (run.status, run.start_tick, run.started_at) == ("pending", DAY, EPOCH)
    engine.run_until(DAY - 1)
    assert engine.get_run(run.id).status == "pending"
    engine.run_until(DAY)
    assert engine.get_run(run.id).status == "waiting"


def test_a_contact_is_enrolled_again_after_the_end(
    engine: Engine, plan: ExecutionPlan, jane: Contact
) -> None:
    first = engine.execute(plan, jane)
    engine.run_until_idle()
    second = engine.execute(plan, jane)
    assert (first.enrollment, second.enrollment) == (1, 2)
    assert second.id != first.id
    once = outreach("once", reenroll="never")
    engine.execute(once, jane)
    engine.run_until_idle()
    with pytest.raises(AlreadyEnrolled, match="never"):
        engine.execute(once, jane)


def test_pages_by_cursor_and_by_offset_are_the_same(engine: Engine, plan: ExecutionPlan) -> None:
    engine.bulk_execute(plan, [Contact(id=f"c{n}") for n in range(25)], batch_size=7)
    whole = engine.list_runs(limit=100)
    assert whole.total == 25
    by_offset = [engine.list_runs(limit=10, offset=o).runs for o in (0, 10, 20)]
    assert [run for page in by_offset for run in page] == list(whole.runs)
    by_cursor, cursor = [], None
    while True:
        page = engine.list_runs(limit=10, cursor=cursor)
        assert page.total == 25
        by_cursor.extend(page.runs)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert by_cursor == list(whole.runs)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_a_page_that_is_full_and_the_last_offers_no_other(
    engine: Engine, plan: ExecutionPlan, size: int
) -> None:
    engine.bulk_execute(plan, [Contact(id=f"c{n}") for n in range(8)])
    seen, pages, cursor = 0, 0, None
    while pages == 0 or cursor is not None:
        page = engine.list_runs(limit=size, cursor=cursor)
        seen, pages, cursor = seen + len(page.runs), pages + 1, page.next_cursor
    assert (seen, pages) == (8, 8 // size)
    assert engine.list_runs(contact_id="c3", limit=1).next_cursor is None
    assert engine.list_runs(status=["pending", "active"], limit=8).next_cursor is None
    assert engine.list_runs(limit=4, offset=4).next_cursor is None
    assert engine.list_runs(limit=4, offset=3).next_cursor is not None
    assert engine.list_runs(plan_id="nowhere", limit=1).next_cursor is None


def test_what_no_page_gave_is_no_cursor(engine: Engine, plan: ExecutionPlan) -> None:
    engine.bulk_execute(plan, [Contact(id=f"c{n}") for n in range(3)])
    given = engine.list_runs(limit=1).next_cursor
    assert given is not None
    _, filters = json.loads(base64.urlsafe_b64decode(given))
    made = ["[" * 100_000, *(json.dumps([at, filters]) for at in (2**70, 2**63, 0, -5, True))]
    for text in (*made, "7", "{}", "[]"):
        with pytest.raises(InvalidInput, match="cursor: is not one that a page gave"):
            engine.list_runs(cursor=base64.urlsafe_b64encode(text.encode()).decode())
