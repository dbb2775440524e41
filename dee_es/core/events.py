"""What can have happened: past-tense facts, in their current shape only.

An event holds all that a reader or a later decision needs, so that nothing has to be looked up
outside the log. What is personal sits in `personal`, apart from the rest: it is encrypted under the
contact's key, and is None when there is none or when it was erased.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from dee_es.core.values import JsonScalar

Level = Literal["global", "channel", "plan", "regulatory"]
"""How far a suppression reaches; channel and plan have the channel's or plan's name as scope."""


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """When, by which command and by whom an event came about.

    `tick` is the time of the decision. `recorded_at` is wall time in ms since 1970 UTC, kept for
    information; no decision reads it. `actor` and `reason` are stored in plain text.
    """

    tick: int
    command_id: str
    command: str
    recorded_at: int
    actor: str | None = None
    reason: str | None = None


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of all events. Subclasses with personal data declare its type in a `personal` field."""

    personal_type: ClassVar[Any] = None


class Enrolled(msgspec.Struct, frozen=True, omit_defaults=True):
    """Personal: the contact as given at enrolment, and the run's variables."""

    email: str | None = None
    phone: str | None = None
    timezone: str | None = None
    attributes: dict[str, Any] = {}
    variables: dict[str, Any] = {}


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """Personal: what was rendered for a send, exactly as it was handed to the channel.

    `gate` is what the policy gate read of the contact itself; it is not part of the message.
    """

    to: str
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    reply_to: str | None = None
    script: dict[str, Any] | None = None
    gate: dict[str, JsonScalar] = {}


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """Personal: the values a decision read, by the name under which a condition asks for them."""

    values: dict[str, JsonScalar] = {}


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """Personal: free-form data that came with a channel event or a channel's answer."""

    data: dict[str, Any] = {}


class Pins(msgspec.Struct, frozen=True, omit_defaults=True):
    """The versions a run decides by, so that a later publication cannot change it."""

    templates: dict[str, int] = {}
    scripts: dict[str, int] = {}
    sender: int = 0
    policy: int = 0
    rules: int = 1


# --- a run's life -------------------------------------------------------------------------------


class RunScheduled(Event, frozen=True, omit_defaults=True):
    """The run is to start at `start_tick`; also recorded when a resumed run goes back to waiting
    for it."""

    personal_type: ClassVar[Any] = Enrolled
    plan_id: str
    plan_version: int
    contact_id: str
    enrollment: int
    start_tick: int
    steps_remaining: int
    pins: Pins = Pins()
    personal: Enrolled | None = None


class RunStarted(Event, frozen=True, omit_defaults=True):
    """The run acts from `start_tick` on. As the first event it also holds who it is for."""

    personal_type: ClassVar[Any] = Enrolled
    plan_id: str
    plan_version: int
    contact_id: str
    enrollment: int
    start_tick: int
    steps_remaining: int
    pins: Pins = Pins()
    personal: Enrolled | None = None


class RunPaused(Event, frozen=True, omit_defaults=True):
    """Paused; `keep` says what a run keeps of a wait: its deadline or its remaining ticks.

    `cause` is set when a rule of the policy paused it, with what the rule read.
    """

    personal_type: ClassVar[Any] = Seen
    keep: Literal["deadline", "remaining"] = "deadline"
    cause: str | None = None
    reads: dict[str, JsonScalar] = {}
    personal: Seen | None = None


class RunResumed(Event, frozen=True, omit_defaults=True):
    """Active again from `acts_at` on; waits were moved by `shift` ticks."""

    acts_at: int
    shift: int = 0


class RunRetried(Event, frozen=True, omit_defaults=True):
    """A failed run enters its step again at `acts_at`, under `pins` where they were taken anew."""

    acts_at: int
    pins: Pins | None = None


class RunCancelled(Event, frozen=True, omit_defaults=True):
    """Ended by a person, an unsubscribe, a hard bounce or an erasure; `cause` says by which."""

    cause: str


class RunCompleted(Event, frozen=True, omit_defaults=True):
    """Ended as planned: in the end step `step_id`, because `exit_condition` held, or, with neither,
    after the last step of a plan without end steps."""

    outcome: str | None = None
    exit_condition: str | None = None
    step_id: str | None = None


class RunFailed(Event, frozen=True, omit_defaults=True):
    """Stopped, not ended: a person has to retry, resolve or cancel it."""

    cause: str
    step_id: str | None = None


# --- steps --------------------------------------------------------------------------------------


class StepEntered(Event, frozen=True, omit_defaults=True):
    """The step became the current one; it acts at `acts_at`."""

    step_id: str
    steps_remaining: int
    acts_at: int


class StepDispatched(Event, frozen=True, omit_defaults=True):
    """The intent to send, committed before the channel is touched.

    `digest` is the SHA-256 of the rendered message; `lease_epoch` names the holder that sends.
    `reads` is what the policy gate read, `counted` what the send uses of the policy's counters:
    name, slot, amount and limit of each.
    """

    personal_type: ClassVar[Any] = Message
    step_id: str
    channel: str
    key: str
    attempt: int
    lease_epoch: int
    digest: str
    reads: dict[str, JsonScalar] = {}
    counted: tuple[tuple[str, int, int, int], ...] = ()
    personal: Message | None = None


class StepPending(Event, frozen=True, omit_defaults=True):
    """The channel took the action and will report later; unknown after `deadline_tick`."""

    step_id: str
    deadline_tick: int
    message_id: str | None = None


class StepCompleted(Event, frozen=True, omit_defaults=True):
    """The step did what it was for; `result` is `delivered` or the outcome of a call.

    `late` marks evidence: the outcome had been given up as unknown, and changes nothing any more.
    """

    step_id: str
    result: str
    message_id: str | None = None
    late: bool = False


class BranchEvaluated(Event, frozen=True, omit_defaults=True):
    """The branch chose `goto` because `when` held; the values it saw are personal."""

    personal_type: ClassVar[Any] = Seen
    step_id: str
    when: str
    goto: str
    personal: Seen | None = None


class StepSkipped(Event, frozen=True, omit_defaults=True):
    """The gate denied the step and the run goes on without it; `reads` is what the gate read."""

    personal_type: ClassVar[Any] = Seen
    step_id: str
    rule: str
    detail: str
    reads: dict[str, JsonScalar] = {}
    personal: Seen | None = None


class StepDeferred(Event, frozen=True, omit_defaults=True):
    """The step waits until `until_tick`, because of `rule`; `reads` is what the gate read."""

    personal_type: ClassVar[Any] = Seen
    step_id: str
    rule: str
    detail: str
    until_tick: int
    reads: dict[str, JsonScalar] = {}
    personal: Seen | None = None


class WaitStarted(Event, frozen=True, omit_defaults=True):
    """The run waits in this step until `until_tick`."""

    step_id: str
    until_tick: int


class WaitCompleted(Event, frozen=True, omit_defaults=True):
    """The wait is over."""

    step_id: str


class ChannelEventReceived(Event, frozen=True, omit_defaults=True):
    """Something happened to a message or call.

    `exit_outcome` and `exit_condition` are set when it made an exit condition hold. `ended` marks
    evidence that reached a run which had already ended.
    """

    personal_type: ClassVar[Any] = Detail
    type: str
    contact_id: str
    event_id: str
    occurred_tick: int
    run_id: str | None = None
    step_id: str | None = None
    exit_condition: str | None = None
    exit_outcome: str | None = None
    ended: bool = False
    personal: Detail | None = None


class StepFailed(Event, frozen=True, omit_defaults=True):
    """The step failed for good; `error` names the kind of failure, without personal data.

    `late` marks evidence, as in `StepCompleted`.
    """

    personal_type: ClassVar[Any] = Detail
    step_id: str
    error: str
    attempt: int = 0
    late: bool = False
    personal: Detail | None = None


class StepRetried(Event, frozen=True, omit_defaults=True):
    """An attempt failed in a way that can pass; the next one is made at `retry_tick`."""

    personal_type: ClassVar[Any] = Detail
    step_id: str
    error: str
    attempt: int
    retry_tick: int
    personal: Detail | None = None


class OutcomeUnknown(Event, frozen=True, omit_defaults=True):
    """The message may or may not have arrived; nothing is sent again by itself."""

    step_id: str
    key: str
    cause: str


class StepResolved(Event, frozen=True, omit_defaults=True):
    """A person settled an unknown outcome; the run acts on it at `acts_at`."""

    step_id: str
    outcome: Literal["delivered", "failed", "resend"]
    acts_at: int


# --- definitions, contacts, the system ------------------------------------------------------------


class Published(Event, frozen=True, omit_defaults=True):
    """A new version of a definition; the version is the event's version in its stream."""

    definition: dict[str, Any]
    metadata: dict[str, Any] = {}


class PlanPublished(Published, frozen=True, omit_defaults=True):
    """A version of a plan."""


class TemplatePublished(Published, frozen=True, omit_defaults=True):
    """A version of a message template."""


class ScriptPublished(Published, frozen=True, omit_defaults=True):
    """A version of a call script."""


class SenderPublished(Published, frozen=True, omit_defaults=True):
    """A version of a sender."""


class PolicyPublished(Published, frozen=True, omit_defaults=True):
    """A version of a policy."""


class ContactSuppressed(Event, frozen=True, omit_defaults=True):
    """No message may go to these subjects: contact ids and keyed digests of addresses."""

    contact_id: str
    level: Level
    scope: str = ""
    subjects: tuple[str, ...] = ()


class ContactUnsuppressed(Event, frozen=True, omit_defaults=True):
    """The suppression with the same level and scope is lifted from these subjects."""

    contact_id: str
    level: Level
    scope: str = ""
    subjects: tuple[str, ...] = ()


class ConsentGranted(Event, frozen=True, omit_defaults=True):
    """The contact agreed to a channel, for a purpose if one is named, until `expires_tick`."""

    contact_id: str
    channel: str
    purpose: str = ""
    expires_tick: int | None = None
    source: str | None = None


class ConsentRevoked(Event, frozen=True, omit_defaults=True):
    """The contact took its consent back."""

    contact_id: str
    channel: str
    purpose: str = ""


class EnrollmentRefused(Event, frozen=True, omit_defaults=True):
    """A suppressed contact was not enrolled; recorded once per plan and suppression."""

    contact_id: str
    plan_id: str
    rule: str
    suppression: str


class ClockStarted(Event, frozen=True, omit_defaults=True):
    """The database's time: epoch in ms since 1970 UTC, resolution in ms, system or manual clock."""

    epoch_ms: int
    resolution_ms: int
    kind: Literal["system", "manual"]


class RecordedEvent(msgspec.Struct, frozen=True):
    """An event as read back from the log, or as it is about to be committed.

    `position` is its place in the whole log, `ordinal` the number of the run it creates (0 when it
    creates none). `erased` says that personal data was there and its key has been destroyed.
    """

    stream_id: str
    version: int
    name: str
    position: int
    meta: Meta
    event: Event
    ordinal: int = 0
    erased: bool = False
