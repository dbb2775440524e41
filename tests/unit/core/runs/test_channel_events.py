"""Channel events: what they make a run end with, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.past.replay import replay
from tests.support.runs.given import Story, given, plan_of

STEPS = (
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.send_email("again", "hello", "Hi again"),
    steps.wait("longer", {"hours": 1}),
)
PLAIN = plan_of(*STEPS)
ON_REPLY = plan_of(*STEPS, exits={"events.hasReply( any )": "replied"})

UNWELCOME = [
    ("email.unsubscribed", {}, "unsubscribed"),
    ("email.complained", {}, "complained"),
    ("email.bounced", {"kind": "hard"}, "undeliverable"),
    ("email.bounced", {}, "undeliverable"),
]


def waiting(plan: object = PLAIN) -> Story:
    return given(plan).enrolled(0).ticked(0).delivered().stands("waiting")  # type: ignore[arg-type]


OPEN: dict[str, Callable[[object], Story]] = {
    "pending": lambda plan: given(plan).enrolled(0, start=500),  # type: ignore[arg-type]
    "active": lambda plan: given(plan).enrolled(0).ticked(0),  # type: ignore[arg-type]
    "waiting": waiting,
    "paused": lambda plan: waiting(plan).paused(1),
    "failed": lambda plan: given(plan).enrolled(0).ticked(0).failed(),  # type: ignore[arg-type]
}


def exited(outcome: str, condition: str, saw: str | None = None) -> e.RunCompleted:
    """The end by a condition that saw one value, and that it was true."""
    return e.RunCompleted(outcome, condition, personal=e.Seen({saw or condition: True}))


# --- what is recorded -----------------------------------------------------------------------------


def test_an_event_is_recorded_with_all_it_came_with() -> None:
    run = waiting().received("email.clicked", 7, step="intro", url="https://example.com")
    run.then(
        e.ChannelEventReceived(
            type="email.clicked",
            contact_id="contact",
            event_id="event_6",
            occurred_tick=7,
            run_id=run.run_id,
            step_id="intro",
            personal=e.Detail({"url": "https://example.com"}),
        )
    )
    run.stands("waiting", current_tick=7, resume_tick=3600).due(3600)


def test_an_event_that_names_no_step_is_about_the_last_message_of_its_channel() -> None:
    run = waiting().ran_until(3601).received("email.opened", 3700)
    (event,) = run.news
    assert isinstance(event, e.ChannelEventReceived)
    assert event.step_id == "again"


def test_before_any_message_an_event_is_about_no_step() -> None:
    (event,) = given(PLAIN).enrolled(0).received("email.opened", 0).news
    assert isinstance(event, e.ChannelEventReceived)
    assert event.step_id is None


@pytest.mark.parametrize("kind", ["email.delivered", "email.opened", "email.clicked"])
def test_an_event_nobody_waits_for_changes_nothing(kind: str) -> None:
    run = waiting(ON_REPLY)
    before = run.row
    run.received(kind, 7).then(e.ChannelEventReceived)
    run.stands("waiting", resume_tick=3600, steps_completed=before.steps_completed).due(3600)


# --- exit conditions ------------------------------------------------------------------------------


@pytest.mark.parametrize("situation", OPEN.values(), ids=OPEN)
def test_an_event_that_makes_an_exit_condition_hold_ends_any_run_on_the_next_tick(
    situation: Callable[[object], Story],
) -> None:
    run = situation(ON_REPLY)
    status = run.row.status
    run.received("email.replied", 9).then(e.ChannelEventReceived).stands(status).due(10)
    (event,) = run.news
    assert isinstance(event, e.ChannelEventReceived)
    assert (event.exit_condition, event.exit_outcome) == ("events.hasReply(any)", "replied")
    run.ticked(9).then().stands(status)
    run.ticked(10).then(exited("replied", "events.hasReply(any)"))
    run.stands(
        "completed", outcome="replied", completed_tick=10, steps_remaining=0, current_step=None
    ).rests()


def test_events_that_go_on_coming_do_not_put_off_the_exit() -> None:
    run = waiting(ON_REPLY).received("email.replied", 9).received("email.replied", 10).due(10)
    run.ticked(10).stands("completed", outcome="replied", completed_tick=10)


def test_nothing_is_sent_between_the_event_and_the_exit() -> None:
    run = waiting(ON_REPLY).ticked(3600).due(3601).received("email.replied", 3601).due(3602)
    run.ticked(3601).then().ticked(3602).then(e.RunCompleted)


def test_the_outcome_of_a_send_under_way_ends_the_run_at_once_if_a_condition_holds() -> None:
    run = given(ON_REPLY).enrolled(0).ticked(0).received("email.replied", 0).delivered(0)
    run.then(e.StepCompleted, exited("replied", "events.hasReply(any)"))
    run.stands("completed", steps_completed=1)


def test_the_first_condition_that_holds_gives_the_outcome() -> None:
    exits = {'events.hasReply("again")': "late", "events.hasReply(any)": "replied"}
    both = plan_of(*STEPS, exits=exits)
    waiting(both).received("email.replied", 9, step="intro").ticked(10).then(
        exited("replied", "events.hasReply(any)")
    )
    waiting(both).received("email.replied", 9, step="again").ticked(10).then(
        exited("late", 'events.hasReply("again")')
    )


def test_exit_conditions_are_checked_before_the_first_step() -> None:
    plan = plan_of(*STEPS, exits={"variables.vip == true": "vip"})
    run = given(plan, variables={"vip": True}).enrolled(0).ticked(0)
    run.then(exited("vip", "variables.vip == true", "variables.vip"))
    run.stands("completed", outcome="vip", steps_completed=0)
    given(plan, variables={"vip": 1}).enrolled(0).ticked(0).then(e.StepEntered, e.StepDispatched)


def test_exit_conditions_are_checked_before_every_step() -> None:
    called = plan_of(
        steps.send_voice("call", "script"),
        steps.wait("pause", {"hours": 1}),
        exits={'call.outcome("call") == "answered"': "talked"},
    )
    run = given(called).enrolled(0).ticked(0).pending()
    run.received("call.completed", 60, outcome="answered")
    run.ticked(61).then(e.RunCompleted).stands("completed", outcome="talked", steps_completed=1)


def test_an_exit_condition_ends_a_scheduled_run_before_its_first_step() -> None:
    plan = plan_of(*STEPS, exits={"contact.attributes.customer == true": "customer"})
    run = given(plan, attributes={"customer": True}).enrolled(0, start=50).ticked(50)
    run.then(e.RunStarted, e.RunCompleted).stands("completed", outcome="customer")


# --- unsubscribed, complained, undeliverable ------------------------------------------------------


@pytest.mark.parametrize("situation", OPEN.values(), ids=OPEN)
@pytest.mark.parametrize("kind, data, cause", UNWELCOME)
def test_whoever_wants_no_more_is_left_alone_at_once(
    situation: Callable[[object], Story], kind: str, data: dict[str, str], cause: str
) -> None:
    run = situation(PLAIN).received(kind, 9, **data)
    run.then(e.ChannelEventReceived, e.RunCancelled(cause))
    run.rests()
    run.stands("cancelled", status_reason=cause, outcome=None, completed_tick=9)


@pytest.mark.parametrize("situation", OPEN.values(), ids=OPEN)
@pytest.mark.parametrize(
    "kind, data, when",
    [
        ("email.unsubscribed", {}, "contact.unsubscribed"),
        ("email.complained", {}, "contact.unsubscribed"),
        ("email.bounced", {"kind": "hard"}, "contact.bounced"),
    ],
)
def test_with_a_matching_exit_condition_the_run_completes_with_its_outcome(
    situation: Callable[[object], Story], kind: str, data: dict[str, str], when: str
) -> None:
    run = situation(plan_of(*STEPS, exits={when: "gone"})).received(kind, 9, **data)
    run.then(e.ChannelEventReceived, exited("gone", when))
    run.rests()
    run.stands("completed", outcome="gone", completed_tick=9)


def test_another_exit_condition_does_not_match() -> None:
    waiting(ON_REPLY).received("email.unsubscribed", 9).stands("cancelled", outcome=None)


@pytest.mark.parametrize("kind", ["opened", "clicked", "replied", "delivered", "bounced"])
def test_whoever_reads_or_answers_has_not_unsubscribed_and_can_be_reached(kind: str) -> None:
    exits = {"contact.unsubscribed": "gone", "contact.bounced": "lost"}
    run = waiting(plan_of(*STEPS, exits=exits))
    run.received(f"email.{kind}", 9, **({"kind": "soft"} if kind == "bounced" else {}))
    assert (run.state.unsubscribed, run.state.bounced, run.state.exit) == (False, False, None)


def test_an_exit_that_was_already_due_still_gives_the_outcome() -> None:
    run = waiting(ON_REPLY).received("email.replied", 9).received("email.unsubscribed", 9)
    run.stands("completed", outcome="replied", completed_tick=9)


@pytest.mark.parametrize("before", OPEN.values(), ids=OPEN)
def test_an_erasure_ends_a_run_at_once(before: Callable[[object], Story]) -> None:
    before(ON_REPLY).erasing(2).then(e.RunCancelled("erasure")).stands("cancelled").rests()


@pytest.mark.parametrize("before", OPEN.values(), ids=OPEN)
def test_an_erasure_leaves_a_run_the_outcome_that_its_exit_condition_gave_it(
    before: Callable[[object], Story],
) -> None:
    run = before(ON_REPLY).received("email.replied", 2).erasing(2)
    run.then(exited("replied", "events.hasReply(any)")).stands("completed", outcome="replied")
    run.rests()


def test_an_erasure_keeps_to_a_condition_that_holds_though_no_event_made_it_so() -> None:
    plan = plan_of(*STEPS, exits={"contact.attributes.tier == 'gold'": "a customer"})
    for tier, end in (("gold", e.RunCompleted), ("tin", e.RunCancelled)):
        given(plan, attributes={"tier": tier, "firstName": "J"}).enrolled(0).erasing(1).then(end)


def test_an_erasure_keeps_to_a_condition_that_held_when_the_run_was_to_end_by_it() -> None:
    """As the next tick would have."""
    exits = {"events.hasReply(any) and not events.hasClick(any)": "only replied"}
    run = waiting(plan_of(*STEPS, exits=exits)).received("email.replied", 2)
    run.received("email.clicked", 2).erasing(2).stands("completed", outcome="only replied")


def test_however_an_erasure_ended_a_run_it_replays() -> None:
    """Also where older code cancelled it though a condition held."""
    new = waiting(ON_REPLY).received("email.replied", 2).erasing(2)
    old = waiting(ON_REPLY).received("email.replied", 2).erasing_formerly(2).stands("cancelled")
    for run in (new, old):
        assert replay(run.history, lambda *_, of=run.materials: of).verdict == "identical"


def test_an_ended_run_is_not_ended_again_by_an_erasure() -> None:
    waiting().cancelled(1).refuses("cancelled", lambda run: run.erasing(2))


def test_a_soft_bounce_ends_nothing() -> None:
    plan = plan_of(*STEPS, exits={"contact.bounced": "gone"})
    run = waiting(plan).received("email.bounced", 9, kind="soft")
    run.then(e.ChannelEventReceived, e.StepRetried)
    run.stands("waiting", resume_tick=3600).due(3600)


def test_a_send_under_way_when_somebody_unsubscribes_is_evidence() -> None:
    run = given(PLAIN).enrolled(0).ticked(0).received("email.unsubscribed", 0).delivered(0)
    run.then(e.StepCompleted("intro", "delivered", "msg_1"))
    run.stands("cancelled", steps_completed=0)


# --- after the end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["email.replied", "email.unsubscribed", "email.bounced", "call.completed"]
)
@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_a_late_event_is_evidence_and_changes_nothing(kind: str, end: str) -> None:
    exits = {"events.hasReply(any)": "replied", "contact.unsubscribed": "gone"}
    run = waiting(plan_of(*STEPS, exits=exits))
    run = run.ran_until(10_000) if end == "completed" else run.cancelled(10)
    before, state = run.row, run.state
    run.received(kind, 20_000, step="intro").then(e.ChannelEventReceived).due(None)
    moved = {field: getattr(run.state, field) for field in ("version", "last_tick", "command_ids")}
    assert run.state == replace(state, **moved)
    (event,) = run.news
    assert isinstance(event, e.ChannelEventReceived)
    assert (event.ended, event.exit_condition, event.exit_outcome) == (True, None, None)
    run.stands(
        end,
        outcome=before.outcome,
        status_reason=before.status_reason,
        completed_tick=before.completed_tick,
        steps_completed=before.steps_completed,
        steps_remaining=0,
        current_step=None,
        version=before.version + 1,
        current_tick=20_000,
    )


def test_an_out_of_office_note_is_no_reply() -> None:
    run = waiting(ON_REPLY).received("email.replied", 5, step="intro", autoReply=True)
    run.then(e.ChannelEventReceived).due(3600)
    run.received("email.replied", 6, step="intro").due(7).ticked(7).stands("completed")


def test_of_several_exit_conditions_the_first_defined_counts_whatever_came_first() -> None:
    plan = plan_of(
        *STEPS, exits={'events.hasReply("intro")': "replied", 'events.hasClick("intro")': "clicked"}
    )
    for order in (("email.replied", "email.clicked"), ("email.clicked", "email.replied")):
        run = waiting(plan)
        for kind in order:
            run.received(kind, 5, step="intro")
        assert run.ticked(6).state.outcome == "replied"
