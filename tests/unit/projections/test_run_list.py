"""The run list: one row a run, and the counts it is part of."""

from __future__ import annotations

from itertools import product

import pytest
from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.registry import REGISTRY
from dee_es.core.views import ALL_BUCKETS, ANY, BUCKET, RunRow, RunStatus
from projections import RUN_LIST
from tests.support.runs.given import ORDINAL, Story, given, plan_of

PLAN = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.end("over", "done"),
)


def fold(story: Story, row: RunRow | None = None, after: int = 0) -> RunRow:
    """The row after the story's events behind version `after`."""
    for event in story.history[after:]:
        row = RUN_LIST.fold(row, event)
    assert row is not None
    return row


def test_a_row_says_where_the_run_stands() -> None:
    run = given(PLAN).enrolled(5).ticked(5).delivered(5)
    assert fold(run) == RunRow(
        run_id=run.run_id,
        ordinal=ORDINAL,
        plan_id="plan",
        plan_version=1,
        contact_id="contact",
        enrollment=1,
        status="waiting",
        current_step="pause",
        steps_completed=1,
        steps_remaining=2,
        created_tick=5,
        start_tick=5,
        current_tick=5,
        completed_tick=None,
        outcome=None,
        status_reason=None,
        resume_tick=3605,
        version=6,
    )


def test_a_row_can_be_folded_further_from_any_point() -> None:
    run = given(PLAN).enrolled().ticked(0).failed(retryable=True).paused(3).resumed(9)
    run.ran_until(10_000).stands("completed")
    for version in range(1, len(run.history)):
        row = None
        for event in run.history[:version]:
            row = RUN_LIST.fold(row, event)
        assert fold(run, row, after=version) == run.row


def test_folding_changes_no_row_in_place() -> None:
    run = given(PLAN).enrolled()
    before = run.row
    run.cancelled(1)
    assert before.status == "active"


def test_a_row_holds_nothing_personal() -> None:
    run = given(PLAN, variables={"secret": "xyzzy"}).enrolled().ticked(0)
    for secret in ("jane", "Jane", "555", "xyzzy", "Vienna"):
        assert secret not in repr(fold(run))


@pytest.mark.parametrize(
    "stream", ["contact:run_x", "plan:run_x", "template:t", "system", "policy:p"]
)
def test_other_streams_have_no_row(stream: str) -> None:
    event = e.RecordedEvent(stream, 1, "PlanPublished", 1, META, e.PlanPublished({}))
    assert RUN_LIST.key(event) is None


def test_the_row_of_a_run_is_found_by_its_id() -> None:
    run = given(PLAN).enrolled().ticked(0)
    assert {RUN_LIST.key(event) for event in run.history} == {run.run_id}
    assert RUN_LIST.table.key == "run_id"


META = e.Meta(9, "cmd_9", "x", 0)
NEUTRAL = [
    e.StepFailed("intro", "x"),
    e.OutcomeUnknown("intro", "key", "x"),
    e.ChannelEventReceived("email.opened", "contact", "event_1", 9),
]


@pytest.mark.parametrize("event", NEUTRAL, ids=lambda event: type(event).__name__)
def test_some_events_only_move_the_version_and_the_tick(event: e.Event) -> None:
    run = given(PLAN).enrolled().ticked(0)
    name = type(event).__name__
    after = RUN_LIST.fold(run.row, e.RecordedEvent(run.run_id, 4, name, 4, META, event))
    assert (after.version, after.current_tick) == (4, 9)
    same = {
        f: getattr(after, f)
        for f in RunRow.__struct_fields__
        if f not in ("version", "current_tick")
    }
    assert same == {f: getattr(run.row, f) for f in same}


def test_the_row_follows_every_event_a_run_can_have() -> None:
    """`Story` holds the row against the state after each event; here is one of each."""
    call = plan_of(
        steps.branch("first", [{"when": "default", "goto": "call"}]),
        steps.send_voice("call", "script"),
    )
    stories = [
        given(PLAN).enrolled(0, start=5).ticked(5, suppressed=[("global", "")]).ran_until(9999),
        given(PLAN).enrolled().ticked(0).failed(retryable=True).paused(1).resumed(2).ticked(3),
        given(PLAN).enrolled().ticked(0).failed().retried(1),
        given(PLAN).enrolled().ticked(0).unknown().resolved(1, "delivered"),
        given(call).enrolled().ticked(0).ticked(1).pending().received("call.completed", 2),
        given(PLAN).enrolled().cancelled(1),
    ]
    seen = {event.name for story in stories for event in story.history}
    of_runs = ("Run", "Step", "Wait", "Branch", "Outcome", "Channel")
    assert seen == {name for name in REGISTRY if name.startswith(of_runs)}


# --- counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordinal, bucket", [(1, 0), (BUCKET - 1, 0), (BUCKET, 1), (9 * BUCKET, 9)])
def test_a_run_is_counted_by_plan_status_and_bucket_and_by_any_of_them(
    ordinal: int, bucket: int
) -> None:
    row = replace(given(PLAN).enrolled().row, ordinal=ordinal)
    expected = set(product(("plan", ANY), ("active", ANY), (bucket, ALL_BUCKETS)))
    counts = list(RUN_LIST.tally(row))
    assert set(counts) == expected
    assert len(counts) == len(expected) == 8


def test_the_statuses_are_those_of_the_page() -> None:
    assert [status.value for status in RunStatus] == [
        "pending",
        "active",
        "waiting",
        "paused",
        "completed",
        "failed",
        "cancelled",
    ]
    assert [status.value for status in RunStatus if status.ended] == ["completed", "cancelled"]
