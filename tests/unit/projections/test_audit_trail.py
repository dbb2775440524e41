"""The audit trail: one row for every event, with what a search asks for."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.ids import is_run
from dee_es.core.projection import former_of
from dee_es.core.registry import ACTIONS, REGISTRY
from dee_es.core.views import AuditRow, AuditRowV2, ContactRunRow
from projections import AUDIT_TRAIL
from tests.support.runs.given import given, plan_of

META = e.Meta(9, "cmd_1", "x", 0, actor="ann", reason="because")


def row(stream: str, event: e.Event, meta: e.Meta = META) -> AuditRow:
    """The entry of an event at version 3 of its stream and position 40 of the log."""
    of = ContactRunRow(stream, "c", "p") if is_run(stream) else None
    return AUDIT_TRAIL.line(of, e.RecordedEvent(stream, 3, type(event).__name__, 40, meta, event))


def test_a_row_holds_what_a_search_asks_for() -> None:
    assert row("run_x", e.StepCompleted("intro", "delivered")) == AuditRow(
        position=40,
        version=3,
        tick=9,
        stream_id="run_x",
        action="step.executed",
        plan_id="p",
        contact_id="c",
        actor="ann",
        reason="because",
        about_run_id=None,
    )


def test_version_2_holds_the_same_and_the_run_and_step_besides() -> None:
    former = former_of(AUDIT_TRAIL)
    assert former is not None
    assert (former.table.version, former_of(former)) == (2, None)
    recorded = e.RecordedEvent(
        "run_x", 3, "StepCompleted", 40, META, e.StepCompleted("intro", "delivered")
    )
    of = ContactRunRow("run_x", "c", "p")
    before, after = former.line(of, recorded), AUDIT_TRAIL.line(of, recorded)
    assert isinstance(before, AuditRowV2)
    assert (before.run_id, before.step_id) == ("run_x", "intro")
    shared = set(AuditRowV2.__struct_fields__) & set(AuditRow.__struct_fields__)
    assert set(AuditRowV2.__struct_fields__) - shared == {"run_id", "step_id"}
    assert all(getattr(before, name) == getattr(after, name) for name in shared)


def test_every_event_has_a_row_of_its_own() -> None:
    plan = plan_of(steps.send_email("intro", "hello", "Hi"), steps.end("over", "done"))
    run = given(plan).enrolled().ticked(0).delivered()
    assert AUDIT_TRAIL.lines.key == "position"
    of = None
    lines = []
    for event in run.history:
        assert AUDIT_TRAIL.key(event) == event.stream_id
        of = AUDIT_TRAIL.fold(of, event)
        lines.append(AUDIT_TRAIL.line(of, event))
    assert [line.position for line in lines] == [event.position for event in run.history]
    assert {line.contact_id for line in lines} == {of.contact_id}
    assert {line.plan_id for line in lines} == {plan.id}
    actions = [line.action for line in lines]
    assert actions == [
        "run.started",
        "step.entered",
        "step.dispatched",
        "step.executed",
        "step.entered",
        "run.completed",
    ]


@pytest.mark.parametrize(
    "stream, event, run, plan, contact",
    [
        ("run_x", e.RunStarted("p", 1, "c", 1, 0, 3), "run_x", "p", "c"),
        ("run_x", e.RunFailed("x"), "run_x", "p", "c"),
        ("plan:p", e.PlanPublished({}), None, "p", None),
        ("template:t", e.TemplatePublished({}), None, None, None),
        ("contact:c", e.ContactSuppressed("c", "global"), None, None, "c"),
        ("contact:a:b", e.ContactUnsuppressed("a:b", "global"), None, None, "a:b"),
        ("contact:c", e.EnrollmentRefused("c", "p", "suppression", "global"), None, "p", "c"),
        ("contact:run_x", e.ContactSuppressed("run_x", "global"), None, None, "run_x"),
        ("system", e.ClockStarted(0, 1000, "manual"), None, None, None),
        ("system", e.HoldPlaced("hold_1", "run_x"), "run_x", None, None),
    ],
)
def test_an_entry_is_found_by_run_plan_and_contact(
    stream: str, event: e.Event, run: str | None, plan: str | None, contact: str | None
) -> None:
    entry = row(stream, event)
    assert (entry.run_id, entry.plan_id, entry.contact_id) == (run, plan, contact)


def test_a_channel_event_is_found_by_its_contact_in_both_streams() -> None:
    event = e.ChannelEventReceived("email.opened", "c", "event_1", 0, run_id="run_x", step_id="s")
    assert (row("run_x", event).run_id, row("run_x", event).contact_id) == ("run_x", "c")
    assert (row("contact:c", event).run_id, row("contact:c", event).contact_id) == (None, "c")


def test_an_engine_s_own_decision_has_no_actor() -> None:
    assert row("run_x", e.RunFailed("x"), e.Meta(9, "cmd", "tick", 0)).actor is None


def test_an_entry_holds_nothing_personal() -> None:
    message = e.Message("jane@example.com", "Hi Jane")
    event = e.StepDispatched("intro", "email", "key", 1, 1, "digest", personal=message)
    assert "ane" not in repr(row("run_x", event)).replace("plane", "")


def test_every_name_has_an_action() -> None:
    assert {entry.action for entry in REGISTRY.values()} == ACTIONS


def test_a_long_reason_is_kept_as_far_as_it_can_be_searched() -> None:
    meta = e.Meta(9, "cmd", "cancel", 0, reason="x" * 3000)
    assert row("run_x", e.RunCancelled("command"), meta).reason == "x" * 500
