"""The status table, row by row: which command a run accepts where, and what refuses writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.errors import InvalidTransition, OutcomeUnknownError
from tests.support.runs.given import Story, given, plan_of

PLAN = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.end("over", "done"),
)
CALL = plan_of(steps.send_voice("call", "script"), steps.end("over", "called"))

PEOPLE: Final = ("execute", "pause_run", "resume_run", "ingest_event")

Situation = Callable[[], Story]
Action = Callable[[Story], Story]

PENDING: Final[dict[str, Situation]] = {
    "before its start": lambda: given(PLAN).enrolled(0, start=100),
}
ACTIVE: Final[dict[str, Situation]] = {
    "enrolled": lambda: given(PLAN).enrolled(0),
    "sending": lambda: given(PLAN).enrolled(0).ticked(0),
    "resumed": lambda: given(PLAN).enrolled(0).paused(1).resumed(2),
    "retried": lambda: given(PLAN).enrolled(0).ticked(0).failed().retried(1),
    "resolved": lambda: given(PLAN).enrolled(0).ticked(0).unknown().resolved(1, "delivered"),
}
WAITING: Final[dict[str, Situation]] = {
    "in a wait step": lambda: given(PLAN).enrolled(0).ticked(0).delivered(),
    "for another attempt": lambda: given(PLAN).enrolled(0).ticked(0).failed(retryable=True),
    "for a call's outcome": lambda: given(CALL).enrolled(0).ticked(0).pending(),
}
PAUSED: Final[dict[str, Situation]] = {
    "from pending": lambda: given(PLAN).enrolled(0, start=100).paused(2),
    "from active": lambda: given(PLAN).enrolled(0).paused(2),
    "from sending": lambda: given(PLAN).enrolled(0).ticked(0).paused(2),
    "from a wait": lambda: given(PLAN).enrolled(0).ticked(0).delivered().paused(2),
    "with a failed step": lambda: given(PLAN).enrolled(0).ticked(0).paused(2).failed(),
}
FAILED: Final[dict[str, Situation]] = {
    "refused": lambda: given(PLAN).enrolled(0).ticked(0).failed(),
    "resolved as failed": lambda: given(PLAN).enrolled(0).ticked(0).unknown().resolved(1, "failed"),
}
UNKNOWN: Final[dict[str, Situation]] = {
    "said so": lambda: given(PLAN).enrolled(0).ticked(0).unknown(),
    "abandoned": lambda: given(PLAN).enrolled(0).ticked(0).ticked(2, abandoned=True),
    "paused": lambda: given(PLAN).enrolled(0).ticked(0).paused(2).unknown(),
    "deadline": lambda: given(CALL).enrolled(0).ticked(0).pending().ticked(86_400),
}
ENDED: Final[dict[str, Situation]] = {
    "completed": lambda: given(PLAN).enrolled(0).ran_until(3600).stands("completed"),
    "cancelled": lambda: given(PLAN).enrolled(0).cancelled(1),
    "cancelled while sending": lambda: given(PLAN).enrolled(0).ticked(0).cancelled(1),
    "cancelled while unknown": lambda: given(PLAN).enrolled(0).ticked(0).unknown().cancelled(1),
    "unsubscribed": lambda: given(PLAN).enrolled(0).received("email.unsubscribed", 1),
}

LATER = 100_000
COMMANDS: Final[dict[str, tuple[str, Action]]] = {
    "pause": ("paused", lambda run: run.paused(LATER)),
    "resume": ("active", lambda run: run.resumed(LATER)),
    "cancel": ("cancelled", lambda run: run.cancelled(LATER)),
    "retry": ("active", lambda run: run.retried(LATER)),
    "resolve as delivered": ("active", lambda run: run.resolved(LATER, "delivered")),
    "resolve as failed": ("active", lambda run: run.resolved(LATER, "failed")),
    "resend": ("active", lambda run: run.resolved(LATER, "resend")),
}
RESOLUTIONS: Final = ("resolve as delivered", "resolve as failed", "resend")

ACCEPTED: Final = [
    (PENDING | ACTIVE | WAITING, ("pause", "cancel")),
    (PAUSED, ("resume", "cancel")),
    (FAILED, ("retry", "cancel")),
    (UNKNOWN, (*RESOLUTIONS, "cancel")),
    (ENDED, ()),
]


def cases(accepted: bool) -> list[object]:
    """Every situation with every command that is accepted in it, or that is not."""
    return [
        pytest.param(situation, command, id=f"{command}-{name}")
        for situations, allowed in ACCEPTED
        for name, situation in situations.items()
        for command in COMMANDS
        if (command in allowed) is accepted
    ]


@pytest.mark.parametrize("situation, command", cases(accepted=True))
def test_a_command_of_the_table_changes_the_status(situation: Situation, command: str) -> None:
    target, act = COMMANDS[command]
    run = act(situation())
    # Settled as failed, a run stays where it is: only now it can be retried.
    run.stands("failed" if command == "resolve as failed" else target, current_tick=LATER)
    assert len(run.news) == 1


@pytest.mark.parametrize("situation, command", cases(accepted=False))
def test_any_other_is_refused_and_writes_nothing(situation: Situation, command: str) -> None:
    target, act = COMMANDS[command]
    situation().refuses(target, act)


@pytest.mark.parametrize("command", ["pause", "cancel", "retry", "resume", *RESOLUTIONS])
def test_a_command_cannot_be_repeated(command: str) -> None:
    allowed = {
        "pause": ACTIVE["sending"],
        "cancel": ACTIVE["sending"],
        "retry": FAILED["refused"],
        "resume": PAUSED["from active"],
    }
    target, act = COMMANDS[command]
    act(allowed.get(command, UNKNOWN["said so"])()).refuses(target, act)


@pytest.mark.parametrize("situation", UNKNOWN.values(), ids=UNKNOWN)
def test_the_refusal_of_a_retry_says_what_to_do_first(situation: Situation) -> None:
    first = "unknown; find out and settle it first: `dee runs resolve run_.* --outcome delivered"
    with pytest.raises(OutcomeUnknownError, match=first):
        situation().retried(LATER)


@pytest.mark.parametrize(
    "situation, command, told",
    [
        (ACTIVE["sending"], "resume", "it may be paused or cancelled"),
        (PAUSED["from active"], "pause", "it may be resumed or cancelled"),
        (FAILED["refused"], "pause", "it may be retried, once its outcome is known, or cancelled"),
        (ENDED["cancelled while unknown"], "pause", "it has ended"),
    ],
)
def test_a_refusal_says_what_may_be_done(situation: Situation, command: str, told: str) -> None:
    _, act = COMMANDS[command]
    with pytest.raises(InvalidTransition, match=f": {told}$"):
        act(situation())


NOT_UNKNOWN: Final = {
    name: each
    for name, each in (PENDING | ACTIVE | WAITING | PAUSED | FAILED | ENDED).items()
    if name not in ("cancelled while unknown", "sending", "from sending")
}


@pytest.mark.parametrize("situation", NOT_UNKNOWN.values(), ids=NOT_UNKNOWN)
def test_what_has_no_unknown_outcome_says_so(situation: Situation) -> None:
    with pytest.raises(InvalidTransition, match=r": no send of it has an unknown outcome$"):
        situation().resolved(LATER, "delivered")


@pytest.mark.parametrize(
    "situation", [ACTIVE["sending"], PAUSED["from sending"]], ids=["active", "paused"]
)
def test_of_a_message_under_way_it_is_told_who_finds_out(situation: Situation) -> None:
    """Whoever resolves it has seen its sender die, most likely, before the next tick did."""
    told = (
        r": the sending of step intro began at 2025-01-01 00:00:00Z \(tick 0\), and as "
        "yet nobody has found its sender gone; a worker or `dee tick` finds that out, and then it "
        r"can be settled$"
    )
    with pytest.raises(InvalidTransition, match=told):
        situation().resolved(LATER, "delivered")


@pytest.mark.parametrize("outcome", ["delivered", "failed", "resend"])
def test_of_an_ended_run_nobody_says_that_its_outcome_is_known(outcome: str) -> None:
    for ended in (
        ENDED["cancelled while unknown"](),
        ENDED["cancelled while sending"]().ticked(LATER, abandoned=True),
    ):
        with pytest.raises(InvalidTransition, match="from cancelled to active: it has ended"):
            ended.resolved(LATER, outcome)


@pytest.mark.parametrize("situation", ENDED.values(), ids=ENDED)
def test_nothing_leaves_an_ended_run(situation: Situation) -> None:
    run = situation().rests()
    before = run.row
    assert before.completed_tick is not None
    assert (before.current_step, before.steps_remaining) == (None, 0)
    sending = run.state.intent is not None
    run.ticked(LATER).then()
    # Nobody waits for it any more, but it is put on record that the message may have arrived.
    run.ticked(LATER, abandoned=True).then(*[e.OutcomeUnknown] * sending).due(None)
    assert run.row == replace(
        before, version=before.version + sending, current_tick=run.row.current_tick
    )
    assert sending or run.row == before


@pytest.mark.parametrize("situation", [*FAILED.values(), *UNKNOWN.values()])
def test_a_failed_run_has_stopped_but_not_ended(situation: Situation) -> None:
    run = situation().due(None)
    run.stands("failed", completed_tick=None, outcome=None)
    assert run.row.steps_remaining > 0
    assert run.row.current_step is not None
    assert run.row.status_reason
    run.ticked(LATER).then().ticked(LATER, abandoned=True).then()


@pytest.mark.parametrize(
    "situation", [*PENDING.values(), *ACTIVE.values(), *WAITING.values(), *PAUSED.values()]
)
def test_a_cancelled_run_says_why(situation: Situation) -> None:
    run = situation().cancelled(LATER, reason="Contact requested removal")
    run.then(e.RunCancelled("cancelled")).rests()
    run.stands(
        "cancelled",
        status_reason="Contact requested removal",
        completed_tick=LATER,
        outcome=None,
        current_step=None,
        steps_remaining=0,
        resume_tick=None,
    )


@pytest.mark.parametrize("situation", [*PENDING.values(), *WAITING.values()])
def test_whoever_waits_says_until_when(situation: Situation) -> None:
    run = situation()
    assert run.row.resume_tick == run.state.due_tick
    assert run.paused(2).row.resume_tick is None


def test_a_run_knows_every_command_of_a_person_that_it_has_seen() -> None:
    """By that a repeated command is known; those of the scheduler and of channels would be many."""
    run = given(PLAN).enrolled(0).paused(0).resumed(1).ticked(2).delivered(2)
    run.received("email.unsubscribed", 3).then(e.ChannelEventReceived, e.RunCancelled)
    seen = {each.meta.command: each.meta.command_id for each in run.history}
    assert seen.keys() == {*PEOPLE, "tick", "result"}
    assert run.state.command_ids == tuple(seen[command] for command in PEOPLE)
