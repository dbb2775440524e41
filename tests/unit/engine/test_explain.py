"""Every event of a run or a contact has a sentence, and a run's present is told with its reason."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.registry import REGISTRY
from dee_es.core.views import RunStatus
from dee_es.engine.past.explain import UNTOLD, Narrator, advice_for
from tests.golden.examples import EXAMPLES
from tests.support.runs.given import EPOCH, Story, given, plan_of

NARRATOR = Narrator(TimeScale(EPOCH))
TOLD = [name for name, entry in REGISTRY.items() if entry.cls not in UNTOLD]
SEND = {"type": "sendEmail", "id": "intro", "template_id": "hello", "subject": "Hi"}
WAIT = {"type": "wait", "id": "pause", "duration": {"hours": 1}}


def told(event: e.Event, actor: str | None = None, reason: str | None = None) -> str:
    meta = e.Meta(3600, "cmd_1", "tick", 0, actor, reason)
    name = next(name for name, entry in REGISTRY.items() if entry.cls is type(event))
    return NARRATOR.sentence(e.RecordedEvent("run_x", 2, name, 2, meta, event)).text


@pytest.mark.parametrize("name", TOLD)
def test_every_event_has_a_sentence(name: str) -> None:
    text = told(EXAMPLES[name])
    assert text.endswith(".")
    assert text[0].isupper()
    step = getattr(EXAMPLES[name], "step_id", None)
    # A run that ends by an exit condition ends in no step of its own.
    assert step is None or step in text or name == "RunCompleted"


def test_a_branch_says_what_it_saw_and_why_it_went_there() -> None:
    values = {"events.hasReply(any)": True, "variables.a": None, "variables.b": 'say "hi"'}
    seen = e.Seen(values)
    text = told(e.BranchEvaluated("check", "events.hasReply(any)", "won", seen))
    assert text == (
        "Branch check went on to won, because events.hasReply(any) held; "
        "it saw that events.hasReply(any) was true, variables.a was null, "
        'variables.b was "say \\"hi\\"".'
    )


def test_what_was_erased_is_said_to_be_erased() -> None:
    event = e.BranchEvaluated("check", "variables.x == 1", "won")
    meta = e.Meta(0, "cmd_1", "tick", 0)
    recorded = e.RecordedEvent("run_x", 2, "BranchEvaluated", 2, meta, event, erased=True)
    assert "what it saw was erased" in NARRATOR.sentence(recorded).text


def test_who_and_why_stand_behind_the_sentence() -> None:
    text = told(e.RunCancelled("cancelled"), "ann", "moved away")
    assert text == "The run was cancelled (cancelled) (by ann; reason: moved away)."


def now(run: Story) -> str:
    return NARRATOR.present(run.state)


def test_a_runs_present() -> None:
    plan = plan_of(SEND, WAIT)
    run = given(plan).enrolled(0, start=7200)
    assert now(run) == "It waits for its start, until 2025-01-01 02:00:00Z (tick 7200)."
    run = given(plan).enrolled(0)
    assert now(run) == "It is active; it acts from 2025-01-01 00:00:00Z (tick 0)."
    # Long ago means that its sender has died, and that no worker has found that out yet.
    assert now(run.ticked(0)) == (
        "It is sending the message of step intro, since 2025-01-01 00:00:00Z (tick 0)."
    )
    assert "It waits at step pause until 2025-01-01 01:00:00Z" in now(run.delivered(0))
    paused = now(run.paused(5, reason="holidays"))
    assert paused.startswith("It is paused at step pause: holidays. Before the pause it waited")
    assert now(run.cancelled(6)) == "It was cancelled: no longer wanted."
    ended = given(plan_of(SEND, {"type": "end", "id": "over", "outcome": "done"}))
    assert now(ended.enrolled(0).ran_until(5)) == "It is completed with the outcome 'done'."


def test_a_rule_that_holds_is_named_with_its_reason() -> None:
    run = given(plan_of(SEND)).enrolled(0)
    held = replace(
        run.state,
        status=RunStatus.WAITING,
        hold="defer",
        hold_until=60,
        held_by=("windows", "it is night"),
    )
    assert "because the rule 'windows' holds it: it is night" in NARRATOR.present(held)


def test_advice_is_what_the_status_table_allows() -> None:
    run = given(plan_of(SEND)).enrolled(0).ticked(0)
    assert advice_for(run.state) == ()
    failed = given(plan_of(SEND)).enrolled(0).ticked(0).failed()
    assert [line.split(": dee ")[1].split()[1] for line in advice_for(failed.state)] == [
        "retry", "cancel",
    ]  # fmt: skip
    unknown = given(plan_of(SEND)).enrolled(0).ticked(0).unknown()
    (line,) = advice_for(unknown.state)
    assert "--outcome delivered|failed|resend" in line
    paused = given(plan_of(SEND)).enrolled(0).paused(0)
    assert "dee runs resume" in advice_for(paused.state)[0]


@pytest.mark.parametrize(
    ("outcome", "late"),
    [
        ("delivered", e.StepCompleted("intro", "delivered", late=True)),
        ("failed", e.StepFailed("intro", "smtp 550", 1, late=True)),
    ],
)
def test_an_outcome_that_came_out_late_is_what_is_advised(outcome: str, late: e.Event) -> None:
    # Who is told to find out what the log knows already may have the message sent twice.
    run = given(plan_of(SEND)).enrolled(0).ticked(0).unknown()
    told_late = replace(run.history[-1], event=late)
    (line,) = advice_for(run.state, [*run.history, told_late])
    assert f"--outcome {outcome} --reason" in line
    assert "Find out" not in line
