"""The contact history: what is told of a contact, and under which heading."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.registry import REGISTRY
from dee_es.core.views import ContactEntryRow, ContactRunRow
from projections import CONTACT_HISTORY
from tests.support.runs.given import Story, given, plan_of

HOUR, DAY = 3600, 86_400
PLAN = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.end("over", "done"),
)
CALL = plan_of(
    steps.branch("first", [{"when": "default", "goto": "call"}]),
    steps.send_voice("call", "script"),
)
LATER = {"limits": {"warmUp": {"default": {"startTick": DAY, "perDay": [9]}}, "effect": "defer"}}
META = e.Meta(9, "cmd_1", "x", 0)

Told = tuple[str, str, str | None, str | None, str | None, int | None]


def lines_of(story: Story) -> list[ContactEntryRow]:
    row: ContactRunRow | None = None
    lines = []
    for event in story.history:
        assert CONTACT_HISTORY.key(event) == story.run_id
        row = CONTACT_HISTORY.fold(row, event)
        lines.append(CONTACT_HISTORY.line(row, event))
    return [line for line in lines if line is not None]


def told(story: Story) -> list[Told]:
    """Of every entry: heading, action, step, rule, detail and tick."""
    return [
        (line.kind, line.action, line.step_id, line.rule, line.detail, line.until_tick)
        for line in lines_of(story)
    ]


def alone(stream: str, event: e.Event) -> ContactEntryRow | None:
    """The entry of an event outside of any run, at position 40."""
    recorded = e.RecordedEvent(stream, 3, type(event).__name__, 40, META, event)
    assert CONTACT_HISTORY.key(recorded) is None
    return CONTACT_HISTORY.line(None, recorded)


def sent_to_intro() -> Story:
    return given(PLAN).enrolled().ticked(0)


BEGUN: Told = ("run", "run.started", None, None, None, None)
SENDS: Told = ("send", "step.dispatched", "intro", None, "email", None)
STORIES: list[tuple[str, Callable[[], Story], list[Told]]] = [
    (
        "all the way",
        lambda: given(PLAN).enrolled().ran_until(DAY),
        [
            BEGUN,
            SENDS,
            ("send", "step.executed", "intro", None, "delivered", None),
            ("wait", "wait.started", "pause", None, None, HOUR),
            ("wait", "wait.completed", "pause", None, None, None),
            ("run", "run.completed", "over", None, "done", None),
        ],
    ),
    (
        "against the list",
        lambda: given(PLAN).enrolled().ticked(0, suppressed=[("global", "")]),
        [
            BEGUN,
            (
                "refusal",
                "step.skipped",
                "intro",
                "suppression",
                "the contact is suppressed (global)",
                None,
            ),
            ("wait", "wait.started", "pause", None, None, HOUR),
        ],
    ),
    (
        "put off by a rule",
        lambda: given(PLAN).under(LATER).enrolled().ticked(0),
        [
            BEGUN,
            (
                "refusal",
                "step.deferred",
                "intro",
                "limits",
                "the warm-up of the sender has not begun; it opens at 2025-01-02 00:00 UTC",
                DAY,
            ),
        ],
    ),
    (
        "tried again",
        lambda: sent_to_intro().failed("busy", retryable=True),
        [BEGUN, SENDS, ("send", "error.retried", "intro", None, "busy", 60)],
    ),
    (
        "failed",
        lambda: sent_to_intro().failed("refused").retried(1).cancelled(2),
        [
            BEGUN,
            SENDS,
            ("send", "error.occurred", "intro", None, "refused", None),
            ("run", "run.failed", "intro", None, "refused", None),
            ("run", "run.retried", None, None, None, None),
            ("run", "run.cancelled", None, None, "cancelled", None),
        ],
    ),
    (
        "settled",
        lambda: sent_to_intro().unknown().resolved(1, "delivered").paused(2).resumed(3),
        [
            BEGUN,
            SENDS,
            ("send", "error.outcome_unknown", "intro", None, "connection lost", None),
            ("run", "run.failed", "intro", None, "outcome unknown: connection lost", None),
            ("send", "step.resolved", "intro", None, "delivered", None),
            ("run", "run.paused", None, None, None, None),
            ("run", "run.resumed", None, None, None, None),
        ],
    ),
    (
        "called",
        lambda: given(CALL).enrolled(0, start=1).ticked(1).ticked(2).pending(),
        [
            ("run", "run.scheduled", None, None, None, None),
            BEGUN,
            ("send", "step.dispatched", "call", None, "voice", None),
            ("send", "step.pending", "call", None, None, None),
        ],
    ),
]


@pytest.mark.parametrize("story, expected", [pytest.param(*rest, id=id) for id, *rest in STORIES])
def test_what_is_told_of_a_run(story: Callable[[], Story], expected: list[Told]) -> None:
    assert told(story()) == expected


def test_the_pause_before_another_attempt_is_no_refusal() -> None:
    of = ContactRunRow("run_x", "c", "p")
    for rule, kind in (("retry", "wait"), ("limits", "refusal")):
        event = e.StepDeferred("intro", rule, "x", 9)
        line = CONTACT_HISTORY.line(
            of, e.RecordedEvent("run_x", 3, "StepDeferred", 40, META, event)
        )
        assert line is not None
        assert line.kind == kind


def test_every_entry_of_a_run_is_filed_under_its_contact() -> None:
    run = given(PLAN).enrolled(5).ticked(5)
    lines = lines_of(run)
    assert [line.position for line in lines] == [1, 3]
    assert {(line.contact_id, line.run_id, line.plan_id, line.tick) for line in lines} == {
        ("contact", run.run_id, "plan", 5)
    }


@pytest.mark.parametrize(
    "stream, event, kind, action, run, plan, detail",
    [
        (
            "contact:c", e.ContactSuppressed("c", "channel", "email"),
            "contact", "contact.suppressed", None, None, "channel",
        ),
        (
            "contact:c", e.ContactUnsuppressed("c", "global"),
            "contact", "contact.unsuppressed", None, None, "global",
        ),
        ("contact:c", e.ContactErased("c"), "contact", "contact.erased", None, None, None),
        (
            "contact:c", e.ConsentGranted("c", "email"),
            "contact", "consent.granted", None, None, "email",
        ),
        (
            "contact:c", e.ConsentRevoked("c", "voice"),
            "contact", "consent.revoked", None, None, "voice",
        ),
        (
            "contact:c", e.EnrollmentRefused("c", "p", "suppression", "global"),
            "refusal", "enrollment.refused", None, "p", "global",
        ),
        (
            "contact:c", e.ChannelEventReceived("email.opened", "c", "e1", 0, "run_x", "s"),
            "event", "event.received", "run_x", None, "email.opened",
        ),
    ],
)  # fmt: skip
def test_what_is_told_of_the_contact_itself(
    stream: str,
    event: e.Event,
    kind: str,
    action: str,
    run: str | None,
    plan: str | None,
    detail: str | None,
) -> None:
    line = alone(stream, event)
    assert line is not None
    assert (line.position, line.contact_id, line.tick) == (40, "c", 9)
    assert (line.kind, line.action, line.run_id, line.plan_id, line.detail) == (
        kind, action, run, plan, detail,
    )  # fmt: skip


@pytest.mark.parametrize(
    "stream, event",
    [
        ("plan:p", e.PlanPublished({})),
        ("system", e.HoldPlaced("hold_1", "run_x")),
        ("system", e.ClockStarted(0, 1000, "manual")),
    ],
)
def test_what_is_about_no_contact_is_not_told(stream: str, event: e.Event) -> None:
    assert alone(stream, event) is None


def test_nothing_personal_is_told() -> None:
    run = given(PLAN, variables={"secret": "xyzzy"}).enrolled().ticked(0).failed("refused")
    for secret in ("jane", "Jane", "555", "xyzzy", "Vienna"):
        assert secret not in repr(lines_of(run))


def test_every_action_that_is_told_is_known() -> None:
    actions = {entry.action for entry in REGISTRY.values()}
    for _, story, _ in STORIES:
        assert {line.action for line in lines_of(story())} <= actions
