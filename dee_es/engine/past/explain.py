"""A run's history in plain sentences: what happened, why, and what it waits for now.

One function for each event; a sentence is built from the event alone. Values that a branch saw are
personal data: they are told to whoever asks about the run, and gone once the contact is erased.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.conditions.tree import Literal, unparse
from dee_es.core.registry import REGISTRY
from dee_es.core.runs.channel_events import SUPPRESSED
from dee_es.core.runs.state import RunState
from dee_es.core.views import RunStatus
from dee_es.engine.queries import row_of


@dataclass(frozen=True, slots=True)
class Sentence:
    """What one event of a run or a contact means."""

    stream: str
    version: int
    tick: int
    time: datetime
    action: str
    step_id: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a run or a contact stands and why, what can be done about it, and how it came to that.

    `advice` is empty where nobody has to do anything.
    """

    about: str
    now: str
    advice: tuple[str, ...]
    sentences: tuple[Sentence, ...]


class Narrator:
    """Tells events in sentences; times are UTC."""

    def __init__(self, scale: TimeScale) -> None:
        self._scale = scale

    def sentence(self, recorded: e.RecordedEvent) -> Sentence:
        """What the event means, with who did it and why."""
        meta = recorded.meta
        text = _SENTENCES[type(recorded.event)](self, recorded.event, recorded.erased)
        by = [f"by {meta.actor}"] if meta.actor else []
        by += [f"reason: {meta.reason}"] if meta.reason else []
        who = f" ({'; '.join(by)})" if by else ""
        return Sentence(
            recorded.stream_id,
            recorded.version,
            meta.tick,
            self._scale.time(meta.tick),
            REGISTRY[recorded.name].action,
            getattr(recorded.event, "step_id", None),
            f"{text}{who}.",
        )

    def when(self, tick: int) -> str:
        """A tick for people."""
        return f"{self._scale.told(tick)} (tick {tick})"

    # --- a run's present ------------------------------------------------------------------------

    def present(self, state: RunState) -> str:
        """Where the run stands now, and why."""
        step = f" at step {state.current_step}" if state.current_step is not None else ""
        row = row_of(state, 0)
        reason = f": {row.status_reason}" if row.status_reason else ""
        match state.status:
            case RunStatus.COMPLETED:
                outcome = f" with the outcome {state.outcome!r}" if state.outcome else ""
                return f"It is completed{outcome}."
            case RunStatus.CANCELLED:
                return f"It was cancelled{reason}."
            case RunStatus.FAILED:
                return f"It has failed{step} and stands still{reason}."
            case RunStatus.PAUSED:
                then = f" Before the pause it waited {self._hold(state)}." if state.hold else ""
                return f"It is paused{step}{reason}.{then}"
            case RunStatus.ACTIVE if state.intent is not None:
                since = self.when(state.intent.tick)
                return f"It is sending the message of step {state.intent.step_id}, since {since}."
            case RunStatus.ACTIVE:
                acts = "" if state.acts_at is None else f"; it acts from {self.when(state.acts_at)}"
                return f"It is active{step}{acts}."
        return f"It waits{step} {self._hold(state)}."

    def _hold(self, state: RunState) -> str:
        until = f"until {self.when(state.hold_until)}"
        rule, detail = state.held_by
        return {
            "start": f"for its start, {until}",
            "wait": f"{until}, as its plan says",
            "retry": f"{until}, to try the send again ({state.status_reason or 'after a pause'})",
            "defer": f"{until}, because the rule {rule!r} holds it: {detail}",
            "pending": f"for the outcome of the call, {until} at the latest",
        }[state.hold or "wait"]


def advice_for(state: RunState, history: Sequence[e.RecordedEvent] = ()) -> tuple[str, ...]:
    """What a person can do, as commands to type; `history` says what came out late."""
    run = state.run_id
    if state.unknown is not None and state.status == RunStatus.FAILED:
        if (outcome := _came_out(history)) is not None:
            return (
                f"It came out late what became of step {state.unknown.step_id}; put that on "
                f"record: dee runs resolve {run} --outcome {outcome} --reason TEXT",
            )
        return (
            f"Find out whether the message of step {state.unknown.step_id} arrived, then: "
            f"dee runs resolve {run} --outcome delivered|failed|resend --reason TEXT",
        )
    if state.status == RunStatus.FAILED:
        return (
            f"When the cause is gone: dee runs retry {run} --reason TEXT",
            f"To give it up: dee runs cancel {run} --reason TEXT",
        )
    if state.status == RunStatus.PAUSED:
        return (f"To let it go on: dee runs resume {run}",)
    return ()


def _came_out(history: Sequence[e.RecordedEvent]) -> str | None:
    """What was told of the last send that counts as unknown, as a person settles it."""
    for recorded in reversed(history):
        match recorded.event:
            case e.StepCompleted(late=True):
                return "delivered"
            case e.StepFailed(late=True):
                return "failed"
            case e.OutcomeUnknown():
                return None
    return None


# --- sentences ------------------------------------------------------------------------------------

_Told = Callable[[Narrator, Any, bool], str]


def _seen(event: Any, erased: bool) -> str:
    if event.personal is None:
        return "; what it saw was erased" if erased else ""
    # As one writes them in a condition, since that is where the reader will look next.
    values = ", ".join(
        f"{name} was {unparse(Literal(value))}" for name, value in event.personal.values.items()
    )
    return f"; it saw that {values}" if values else ""


def _start(narrator: Narrator, event: e.RunScheduled | e.RunStarted, _: bool) -> str:
    plan = f"version {event.plan_version} of the plan {event.plan_id}"
    if isinstance(event, e.RunScheduled):
        return f"The run of {plan} was to start at {narrator.when(event.start_tick)}"
    return f"The run of {plan} for contact {event.contact_id} started"


_OURS: Final = (
    "; the fault lies in the settings of the channel, so it is tried until they are put right"
)


def _again(event: Any) -> str:
    return " once more, after a soft bounce" if event.resend else ""


def _completed(_: Narrator, event: e.StepCompleted, __: bool) -> str:
    if event.late:
        return f"It came out late that step {event.step_id} was {event.result} after all"
    return f"Step {event.step_id} was done{_again(event)}: {event.result}"


def _failed(_: Narrator, event: e.StepFailed, __: bool) -> str:
    if event.late:
        return f"It came out late that step {event.step_id} had failed: {event.error}"
    return f"Step {event.step_id} failed at attempt {event.attempt}{_again(event)}: {event.error}"


def _ended(_: Narrator, event: e.RunCompleted, erased: bool) -> str:
    outcome = f" with the outcome {event.outcome!r}" if event.outcome else ""
    if event.exit_condition is not None:
        seen = _seen(event, erased)
        return f"The run ended{outcome}: the exit condition {event.exit_condition} held{seen}"
    where = f" in step {event.step_id}" if event.step_id else " after its last step"
    return f"The run ended{where}{outcome}"


def _received(_: Narrator, event: e.ChannelEventReceived, __: bool) -> str:
    kind = f" ({event.kind})" if event.kind else ""
    about = f" about step {event.step_id}" if event.step_id else ""
    text = f"The channel told {event.type}{kind}{about}"
    if event.type == SUPPRESSED:
        text = "The contact was put on the suppression list"
    if event.ended:
        return f"{text}; the run had ended, so that it is evidence only"
    if event.exit_condition is not None:
        return f"{text}; that made the exit condition {event.exit_condition} true"
    return text


def _paused(_: Narrator, event: e.RunPaused, __: bool) -> str:
    keep = "the remaining time" if event.keep == "remaining" else "the deadline"
    cause = f" by the policy: {event.cause}" if event.cause else ""
    return f"The run was paused{cause} (a wait keeps {keep})"


def _resumed(narrator: Narrator, event: e.RunResumed, _: bool) -> str:
    anew = f", under version {event.policy} of the policy" if event.policy else ""
    return f"The run was resumed, to act from {narrator.when(event.acts_at)}{anew}"


def _suppressed(event: e.ContactSuppressed | e.ContactUnsuppressed) -> str:
    scope = f" {event.scope}" if event.scope else ""
    return f"at the level {event.level}{scope}"


def _refused(_: Narrator, event: e.EnrollmentRefused, __: bool) -> str:
    return (
        f"An enrolment in the plan {event.plan_id} was refused by {event.rule}: {event.suppression}"
    )


def _consent(verb: str, event: Any, until: str = "") -> str:
    purpose = f" for {event.purpose}" if event.purpose else ""
    return f"Consent to {event.channel}{purpose} was {verb}{until}"


def _granted(narrator: Narrator, event: e.ConsentGranted, _: bool) -> str:
    ends = event.expires_tick
    return _consent("granted", event, "" if ends is None else f" until {narrator.when(ends)}")


def _exported(_: Narrator, event: e.LogExported, __: bool) -> str:
    scope = "the log"
    if event.run_id is not None:
        scope = f"run {event.run_id}"
    elif event.contact_id is not None:
        scope = f"contact {event.contact_id}"
    told = "with" if event.personal_data else "without"
    where = f" to {event.target}" if event.target else ""
    return (
        f"Of {scope} {event.entries} entries were given out{where} as {event.format}, {told} what "
        "is personal"
    )


def _held(event: e.HoldPlaced) -> str:
    return f"run {event.run_id}" if event.run_id is not None else f"contact {event.contact_id}"


_SENTENCES: Final[dict[type[e.Event], _Told]] = {
    e.RunScheduled: _start,
    e.RunStarted: _start,
    e.StepEntered: lambda n, x, _: f"Step {x.step_id} was entered",
    e.StepDispatched: lambda n, x, _: (
        f"The message of step {x.step_id} was handed to {x.channel}{_again(x)}, attempt {x.attempt}"
    ),
    e.StepPending: lambda n, x, _: (
        f"Step {x.step_id} waits for the outcome of the call, until {n.when(x.deadline_tick)}"
    ),
    e.StepCompleted: _completed,
    e.BranchEvaluated: lambda n, x, erased: (
        f"Branch {x.step_id} went on to {x.goto}, because {x.when} held{_seen(x, erased)}"
    ),
    e.StepSkipped: lambda n, x, _: (
        f"Step {x.step_id} was skipped{_again(x)} by the rule {x.rule}: {x.detail}"
    ),
    e.StepDeferred: lambda n, x, _: (
        f"Step {x.step_id} was put off{_again(x)} until {n.when(x.until_tick)} by {x.rule}: "
        f"{x.detail}"
    ),
    e.WaitStarted: lambda n, x, _: f"Step {x.step_id} waits until {n.when(x.until_tick)}",
    e.WaitCompleted: lambda n, x, _: f"The wait of step {x.step_id} was over",
    e.ChannelEventReceived: _received,
    e.StepFailed: _failed,
    e.StepRetried: lambda n, x, _: (
        f"Attempt {x.attempt} of step {x.step_id} did not arrive ({x.error}); it is sent again "
        f"from {n.when(x.retry_tick)}" + (_OURS if x.ours else "")
    ),
    e.OutcomeUnknown: lambda n, x, _: (
        f"Nobody knows whether the message of step {x.step_id} arrived ({x.cause}); it is not sent "
        "again by itself"
    ),
    e.StepResolved: lambda n, x, _: f"Step {x.step_id} was settled as {x.outcome}",
    e.RunPaused: _paused,
    e.RunResumed: _resumed,
    e.RunRetried: lambda n, x, _: f"The run was retried, to act from {n.when(x.acts_at)}",
    e.RunCancelled: lambda n, x, _: f"The run was cancelled ({x.cause})",
    e.RunCompleted: _ended,
    e.RunFailed: lambda n, x, _: (
        f"The run failed{f' at step {x.step_id}' if x.step_id else ''}: {x.cause}"
    ),
    e.ContactSuppressed: lambda n, x, _: f"The contact was suppressed {_suppressed(x)}",
    e.ContactUnsuppressed: lambda n, x, _: f"A suppression was lifted {_suppressed(x)}",
    e.ContactErased: lambda n, x, _: "The contact's personal data was erased; nobody can read it",
    e.ConsentGranted: _granted,
    e.ConsentRevoked: lambda n, x, _: _consent("revoked", x),
    e.EnrollmentRefused: _refused,
    e.CheckpointSigned: lambda n, x, _: (
        f"A checkpoint of the first {x.size} entries of the log was signed, and written to "
        f"{len(x.places)} place{'s' if len(x.places) != 1 else ''}"
    ),
    e.LogExported: _exported,
    e.LogImported: lambda n, x, _: (
        f"Run {x.run_id} was imported from a file, in {x.entries} entries, "
        f"{'with' if x.personal_data else 'without'} what is personal"
    ),
    e.LogArchived: lambda n, x, _: (
        f"Of {x.runs} ended run{'s' if x.runs != 1 else ''} {x.entries} entries left the log for "
        f"the archive {x.name}, after that was read back"
    ),
    e.HoldPlaced: lambda n, x, _: (
        f"The legal hold {x.hold_id} was placed on {_held(x)}: nothing of it may be erased or "
        "archived"
    ),
    e.HoldLifted: lambda n, x, _: f"The legal hold {x.hold_id} was lifted",
}

UNTOLD: Final[frozenset[type[e.Event]]] = frozenset(
    {
        e.PlanPublished,
        e.TemplatePublished,
        e.ScriptPublished,
        e.SenderPublished,
        e.PolicyPublished,
        e.ClockStarted,
    }
)
"""Events without a sentence: they happen to no run and to no contact."""


def explain_contact(
    contact_id: str,
    plan_id: str | None,
    history: Sequence[e.RecordedEvent],
    runs: Sequence[str],
    archived: Sequence[str],
    standing: Sequence[str],
    narrator: Narrator,
    known: bool = True,
) -> Explanation:
    """Why a contact has no run, or which runs it has.

    `history` is the contact's own stream, `runs` the ids of its runs of the plan, or of any,
    `archived` those that left the log, `standing` the suppressions that are in force; `known` is
    whether anything at all is on record of the contact.
    """
    told = tuple(narrator.sentence(recorded) for recorded in history)
    of_plan = f" of the plan {plan_id}" if plan_id is not None else ""
    refusals = [
        sentence
        for sentence, recorded in zip(told, history, strict=True)
        if isinstance(recorded.event, e.EnrollmentRefused)
        and plan_id in (None, recorded.event.plan_id)
    ]
    stands = f" It is suppressed now: {', '.join(standing)}." if standing else ""
    if runs or archived:
        has = f"{len(runs)} run{'s' if len(runs) != 1 else ''}" if runs else "no run"
        left = f" {len(archived)} left the log for an archive." if archived else ""
        advice = [f"dee explain {run}" for run in runs[:10]]
        advice += [f"dee archive export {run} FILE" for run in archived[: 10 - len(advice)]]
        now = f"Contact {contact_id} has {has}{of_plan}.{left}{stands}"
        return Explanation(contact_id, now, tuple(advice), told)
    if refusals:
        last = refusals[-1]
        when = narrator.when(last.tick)
        now = f"Contact {contact_id} has no run{of_plan}. {last.text} That was at {when}."
    elif not known:
        now = (
            f"Nothing is on record of contact {contact_id}: the id is mistyped, nobody tried to "
            "enroll it, or its data was not valid."
        )
    else:
        now = (
            f"Contact {contact_id} has no run{of_plan}, and no enrolment of it was refused for "
            "a suppression: nobody tried, or its data was not valid."
        )
    return Explanation(contact_id, now + stands, (), told)
